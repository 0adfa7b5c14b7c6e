"""`tl.impute_genes`, `get.imputed`: hidden genes come back; what is written; bad input."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same, same_object
from scipy import sparse

import omicllm as ol
from omicllm.stats.agreement import gene_pearson

KEY = "sigel_imputed"


def log1p(adata):
    adata.X = sparse.csr_matrix(np.log1p(adata.X.toarray()))
    return adata


@pytest.fixture
def pair():
    """Tissue with the first 60 of 80 genes; a reference of other cells with all; the truth."""
    full, reference = log1p(make_tiny(80, depth=20)), log1p(make_tiny(80, depth=20))
    other = make_tiny(80, depth=20)
    rng = np.random.default_rng(5)
    # Other cells of the same genes: each gene keeps its program, and counts are drawn anew.
    mean = np.expm1(full.X.toarray())
    reference.X = sparse.csr_matrix(np.log1p(rng.poisson(mean)).astype(np.float32))
    reference = reference[rng.permutation(120)].copy()
    reference.obs_names = [f"cell{i}" for i in range(120)]
    del other
    return full[:, :60].copy(), reference, full


def test_hidden_genes_come_back(pair):
    adata, reference, full = pair
    ol.tl.impute_genes(adata, reference=reference)
    entry = adata.uns[KEY]
    assert list(entry["genes"]) == [f"Gene{i}" for i in range(60, 80)]
    truth = full[:, 60:].X.toarray()
    values = adata.obsm[KEY]
    assert gene_pearson(truth, values).mean() > 0.5
    inside = (truth >= adata.obsm[f"{KEY}_lower"]) & (truth <= adata.obsm[f"{KEY}_upper"])
    assert 0.8 < inside.mean() < 0.98
    scores = entry["scores"]
    shared = [f"Gene{i}" for i in range(60) if i not in (3, 4)]  # those two are empty
    assert list(scores["gene"]) == shared
    measured = full[:, shared].X.toarray()
    np.testing.assert_allclose(
        scores["pearson"], gene_pearson(measured, adata.obsm[f"{KEY}_heldout"]), atol=1e-6
    )
    assert scores[["ssim", "ssim_knn", "pearson_knn", "coverage"]].notna().all(axis=None)
    assert entry["baseline"]["pearson"] == pytest.approx(scores["pearson"].mean())
    assert entry["baseline"]["n_genes"] == 58 and entry["baseline"]["n_reference"] == 120
    # `signal` ranks genes by how well they were predicted.
    order = np.corrcoef(entry["signal"], gene_pearson(truth, values))[0, 1]
    assert len(entry["signal"]) == 20 and order > 0.2
    assert entry["params"]["rng"] == 0 and entry["params"]["method"] == "sigel"


def test_knn_is_the_baseline_of_the_same_folds(pair):
    adata, reference, _ = pair
    other = adata.copy()
    ol.tl.impute_genes(adata, reference=reference)
    ol.tl.impute_genes(other, reference=reference, method="knn")
    left, right = (x.uns[KEY]["scores"] for x in (adata, other))
    np.testing.assert_allclose(left["pearson_knn"], right["pearson"], atol=1e-6)
    assert left["pearson"].mean() > right["pearson"].mean()
    assert not len(other.uns[KEY].get("weights", {}))


def test_measured_genes_may_be_asked_for(pair):
    adata, reference, full = pair
    hidden = ["Gene5", "Gene70"]
    ol.tl.impute_genes(full, reference=reference, genes=hidden)
    assert list(full.uns[KEY]["genes"]) == hidden
    assert "Gene5" not in set(full.uns[KEY]["scores"]["gene"])
    # The same as when they had never been there.
    cut = full[:, [g not in hidden for g in full.var_names]].copy()
    ol.tl.impute_genes(cut, reference=reference, genes=hidden)
    np.testing.assert_array_equal(cut.obsm[KEY], full.obsm[KEY])
    ol.tl.impute_genes(adata, reference=reference, genes="Gene70")
    assert adata.obsm[KEY].shape == (120, 1)


def test_genes_are_matched_by_name(pair):
    adata, reference, _ = pair
    genes = ["Gene61", "Gene79"]
    order = np.random.default_rng(0).permutation(80)
    out = [
        ol.tl.impute_genes(adata, reference=r, genes=genes, copy=True)
        for r in (reference, reference[:, order].copy())
    ]
    np.testing.assert_array_equal(out[0].obsm[KEY], out[1].obsm[KEY])


def test_storage_of_the_reference(pair, tmp_path):
    adata, reference, _ = pair
    wanted = ol.tl.impute_genes(adata, reference=reference, copy=True).obsm[KEY]
    reference.write_h5ad(tmp_path / "r.h5ad")
    dense = reference.copy()
    dense.X = dense.X.toarray().astype(np.float64)
    csc = reference.copy()
    csc.X = csc.X.tocsc()
    layered = reference.copy()
    layered.layers["log"], layered.X = layered.X, layered.X * 3
    stored = {
        "dense": (dense, {}), "csc": (csc, {}), "layer": (layered, {"reference_layer": "log"}),
        "backed": (ad.read_h5ad(tmp_path / "r.h5ad", backed="r"), {}),
        "view": (ad.concat([reference, reference[:5]], index_unique="-")[:120], {}),
    }  # fmt: skip
    untouched = reference.copy()
    for name, (one, more) in stored.items():
        got = ol.tl.impute_genes(adata, reference=one, copy=True, **more).obsm[KEY]
        # Cells of other names are taken in another order, hence the rounding.
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    same_object(reference, untouched)


def test_subsets_of_large_data(pair):
    adata, reference, full = pair
    ol.tl.impute_genes(adata, reference=reference, max_cells=70, max_reference=90, max_shared=30)
    heldout, baseline = adata.obsm[f"{KEY}_heldout"], adata.uns[KEY]["baseline"]
    assert (baseline["n_cells"], baseline["n_reference"], baseline["n_genes"]) == (70, 90, 30)
    assert np.isnan(heldout).all(axis=1).sum() == 50 and heldout.shape == (120, 30)
    assert np.isfinite(adata.obsm[KEY]).all()
    assert gene_pearson(full[:, 60:].X.toarray(), adata.obsm[KEY]).mean() > 0.4


def test_without_coordinates_and_in_three_dimensions(pair):
    adata, reference, _ = pair
    flat = adata.copy()
    del flat.obsm["spatial"]
    ol.tl.impute_genes(flat, reference=reference)
    assert flat.uns[KEY]["scores"]["ssim"].isna().all() and "ssim" not in flat.uns[KEY]["baseline"]
    assert "tissue_0" not in flat.uns[KEY]["weights"]
    adata.obsm["spatial"] = np.column_stack([adata.obsm["spatial"], np.arange(120.0)])
    ol.tl.impute_genes(adata, reference=reference)
    assert "tissue_1" in adata.uns[KEY]["weights"]
    with pytest.raises(KeyError, match="'xy' is not in adata.obsm"):
        ol.tl.impute_genes(adata, reference=reference, spatial_key="xy")


def test_sections_are_apart(pair):
    """Cells of another section at the same places are no neighbours."""
    adata, reference, _ = pair
    both = ad.concat({"a": adata, "b": adata[::-1].copy()}, label="slide", index_unique="-")
    both.obsm["spatial"][120:] = both.obsm["spatial"][:120]
    both.obs[["array_row", "array_col"]] = np.tile(adata.obs[["array_row", "array_col"]], (2, 1))
    with pytest.raises(ValueError, match="tell them apart with batch_key="):
        ol.tl.impute_genes(both, reference=reference)
    ol.tl.impute_genes(both, reference=reference, batch_key="slide")
    assert both.uns[KEY]["params"]["batch_key"] == "slide"
    assert both.uns[KEY]["scores"]["ssim"].notna().all()


def test_bad_input(pair, caplog):
    adata, reference, full = pair
    untouched = adata.copy()
    renamed = reference.copy()
    renamed.var_names = [f"ENSG{i:09d}" for i in range(80)]
    broken, infinite = reference.copy(), adata.copy()
    broken.X[2, 7] = np.nan
    infinite.X = infinite.X.toarray()
    infinite.X[5, 9] = np.inf
    still = reference.copy()
    still.X = np.ones(still.shape, dtype=np.float32)
    twice = reference.copy()
    twice.var_names = ["Gene0", *twice.var_names[:-1]]
    import mudata as md

    cases = [
        (KeyError, "1 of 2 genes not in reference.var_names: 'nope'", reference,
         {"genes": ["Gene70", "nope"]}),
        (ValueError, "share 0 genes; at least 5.*symbols.*Ensembl ids", renamed, {}),
        (ValueError, "share 4 genes; at least 5 are needed", reference[:, 56:].copy(), {}),
        (ValueError, "nothing to impute", reference[:, :60].copy(), {}),
        (ValueError, "genes= is empty", reference, {"genes": []}),
        (ValueError, "reference.X holds NaN or infinite values in 1 of .*'Gene7'", broken, {}),
        (ValueError, "Only 0 of 60 shared genes vary", still, {}),
        (ValueError, "reference has 4 observations", reference[:4].copy(), {}),
        (ValueError, "reference.var_names holds 1 name", twice, {}),
        (KeyError, "'log' is not in adata.layers", reference, {"reference_layer": "log"}),
        (ValueError, "method must be one of", reference, {"method": "tangram"}),
        (ValueError, "coverage must lie between", reference, {"coverage": 2}),
        (ValueError, "n_folds must be a whole number of at least 3", reference, {"n_folds": 1}),
        (TypeError, r'not MuData: pass one modality, as in reference=mdata\["rna"\]',
         md.MuData({"rna": reference}), {}),
        (TypeError, "reference must be an AnnData, not ndarray", np.zeros((3, 3)), {}),
    ]  # fmt: skip
    for error, message, ref, more in cases:
        with pytest.raises(error, match=message):
            ol.tl.impute_genes(adata, reference=ref, **more)
    same_object(adata, untouched)
    with pytest.raises(ValueError, match=r"adata.X holds NaN or infinite values.*'Gene9'"):
        ol.tl.impute_genes(infinite, reference=reference)
    with pytest.raises(TypeError, match="reference"):
        ol.tl.impute_genes(adata)


def test_warnings(pair, caplog):
    adata, reference, _ = pair
    with caplog.at_level("WARNING", logger="omicllm"):
        ol.tl.impute_genes(adata, reference=reference, copy=True)
    assert not caplog.records
    few = adata[:, 5:15].copy()
    with caplog.at_level("WARNING", logger="omicllm"):
        ol.tl.impute_genes(few, reference=reference, genes="Gene70")
    assert "10 shared genes are few" in caplog.text
    assert np.isfinite(few.obsm[KEY]).all()
    caplog.clear()
    counts = make_tiny(60, depth=60)
    with caplog.at_level("WARNING", logger="omicllm"):
        ol.tl.impute_genes(counts, reference=reference)
    assert "adata looks like counts" in caplog.text


# -- get.imputed ----------------------------------------------------------------------------


def test_joined_object(pair):
    import scanpy as sc

    adata, reference, _ = pair
    adata.obsp["graph"] = sparse.eye(120, format="csr")
    adata.uns["kept"] = "yes"
    with pytest.raises(KeyError, match=r"ol.tl.impute_genes\(adata, reference="):
        ol.get.imputed(adata)
    ol.tl.impute_genes(adata, reference=reference)
    untouched = adata.copy()
    out = ol.get.imputed(adata)
    same_object(adata, untouched)
    assert list(out.var_names) == [f"Gene{i}" for i in range(80)]
    assert out.var["imputed"].tolist() == [False] * 60 + [True] * 20
    assert sparse.issparse(out.X) and out.X.dtype == np.float32
    np.testing.assert_array_equal(out[:, :60].X.toarray(), adata.X.toarray())
    np.testing.assert_array_equal(out[:, 60:].X.toarray(), adata.obsm[KEY])
    assert out.var["program"].iloc[:60].tolist() == list(adata.var["program"])
    assert same(out.obsm["spatial"], adata.obsm["spatial"]) and set(out.obsm) == {"spatial"}
    assert "graph" in out.obsp and out.uns["kept"] == "yes" and KEY not in out.uns
    assert out.obs.equals(adata.obs)
    sc.pp.pca(out, n_comps=5)
    sc.pp.neighbors(out, n_neighbors=5)
    assert out.obsp["connectivities"].shape == (120, 120)


def test_joined_object_of_a_layer_and_of_measured_genes(pair):
    adata, reference, full = pair
    full.layers["log"], full.X = full.X.toarray(), None
    ol.tl.impute_genes(
        full, reference=reference, genes=["Gene5", "Gene6"], layer="log", key_added="new"
    )
    out = ol.get.imputed(full, key="new")
    assert not out.var["imputed"].any()  # measured genes stay
    np.testing.assert_array_equal(out.X, full.layers["log"])


def test_osmfish(data_dir):
    """Five folds over 33 genes, library size from kept genes only: the bars of the benchmark."""
    a = ad.read_h5ad(data_dir / "tissue" / "osmfish_cortex.h5ad")
    b = ad.read_h5ad(data_dir / "tissue" / "osmfish_scrna_reference.h5ad")
    a = a[np.random.default_rng(0).permutation(a.n_obs)[:3000]].copy()
    rng = np.random.default_rng(7)
    score, plain, inside = [], [], []
    for test in np.array_split(rng.permutation(33), 5):
        names = a.var_names[test]
        kept = [g for g in a.var_names if g not in set(names)]
        parts = []
        for one in (a, b):
            total = np.asarray(one[:, kept].X.sum(axis=1)).ravel()
            X = one.X.toarray() * (np.median(total[total > 0]) / np.maximum(total, 1))[:, None]
            part = one.copy()
            part.X = np.log1p(X).astype(np.float32)
            parts.append(part)
        tissue, truth = parts[0][:, kept].copy(), parts[0][:, names].X
        for method, scores in (("sigel", score), ("knn", plain)):
            ol.tl.impute_genes(tissue, reference=parts[1], genes=list(names), method=method)
            scores += list(gene_pearson(truth, tissue.obsm[KEY]))
            if method == "sigel":
                low, high = (tissue.obsm[f"{KEY}_{side}"] for side in ("lower", "upper"))
                inside += list(((truth >= low - 1e-6) & (truth <= high + 1e-6)).mean(axis=0))
    assert np.mean(score) > 0.26 and np.mean(score) > np.mean(plain) + 0.04
    assert 0.86 < np.mean(inside) < 0.94
