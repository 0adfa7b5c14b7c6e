"""The profiles of an AnnData or MuData in blocks of rows, checked; free of torch and scvi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import inputs
from omicllm._core.checks import listed, missing
from omicllm.codec.instances import rows_not_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        X = self.X
        step = max(1, min(self.n_obs, BLOCK // max(1, X.shape[1])))
        if self.rows is None:
            for start, block in inputs.row_blocks(X, rows=step):
                yield slice(start, start + block.shape[0]), None, self._checked(block, start)
            return
        for start in range(0, self.n_obs, step):
            rows = self.rows[start : start + step]
            there = rows >= 0
            block = _take(X, rows[there])
            at = start + np.flatnonzero(there)
            yield slice(start, start + len(rows)), there, self._checked(block, at)

    def _checked(self, block: Any, at: int | np.ndarray) -> Any:
        """The block with the genes asked for; NaN and infinite values are refused by row."""
        if self.columns is not None:
            block = block[:, self.columns]
        stored = block.data if sparse.issparse(block) else block
        if stored.dtype.kind == "f" and stored.size:
            # The sum of a block is finite unless a value is not (or it overflows: then look).
            with np.errstate(over="ignore", invalid="ignore"):
                total = stored.sum()
            bad = np.empty(0, dtype=np.int64) if np.isfinite(total) else rows_not_finite(block)
            if len(bad):
                where = self.obs_names[bad + at if isinstance(at, int) else at[bad]]
                of = f" of modality {self.name!r}" if self.name else ""
                msg = (
                    f"{len(bad)} row(s){of} hold NaN or infinite values (for example "
                    f"{listed(where, most=5)}). Fill or drop them first."
                )
                raise ValueError(msg)
        return block


def _take(X: Any, rows: np.ndarray) -> Any:
    """Rows of a matrix of any storage, in memory."""
    if len(rows) and (np.diff(rows) == 1).all():
        block = X[int(rows[0]) : int(rows[-1]) + 1]
        back = None
    else:
        order, back = np.unique(rows, return_inverse=True)  # h5py wants increasing rows
        block = X[order]
    if hasattr(block, "compute"):
        block = block.compute()
    block = sparse.csr_matrix(block) if sparse.issparse(block) else np.asarray(block)
    return block if back is None else block[back]


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
