"""`tl.gene_neighbors`: exact neighbours, UMAP's weights, empty genes alone."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import same_object
from scipy import sparse

import omicllm as ol


@pytest.fixture
def adata(tiny):
    Z = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    Z[3:5] = 0
    tiny.varm["X_sigel"] = Z
    return tiny


def test_distances_are_those_of_sklearn(adata):
    from sklearn.neighbors import NearestNeighbors

    ol.tl.gene_neighbors(adata, n_neighbors=6)
    seen = np.setdiff1d(np.arange(40), [3, 4])
    found = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute")
    d, i = found.fit(adata.varm["X_sigel"][seen]).kneighbors()
    d, i = d[:, :6], i[:, :6]
    D = adata.varp["sigel_distances"]
    assert sparse.issparse(D) and D.format == "csr" and D.dtype == np.float32
    assert (np.diff(D.indptr)[seen] == 6).all()
    wanted = np.zeros((40, 40))
    for row, columns, values in zip(seen, i, d, strict=True):
        wanted[row, seen[columns]] = values
    np.testing.assert_allclose(D.toarray(), wanted, atol=1e-6)


def test_connectivities_are_those_of_scanpy(adata):
    import anndata as ad
    import scanpy as sc

    ol.tl.gene_neighbors(adata, n_neighbors=6)
    C = adata.varp["sigel_connectivities"]
    assert abs(C - C.T).max() < 1e-6 and C.data.min() > 0 and C.data.max() <= 1
    assert C.dtype == np.float32 and C.diagonal().sum() == 0
    seen = np.setdiff1d(np.arange(40), [3, 4])
    genes = ad.AnnData(adata.varm["X_sigel"][seen])
    # scanpy counts the row itself as a neighbour
    sc.pp.neighbors(genes, n_neighbors=7, use_rep="X", metric="cosine")
    np.testing.assert_allclose(
        C[seen][:, seen].toarray(), genes.obsp["connectivities"].toarray(), atol=1e-4
    )


def test_empty_genes_have_no_neighbours_and_are_nobodys(adata):
    ol.tl.gene_neighbors(adata, n_neighbors=6)
    for name in ("sigel_distances", "sigel_connectivities"):
        graph = adata.varp[name].toarray()
        assert not graph[3:5].any() and not graph[:, 3:5].any()
        assert graph[:3].any()


def test_after_sigel(tiny):
    ol.tl.sigel(tiny)
    ol.tl.gene_neighbors(tiny, n_neighbors=5)
    assert tiny.uns["sigel"]["baseline"], "the entry of sigel is not overwritten"
    assert tiny.uns["sigel_neighbors"]["params"]["n_neighbors"] == 5
    row, column = tiny.varp["sigel_distances"].nonzero()
    program = tiny.var["program"].to_numpy()
    assert (program[row] == program[column]).mean() > 0.9


def test_another_key(adata):
    adata.varm["X_other"] = adata.varm["X_sigel"][:, :3].copy()
    ol.tl.gene_neighbors(adata, key="other", n_neighbors=4)
    assert {"other_distances", "other_connectivities"} == set(adata.varp)


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"key": "nope"}, KeyError, r"'X_nope' is not in adata.varm \(there: 'X_sigel'\)"),
        ({"n_neighbors": 38}, ValueError, "needs more than 38 genes.*there are 38"),
        ({"n_neighbors": 0}, ValueError, "whole number of at least 1"),
    ],
)
def test_bad_input(adata, kwargs, error, message):
    before = adata.copy()
    with pytest.raises(error, match=message):
        ol.tl.gene_neighbors(adata, **kwargs)
    same_object(adata, before)
