"""Means and standard deviations of columns, over blocks of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


class Moments(NamedTuple):
    """Rows, and mean and population variance of each column."""

    n_rows: int
    mean: np.ndarray
    variance: np.ndarray


def moments(blocks: Iterable[np.ndarray], n_columns: int) -> Moments:
    """Moments of the columns, blocks being merged as they come.

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
        block_mean = values.mean(axis=0)
        delta = block_mean - mean
        spread += ((values - block_mean) ** 2).sum(axis=0) + delta**2 * (n * m / (n + m))
        mean += delta * (m / (n + m))
        n += m
    return Moments(n, mean, spread / max(n, 1))


def scales(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations; 1 for a column that is constant but for rounding."""
    constant = variance <= (np.finfo(np.float64).eps * 10 * np.abs(mean)) ** 2
    return np.where(constant, 1.0, np.sqrt(variance))
