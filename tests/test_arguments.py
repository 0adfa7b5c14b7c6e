"""Arguments act, or are refused by name; and what was trained is not lost when saving fails."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from conftest import make_tiny
from helpers import ATTRIBUTES, same, same_object
from test_contract import FAST_LM, cohort, embedded, stained

import omicllm as ol
from omicllm._core.results import NotSavedError

#: How a call runs and where its results go, not what they are.
HOW = {"accelerator", "show_progress", "mod", "key_added", "copy", "model"}


def counted(adata):
    """With another layer of counts, other coordinates, and two sections."""
    rng = np.random.default_rng(5)
    adata.layers["other"] = rng.poisson(3.0, adata.shape).astype(np.float32)
    adata.obs["half"] = np.where(np.arange(adata.n_obs) < adata.n_obs // 2, "a", "b")
    adata.obsm["turned"] = adata.obsm["spatial"][:, ::-1] * [1.0, 3.0]
    return adata


def for_sigel():
    adata = counted(make_tiny())
    ol.pp.spatial_grid(adata, key_added="mine", method="bin", n_pixels=30)
    return adata


def for_classes():
    adata = counted(cohort())
    adata.obs["fold"] = np.where(np.arange(120) % 2 == 0, "test", "train")
    adata.obs["kind2"] = adata.obs["kind"].to_numpy()[::-1]
    return adata


#: Verb -> object, the arguments of its training, and another value for every argument there is.
CASES = {
    "sigel": (for_sigel, {"n_clusters": 3}, {}, {
        "layer": "other", "input": "values", "n_clusters": 7, "n_latent": 5, "max_epochs": 3,
        "batch_size": 9, "preset": "paper", "spatial_key": "turned", "batch_key": "half",
        "grid_key": "mine", "umap": True, "rng": 7, "devices": 2, "save": "folder",
    }),
    "classify_omics": (for_classes, FAST_LM, {"labels_key": "kind"}, {
        "labels_key": "kind2", "layer": "other", "n_top": 5, "modalities": ["a"], "scale": "log",
        "backbone": "hf:x", "preset": "ieee_icdh", "lora": True, "augment": None, "n_new": 3,
        "split_key": "fold", "n_folds": 2, "baselines": False, "max_epochs": 3, "batch_size": 9,
        "lr": 0.1, "training_args": {"seed": 1}, "model_args": {"n_members": 2}, "rng": 7,
        "devices": 2, "save": "folder",
    }),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of each verb in a folder, and what applying it writes."""
    out = {}
    for name, (make, how, needed, _) in CASES.items():
        folder = tmp_path_factory.mktemp("arguments") / name
        getattr(ol.tl, name)(make(), save=folder, **needed, **how)
        plain = make()
        getattr(ol.tl, name)(plain, model=folder, **needed)
        out[name] = folder, plain
    return out


def changed(a, b):
    """Whether two objects differ anywhere."""
    for attribute in ATTRIBUTES:
        left, right = getattr(a, attribute), getattr(b, attribute)
        if set(left.keys()) != set(right.keys()):
            return True
        if not all(same(left[k], right[k]) for k in left):
            return True
    return False


@pytest.mark.parametrize("name", CASES)
def test_every_argument_has_a_case(name):
    parameters = set(inspect.signature(getattr(ol.tl, name)).parameters) - HOW - {"adata"}
    assert parameters == set(CASES[name][3])


@pytest.mark.parametrize("name,argument", [(n, a) for n, case in CASES.items() for a in case[3]])
def test_with_a_model_arguments_act_or_are_refused(name, argument, trained, tmp_path):
    make, _, needed, values = CASES[name]
    folder, plain = trained[name]
    adata = make()
    value = tmp_path / "m" if argument == "save" else values[argument]
    refusal = ""
    try:
        getattr(ol.tl, name)(adata, model=folder, **{**needed, argument: value})
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert f"{argument}=" in refusal
        same_object(adata, make())
        return
    assert changed(adata, plain), f"{argument}= was taken and changed nothing"
    if argument == "save":
        getattr(ol.model, {"sigel": "SIGEL", "classify_omics": "OmicLM"}[name]).load(value)


@pytest.mark.parametrize("name", CASES)
def test_with_a_model_records_say_what_was_done(name, trained):
    make, _, needed, _ = CASES[name]
    folder, plain = trained[name]
    entry = plain.uns["omiclm" if name == "classify_omics" else name]
    assert entry["model_dir"] == str(folder)
    if name == "sigel":
        assert entry["params"]["n_clusters"] == 3 == plain.var["sigel_cluster"].cat.categories.size
        assert entry["params"]["n_latent"] == plain.varm["X_sigel"].shape[1]
    else:
        assert entry["params"]["n_top"] == 20 and "max_epochs" not in entry["params"]
    with pytest.raises(KeyError, match="nowhere"):
        getattr(ol.tl, name)(make(), model=folder, layer="nowhere", **needed)


def test_the_layer_is_read(trained):
    """Counts in a layer, rubbish in X: as good as counts in X."""
    adata = for_classes()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.random.default_rng(0).permutation(adata.X.toarray().ravel()).reshape(adata.shape)
    folder, plain = trained["classify_omics"]
    ol.tl.classify_omics(adata, labels_key="kind", layer="counts", model=folder)
    found, wanted = (a.obsm["omiclm_proba"].to_numpy() for a in (adata, plain))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert adata.uns["omiclm"]["params"]["layer"] == "counts"


#: Calls in which an argument changes nothing, and the argument.
UNHEARD = [
    ("spatially_variable_genes", {"method": "moran", "input": "values"}, "input"),
    ("spatially_variable_genes", {"method": "moran", "null": "zinb"}, "null"),
    ("spatially_variable_genes", {"method": "moran", "n_null": 20}, "n_null"),
    ("spatial_domains", {"n_domains": 2, "genes": ["Gene1"], "n_genes": 5}, "n_genes"),
    ("spatial_domains", {"n_domains": 2, "use_rep": "spatial", "layer": "other"}, "layer"),
    ("spatial_domains", {"n_domains": 2, "method": "spagcn", "dims": (3,)}, "dims"),
    ("pattern_genes", {"like": "Gene1", "n_null": 30}, "n_null"),
    ("pattern_genes", {"like": "Gene1", "layer": "other"}, "layer"),
    ("pattern_genes", {"mask": "x", "groupby": "half"}, "groupby"),
    ("motifs", {"method": "denovo", "model": "folder"}, "model"),
    ("motifs", {"method": "denovo", "scan_pval": 0.1}, "scan_pval"),
    ("motifs", {"method": "scan", "database": "x", "width": 9}, "width"),
    ("ult", {"method": "text", "text_key": "half", "bits": 4}, "bits"),
    ("ult", {"method": "text", "text_key": "half", "layer": "other"}, "layer"),
    ("ult", {"model": "folder", "bits": 4}, "bits"),
    ("ult", {"precision": 3}, "precision"),
    ("ult", {"text_key": "half"}, "text_key"),
    ("predict_expression", {"layer": "other"}, "layer"),
    ("predict_expression", {"intervals": False, "library_size": 100}, "library_size"),
    ("classify_omics", {"labels_key": "half", "n_new": 5}, "n_new"),
    ("augment", {"labels_key": "half", "method": "poisson", "k": 3}, "k"),
    ("augment", {"labels_key": "half", "method": "smote", "r": 3}, "r"),
    ("augment", {"labels_key": "half", "method": "smote", "vae": {"lr": 1.0}}, "vae"),
    ("augment", {"labels_key": "half", "method": "poisson", "dispersion": "matched"}, "dispersion"),
    ("image_features", {"max_epochs": 3}, "max_epochs"),
    ("image_features", {"encoder": "simclr", "weights": "x", "split_key": "half"}, "split_key"),
    ("image_features", {"weights": "x"}, "weights"),
    ("image_features", {"transform": len}, "transform"),
    ("image_features", {"allow_download": True}, "allow_download"),
    ("image_features", {"encoder": len, "transform": len}, "transform"),
    ("image_features", {"encoder": len, "context": 3.0}, "context"),
    ("image_features", {"encoder": "uni", "context": 3.0}, "context"),
    ("image_features", {"patches": "x", "img_key": "hires"}, "img_key"),
    ("image_features", {"patch_map": "x", "alignment": "y"}, "alignment"),
    *(("image_features", {"encoder": "spatial", name: value}, name) for name, value in {
        "weights": "x", "transform": len, "image": "x", "patches": "x", "patch_map": "x",
        "size_um": 5.0, "mpp": 0.5, "spot_um": 5.0, "context": 3.0, "out_px": 32,
        "img_key": "x", "alignment": "x", "spatial_key": "turned", "max_outside": 0.5,
        "batch_size": 8}.items()),
    ("split", {"method": "random", "groupby": "half"}, "groupby"),
    ("split", {"method": "blocks", "groupby": "half"}, "groupby"),
    ("split", {"labels_key": "half", "n_blocks": 9}, "n_blocks"),
    ("split", {"groupby": "half", "batch_key": "half"}, "batch_key"),
    ("split", {"spatial_key": "turned"}, "spatial_key"),
    ("split", {"gene_shares": (1.0, 0.0, 0.0)}, "gene_shares"),
    ("split", {"fold": 1}, "fold"),
    ("split", {"n_folds": 3, "test_size": 0.5}, "test_size"),
    ("split", {"groupby": "half", "test": "a", "val_size": 0.3}, "val_size"),
    ("split", {"groupby": "half", "test": "a", "n_folds": 2}, "test"),
    ("split", {"method": "personal", "labels_key": "half"}, "labels_key"),
    ("split", {"method": "personal", "n_folds": 3}, "n_folds"),
    ("spatial_grid", {"pixel_size": 1.0, "n_pixels": 9}, "n_pixels"),
    ("spatial_grid", {"method": "hex", "agg": "mean"}, "agg"),
    ("gene_views", {"views": ["X_sigel"], "method": "procrustes", "regularization": 1.0},
     "regularization"),
    ("histology_baselines", {"genes": ["Gene1"], "n_top": 9}, "n_top"),
    ("histology_baselines", {"allow_spot_split": True}, "allow_spot_split"),
    ("histology_baselines", {"methods": ["ridge"], "n_neighbors": 9}, "n_neighbors"),
    ("histology_baselines", {"n_boot": 0, "level": 0.9}, "level"),
    ("spam", {"use_rep": "spatial", "pretrain_epochs": 3}, "pretrain_epochs"),
    ("spam", {"use_rep": "spatial", "genes": ["Gene1"], "n_top_genes": 3}, "n_top_genes"),
    ("spam", {"use_rep": "spatial", "allow_spot_split": True}, "allow_spot_split"),
    ("gene_windows", {"upstream": 5, "length": 9}, "length"),
    ("attach_sequences", {"genome": "x", "windows": "x", "window_key": "y"}, "window_key"),
    ("haplotypes", {"genome": "x", "windows": "x", "window_key": "y"}, "window_key"),
    ("standardize", {"fit_on": None, "split_key": "half"}, "split_key"),
    ("standardize", {"reference": "x", "fit_on": "test"}, "fit_on"),
    ("correct_expression", {"split_key": "half"}, "split_key"),
    ("explain_omics", {"model": "x", "key": "y"}, "key"),
]  # fmt: skip


@pytest.mark.parametrize("name,call,argument", UNHEARD)
def test_arguments_of_another_method_are_refused(name, call, argument):
    adata = counted(embedded())
    before = adata.copy()
    function = getattr(ol.tl, name, None) or getattr(ol.pp, name)
    with pytest.raises(ValueError, match=rf"\b{argument}= has no effect"):
        function(adata, **call)
    same_object(adata, before)


def test_columns_have_no_effect_on_a_fasta():
    with pytest.raises(ValueError, match="sequence_key= has no effect with fasta="):
        ol.pp.kmer_counts(fasta="x.fa", sequence_key="y")


@pytest.mark.parametrize("value", [0, -1, 0.5, True])
@pytest.mark.parametrize("argument", ["batch_size", "max_epochs"])
def test_zero_is_not_the_default(argument, value):
    for name, more in (("sigel", {}), ("classify_omics", {"labels_key": "half", "n_folds": 0})):
        with pytest.raises(ValueError, match=rf"{argument} must be a whole number"):
            getattr(ol.tl, name)(counted(make_tiny()), **more, **{argument: value})


def test_zero_is_no_learning_rate():
    adata = make_tiny()
    ol.model.SIGEL.setup_anndata(adata)
    for lr in (0, -1.0, np.nan):
        with pytest.raises(ValueError, match="lr must be a number above 0"):
            ol.model.SIGEL(adata).train(lr=lr)
        with pytest.raises(ValueError, match="lr must be a number above 0"):
            ol.tl.classify_omics(cohort(), labels_key="kind", **FAST_LM, lr=lr)


def test_the_learning_rate_holds_in_refinement():
    found = []
    for lr in (None, 1e-4, 0.05):
        adata = make_tiny()
        ol.model.SIGEL.setup_anndata(adata)
        model = ol.model.SIGEL(adata, n_clusters=3)
        model.train(pretrain_epochs=0, refine_epochs=2, lr=lr)
        found.append(model.get_gene_embedding())
    np.testing.assert_array_equal(found[0], found[1])  # its own default
    assert np.abs(found[2] - found[1]).max() > 1e-3


#: Verb with ``save=`` -> object, arguments, what it writes.
SAVING = {
    "sigel": (make_tiny, {"n_clusters": 3}, ("varm", "X_sigel")),
    "classify_omics": (cohort, {"labels_key": "kind", **FAST_LM}, ("obs", "omiclm_label")),
    "spam": (stained, {"max_epochs": 0}, ("layers", "spam")),
}


@pytest.mark.parametrize("name", SAVING)
def test_results_are_there_when_saving_fails(name, tmp_path, monkeypatch):
    make, call, (attribute, key) = SAVING[name]
    full = {"n": 0}

    def no_room(*_, **__):
        full["n"] += 1
        raise OSError(28, "No space left on device")

    adata, verb = make(), getattr(ol.tl, name)
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.numpy.save_file", no_room)
        with pytest.raises(NotSavedError, match=r"No space left.*attribute `model`") as told:
            verb(adata, save=tmp_path / "m", **call)
    assert full["n"] == 2  # where it was asked, and in a temporary folder
    assert key in getattr(adata, attribute)
    whole = make()
    verb(whole, **call)
    same_object(adata, whole)
    assert not (tmp_path / "m").exists()
    told.value.model.save(tmp_path / "m")
    assert type(told.value.model).load(tmp_path / "m").is_trained_


def test_features_are_there_when_saving_fails(tmp_path, monkeypatch):
    call = {"encoder": "simclr", "patches": "seen", "max_epochs": 1, "save": tmp_path / "net"}

    def pictured():
        adata = make_tiny()[:20].copy()
        shown = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3))
        adata.obsm["seen"] = shown.astype(np.uint8)
        return adata

    adata, whole = pictured(), pictured()
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", _no_room)
        with pytest.raises(NotSavedError, match=r"No space left.*attribute `model`") as told:
            ol.pp.image_features(adata, **call)
    assert told.value.data is adata and not (tmp_path / "net").exists()
    ol.pp.image_features(whole, **call)
    same_object(adata, whole)
    told.value.model.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "net").read_bytes()


def test_predictions_of_people_are_there_when_saving_fails(tmp_path, monkeypatch):
    from made_people import FAST, cohort, tiny_trunk

    mdata, genome = cohort(tmp_path)
    whole = mdata.copy()
    call = {
        "genome": genome, "trunk": tiny_trunk(), "baseline": None, "max_epochs": 1,
        "train_args": {k: v for k, v in FAST.items() if k != "batch_size"},
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.numpy.save_file", _no_room)
        with pytest.raises(NotSavedError, match=r"No space left.*attribute `model`") as told:
            ol.tl.personal_expression(mdata, save=tmp_path / "m", **call)
    assert told.value.data is mdata and not (tmp_path / "m").exists()
    ol.tl.personal_expression(whole, **call)
    for name in ("rna", "geno"):
        same_object(mdata[name], whole[name])
    told.value.model.save(tmp_path / "m")
    assert ol.model.PersonalExpression.load(tmp_path / "m").is_trained_


def _no_room(*_, **__):
    raise OSError(28, "No space left on device")
