"""Walks over genes: every storage gives the same columns, in groups of bounded size."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from omicllm._core.gene_groups import gene_groups, not_finite


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return (rng.poisson(0.6, (50, 23)) * rng.random((50, 23))).astype(np.float32)


def stored(X, how, path):
    if how in ("csr", "csc"):
        return sparse.csr_matrix(X).asformat(how)
    if how == "dense":
        return X
    kind = how.split()[1]
    matrix = X if kind == "dense" else sparse.csr_matrix(X).asformat(kind)
    ad.AnnData(matrix).write_h5ad(path / "a.h5ad")
    if how.startswith("dask"):
        return ad.experimental.read_lazy(path / "a.h5ad").X
    return ad.read_h5ad(path / "a.h5ad", backed="r").X


@pytest.mark.parametrize("n_bytes", [None, 3000])
@pytest.mark.parametrize(
    "how",
    ["dense", "csr", "csc", "backed csr", "backed csc", "backed dense", "dask csr", "dask csc",
     "dask dense"],
)  # fmt: skip
def test_same_columns_from_every_storage(X, how, n_bytes, tmp_path):
    seen = np.full_like(X, np.nan)
    n_groups = 0
    for genes, part in gene_groups(stored(X, how, tmp_path), n_bytes):
        n_groups += 1
        seen[:, genes] = part.toarray() if sparse.issparse(part) else part
        assert not sparse.issparse(part) or part.format == "csc"
    np.testing.assert_array_equal(seen, X)
    assert n_groups == 1 or n_bytes is not None
    if n_bytes and how not in ("dense", "csc"):
        assert n_groups > 1


def test_values_that_are_not_finite(X):
    X[3, 7] = np.nan
    X[4, 9] = np.inf
    for part in (X, sparse.csc_matrix(X)):
        assert not_finite(part).tolist() == [7, 9]
    assert len(not_finite(np.ones((3, 2), dtype=int))) == 0
