"""`tl.project_genes`: observations as means of gene vectors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from conftest import make_tiny
from helpers import same_object
from scipy import sparse

import omicllm as ol


@pytest.fixture
def embedded():
    adata = make_tiny()
    Z = np.random.default_rng(0).normal(size=(40, 6))
    Z[3:5], Z[7] = 0, np.nan
    adata.varm["X_sigel"] = Z
    return adata


def expected(adata, Z):
    work = adata.copy()
    sc.pp.normalize_total(work)
    sc.pp.log1p(work)
    used = np.isfinite(Z).all(axis=1) & (Z != 0).any(axis=1)
    W = work.X.toarray()[:, used]
    return W @ Z[used] / W.sum(axis=1, keepdims=True)


def test_mean_of_gene_vectors(embedded):
    F = expected(embedded, embedded.varm["X_sigel"])
    ol.tl.project_genes(embedded, unit_length=False)
    found = embedded.obsm["X_sigel_cells"]
    assert found.dtype == np.float32 and embedded.uns["sigel_cells"]["n_genes"] == 37
    np.testing.assert_allclose(found, F - F.mean(axis=0), atol=1e-5)
    ol.tl.project_genes(embedded, key_added="unit")
    unit = embedded.obsm["X_unit_cells"]
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        unit, found / np.linalg.norm(found, axis=1, keepdims=True), atol=1e-5
    )
    # Values that are stored in two parts count as their sum.
    X = embedded.X.tocsr()
    apart = sparse.csr_matrix(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape
    )
    embedded.layers["apart"] = apart
    ol.tl.project_genes(embedded, layer="apart", key_added="apart", unit_length=False)
    np.testing.assert_allclose(embedded.obsm["X_apart_cells"], found, atol=1e-5)
    # A layer, used as it is.
    embedded.layers["logged"] = sparse.csr_matrix(np.log1p(embedded.X.toarray()))
    ol.tl.project_genes(embedded, layer="logged", normalize=False, key_added="layer")
    assert embedded.obsm["X_layer_cells"].shape == (120, 6)


def test_blocks_make_no_difference_and_nothing_is_densified(embedded, monkeypatch, tmp_path):
    wanted = ol.tl.project_genes(embedded, copy=True).obsm["X_sigel_cells"]
    monkeypatch.setattr(ol.settings, "block_bytes", 8 * 40 * 7)
    with monkeypatch.context() as patch:
        for kind in (sparse.csr_matrix, sparse.csc_matrix):
            patch.setattr(kind, "toarray", None)
            patch.setattr(kind, "todense", None)
        ol.tl.project_genes(embedded)
    np.testing.assert_allclose(embedded.obsm["X_sigel_cells"], wanted, atol=1e-6)
    embedded.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    ol.tl.project_genes(backed)
    np.testing.assert_allclose(backed.obsm["X_sigel_cells"], wanted, atol=1e-6)


def test_empty_observations_are_zero(embedded, caplog):
    X = embedded.X.toarray()
    X[5] = 0
    embedded.X = sparse.csr_matrix(X)
    ol.tl.project_genes(embedded)
    assert (embedded.obsm["X_sigel_cells"][5] == 0).all()
    assert "1 observations express none" in caplog.text


@pytest.mark.parametrize(
    "change,error,message",
    [
        (lambda a: a.varm.clear(), KeyError, "'X_sigel' is not in adata.varm"),
        (lambda a: a.varm.update(X_sigel=np.zeros((40, 3))), ValueError, "No gene has a vector"),
        (lambda a: setattr(a, "X", a.X * -1), ValueError, "negative, NaN or infinite"),
        (lambda a: setattr(a, "X", a.X * np.nan), ValueError, "negative, NaN or infinite"),
    ],
)
def test_what_cannot_be(embedded, change, error, message):
    change(embedded)
    untouched = embedded.copy()
    with pytest.raises(error, match=message):
        ol.tl.project_genes(embedded)
    same_object(embedded, untouched)


def test_observations_of_a_pattern_lie_together(tiny):
    """Spots left and right express different genes; their places say so."""
    Z = np.eye(4)[tiny.var["program"]]
    tiny.varm["X_sigel"] = Z
    ol.tl.project_genes(tiny)
    place = tiny.obsm["X_sigel_cells"]
    x = tiny.obsm["spatial"][:, 0]
    assert np.corrcoef(place[:, 0] - place[:, 1], x)[0, 1] > 0.8
