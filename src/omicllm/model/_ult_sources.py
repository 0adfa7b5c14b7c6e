"""The profiles of an AnnData or MuData in blocks of rows, checked; free of torch and scvi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import blocks, inputs
from omicllm._core.checks import listed, missing
from omicllm.codec.instances import rows_not_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Values of a block of rows: 64 MB as float32.
BLOCK = 1 << 24


@dataclass
class Source:
    """The profiles of one modality.

    Attributes
    ----------
    name
        Name of the modality; empty for an AnnData.
    X
        Matrix as it is stored.
    var_names, obs_names
        Names of genes, and of the observations of the whole object.
    rows
        Row of `X` for each observation, -1 where the modality lacks it; None for all in order.
    columns
        Genes to read, in this order; None for all.
    """

    name: str
    X: Any
    var_names: np.ndarray
    obs_names: np.ndarray
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None

    @property
    def n_obs(self) -> int:
        """Observations of the whole object."""
        return len(self.obs_names)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray | None, Any]]:
        """Observations of the object, which of them are there (None: all), and their values."""
        return self.map(_unchanged)

    def map(
        self, function: Callable[..., Any], *shared: Any
    ) -> Iterator[tuple[slice, np.ndarray | None, Any]]:
        """Apply ``function(values, *shared)`` to blocks of observations, in their order.

        Blocks of a lazy matrix go to the caller's dask client when there is one.

        Yields
        ------
        Observations of the object, which of them are there (None: all), and the function's result.
        """
        step = max(1, min(self.n_obs, BLOCK // max(1, self.X.shape[1])))
        given = (self.columns, function, shared)
        if self.rows is None:
            for start, got in inputs.map_rows(self.X, _in_block, *given, rows=step):
                n, out = self._good(got, start)
                yield slice(start, start + n), None, out
            return
        parts = [slice(i, min(i + step, self.n_obs)) for i in range(0, self.n_obs, step)]
        tasks = (self._rows_of(part) for part in parts)
        for part, got in zip(parts, blocks.run(_in_rows, tasks, *given), strict=True):
            there = self.rows[part] >= 0
            yield part, there, self._good(got, part.start + np.flatnonzero(there))[1]

    def _rows_of(self, part: slice) -> tuple[Any, np.ndarray]:
        """Rows of the matrix that hold some observations, not read yet, and their order."""
        assert self.rows is not None
        rows = self.rows[part]
        rows = rows[rows >= 0]
        if len(rows) and (np.diff(rows) == 1).all():
            return self.X[int(rows[0]) : int(rows[-1]) + 1], np.arange(len(rows))
        order, back = np.unique(rows, return_inverse=True)  # h5py wants increasing rows
        return self.X[order], back

    def _good(self, got: tuple[np.ndarray, int, Any], at: int | np.ndarray) -> tuple[int, Any]:
        """Rows of a block and its result; NaN and infinite values are refused by name."""
        bad, n, out = got
        if len(bad):
            where = self.obs_names[bad + at if isinstance(at, int) else at[bad]]
            of = f" of modality {self.name!r}" if self.name else ""
            msg = (
                f"{len(bad)} row(s){of} hold NaN or infinite values (for example "
                f"{listed(where, most=5)}). Fill or drop them first."
            )
            raise ValueError(msg)
        return n, out


def _unchanged(block: Any) -> Any:
    return block


def _in_rows(X: Any, back: np.ndarray, columns: Any, function: Any, shared: Any) -> Any:
    """As `_in_block`, for rows that are read in another order."""
    block = inputs.rows_sparse(X) if sparse.issparse(X) else np.asarray(X)
    return _in_block(block[back], 0, columns, function, shared)


def _in_block(
    block: Any, start: int, columns: np.ndarray | None, function: Callable[..., Any],
    shared: tuple[Any, ...],
) -> tuple[np.ndarray, int, Any]:  # fmt: skip
    """Rows that are not finite, the number of rows, and what the function makes of the block."""
    if columns is not None:
        block = block[:, columns]
    bad = np.empty(0, dtype=np.int64)
    stored = block.data if sparse.issparse(block) else block
    if stored.dtype.kind == "f" and stored.size:
        # The sum of a block is finite unless a value is not (or it overflows: then look).
        with np.errstate(over="ignore", invalid="ignore"):
            total = stored.sum()
        if not np.isfinite(total):
            bad = rows_not_finite(block)
    inputs.refuse_large(stored, "The matrix")
    return bad, block.shape[0], None if len(bad) else function(block, *shared)


def sources(
    data: Any, *, layer: Any = None, modalities: Sequence[str] | None = None
) -> dict[str, Source]:
    """What is to be encoded: the profiles of an AnnData, or those of modalities of a MuData.

    Parameters
    ----------
    data
        AnnData or MuData.
    layer
        Layer instead of ``X``; of a MuData a dict by modality.
    modalities
        Modalities of a MuData, in the order of the text; all by default.
    """
    mods = getattr(data, "mod", None)
    if mods is None:
        if modalities is not None:
            msg = "modalities= was given, but the object is an AnnData, which has none."
            raise ValueError(msg)
        every = np.asarray(data.obs_names, dtype=str)
        return {"": Source("", _by_rows(data, layer), _genes(data), every)}
    chosen = list(mods) if modalities is None else list(modalities)
    out = {}
    every = np.asarray(data.obs_names, dtype=str)
    for name in chosen:
        if name not in mods:
            raise missing(name, "mdata.mod", mods, hint="Name modalities with modalities=.")
        if "<" in name or ">" in name:
            msg = f"The name {name!r} cannot mark a modality in a text: it holds < or >."
            raise ValueError(msg)
        adata = mods[name]
        own = layer.get(name) if hasattr(layer, "get") else layer
        rows = adata.obs_names.get_indexer(data.obs_names)
        whole = len(rows) == adata.n_obs and (rows == np.arange(len(rows))).all()
        X = _by_rows(adata, own)
        out[name] = Source(name, X, _genes(adata), every, None if whole else rows)
    return out


def _by_rows(adata: Any, layer: str | None) -> Any:
    """X or a layer; CSC is turned into CSR once, since every walk is over rows."""
    X = inputs.matrix(adata, layer)
    return X.tocsr() if inputs.storage(X) == "csc" else X


def _genes(adata: Any) -> np.ndarray:
    return np.asarray(inputs.gene_names(adata), dtype=str)
