"""`tl.sigel`: what it finds, what it takes, and what it refuses."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object
from scipy import sparse

import omicllm as ol


def planted(n_genes: int = 200, n_programs: int = 8, depth: float = 0.6, seed: int = 0):
    """Genes of `n_programs` smooth programs on 18 x 18 spots, as many without a pattern beside."""
    rng = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(324), 18)
    place = np.stack([row, col], axis=1)
    centres = rng.uniform(2, 16, (n_programs, 2, 2))
    distance = ((place[:, None, None] - centres) ** 2).sum(axis=3)
    patterns = np.exp(-distance / 14).sum(axis=2)
    program = np.where(np.arange(n_genes) < n_genes // 2, np.arange(n_genes) % n_programs, -1)
    shape = np.where(program >= 0, 0.15 + 2 * patterns[:, program], 0.6)
    level = rng.lognormal(0, 0.6, n_genes)
    counts = rng.poisson(depth * shape * level * rng.lognormal(0, 0.3, (324, 1)))
    adata = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.var_names = [f"Gene{i}" for i in range(n_genes)]
    adata.obs["array_row"], adata.obs["array_col"] = row, 2 * col + row % 2
    adata.obsm["spatial"] = place.astype(float)
    adata.var["program"] = program
    return adata


def test_recovers_planted_programs_where_counts_are_few():
    """Recall of a gene's program: high, and not below PCA of Pearson residuals."""
    import scanpy as sc

    adata = planted()
    rows = adata.var["program"].to_numpy() >= 0
    ol.tl.sigel(adata)
    Z = adata.varm["X_sigel"]
    work = ad.AnnData(adata.X.toarray())
    sc.experimental.pp.normalize_pearson_residuals(work)
    u, s, _ = np.linalg.svd(np.asarray(work.X).T, full_matrices=False)
    recall = {
        name: ol.metrics.neighbor_recall(values, adata.var["program"], rows=rows)
        for name, values in (("sigel", Z), ("pca", u[:, : Z.shape[1]] * s[: Z.shape[1]]))
    }
    assert recall["sigel"] > 0.8 or recall["sigel"] > recall["pca"] + 0.05, recall
    assert recall["sigel"] > recall["pca"], recall
    baseline = adata.uns["sigel"]["baseline"]
    assert baseline["sigel"] > baseline["pca"] and baseline["n_neighbors"] == 20


def test_does_not_follow_expression_level():
    adata = planted(seed=1)
    ol.tl.sigel(adata)
    Z = adata.varm["X_sigel"].astype(float)
    first = np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)[0][:, 0]
    level = np.log(np.asarray(adata.X.mean(axis=0)).ravel())
    assert abs(np.corrcoef(first, level)[0, 1]) < 0.5


def test_what_is_written(tiny):
    ol.tl.sigel(tiny)
    Z, empty = tiny.varm["X_sigel"], tiny.var["sigel_empty"].to_numpy()
    assert Z.dtype == np.float32 and Z.shape[0] == 40 and np.isfinite(Z).all()
    np.testing.assert_allclose(np.linalg.norm(Z[~empty], axis=1), 1.0, rtol=1e-5)
    assert np.flatnonzero(empty).tolist() == [3, 4] and not Z[empty].any()
    cluster, confidence = tiny.var["sigel_cluster"], tiny.var["sigel_confidence"].to_numpy()
    assert cluster.isna().to_numpy().tolist() == empty.tolist()
    assert np.isnan(confidence).tolist() == empty.tolist()
    assert ((confidence[~empty] > 0) & (confidence[~empty] <= 1)).all()
    recall = ol.metrics.neighbor_recall(Z, tiny.var["program"], k=5, rows=~empty)
    assert recall > 0.9
    assert tiny.uns["sigel"]["params"]["rng"] == 0


def test_clusters_are_the_programs(tiny):
    ol.tl.sigel(tiny)
    seen = ~tiny.var["sigel_empty"].to_numpy()
    assert ol.metrics.ari(tiny.var["program"][seen], tiny.var["sigel_cluster"][seen]) > 0.9


def test_clusters_as_many_as_asked(tiny):
    ol.tl.sigel(tiny, n_clusters=7, n_latent=5)
    assert len(tiny.var["sigel_cluster"].cat.categories) == 7
    assert tiny.varm["X_sigel"].shape == (40, 5)
    ol.tl.sigel(tiny, n_clusters=38)
    assert len(tiny.var["sigel_cluster"].cat.categories) == 38


def bad_inputs(tiny, tmp_path):
    """(object, arguments, error, message) of every bad input."""

    def changed(value, at=(2, 7)):
        other = tiny.copy()
        X = other.X.toarray()
        X[at] = value
        other.X = sparse.csr_matrix(X)
        return other

    nowhere, nan, lone = tiny.copy(), tiny.copy(), tiny.copy()
    del nowhere.obsm["spatial"], nowhere.obs["array_row"]
    del nan.obs["array_row"]
    nan.obsm["spatial"][3, 0] = np.nan
    lone.X = sparse.csr_matrix(np.eye(120, 40, dtype=np.float32) * (np.arange(40) == 5))
    shared, cube, twice = tiny.copy(), nan.copy(), tiny.copy()
    shared.obs.loc["spot7", ["array_row", "array_col"]] = tiny.obs.loc[
        "spot8", ["array_row", "array_col"]
    ].to_numpy()
    cube.obsm["spatial"] = np.zeros((120, 3))
    twice.var_names = ["Gene0", *tiny.var_names[:-1]]
    none = tiny.copy()
    none.X = None
    (tmp_path / "there").mkdir()
    counts = "name the layer that holds them with layer=.*input='values'"
    return {
        "no counts": (changed(0.5), {}, ValueError, f"not whole numbers in 1 of 40.*{counts}"),
        "negative": (changed(-1), {}, ValueError, "adata.X holds negative values.*Gene7"),
        "negative values": (changed(-1), {"input": "values"}, ValueError, "negative values"),
        "NaN": (changed(np.nan), {}, ValueError, "NaN or infinite values.*Gene7"),
        "infinite": (changed(np.inf), {"input": "values"}, ValueError, "NaN or infinite values"),
        "no coordinates": (nowhere, {}, KeyError, "'spatial' is not in adata.obsm.*spatial_key="),
        "other key": (nowhere, {"spatial_key": "xy"}, KeyError, "'xy' is not in adata.obsm"),
        "NaN coordinates": (nan, {}, ValueError, "NaN or infinite coordinates in 1 of 120"),
        "3-D": (cube, {}, ValueError, "3 columns, but a gene image needs 2-D"),
        "one pixel": (shared, {}, ValueError, "1 spots of the object lie on a pixel"),
        "clusters": (tiny, {"n_clusters": 39}, ValueError, "more than the 38 genes with counts"),
        "clusters 0": (tiny, {"n_clusters": 0}, ValueError, "n_clusters must be a whole number"),
        "latent": (tiny, {"n_latent": 0}, ValueError, "n_latent must be a whole number"),
        "epochs": (tiny, {"max_epochs": 0}, ValueError, "max_epochs must be a whole number"),
        "batch size": (tiny, {"batch_size": 1.5}, ValueError, "batch_size must be a whole"),
        "one spot": (tiny[:1].copy(), {}, ValueError, "at least two spots; the object has 1"),
        "one gene": (lone, {}, ValueError, "At least two genes with counts.*there are 1"),
        "layer": (tiny, {"layer": "raw"}, KeyError, "'raw' is not in adata.layers.*layer="),
        "no X": (none, {}, ValueError, "adata.X is empty.*layer="),
        "input": (tiny, {"input": "logs"}, ValueError, "input must be one of"),
        "preset": (tiny, {"preset": "large"}, ValueError, "preset must be one of"),
        "sections": (tiny, {"batch_key": "slide"}, KeyError, "'slide' is not in adata.obs"),
        "names": (twice, {}, ValueError, "var_names_make_unique"),
        "no model": (tiny, {"model": tmp_path / "m"}, FileNotFoundError, "no saved model"),
        "save": (tiny, {"save": tmp_path / "there"}, FileExistsError, "exists already.*save="),
        "mod": (tiny, {"mod": "rna"}, ValueError, "has no modalities"),
    }


BAD = [
    "no counts", "negative", "negative values", "NaN", "infinite", "no coordinates", "other key",
    "NaN coordinates", "3-D", "one pixel", "clusters", "clusters 0", "latent", "epochs",
    "batch size", "one spot", "one gene", "layer", "no X", "input", "preset", "sections", "names",
    "no model", "save", "mod",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_the_object_untouched(tiny, tmp_path, monkeypatch, case):
    from omicllm.model import SIGEL

    adata, kwargs, error, message = bad_inputs(tiny, tmp_path)[case]
    before = adata.copy()
    monkeypatch.setattr(SIGEL, "train", lambda *_, **__: pytest.fail("long work was started"))
    with pytest.raises(error, match=message):
        ol.tl.sigel(adata, **kwargs)
    same_object(adata, before)
    if adata.X is not None:
        np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())


def test_every_bad_input_is_tried(tiny, tmp_path):
    assert set(BAD) == set(bad_inputs(tiny, tmp_path))


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="Expected an AnnData or a MuData, not ndarray"):
        ol.tl.sigel(np.ones((3, 3)))


def test_two_spots_on_one_pixel_where_that_is_binning(tiny):
    tiny.obs = tiny.obs.drop(columns=["array_row", "array_col"])
    ol.pp.spatial_grid(tiny, n_pixels=40)
    ol.tl.sigel(tiny)
    assert np.isfinite(tiny.varm["X_sigel"]).all()


@pytest.mark.parametrize("n_genes", [40, 41])
@pytest.mark.parametrize("preset", [None, "paper"])
def test_a_multiple_of_the_batch_size_and_one_more(n_genes, preset):
    adata = make_tiny(n_genes + 2)  # two are empty
    ol.tl.sigel(adata, batch_size=10, max_epochs=2, preset=preset)
    assert np.isfinite(adata.varm["X_sigel"]).all()
    history = adata.uns["sigel"]["history"]
    assert len(history["pretrain_loss"]) == 2 and np.isfinite(history["pretrain_loss"]).all()


def test_layer(tiny):
    ol.tl.sigel(tiny)
    other = tiny.copy()
    other.layers["counts"] = other.X.copy()
    other.X = other.X * 0.37
    ol.tl.sigel(other, layer="counts", key_added="raw")
    assert np.array_equal(other.varm["X_raw"], tiny.varm["X_sigel"])


def test_values(tiny):
    import scanpy as sc

    sc.pp.normalize_total(tiny)
    sc.pp.log1p(tiny)
    ol.tl.sigel(tiny, input="values", max_epochs=2)
    seen = ~tiny.var["sigel_empty"].to_numpy()
    recall = ol.metrics.neighbor_recall(tiny.varm["X_sigel"], tiny.var["program"], k=5, rows=seen)
    assert recall > 0.9
    assert tiny.uns["sigel"]["params"]["input"] == "values"


@pytest.fixture
def two():
    first, second = make_tiny(), make_tiny(seed=1)
    first.X[:, 6] = 0  # a gene that only the second section has
    first.X = sparse.csr_matrix(first.X.toarray())
    return ad.concat({"a": first, "b": second[:100]}, label="slide", index_unique="-")


def test_sections(two):
    ol.tl.sigel(two, batch_key="slide")
    entry = two.uns["sigel"]
    assert entry["sections"].tolist() == ["a", "b"]
    assert entry["X_sections"].shape == (2, *two.varm["X_sigel"].shape)
    assert not entry["X_sections"][0, 6].any() and entry["X_sections"][1, 6].any()
    assert two.varm["X_sigel"][6].any()
    assert two.uns["spatial_grid"]["shapes"].tolist() == [[12, 11], [10, 11]]
    programs = np.tile(np.arange(40) % 4, 2)
    both = np.concatenate(entry["X_sections"])
    assert ol.metrics.neighbor_recall(both, programs, k=5, rows=np.abs(both).sum(1) > 0) > 0.9
    del two.obsm["spatial_grid"], two.uns["spatial_grid"]
    with pytest.raises(ValueError, match="tell them apart with batch_key="):
        ol.tl.sigel(two)


def test_a_grid_of_other_sections_is_made_anew(two):
    ol.pp.spatial_grid(two, batch_key="slide")
    two.obs["part"] = two.obs["slide"].astype(str)
    ol.tl.sigel(two, batch_key="part")
    assert two.uns["spatial_grid"]["batch_key"] == "part"


def test_a_grid_that_is_there_is_used(tiny):
    ol.pp.spatial_grid(tiny, method="bin", n_pixels=30)
    before = tiny.uns["spatial_grid"]
    ol.tl.sigel(tiny)
    assert tiny.uns["spatial_grid"] is before


def test_model_as_object_and_folder(tiny, tmp_path):
    ol.tl.sigel(tiny, save=tmp_path / "model", max_epochs=2)
    assert tiny.uns["sigel"]["model_dir"] == str(tmp_path / "model")
    again = make_tiny()
    ol.tl.sigel(again, model=tmp_path / "model")
    assert again.uns["sigel"]["model_dir"] == str(tmp_path / "model")
    np.testing.assert_allclose(again.varm["X_sigel"], tiny.varm["X_sigel"], atol=1e-5)
    assert again.var["sigel_cluster"].astype(str).tolist() == (
        tiny.var["sigel_cluster"].astype(str).tolist()
    )
    model = ol.model.SIGEL.load(tmp_path / "model")
    third = make_tiny()
    ol.tl.sigel(third, model=model, key_added="mine")
    assert np.array_equal(third.varm["X_mine"], again.varm["X_sigel"])
    assert "model_dir" not in third.uns["mine"]


def test_a_model_of_a_layer_and_a_model_of_sections(tiny, two):
    """The verb says where its own counts and sections are, whatever the model was set up with."""
    layered = tiny.copy()
    layered.layers["counts"] = layered.X
    ol.model.SIGEL.setup_anndata(layered, layer="counts")
    model = ol.model.SIGEL(layered)
    model.train()
    ol.tl.sigel(tiny, model=model)
    np.testing.assert_allclose(tiny.varm["X_sigel"], model.get_gene_embedding(), atol=1e-5)
    ol.model.SIGEL.setup_anndata(two, batch_key="slide")
    model = ol.model.SIGEL(two)
    model.train()
    other = two.copy()
    other.obs = other.obs.rename(columns={"slide": "section"})
    ol.tl.sigel(other, model=model, batch_key="section")
    np.testing.assert_allclose(other.varm["X_sigel"], model.get_gene_embedding(), atol=1e-5)


def test_an_untrained_model_is_refused(tiny):
    ol.model.SIGEL.setup_anndata(tiny)
    model = ol.model.SIGEL(tiny)
    other = make_tiny()
    before = other.copy()
    with pytest.raises(RuntimeError, match=r"call model.train\(\)"):
        ol.tl.sigel(other, model=model)
    same_object(other, before)


def test_umap(tiny):
    ol.tl.sigel(tiny, umap=True)
    xy, empty = tiny.varm["X_sigel_umap"], tiny.var["sigel_empty"].to_numpy()
    assert xy.dtype == np.float32 and xy.shape == (40, 2)
    assert np.isnan(xy[empty]).all() and np.isfinite(xy[~empty]).all()
    again = make_tiny()
    ol.tl.sigel(again, umap=True)
    np.testing.assert_array_equal(again.varm["X_sigel_umap"], xy)


# -- bars on real data ----------------------------------------------------------------------


@pytest.mark.slow
def test_replicate_agreement(data_dir):
    """Neighbours of genes in two sections embedded apart: .12 or more, above PCA of residuals."""
    found, pca = [], []
    a, b = (ad.read_h5ad(data_dir / "tissue" / f"st_hippo{i}.h5ad") for i in (1, 2))
    total = [np.asarray(x[:, x.var_names.isin(y.var_names)].X.sum(axis=0)).ravel()
             for x, y in ((a, b), (b, a))]  # fmt: skip
    names = [set(x.var_names[x.var_names.isin(y.var_names)][t >= 100])
             for x, y, t in ((a, b, total[0]), (b, a, total[1]))]  # fmt: skip
    genes = sorted(names[0] & names[1])
    for adata in (a, b):
        part = adata[:, genes].copy()
        ol.tl.sigel(part)
        assert part.varm["X_sigel"].shape[1] <= 128
        found.append(part.varm["X_sigel"])
        import scanpy as sc

        work = ad.AnnData(part.X.toarray())
        sc.experimental.pp.normalize_pearson_residuals(work)
        sc.pp.pca(work.T.copy(), 64)
        images = work.T.copy()
        sc.pp.pca(images, 64)
        pca.append(images.obsm["X_pca"])
    ours, theirs = ol.metrics.neighbor_overlap(*found), ol.metrics.neighbor_overlap(*pca)
    assert ours >= 0.12, (ours, theirs)
    assert ours > theirs


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1.0, 0.05])
def test_planted_programs(data_dir, keep):
    """Recall of programs and ARI: not below PCA as it is, .03 above it on 5 % of the counts."""
    import scanpy as sc
    from sklearn.cluster import KMeans

    whole = ad.read_h5ad(data_dir / "tissue" / "planted_programs_600.h5ad")
    scores = {"sigel": [], "pca": []}
    for seed in range(3):
        adata = whole.copy()
        X = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
        if keep < 1:
            X = np.random.default_rng(seed).binomial(X.astype(int), keep).astype(np.float32)
        adata.X = sparse.csr_matrix(X)
        ol.tl.sigel(adata, rng=seed)
        work = ad.AnnData(X.astype(np.float32))
        sc.pp.normalize_total(work)
        sc.pp.log1p(work)
        images = work.X.T - work.X.T.mean(axis=1, keepdims=True)
        sd = images.std(axis=1, keepdims=True)
        images = ad.AnnData(images / np.where(sd > 0, sd, 1))
        sc.pp.pca(images, 32, random_state=seed)
        labels = adata.var["program"].astype(str).to_numpy()
        rows = ~np.isin(labels, ["-1", "nan", "none", "None", ""])
        for name, Z in (("sigel", adata.varm["X_sigel"]), ("pca", images.obsm["X_pca"])):
            unit = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
            found = KMeans(20, n_init=10, random_state=0).fit_predict(unit[rows])
            recall = ol.metrics.neighbor_recall(Z, labels, rows=rows)
            scores[name].append((recall, ol.metrics.ari(labels[rows], found)))
    ours, pca = (np.mean(scores[n], axis=0) for n in ("sigel", "pca"))
    assert (ours >= pca + (0.03 if keep < 1 else -0.005)).all(), (ours, pca)


@pytest.mark.slow
def test_level_on_the_embryo(data_dir):
    adata = ad.read_h5ad(data_dir / "tissue" / "visium_mouse_embryo.h5ad")
    ol.tl.sigel(adata)
    seen = ~adata.var["sigel_empty"].to_numpy()
    assert (~seen).sum() == 8022
    Z = adata.varm["X_sigel"][seen].astype(float)
    first = np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)[0][:, 0]
    level = np.log(np.asarray(adata.X.mean(axis=0)).ravel()[seen])
    assert abs(np.corrcoef(first, level)[0, 1]) < 0.5
