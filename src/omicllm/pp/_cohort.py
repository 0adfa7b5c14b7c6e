"""What verbs about cohorts share: labels, the rows to fit on, and values that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs

if TYPE_CHECKING:
    from anndata import AnnData


def labels(source: AnnData, key: str) -> tuple[np.ndarray, list[str]]:
    """Number of each row's label (-1 where it has none) and the label names, sorted.

    Missing values, empty text and ``"NOLBL"``, as public cohorts write it, are no labels.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        No row has a label.
    """
    import pandas as pd

    column = pd.Series(inputs.obs_column(source, key, argument="labels_key"), dtype=object)
    nothing = column.isna() | column.astype(str).str.strip().isin(["", "NOLBL"])
    column = column.where(~nothing, None)
    text = column.map(str, na_action="ignore")
    codes, names = pd.factorize(text, sort=True)
    if not len(names):
        msg = f"No row has a label in adata.obs[{key!r}]."
        raise ValueError(msg)
    return codes.astype(np.int64), [str(n) for n in names]


def part(source: AnnData, key: str, name: str) -> np.ndarray:
    """Rows of one part of a split: bool (n_obs,)."""
    return np.asarray(source.obs[key]).astype(str) == name


def synthetic(source: AnnData, key: str = "synthetic") -> np.ndarray:
    """Rows that were drawn by a sampler: bool (n_obs,)."""
    if key not in source.obs:
        return np.zeros(source.n_obs, dtype=bool)
    return np.asarray(source.obs[key]).astype(str) == "True"


def rows_of(X: Any, rows: np.ndarray) -> Any:
    """Some rows of any storage, in memory: ndarray or canonical csr_matrix."""
    from scipy import sparse

    if isinstance(X, inputs.Reordered):
        out = rows_of(X.X, X.obs[rows])[:, X.var]
    elif inputs.storage(X) in ("backed", "dask"):
        keep = np.zeros(X.shape[0], dtype=bool)
        keep[rows] = True
        parts = [part for _, part in inputs.map_rows(X, _kept, keep)]
        out = sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.vstack(parts)
        back = np.argsort(np.argsort(rows, kind="stable"), kind="stable")
        out = out[back]
    else:
        X = inputs.readable(X)
        out = (X.tocsr() if sparse.issparse(X) else X)[rows]
    return inputs.rows_sparse(out) if sparse.issparse(out) else np.asarray(out)


def _kept(block: Any, start: int, keep: np.ndarray) -> Any:
    return block[keep[start : start + block.shape[0]]]


def check_values(
    X: Any, names: np.ndarray, *, counts: bool, layer: str | None, source: AnnData, method: str
) -> None:
    """Raise ValueError for NaN or infinite values, and for values that are no counts.

    `names` are those of the rows.
    """
    from scipy import sparse

    where = inputs.place(layer)
    values = X.data if sparse.issparse(X) else X
    inputs.refuse_large(values, where)
    bad = ~np.isfinite(values)
    if bad.any():
        rows = names[_rows_with(X, bad)]
        msg = (
            f"{where} holds NaN or infinite values in {len(rows)} of {X.shape[0]} rows used "
            f"({checks.listed(rows, most=3)}). Fill or drop them first."
        )
        raise ValueError(msg)
    if not counts:
        return
    for wrong, what in (
        (values < 0, "negative values"),
        (values != np.rint(values), "values that are not whole numbers"),
    ):
        if wrong.any():
            rows = names[_rows_with(X, wrong)]
            msg = (
                f"method={method!r} draws counts, but {where} holds {what} in {len(rows)} of "
                f"{X.shape[0]} rows used ({checks.listed(rows, most=3)}), as log or scaled data "
                f"do. For counts, {inputs.where_counts(source, layer)}; or round expected counts, "
                "or use method='smote', 'vae' or a crossover."
            )
            raise ValueError(msg)


def _rows_with(X: Any, bad: np.ndarray) -> np.ndarray:
    from scipy import sparse

    if sparse.issparse(X):
        return np.unique(np.searchsorted(X.indptr, np.flatnonzero(bad), side="right") - 1)
    return np.flatnonzero(bad.any(axis=1))
