"""Helpers that the contract tests of every verb use."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from omicllm._core.keys import KEYS, uns_name

ATTRIBUTES = ("obs", "obsm", "obsp", "var", "varm", "varp", "layers", "uns")
#: What `get.table` returns without ``table=``: the first that there is.
MAIN_TABLES = ("table", "summary", "scores", "prediction", "var", "obs")


def slots(adata) -> dict[str, set[str]]:
    """Every key of every attribute."""
    return {a: set(getattr(adata, a).keys()) for a in ATTRIBUTES}


def only_declared_written(before: dict[str, set[str]], adata, *verbs: str, key_added=None) -> None:
    """Fail when something was written that the key table does not list for these verbs."""
    allowed = {a: set() for a in ATTRIBUTES}
    for verb in verbs:
        root = key_added if verb == verbs[0] else None
        for slot in KEYS[verb].slots:
            attribute, key = KEYS[verb].name(slot, root)
            allowed[attribute].add(key)
        name = uns_name(verb, root)
        allowed["uns"].add(name)
        if name in adata.uns:
            entry = set(adata.uns[name])
            assert {"params", "keys", "version"} <= entry
            extra = entry - {"params", "keys", "version"} - set(KEYS[verb].arrays)
            assert not extra, f"{name} holds undeclared {extra}"
    for attribute, keys in slots(adata).items():
        new = keys - before[attribute]
        assert new <= allowed[attribute], f"undeclared in {attribute}: {new - allowed[attribute]}"


def same(a, b) -> bool:
    """Deep equality of what may lie in an AnnData slot."""
    if hasattr(a, "items") and not hasattr(a, "to_numpy"):
        return set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    if sparse.issparse(a):
        return a.shape == b.shape and (abs(a - b)).sum() == 0
    if hasattr(a, "to_numpy"):
        a, b = a.to_numpy(), b.to_numpy()
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        return bool(np.array_equal(a, b, equal_nan=True))
    return [str(v) for v in a.ravel().tolist()] == [str(v) for v in b.ravel().tolist()]


def same_object(a, b) -> None:
    """Fail when two AnnData differ anywhere."""
    assert a.shape == b.shape
    assert list(a.var_names) == list(b.var_names)
    for attribute in ATTRIBUTES:
        left, right = getattr(a, attribute), getattr(b, attribute)
        assert set(left.keys()) == set(right.keys()), attribute
        for key in left:
            assert same(left[key], right[key]), f"{attribute}[{key!r}]"


def round_trip(adata, path) -> None:
    """Fail when an object does not come back from h5ad and zarr as it was."""
    import anndata as ad

    adata.write_h5ad(path / "object.h5ad")
    same_object(adata, ad.read_h5ad(path / "object.h5ad"))
    adata.write_zarr(path / "object.zarr")
    same_object(adata, ad.read_zarr(path / "object.zarr"))


def tables_are_read(adata, again, verb: str) -> int:
    """Fail when a table that a verb wrote is not read by its root, before and after a file.

    Returns the number of tables.
    """
    import pandas as pd
    import pytest

    import omicllm as ol

    row, entry = KEYS[verb], adata.uns[uns_name(verb)]
    frames = {n: entry[n] for n in row.arrays if isinstance(entry.get(n), pd.DataFrame)}
    declared = {n for n, what in row.arrays.items() if "DataFrame" in what}
    assert set(frames) <= declared, "the row says what is a table"
    columns = {a: list(entry["keys"][a]) for a in ("var", "obs") if a in entry["keys"]}
    for name, frame in frames.items():
        table = ol.get.table(adata, row.root, name)
        assert table is not frame and list(table) == list(frame)
        assert all(same(table[c], frame[c]) for c in frame)
    for name, written in columns.items():
        table = ol.get.table(adata, row.root, name)
        assert list(table.index) == list(getattr(adata, f"{name}_names"))
        for column in written:
            short = column.removeprefix(f"{row.root}_")
            assert same(table[short], getattr(adata, name)[column])
    for name in (*frames, *columns):
        table = ol.get.table(adata, row.root, name)
        pd.testing.assert_frame_equal(ol.get.table(again, row.root, name), table)
        assert not any(isinstance(d, pd.CategoricalDtype) for d in table.dtypes)
    if frames or columns:
        names = [*frames, *columns]
        main = next(n for n in (*MAIN_TABLES, *names) if n in names)
        wanted = ol.get.table(adata, row.root, main)
        pd.testing.assert_frame_equal(ol.get.table(adata, row.root), wanted)
    else:
        with pytest.raises(KeyError, match="with tables in adata.uns"):
            ol.get.table(adata, uns_name(verb), "table")
    return len(frames) + len(columns)
