"""Means and standard deviations of columns, over blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


def moments(blocks: Iterable[np.ndarray], n_columns: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Rows, mean and population variance of each column, blocks being merged as they come.

    References
    ----------
    Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance.
    """
    n, mean, spread = 0, np.zeros(n_columns), np.zeros(n_columns)
    for block in blocks:
        m = len(block)
        if not m:
            continue
        values = np.asarray(block, dtype=np.float64)
        own = values.mean(axis=0)
        delta = own - mean
        spread += ((values - own) ** 2).sum(axis=0) + delta**2 * (n * m / (n + m))
        mean += delta * (m / (n + m))
        n += m
    return n, mean, spread / max(n, 1)


def scales(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations; 1 for a column that is constant but for rounding."""
    constant = variance <= (np.finfo(np.float64).eps * 10 * np.abs(mean)) ** 2
    return np.where(constant, 1.0, np.sqrt(variance))
