"""Genes whose neighbours are the same in several views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm.stats.neighbors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence


def neighbor_lists(
    Z: np.ndarray, k: int, groups: np.ndarray | None = None, *, block: int = 2048
) -> np.ndarray:
    """Find the `k` nearest rows of each row by cosine, none of its own group: int64 (n, k).

    Parameters
    ----------
    Z
        (n, d).
    k
        Neighbours; every row needs as many others that are not of its group.
    groups
        Group of each row (n,); None where only the row itself is left out.
    block
        Rows handled at once.
    """
    unit = unit_rows(Z)
    n = len(unit)
    group = np.arange(n) if groups is None else groups
    out = np.empty((n, k), dtype=np.int64)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        similarity = unit[rows] @ unit.T
        similarity[group[rows, None] == group[None]] = -np.inf
        out[rows] = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    return out


def common_neighbors(first: np.ndarray, second: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Bool (n, k): which neighbours in the first view are neighbours in the second as well.

    Parameters
    ----------
    first, second
        int64 (n, k) lists of neighbours.
    order
        Gene that stands at each place of the second view (n,); the identity for the data as they
        are. A gene and its neighbours are renamed together.
    """
    n = len(first)
    position = np.empty(n, dtype=np.int64)
    position[order] = np.arange(n)
    offset = np.arange(n, dtype=np.int64)[:, None] * n
    return np.isin(first + offset, position[second[order]] + offset)


def overlap_p(overlap: np.ndarray, k: int, n_others: np.ndarray) -> np.ndarray:
    """Chance that two random lists of `k` genes have so many in common (hypergeometric).

    Renaming the genes of one view at random makes its list of neighbours of a gene a random one,
    so this is the p value of the permutation test, without permutations.

    Parameters
    ----------
    overlap
        Common neighbours of each gene (n,).
    k
        Length of the lists.
    n_others
        Genes that could be neighbours (n,).
    """
    from scipy.stats import hypergeom

    return hypergeom.sf(overlap - 1, n_others, k, k)


def combined_p(p: Sequence[np.ndarray]) -> np.ndarray:
    """Smallest of several p values of each gene, times their number (Bonferroni)."""
    return np.minimum(np.min(p, axis=0) * len(p), 1.0)
