"""Analytic Pearson residuals of counts, and their principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Overdispersion of the negative binomial null, as in scanpy (Lause et al. 2021).
THETA = 100.0


def pearson_residuals(
    counts: np.ndarray, depth_share: np.ndarray, *, theta: float = THETA, clip: float | None = None
) -> np.ndarray:
    r"""Analytic Pearson residuals of some genes.

    :math:`r = (x - \mu) / \sqrt{\mu + \mu^2 / \theta}` with :math:`\mu = x_{g\cdot}\,s_i`, clipped
    at :math:`\sqrt{n}` (Lause, Berens and Kobak 2021, Genome Biology 22:258).

    Parameters
    ----------
    counts
        (n_genes, n) counts.
    depth_share
        Share of all counts that each of the n pixels has, summing to 1.
    theta, clip
        Overdispersion, and bound on the absolute residual (square root of n by default).

    Returns
    -------
    float32 (n_genes, n); genes without counts are 0.
    """
    total = counts.sum(axis=1, dtype=np.float64, keepdims=True)
    mean = (total * depth_share[None]).astype(np.float32)
    bound = float(np.sqrt(counts.shape[1])) if clip is None else clip
    scale = np.sqrt(mean + mean * mean / np.float32(theta))
    residual = np.divide(counts - mean, scale, out=np.zeros_like(mean), where=scale > 0)
    return np.clip(residual, -bound, bound, out=residual)


def principal_axes(
    blocks: Callable[[], Iterator[np.ndarray]], n: int, k: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Leading axes of rows that come in blocks, without centring.

    Parameters
    ----------
    blocks
        Called to walk over all rows again: yields float32 (rows, n).
    n, k
        Width of a row, and number of axes (lowered to n).
    seed
        Seed of the random start for wide rows.

    Returns
    -------
    float32 (n, k) orthonormal axes, and float64 (k,) sums of squares along them, descending.
    The sign of an axis makes its largest entry positive.
    """
    k = min(k, n)
    if n <= 3000:
        gram = np.zeros((n, n))
        for block in blocks():
            gram += block.T @ block
        value, axes = np.linalg.eigh(gram)
        value, axes = value[::-1][:k], axes[:, ::-1][:, :k]
    else:
        value, axes = _subspace_iteration(blocks, n, k, seed)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return (axes * np.where(largest < 0, -1.0, 1.0)).astype(np.float32), np.maximum(value, 0.0)


def _subspace_iteration(
    blocks: Callable[[], Iterator[np.ndarray]], n: int, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Randomised subspace iteration (Halko et al. 2011), which never holds an n x n array."""
    width = min(n, k + 32)
    start = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    basis, _ = np.linalg.qr(start)
    for _ in range(4):
        product = np.zeros((n, width), dtype=np.float32)
        for block in blocks():
            product += block.T @ (block @ basis)
        basis, _ = np.linalg.qr(product)
    small = np.zeros((width, width))
    for block in blocks():
        projected = (block @ basis).astype(np.float64)
        small += projected.T @ projected
    value, rotation = np.linalg.eigh(small)
    return value[::-1][:k], (basis @ rotation[:, ::-1][:, :k])
