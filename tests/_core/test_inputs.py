"""One matrix out of every storage, and clear errors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from omicllm._core import inputs


def storages(X, tmp_path):
    """The same matrix in every storage verbs accept."""
    import dask.array as da

    csr = sparse.csr_matrix(X)
    yield "dense", X
    yield "fortran", np.asfortranarray(X)
    yield "float64", X.astype(np.float64)
    yield "int", X.astype(np.int32)
    yield "csr", csr
    yield "csc", csr.tocsc()
    yield "coo", csr.tocoo()
    unsorted = csr.tocsc()
    unsorted.indices = unsorted.indices.copy()
    first = slice(unsorted.indptr[0], unsorted.indptr[1])
    unsorted.indices[first] = unsorted.indices[first][::-1]
    unsorted.data[first] = unsorted.data[first][::-1]
    unsorted.has_sorted_indices = False
    yield "unsorted", unsorted
    yield "dask", da.from_array(X, chunks=(7, X.shape[1]))
    for name, stored in (("dense", X), ("csr", csr), ("csc", csr.tocsc())):
        path = tmp_path / f"{name}.h5ad"
        ad.AnnData(stored).write_h5ad(path)
        yield f"backed {name}", ad.read_h5ad(path, backed="r").X
        if name != "csc":
            yield f"lazy {name}", ad.experimental.read_lazy(path).X


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.poisson(0.4, (30, 9)).astype(np.float32)


def test_gene_major_is_the_same_for_every_storage(X, tmp_path):
    wanted = sparse.csc_matrix(X)
    for name, stored in storages(X, tmp_path):
        out = inputs.gene_major(stored)
        assert out.format == "csc" and out.dtype == np.float32, name
        for part in ("indptr", "indices", "data"):
            assert np.array_equal(getattr(out, part), getattr(wanted, part)), (name, part)


def test_gene_major_leaves_the_input_alone(X):
    stored = sparse.csc_matrix(X)
    stored.data[:2] = 0  # explicit zeros, which the output drops
    data = stored.data.copy()
    out = inputs.gene_major(stored)
    out.data[:] = -1
    assert np.array_equal(stored.data, data)
    assert stored.nnz == len(data)


def test_row_blocks_cover_every_row_once(X):
    blocks = list(inputs.row_blocks(sparse.csr_matrix(X), rows=7))
    assert [start for start, _ in blocks] == [0, 7, 14, 21, 28]
    assert np.array_equal(np.vstack([b.toarray() for _, b in blocks]), X)


def test_resolve(X):
    import mudata as md

    adata = ad.AnnData(X)
    mdata = md.MuData({"rna": adata, "other": ad.AnnData(X[:, :2].copy())})
    assert inputs.resolve(adata) is adata
    assert inputs.resolve(mdata, "rna").shape == X.shape
    with pytest.raises(ValueError, match=r"needs mod=.*'rna'"):
        inputs.resolve(mdata)
    with pytest.raises(KeyError, match="'atac' is not in mdata.mod"):
        inputs.resolve(mdata, "atac")
    with pytest.raises(ValueError, match="no modalities"):
        inputs.resolve(adata, "rna")
    with pytest.raises(TypeError, match="not ndarray"):
        inputs.resolve(X)


def test_matrix(X):
    adata = ad.AnnData(X, layers={"counts": X})
    assert inputs.matrix(adata, "counts") is adata.layers["counts"]
    with pytest.raises(KeyError, match=r"'raw' is not in adata.layers \(there: 'counts'\)"):
        inputs.matrix(adata, "raw")
    with pytest.raises(ValueError, match="adata.X is empty"):
        inputs.matrix(ad.AnnData(obs=adata.obs, var=adata.var))


@pytest.mark.parametrize(
    "value,message", [(np.nan, "NaN"), (-1, "negative"), (0.5, "not whole numbers")]
)
def test_check_expression(X, value, message):
    names = np.array([f"g{i}" for i in range(9)])
    X[4, 2] = value
    with pytest.raises(ValueError, match=f"{message}.* 1 of 9 genes \\('g2'\\)"):
        inputs.check_expression(inputs.gene_major(X), names, counts=True, layer=None)


def test_check_expression_of_values(X):
    X[4, 2] = 0.5
    names = np.array([f"g{i}" for i in range(9)])
    inputs.check_expression(inputs.gene_major(X), names, counts=False, layer=None)


def test_sections(X):
    adata = ad.AnnData(X)
    codes, names = inputs.sections(adata, None)
    assert set(codes) == {0} and len(names) == 1
    adata.obs["slide"] = ["b"] * 10 + ["a"] * 20
    codes, names = inputs.sections(adata, "slide")
    assert names == ["a", "b"] and codes[0] == 1
    adata.obs["slide"] = ["b"] * 10 + [None] * 20
    with pytest.raises(ValueError, match="20 observations have no value"):
        inputs.sections(adata, "slide")
