"""What is counted: blocks of levels, coefficients or tokens of many instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core.inputs import rows_sparse
from omicllm.codec import image, series, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omicllm.codec.parameters import Parameters

#: Values of a piece of rows: enough for numpy, few enough for the processor's cache.
PIECE = 1 << 17


def row_pieces(instances: Any) -> Iterator[Any]:
    """Profiles in pieces of a few rows: matrices, dense or CSR.

    A matrix is cut by rows; profiles of a list are stacked where they have one length, else each
    is a piece of its own.
    """
    if sparse.issparse(instances):
        yield from _cut(rows_sparse(instances))
        return
    if isinstance(instances, np.ndarray) and instances.ndim == 2:
        yield from _cut(instances)
        return
    profiles = [np.asarray(p).reshape(-1) for p in instances]
    if len({p.size for p in profiles}) == 1:
        step = max(1, PIECE // max(1, profiles[0].size))
        for start in range(0, len(profiles), step):
            yield np.stack(profiles[start : start + step])
    else:
        for profile in profiles:
            yield profile[None, :]


def _cut(rows: Any) -> Iterator[Any]:
    n, width = rows.shape
    step = max(1, PIECE // max(1, width))
    for start in range(0, n, step):
        yield rows[start : start + step]


def rows_not_finite(rows: Any) -> np.ndarray:
    """Numbers of the rows of a matrix that hold NaN or infinite values."""
    if sparse.issparse(rows):
        rows = rows.tocsr()
        bad = np.flatnonzero(~np.isfinite(rows.data))
        return np.unique(np.searchsorted(rows.indptr, bad, side="right") - 1)
    rows = np.asarray(rows)
    if rows.dtype.kind != "f":
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(~np.isfinite(rows).all(axis=1))


def patches(instance: Any, p: Parameters) -> Any:
    """Coefficients of the patches of an image, or tokens of the chunks of a text."""
    size = p.patch_size or 1
    if p.method == "text":
        return text.tokens(instance, patch_size=size)
    kept = image.coefficients(
        instance, patch_size=size, max_coefficients=p.max_coefficients, precision=p.precision
    )
    return kept.astype(np.float64)


class Universe:
    """Small whole numbers for the keys of a table: level + S, or the order of being met."""

    def __init__(self, parameters: Parameters) -> None:
        self.p = parameters
        self._known: dict[Any, int] = {}

    @property
    def size(self) -> int:
        """Number of keys there are."""
        return 2 * self.p.steps + 1 if self.p.method == "series" else len(self._known)

    def ids(self, keys: Any) -> np.ndarray:
        """Numbers of keys, int64."""
        if self.p.method == "series":
            ids = np.asarray(keys, dtype=np.int64) + self.p.steps
            if len(ids) and (ids.min() < 0 or ids.max() >= self.size):
                msg = (
                    f"The table holds levels beyond -{self.p.steps} to {self.p.steps}, what "
                    f"bits={self.p.bits} gives."
                )
                raise ValueError(msg)
            return ids
        known = self._known
        listed = keys.tolist() if isinstance(keys, np.ndarray) else keys
        return np.array([known.setdefault(k, len(known)) for k in listed], dtype=np.int64)

    def keys(self, ids: np.ndarray) -> np.ndarray:
        """Keys of numbers."""
        if self.p.method == "series":
            return ids - self.p.steps
        kind = np.float64 if self.p.method == "image" else object
        every = np.empty(len(self._known), dtype=kind)
        every[:] = list(self._known)
        return every[ids]


def totals(instances: Any, p: Parameters, universe: Universe, start: np.ndarray) -> np.ndarray:
    """Counts by key number, added to `start`; blocks may come in any order."""
    total = start
    if p.method != "series":
        for instance in instances:
            ids = np.concatenate([universe.ids(w) for w in patches(instance, p)] or [_NONE])
            total = _added(total, np.bincount(ids, minlength=universe.size))
        return total
    for piece in row_pieces(instances):
        n, width = piece.shape
        total = _added(total, _level_counts(piece, p, universe.size))
        extra = -width % p.patch_size if p.patch_size and width else 0
        if extra:  # the last value is repeated to fill the last word
            last = piece[:, -1]
            last = last.toarray() if sparse.issparse(last) else last
            total = _added(total, extra * _level_counts(last.reshape(n, 1), p, universe.size))
    return total


_NONE = np.empty(0, dtype=np.int64)


def _level_counts(piece: Any, p: Parameters, size: int) -> np.ndarray:
    stored = piece.data if sparse.issparse(piece) else piece
    level = series.levels(stored, **p.companding, rounding=p.rounding).ravel()
    level += p.steps
    counts = np.bincount(level, minlength=size)
    counts[p.steps] += piece.shape[0] * piece.shape[1] - stored.size
    return counts


def _added(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    if len(more) < len(total):
        more = np.pad(more, (0, len(total) - len(more)))
    if len(total) < len(more):
        total = np.pad(total, (0, len(more) - len(total)))
    total += more
    return total


def stream(
    instances: Any, p: Parameters, universe: Universe
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Key numbers in the order they occur, and the number of the instance of each, in blocks."""
    held: list[np.ndarray] = []
    size = 0
    for ids in _in_order(instances, p, universe):
        held.append(ids)
        size += ids.size
        if size >= 16 * PIECE:
            yield _block(held)
            held, size = [], 0
    if held:
        yield _block(held)


def _block(held: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(ids) for ids in held]
    return np.concatenate(held), np.repeat(np.arange(len(held)), lengths)


def _in_order(instances: Any, p: Parameters, universe: Universe) -> Iterator[np.ndarray]:
    if p.method != "series":
        for instance in instances:
            yield np.concatenate([universe.ids(w) for w in patches(instance, p)] or [_NONE])
        return
    for piece in row_pieces(instances):
        dense = piece.toarray() if sparse.issparse(piece) else piece
        for row in series.levels(dense, **p.companding, rounding=p.rounding):
            yield universe.ids(series.padded(row, p.patch_size))
