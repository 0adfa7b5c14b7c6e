"""`ol.plan`: what it predicts, from what, and that it touches nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import CHECKOUT, make_tiny
from scipy import sparse

import omicllm as ol
from omicllm import _plan
from omicllm._core import plan as core
from omicllm._core import plan_genome, plan_text, plan_tissue


def made(n: int = 500, m: int = 120) -> ad.AnnData:
    """An object that has what any verb asks for."""
    rng = np.random.default_rng(0)
    X = sparse.random(n, m, 0.2, format="csr", dtype=np.float32, random_state=0)
    X.data = np.ceil(10 * X.data)
    adata = ad.AnnData(X)
    adata.obs_names, adata.var_names = (
        [f"s{i}" for i in range(n)], [f"Gene{i}" for i in range(m)]
    )  # fmt: skip
    adata.obs["slide"] = np.where(np.arange(n) < n // 2, "a", "b")
    adata.obs["section"] = adata.obs["kind"] = adata.obs["condition"] = adata.obs["slide"]
    adata.obs["split"] = np.where(np.arange(n) % 4 == 0, "test", "train")
    adata.obs["sequence"], adata.obs["label"] = "ACGT" * 16, adata.obs["slide"]
    adata.obs["note"] = "a few words"
    adata.var["sequence"] = "ACGT" * 16
    adata.obsm["spatial"] = np.stack(np.divmod(np.arange(n), 25), axis=1) * 1.0
    adata.obsm["X_classical"] = rng.normal(size=(n, 10)).astype(np.float32)
    adata.varm["X_sigel"] = adata.varm["X_b"] = rng.normal(size=(m, 8)).astype(np.float32)
    return adata


def trunk():
    return ol.nn.Enformer(
        dim=24, depth=1, heads=4, dim_divisible_by=12, num_downsamples=3, output_heads={}
    )


#: A call of every verb and variant that has a cost model and takes an AnnData.
CALLS = {
    "tl.sigel": {},
    "tl.spatially_variable_genes": {},
    "tl.spatially_variable_genes:moran": {"method": "moran"},
    "tl.spatial_domains": {"n_domains": 4},
    "tl.impute_genes": {"reference": make_tiny(130, seed=1)},
    "tl.impute_genes:knn": {"reference": make_tiny(130, seed=1), "method": "knn"},
    "tl.pattern_genes": {"mask": np.arange(500) > 99},
    "tl.pattern_genes:like": {"like": "Gene3"},
    "tl.gene_functions": {"gene_sets": {"p": ["Gene1", "Gene2"]}},
    "tl.gene_interactions": {},
    "tl.gene_interactions:known": {"known_pairs": [("Gene1", "Gene2")] * 20},
    "tl.compare_genes": {"batch_key": "slide", "condition_key": "condition"},
    "tl.gene_views": {"views": ["X_sigel", "X_b"]},
    "tl.project_genes": {},
    "tl.ult": {},
    "tl.ult:text": {"method": "text", "text_key": "note"},
    "tl.ult:image": {"method": "image"},
    "tl.ult_distances": {},
    "pp.augment": {"labels_key": "kind", "n_new": 40},
    "pp.augment:smote": {"labels_key": "kind", "n_new": {"a": 10}, "method": "smote"},
    "tl.classify_omics": {"labels_key": "kind"},
    "tl.spam": {},
    "tl.histology_baselines": {},
    "pp.image_features": {},
    "pp.kmer_counts": {},
    "tl.embed_sequences": {"model": "trunk"},
    "tl.embed_genes": {"model": "trunk"},
    "tl.few_shot": {},
    "tl.motifs": {},
}
every_call = pytest.mark.parametrize("call", CALLS)


def planned(data, call: str) -> core.Plan:
    kwargs = {
        k: trunk() if isinstance(v, str) and v == "trunk" else v for k, v in CALLS[call].items()
    }
    return ol.plan(data, call.partition(":")[0], **kwargs)


def held(adata, how: str, path):
    """The object with X stored in some way."""
    if how == "dense":
        adata.X = adata.X.toarray()
    elif how == "csc":
        adata.X = adata.X.tocsc()
    elif how in ("backed", "lazy"):
        adata.write_h5ad(path / f"{how}.h5ad")
        if how == "backed":
            return ad.read_h5ad(path / f"{how}.h5ad", backed="r")
        return ad.experimental.read_lazy(path / f"{how}.h5ad")
    return adata


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan")
    return {how: held(made(), how, path) for how in ("csr", "dense", "csc", "backed", "lazy")}


@every_call
def test_every_storage_has_a_plan(call, stores):
    by_store = {how: planned(adata, call) for how, adata in stores.items()}
    for plan in by_store.values():
        assert plan.verb == call.partition(":")[0]
        assert np.isfinite(plan.seconds) and plan.seconds > 0
        assert plan.peak_bytes > 0 and plan.path
        assert plan.fits and plan.advice == ()
    # The number of stored values is known for all of them, and is what counts.
    seconds = [p.seconds for p in by_store.values()]
    assert max(seconds) < 2 * min(seconds)


def test_path_says_how_data_are_read(stores):
    def path(how, verb="sigel", **kwargs):
        return "; ".join(ol.plan(stores[how], verb, **kwargs).path)

    assert "csr in memory" in path("csr") and "dense in memory" in path("dense")
    assert "backed: csr" in path("backed") and "read in 1 block(s) of 500 rows" in path("backed")
    assert "dask: csr" in path("lazy") and "dask: no client" in path("lazy")
    assert "about 500 pixels" in path("csr")
    large = ad.AnnData(sparse.csr_matrix((70_000, 10), dtype=np.float32))
    assert "gene images pooled 3 x 3 to about 7,778 pixels" in "; ".join(
        ol.plan(large, "sigel").path
    )
    assert "1 pass(es) over the rows" in path("backed", "spatially_variable_genes", method="moran")


def test_blocks_follow_the_settings(stores, monkeypatch):
    monkeypatch.setattr(ol.settings, "block_bytes", 8 * 120 * 50)
    assert "read in 10 block(s) of 50 rows" in "; ".join(ol.plan(stores["backed"], "sigel").path)


def test_an_active_client_is_named(stores, monkeypatch):
    from omicllm._core import blocks

    client = SimpleNamespace(nthreads=lambda: {"a": 2, "b": 1})
    monkeypatch.setattr(blocks, "active_client", lambda: client)
    plan = ol.plan(stores["lazy"], "spatially_variable_genes", method="moran")
    assert any("active client, 3 threads" in line for line in plan.path)


@pytest.mark.parametrize("call", [c for c in CALLS if c not in ("tl.ult:image",)])
def test_x_is_not_read(call, monkeypatch):
    adata = made()

    class Closed(sparse.csr_matrix):
        def __getitem__(self, key):
            raise AssertionError("X was sliced")

        tocsc = tocoo = toarray = sum = mean = copy = __getitem__

    closed = Closed(adata.X)
    adata.X = closed
    assert adata.X is closed
    before = set(adata.obsm), set(adata.varm), set(adata.uns), set(adata.var), set(adata.obs)
    planned(adata, call)
    assert before == (
        set(adata.obsm), set(adata.varm), set(adata.uns), set(adata.var), set(adata.obs)
    )  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [c for c in CALLS if c not in
     ("tl.pattern_genes:like", "tl.gene_views", "tl.embed_genes", "tl.embed_sequences")],
)  # fmt: skip
def test_more_observations_cost_more(call):
    # Masks of another length are not looked at; what is fixed by arguments stays.
    few, many = planned(made(), call), planned(made(8000), call)
    assert many.seconds >= few.seconds and many.peak_bytes >= few.peak_bytes
    assert many.seconds > few.seconds or many.peak_bytes > few.peak_bytes


@pytest.mark.parametrize("call", ["tl.sigel", "tl.gene_views", "tl.ult", "pp.augment"])
def test_more_genes_cost_more(call):
    few, many = planned(made(), call), planned(made(m=1500), call)
    assert many.seconds > few.seconds and many.peak_bytes > few.peak_bytes


def test_advice_where_memory_does_not_suffice(monkeypatch):
    monkeypatch.setattr(_plan, "available_bytes", lambda: 2**20)
    plan = ol.plan(made(5000), "sigel")
    assert not plan.fits and "DOES NOT FIT" in repr(plan)
    assert any("read_lazy" in line for line in plan.advice)
    assert any("accelerator=" in line for line in plan.advice)
    assert any("reference" in line for line in planned(made(5000), "tl.impute_genes").advice)
    monkeypatch.undo()
    assert ol.plan(made(), "sigel").advice == ()


@every_call
def test_advice_names_arguments_of_the_verb(call, monkeypatch):
    monkeypatch.setattr(_plan, "available_bytes", lambda: 1)
    room, verb = call.partition(":")[0].split(".")
    names = set(inspect.signature(getattr(getattr(ol, room), verb)).parameters)
    advice = planned(made(), call).advice
    assert advice
    for line in advice:
        for word in line.replace("(", " ").split():
            # `backed=` is anndata's, `save=` tl.sigel's, `model=` of parts of the strings ult's.
            if "=" in word and not word.startswith(("backed", "save")):
                assert word.split("=")[0] in names, (call, word)


def test_a_copy_is_counted():
    adata = made()
    with_copy, without = (ol.plan(adata, "sigel", copy=c) for c in (True, False))
    assert with_copy.peak_bytes == without.peak_bytes + 8 * adata.X.nnz
    assert any("copy=True" in line for line in with_copy.path)


def test_hours_bring_advice(monkeypatch):
    monkeypatch.setattr(_plan, "predicted", lambda cost: (7200.0, 1.0))
    plan = ol.plan(made(), "tl.gene_functions", gene_sets={"p": ["Gene1"]})
    assert plan.advice and "2.0 h" in repr(plan)


def test_representations():
    plan = core.Plan("tl.sigel", 90.0, 3 * 2**30, 2**33, ("csr <in> memory",), ("less",))
    text = repr(plan)
    assert "Plan of tl.sigel" in text and "about 1.5 min" in text and "3.0 GiB" in text
    assert "8.0 GiB available: fits" in text and "change  less" in text
    page = plan._repr_html_()
    assert page.startswith("<table>") and "csr &lt;in&gt; memory" in page
    with pytest.raises(AttributeError):
        plan.seconds = 1.0


def test_names_of_verbs():
    adata = made()
    assert {ol.plan(adata, v).verb for v in ("sigel", "tl.sigel", "ol.tl.sigel")} == {"tl.sigel"}
    assert ol.plan(adata, "augment", labels_key="kind", n_new=3).verb == "pp.augment"
    with pytest.raises(ValueError, match="There is no verb 'sigil'.*tl.sigel"):
        ol.plan(adata, "sigil")
    with pytest.raises(ValueError, match="no cost model for 'tl.gene_neighbors'.*tl.sigel"):
        ol.plan(adata, "tl.gene_neighbors")


def test_arguments_are_those_of_the_verb():
    adata = made()
    with pytest.raises(TypeError, match="tl.sigel has no argument 'n_cluster'.*n_clusters"):
        ol.plan(adata, "sigel", n_cluster=3)
    with pytest.raises(TypeError, match="tl.spatial_domains needs 'n_domains'"):
        ol.plan(adata, "spatial_domains")
    with pytest.raises(KeyError, match="counts"):
        ol.plan(adata, "sigel", layer="counts")
    with pytest.raises(KeyError, match="lane"):
        ol.plan(adata, "sigel", batch_key="lane")
    with pytest.raises(ValueError, match="tl.sigel:preset=paper"):
        ol.plan(adata, "sigel", preset="paper")
    with pytest.raises(ValueError, match="nothing to plan"):
        ol.plan(adata[:0].copy(), "sigel")
    with pytest.raises(ValueError, match="pp.image_features:uni"):
        ol.plan(adata, "pp.image_features", encoder="uni")
    with pytest.raises(TypeError, match="pass the loaded trunk"):
        ol.plan(adata, "embed_sequences", model="folder")
    with pytest.raises(TypeError, match="tl.twas takes a MuData"):
        ol.plan(adata, "twas")
    with pytest.raises(TypeError, match="Expected an AnnData or a MuData"):
        ol.plan(3, "sigel")


def test_mudata():
    import mudata as md

    adata = made()
    mdata = md.MuData({"rna": adata, "other": adata[:, :3].copy()})
    with pytest.raises(ValueError, match="needs mod="):
        ol.plan(mdata, "sigel")
    assert ol.plan(mdata, "sigel", mod="rna").peak_bytes == ol.plan(adata, "sigel").peak_bytes


def test_people():
    import mudata as md

    n, k = 60, 200
    names = [f"p{i}" for i in range(n)]
    obs = pd.DataFrame({"split": "train"}, index=names)
    genes = pd.DataFrame({"chrom": "c", "tss": [2000, 8000], "strand": "+"}, index=["P", "Q"])
    var = pd.DataFrame({"chrom": "c", "pos": np.arange(k) * 50 + 1}, index=map(str, range(k)))
    rna = ad.AnnData(np.zeros((n, 2), dtype=np.float32), obs=obs, var=genes)
    ol.pp.gene_windows(rna, length=2000)
    geno = ad.AnnData(sparse.csc_matrix((n, k), dtype=np.float32), obs=obs.copy(), var=var)
    mdata = md.MuData({"rna": rna, "geno": geno})
    near, far = ol.plan(mdata, "twas"), ol.plan(mdata, "twas", window=8000)
    assert "2 genes with up to 40 variants, 60 training people" in near.path
    assert near.seconds < far.seconds
    assert ol.plan(mdata, "twas", model=["enet", "bslmm"]).seconds > near.seconds
    people = ol.plan(mdata, "embed_people", model=trunk(), genome="x.fa", genes="P")
    assert any("240 forward passes over 2,000 bases" in line for line in people.path)


def test_fasta(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(">c\n" + "ACGT" * 1000)
    plan = ol.plan(None, "pp.kmer_counts", fasta=path)
    assert plan.seconds > 0 and "as a stream" in "; ".join(plan.path)


def test_unknown_number_of_stored_values_is_said(tmp_path):
    lazy = held(made(), "lazy", tmp_path)
    part = lazy[:300]
    assert any("10% of them are assumed" in line for line in ol.plan(part, "sigel").path)


def test_available_memory():
    assert 2**20 < core.available_bytes() < 2**50


def test_constants_are_whole():
    known = core.constants()
    assert known["speed"] > 0 and known["read"] > 0 and known["date"]
    for verb, own in known["verbs"].items():
        assert verb.partition(":")[0] in _plan.MODELS
        for what in ("seconds", "memory"):
            assert own[what] and all(v > 0 for v in own[what].values()), verb


def test_numbers_are_those_of_the_verbs():
    """Copies of constants, which floor 0 may not import, are what the verbs use."""
    from omicllm.genome import kernel_classifier
    from omicllm.model import _omic_lm_parts, _omic_lm_text, _sigel_parts
    from omicllm.spatial import energy, moran, moran_calibration
    from omicllm.stats import cell_predictors, imputation, spectrum
    from omicllm.tl import _domain_ensemble, _few_shot, _impute_genes, _twas_inputs

    here, defaults = plan_tissue, _sigel_parts.DEFAULTS
    predictors = len(cell_predictors.PREDICTORS) + len(_impute_genes._AROUND)
    for copy, own in (
        (here.MAX_PIXELS, defaults["max_pixels"]), (here.AXES, defaults["n_axes"]),
        (here.WHOLE, spectrum.WHOLE), (here.CLASSES, energy._CLASSES),
        (here.FEW_PAIRS, moran.FEW_PAIRS), (here.DRAWS, moran_calibration._DRAWS),
        (here.WARD, _domain_ensemble._WARD), (here.FIT, _domain_ensemble._FIT),
        (here.STACK_BYTES, imputation._STACK_BYTES), (here.PREDICTORS, predictors),
        (plan_text.STEPS, _omic_lm_parts.STEPS), (plan_text.N_TOP, _omic_lm_text.N_TOP),
        (plan_text.MEMBERS, _omic_lm_parts.DEFAULTS["n_members"]),
        (plan_genome.LENGTH, _twas_inputs._LENGTH), (plan_genome.SHOTS, _few_shot.SHOTS),
        (plan_genome.MOST, kernel_classifier._MOST),
    ):  # fmt: skip
        assert copy == own


def test_importing_the_package_loads_no_plan():
    code = "import sys, omicllm; assert 'omicllm._plan' not in sys.modules; omicllm.plan"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_within_a_factor_of_two():
    """One cheap verb at a size that its constants were not fitted to."""
    sys.path.insert(0, str(CHECKOUT / "benchmarks"))
    from _plan_runs import measured

    (run,) = measured("tl.project_genes", [{"n": 30_000, "m": 600}])
    planned = run["planned"]["predicted"]
    assert 0.5 < planned[0] / run["seconds"] < 2
    assert 0.5 < planned[1] / run["bytes"] < 2
