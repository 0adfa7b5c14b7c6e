"""Synthetic rows put together from real ones: resampling, SMOTE and crossover of gene blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Replacement:
    """`replacement`: rows of the class, drawn with replacement."""

    def __init__(self, X: Any, rows: np.ndarray) -> None:
        self.values = X[rows]

    def __call__(self, n: int, rng: np.random.Generator) -> Any:
        """Draw `n` rows, stored as the real ones are."""
        return self.values[rng.integers(0, self.values.shape[0], size=n)]


class Smote:
    """`smote`: a point on the line from a row to one of its k nearest rows of the class."""

    def __init__(self, X: Any, rows: np.ndarray, k: int) -> None:
        self.values = X[rows].astype(np.float64)
        self.neighbours = nearest_rows(self.values, min(k, len(rows) - 1))

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` rows: (n, n_genes)."""
        start = rng.integers(0, self.values.shape[0], size=n)
        end = self.neighbours[start, rng.integers(0, self.neighbours.shape[1], size=n)]
        share = rng.random((n, 1))
        base, other = dense(self.values[start]), dense(self.values[end])
        return base + share * (other - base)


class Crossover:
    """`local_crossover` and `global_crossover`: blocks of genes from independent rows."""

    def __init__(self, X: Any, blocks: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.X, self.blocks = X, blocks

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` rows: (n, n_genes)."""
        out = np.empty((n, self.X.shape[1]))
        for columns, donors in self.blocks:
            chosen = donors[rng.integers(0, len(donors), size=n)]
            out[:, columns] = dense(self.X[chosen][:, columns])
        return out


def nearest_rows(values: Any, k: int) -> np.ndarray:
    """Numbers of the k nearest other rows (Euclidean), ties by number: int64 (n, k).

    Squared distances of whole numbers are exact, so ties fall alike in every storage.
    """
    n = values.shape[0]
    squares = values.multiply(values) if sparse.issparse(values) else values * values
    norms = np.asarray(squares.sum(axis=1)).ravel()
    out = np.empty((n, k), dtype=np.int64)
    step = max(1, 2**23 // n)
    for start in range(0, n, step):
        block = np.arange(start, min(start + step, n))
        distance = norms[block, None] + norms - 2 * dense(values[block] @ values.T)
        distance[np.arange(len(block)), block] = np.inf
        out[block] = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return out


def dense(values: Any) -> np.ndarray:
    """A matrix of any storage as an array."""
    return values.toarray() if sparse.issparse(values) else values


def crossover_blocks(
    signatures: Mapping[str, np.ndarray],
    codes: np.ndarray,
    classes: Sequence[str],
    n_genes: int,
    entropy: int,
    *,
    everywhere: bool,
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Which rows may give which genes to a class.

    Every gene has one owner: the signature of the class itself first, else one of the signatures
    that hold it, drawn by the seed; genes in no signature go with the class's own.

    Parameters
    ----------
    signatures
        Name -> columns.
    codes
        Class of each row; -1 for rows that give nothing.
    classes
        Class names; the signature of that name is the class's own.
    n_genes
        Number of columns.
    entropy
        Seed of the owners of shared genes.
    everywhere
        Take the block of another signature j from any row that is not of class j
        (``global_crossover``), instead of from the class itself (``local_crossover``).

    Returns
    -------
    For each class a list of (columns, donor rows); the first block is the class's own.
    """
    names = list(signatures)
    holds = np.zeros((len(names), n_genes), dtype=bool)
    for i, name in enumerate(names):
        holds[i, signatures[name]] = True
    used = codes >= 0
    out = []
    for c, class_name in enumerate(classes):
        rng = stream(entropy, c, -1)
        votes = rng.random(holds.shape) * holds
        owner = np.where(holds.any(axis=0), votes.argmax(axis=0), -1) if names else None
        mine = np.ones(n_genes, dtype=bool) if owner is None else owner < 0
        if class_name in signatures:
            mine |= holds[names.index(class_name)]
        members = np.flatnonzero(codes == c)
        blocks = [(np.flatnonzero(mine), members)]
        for i, name in enumerate(names):
            columns = np.flatnonzero(~mine & (owner == i))
            donors = members
            if everywhere:
                other = list(classes).index(name) if name in classes else -2
                donors = np.flatnonzero(used & (codes != other))
            if len(columns) and name != class_name:
                blocks.append((columns, donors))
        out.append([b for b in blocks if len(b[0])])
    return out


def stream(entropy: int, klass: int, block: int) -> np.random.Generator:
    """The stream of one block of one class (-1: what the class needs once)."""
    seed = np.random.SeedSequence(entropy, spawn_key=(klass, block + 1))
    return np.random.Generator(np.random.SFC64(seed))
