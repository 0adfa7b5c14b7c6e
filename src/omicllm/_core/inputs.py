"""What a verb is given: AnnData or MuData, X or a layer, in whatever storage it lies."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import blocks, memory
from omicllm._core.checks import listed, missing
from omicllm._core.log import logger
from omicllm._core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse


def resolve(data: AnnData | MuData, mod: str | None = None) -> AnnData:
    """Return the AnnData a verb works on: the object itself, or one modality of a MuData.

    Raises
    ------
    TypeError
        When `data` is neither.
    ValueError
        When a MuData comes without ``mod=``, or ``mod=`` with an AnnData.
    KeyError
        When the modality is not there.
    """
    from anndata import AnnData

    if isinstance(data, AnnData):
        if mod is not None:
            msg = f"mod={mod!r} was given, but the object is an AnnData, which has no modalities."
            raise ValueError(msg)
        return data
    modalities = getattr(data, "mod", None)
    if modalities is None:
        msg = f"Expected an AnnData or a MuData, not {type(data).__name__}."
        raise TypeError(msg)
    if mod is None:
        msg = f"A MuData needs mod=: say which modality to use ({listed(modalities)})."
        raise ValueError(msg)
    if mod not in modalities:
        raise missing(mod, "mdata.mod", modalities, hint="Choose one of them with mod=.")
    return modalities[mod]


def matrix(adata: AnnData, layer: str | None = None) -> Any:
    """Return X or a layer as it is stored (dense, sparse, backed or dask)."""
    if layer is None:
        if adata.X is None:
            msg = f"adata.X is empty. Name a layer with layer= (there: {listed(adata.layers)})."
            raise ValueError(msg)
        return adata.X
    if layer not in adata.layers:
        raise missing(layer, "adata.layers", adata.layers, hint="Name one with layer=.")
    return adata.layers[layer]


def obs_column(adata: AnnData, key: str, *, argument: str) -> np.ndarray:
    """Return a column of obs as an array; `argument` is the parameter that named it."""
    if key not in adata.obs:
        raise missing(key, "adata.obs", adata.obs, hint=f"Name a column with {argument}=.")
    return np.asarray(adata.obs[key])


def sections(adata: AnnData, batch_key: str | None) -> tuple[np.ndarray, list[str]]:
    """Section number of each observation and the section names (one unnamed without a key).

    Raises
    ------
    ValueError
        When observations have no section.
    """
    if batch_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64), ["section"]
    import pandas as pd

    column = pd.Series(obs_column(adata, batch_key, argument="batch_key"))
    codes, names = pd.factorize(column, sort=True)
    if (codes < 0).any():
        msg = f"{int((codes < 0).sum())} observations have no value in adata.obs[{batch_key!r}]."
        raise ValueError(msg)
    return codes.astype(np.int64), [str(n) for n in names]


def row_blocks(X: Any, *, rows: int | None = None) -> Iterator[tuple[int, Any]]:
    """Walk over blocks of observations of any storage, each in memory (csr_matrix or ndarray).

    The one block iterator of the package: AnnData's own slicing of backed and dask arrays is
    used, and no dask algebra (its sparse blocks do not support it).

    Yields
    ------
    Number of the first row, and the block.
    """
    yield from map_rows(X, _unchanged, rows=rows)


def map_rows(
    X: Any, function: Callable[..., Any], *shared: Any, rows: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Apply ``function(block, start, *shared)`` to the blocks that :func:`row_blocks` walks over.

    Blocks of a dask array are read and worked on by the caller's dask client when there is one
    (see :mod:`omicllm._core.blocks`); their bounds then follow the chunks of the array.

    Yields
    ------
    Number of the first row, and what the function made of the block, in the order of the rows.
    """
    bounds = _row_bounds(X, rows)
    tasks = ((X[start:stop], start) for start, stop in bounds)
    found = blocks.run(_on_block, tasks, function, shared)
    for (start, _), out in zip(bounds, found, strict=True):
        yield start, out


def _unchanged(block: Any, start: int) -> Any:
    return block


def _on_block(block: Any, start: int, function: Callable[..., Any], shared: tuple[Any, ...]) -> Any:
    from scipy import sparse

    block = sparse.csr_matrix(block) if sparse.issparse(block) else np.asarray(block)
    return function(block, start, *shared)


def _row_bounds(X: Any, rows: int | None) -> list[tuple[int, int]]:
    """First and last row of each block: of about `rows`, along the chunks of a dask array."""
    n, m = X.shape
    if rows is None:
        rows = max(1, min(n, settings.block_bytes // max(1, 8 * m)))
    cuts = [0]
    for size in X.chunks[0] if storage(X) == "dask" else (n,):
        start, stop = cuts[-1], cuts[-1] + size
        cuts += [*range(start + rows, stop, rows), stop]
    if len(cuts) > 2:  # small chunks are read together
        kept = [0]
        for here, following in pairwise(cuts[1:]):
            if following - kept[-1] > rows:
                kept.append(here)
        cuts = [*kept, n]
    return [(a, b) for a, b in pairwise(cuts) if b > a]


def storage(X: Any) -> str:
    """One word for how a matrix is stored, used in the log line of a verb."""
    from scipy import sparse

    if isinstance(X, np.ndarray):
        return "dense"
    if sparse.issparse(X):
        return X.format
    if hasattr(X, "compute"):
        return "dask"
    return "backed"


def gene_major(X: Any) -> sparse.csc_matrix:
    """Any storage as an in-memory float32 csc_matrix (n_obs, n_vars): a gene is then contiguous.

    Backed and dask arrays are read in blocks of rows; nothing dense beyond one block is made.
    Indices are sorted and duplicates summed, so that every storage gives the same arrays.
    """
    from scipy import sparse

    kind = storage(X)
    if kind in ("dense", "csr", "csc", "coo", "lil", "dok", "bsr", "dia"):
        out = sparse.csc_matrix(X, dtype=np.float32)
        if out is X:
            out = out.copy()
    else:
        group = getattr(X, "group", None)
        if group is not None:  # sparse in a file, which says how many values it holds
            n_stored = group["data"].shape[0]
            memory.check(
                f"Reading all values of a {kind} matrix",
                {
                    "values, row by row and gene by gene": ((2, n_stored), "float32"),
                    "their places": ((2, n_stored), "int32"),
                },
                instead="Take part of the genes or observations.",
            )
        logger.info("reading a %s matrix %s in blocks of rows", kind, tuple(X.shape))
        read = [block for _, block in map_rows(X, _as_float32)]
        out = sparse.csc_matrix(sparse.vstack(read, format="csr"))
    if not out.has_canonical_format:
        if _shares(out, X):
            out = out.copy()
        out.sum_duplicates()
    if (out.data == 0).any():
        if _shares(out, X):
            out = out.copy()
        out.eliminate_zeros()
    return out


def _as_float32(block: Any, start: int) -> sparse.csr_matrix:
    from scipy import sparse

    return sparse.csr_matrix(block, dtype=np.float32)


def _shares(out: sparse.csc_matrix, X: Any) -> bool:
    """Whether `out` shares its buffers with the user's matrix, which must not change."""
    return hasattr(X, "data") and np.shares_memory(out.data, np.asarray(X.data))


def check_expression(
    X: sparse.csc_matrix,
    names: np.ndarray,
    *,
    counts: bool,
    layer: str | None,
    layers: Any = (),
) -> None:
    """Raise ValueError when expression is negative, not finite, or (for counts) not whole."""
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    checks = [
        (~np.isfinite(X.data), "NaN or infinite values", "Fill or drop them first."),
    ]
    checks.append((X.data < 0, "negative values", _COUNTS_HINT.format(listed(layers))))
    if counts:
        with np.errstate(invalid="ignore"):
            checks.append(
                (
                    X.data != np.rint(X.data),
                    "values that are not whole numbers",
                    _COUNTS_HINT.format(listed(layers)),
                )
            )
    for bad, what, hint in checks:
        if bad.any():
            genes = np.unique(np.searchsorted(X.indptr, np.flatnonzero(bad), side="right") - 1)
            msg = (
                f"{where} holds {what} in {len(genes)} of {X.shape[1]} genes "
                f"({listed(names[genes], most=3)}). {hint}"
            )
            raise ValueError(msg)


_COUNTS_HINT = (
    "Counts as read from the file are expected: name the layer that holds them with layer= "
    "(layers there: {}), or pass input='values' for non-negative normalised data."
)


def gene_names(adata: AnnData) -> np.ndarray:
    """Unique gene names, as an array of str."""
    from omicllm._core.names import unique

    return unique(adata.var_names, what="adata.var_names")
