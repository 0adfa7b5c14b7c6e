"""One matrix out of every storage, and clear errors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from made_storage import FORMS, dressed, fingerprint
from scipy import sparse

import omicllm as ol
from omicllm._core import inputs
from omicllm._core.gene_pair import read_columns
from omicllm.pp._cohort import rows_of


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
    read = inputs.matrix(adata, "counts")
    assert np.shares_memory(read, adata.layers["counts"]) and not read.flags.writeable
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


DTYPES = ["int8", "int32", "int64", "uint16", "float32", "float64", "bool"]
ORDERS = ["sorted", "unsorted", "duplicates", "both"]


def readers():
    """Every helper that reads a matrix, as a function to a dense array."""
    from omicllm._core.gene_groups import gene_groups
    from omicllm._core.gene_pair import read_columns
    from omicllm.codec.instances import row_pieces
    from omicllm.pp._cohort import rows_of
    from omicllm.spatial.images import rasterise

    def full(X):
        return X.toarray() if sparse.issparse(X) else np.asarray(X)

    def drawn(X):
        pixel = np.arange(X.shape[0])
        return rasterise(X, pixel, (1, X.shape[0])).reshape(X.shape[1], -1).T

    every = np.arange(9)
    return {
        "readable": lambda X: full(inputs.readable(X)),
        "gene_major": lambda X: inputs.gene_major(X).toarray(),
        "columns": lambda X: inputs.columns(X).toarray(),
        "rows_sparse": lambda X: inputs.rows_sparse(X).toarray(),
        "row_blocks": lambda X: np.vstack([full(b) for _, b in inputs.row_blocks(X, rows=7)]),
        "gene_groups": lambda X: np.hstack([full(b) for _, b in gene_groups(X, 900)]),
        "read_columns": lambda X: read_columns(X, every, every.astype(str), "X"),
        "rows_of": lambda X: full(rows_of(X, np.arange(X.shape[0]))),
        "row_pieces": lambda X: np.vstack([full(p) for p in row_pieces(X)]),
        "rasterise": drawn,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", [*FORMS, "C", "F"])
def test_helpers_read_every_storage_and_change_nothing(X, form, dtype):
    if dtype == "bool":
        X = X > 0
    for order in ORDERS if form in FORMS else ["sorted"]:
        for locked in (False, True):
            given = dressed(X, form, dtype, order=order, read_only=locked, zeros=True)
            before = fingerprint(given)
            for name, read in readers().items():
                for _ in range(2):
                    found = read(given)
                    assert np.array_equal(found, X.astype(found.dtype)), (name, order, locked)
                    assert fingerprint(given) == before, (name, order, locked)


@pytest.mark.parametrize("form", FORMS)
def test_duplicates_are_summed_without_overflow(form):
    X = np.array([[100, 0], [0, -100], [127, 127]])
    parts = FORMS[form](X.astype(np.int8))
    twice = (np.repeat(a, 2) for a in (parts.data, parts.indices))
    given = FORMS[form]((*twice, 2 * parts.indptr), shape=X.shape)
    assert np.array_equal(inputs.readable(given).toarray(), 2 * X)
    assert np.array_equal(inputs.gene_major(given).toarray(), 2 * X)
    block = sparse.coo_matrix((np.full(3, 100, np.int8), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert np.array_equal(inputs.readable(block).toarray(), [[0, 200], [100, 0]])


def test_counts_above_two_to_the_24_are_kept_where_nothing_makes_them_float32():
    big = 2**24 + 1
    given = sparse.csr_matrix(np.array([[big, 0], [0, 1]], dtype=np.int64))
    assert inputs.readable(given)[0, 0] == big
    assert inputs.dense_rows(ad.AnnData(given))[0, 0] == big


def test_what_is_read_is_canonical_and_nobody_can_write_into_it(X):
    for form in FORMS:
        kind = sparse.csr_matrix if form.startswith("csr") else sparse.csc_matrix
        for order in ORDERS:
            out = inputs.readable(dressed(X, form, order=order, zeros=True))
            wanted = kind(X)
            assert type(out) is kind
            for part in ("data", "indices", "indptr"):
                assert np.array_equal(getattr(out, part), getattr(wanted, part))
        with pytest.raises(ValueError, match="read-only"):
            inputs.readable(dressed(X, form)).data[0] = 5


@pytest.mark.parametrize(
    "dtype,message",
    [("complex64", "complex64', not real numbers. Take its real part"), ("object", "object', not"),
     ("U3", "not real numbers"), ("datetime64[s]", "not real numbers")],
)  # fmt: skip
def test_what_is_no_number_is_refused(X, dtype, message):
    adata = ad.AnnData(X, layers={"odd": X})
    adata.layers["odd"] = X.astype("int64").astype(dtype)
    for read in (inputs.stored, inputs.matrix, inputs.by_gene, inputs.dense_rows):
        with pytest.raises(TypeError, match=r"adata.layers\['odd'\] holds values of.*" + message):
            read(adata, "odd")


def test_hidden_values_of_a_masked_array_are_refused(X):
    adata = ad.AnnData(X)
    adata.layers["odd"] = np.ma.masked_greater(X, 2)
    with pytest.raises(TypeError, match="masked array with hidden values"):
        inputs.matrix(adata, "odd")


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("factor", [1e16, 1e30])
def test_values_whose_squares_overflow_are_refused(X, kind, factor):
    adata = ad.AnnData(kind(X * np.float32(factor)))
    for read in (inputs.by_gene, inputs.dense_rows):
        with pytest.raises(ValueError, match=r"adata.X holds values up to .*squares overflow"):
            read(adata)
    adata.X = kind(-X * np.float64(1e300))
    with pytest.raises(ValueError, match=r"adata.X holds values up to .*squares overflow"):
        inputs.by_gene(adata)


def test_the_error_names_where_counts_are(X):
    names = np.array([f"g{i}" for i in range(9)])

    def said(adata, layer=None, **more):
        with pytest.raises(ValueError, match="not whole numbers") as error:
            inputs.check_expression(
                inputs.by_gene(adata, layer), names, counts=True, layer=layer, source=adata, **more
            )
        return str(error.value)

    logged = np.log1p(X)
    adata = ad.AnnData(logged, var=pd.DataFrame(index=names))
    assert "layers there: none" in said(adata)
    assert "input=" not in said(adata) and "input='values'" in said(adata, has_input=True)
    adata.raw = ad.AnnData(logged, var=adata.var)
    assert "adata.raw" not in said(adata)
    adata.raw = ad.AnnData(sparse.csr_matrix(X), var=adata.var)
    assert "adata.raw.to_adata()" in said(adata)
    adata.layers["scaled"], adata.layers["umi"] = logged, X
    assert "pass layer='umi', which holds whole numbers" in said(adata)
    swapped = ad.AnnData(X, var=adata.var, layers={"log": logged})
    assert "no layer= (adata.X)" in said(swapped, "log")


@pytest.mark.parametrize("how", ["csr", "dense", "backed csr", "backed dense", "dask", "layer"])
def test_lazy_storage_is_read_in_the_order_of_the_file(how, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.poisson(0.7, size=(90, 23)).astype(np.float32)
    X[:, 3], X[4] = 0, 0
    adata = ad.AnnData(sparse.csr_matrix(X) if "dense" not in how else X)
    adata.obs_names = [f"cell{i}" for i in range(90)]
    layer = None
    if how == "layer":
        adata.layers["other"], adata.X, layer = adata.X, None, "other"
    if "backed" in how or how == "dask":
        adata.write_h5ad(tmp_path / "a.h5ad")
    if "backed" in how:
        adata = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    if how == "dask":
        adata.X = ad.experimental.read_lazy(tmp_path / "a.h5ad").X
    monkeypatch.setattr(ol.settings, "block_bytes", 8 * 23 * 20)
    source, order = inputs.by_name(adata)
    wanted = X[order.obs][:, order.var]
    assert (wanted != X).any()
    assert list(source.obs_names) == [f"cell{i}" for i in order.obs]
    if "backed" in how or how == "dask":
        starts = []
        walk = inputs.map_rows

        def noted(X, function, *shared, **more):
            for start, out in walk(X, function, *shared, **more):
                starts.append(start)
                yield start, out

        monkeypatch.setattr(inputs, "map_rows", noted)
        read = inputs.by_gene(source)
        assert starts == sorted(starts) and len(starts) > 2
        assert isinstance(inputs.matrix(source), inputs.Reordered)
    else:
        read = inputs.by_gene(source, layer)
    assert read.has_sorted_indices
    np.testing.assert_array_equal(read.toarray(), wanted)
    np.testing.assert_array_equal(inputs.dense_rows(source, layer), wanted)
    matrix, columns, rows = inputs.matrix(source, layer), np.array([5, 2, 9]), np.array([70, 3, 8])
    names = np.asarray(source.var_names)[columns]
    np.testing.assert_array_equal(
        read_columns(matrix, columns, names, "adata.X"), wanted[:, columns]
    )
    part = rows_of(matrix, rows)
    np.testing.assert_array_equal(getattr(part, "toarray", lambda: part)(), wanted[rows])
    again, same_order = inputs.by_name(source)
    assert again is source and (same_order.obs == np.arange(90)).all()
    values = {"obs:a": np.arange(90)[order.obs], "varp:b": np.zeros((23, 23)), "layers:c": wanted}
    back = order.restore(values)
    assert list(back["obs:a"]) == list(range(90))
    np.testing.assert_array_equal(back["layers:c"], X)
