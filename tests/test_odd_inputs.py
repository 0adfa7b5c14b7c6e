"""Odd but legal objects, drawn by hypothesis, through the public surface.

Whatever the object, a verb either raises a clear error and leaves it as it was, or writes what it
says: the types of the object's arrays, empty axes, repeated names, views and read-only arrays.
"""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from helpers import only_declared_written, same_object, slots
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import omicllm as ol

#: Verbs that need nothing but counts and coordinates, and their quickest settings.
VERBS = {
    "pp.spatial_grid": {},
    "tl.sigel": {"n_clusters": 2},
    "tl.spatially_variable_genes": {"method": "moran"},
    "tl.spatial_domains": {"n_domains": 2, "n_starts": 1},
    "tl.ult": {"patch_size": 3},
    "pp.split": {"method": "random", "allow_random": True},
    "pp.correct_expression": {"n_pcs": 1},
}
ALSO = {"tl.sigel": ("pp.spatial_grid",), "tl.spatial_domains": ()}
#: Errors a user can act on. Anything else (IndexError, AttributeError, ...) is a fault of ours.
CLEAR = (ValueError, KeyError, TypeError)

dtypes = st.sampled_from(
    ["float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "bool", "float16", ">f4"]
)
storages = st.sampled_from(["dense", "fortran", "csr", "csc", "coo", "matrix of zeros"])


@st.composite
def objects(draw):
    """An AnnData with whatever X, names and storage."""
    n, m = draw(st.integers(0, 14)), draw(st.integers(0, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    X = rng.poisson(draw(st.sampled_from([0.1, 1.0, 5.0])), (n, m)).astype(draw(dtypes))
    how = draw(storages)
    if how == "matrix of zeros":
        X = np.zeros_like(X)
    elif how == "fortran":
        X = np.asfortranarray(X)
    elif how != "dense":
        if X.dtype in (np.dtype("float16"), np.dtype(">f4")):
            X = X.astype("float32")
        X = sparse.csr_matrix(X) if how == "coo" else sparse.csr_matrix(X).asformat(how)
    names = [f"g{i}" for i in range(m)]
    if m > 1 and draw(st.booleans()) and draw(st.booleans()):
        names[1] = names[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = ad.AnnData(
            X, obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]), var=pd.DataFrame(index=names)
        )
        coords = rng.integers(0, 5, (n, 2)) if draw(st.booleans()) else rng.random((n, 2))
        adata.obsm["spatial"] = coords
        if draw(st.booleans()) and n > 2 and m > 2:
            adata = adata[: n - 1, : m - 1]
        elif draw(st.booleans()):
            for array in (adata.X.data if sparse.issparse(adata.X) else adata.X, coords):
                if isinstance(array, np.ndarray):
                    array.flags.writeable = False
    return adata


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(adata=objects(), name=st.sampled_from(sorted(VERBS)))
def test_a_verb_works_or_says_why_not(adata, name):
    namespace, verb = name.split(".")
    before, known = adata.copy(), slots(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            getattr(getattr(ol, namespace), verb)(adata, **VERBS[name])
        except CLEAR as error:
            told = str(error)
        else:
            told = ""
    if told:
        assert len(told) > 15, f"{told!r} says nothing"
        same_object(adata, before)
        return
    root = VERBS[name].get("method") if "variable" in name else None
    only_declared_written(known, adata, name, *ALSO.get(name, ()), key_added=root)
    again = before.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(getattr(ol, namespace), verb)(again, **VERBS[name])
    same_object(adata, again)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(adata=objects())
def test_text_and_back(adata):
    """What ULT writes decodes to the shape and names of the object, or nothing is written."""
    before = adata.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ol.tl.ult(adata, patch_size=None, bits=10)
        except CLEAR:
            same_object(adata, before)
            return
        ol.tl.ult_decode(adata)
    decoded = np.asarray(adata.layers["ult_decoded"], dtype=float)
    X = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    assert decoded.shape == adata.shape
    top = max(1.0, float(np.abs(X.astype(float)).max()))
    np.testing.assert_allclose(decoded, X.astype(float), atol=0.02 * top)
