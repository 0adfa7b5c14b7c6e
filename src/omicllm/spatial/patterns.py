"""Patterns over tissue: drawn from levels of regions, and random ones that are just as smooth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class DispersionTrend:
    """Squared coefficient of variation as a function of the mean, ``a0 + a1 / mean``."""

    a0: float
    a1: float

    def size(self, mean: np.ndarray) -> np.ndarray:
        """Size of the negative binomial with this mean; infinite where Poisson noise is all."""
        over = self.a0 + self.a1 / mean - 1.0 / mean
        return np.where(over > 1e-6, 1.0 / np.maximum(over, 1e-6), np.inf)


def dispersion_trend(mean: np.ndarray, variance: np.ndarray) -> DispersionTrend:
    """Fit ``cv2 = a0 + a1 / mean`` over genes: Gamma regression, identity link (Brennecke 2013).

    Parameters
    ----------
    mean, variance
        Of each gene (n_genes,).
    """
    used = (mean > 0) & (variance > 0)
    if used.sum() < 3:
        return DispersionTrend(0.0, 1.0)
    inverse = 1.0 / mean[used]
    cv2 = variance[used] * inverse**2
    design = np.stack([np.ones(len(cv2)), inverse], axis=1)
    fitted = cv2
    coefficient = np.array([0.0, 1.0])
    for _ in range(50):
        weight = 1.0 / np.maximum(fitted, 1e-12) ** 2
        gram = design.T @ (design * weight[:, None])
        new = np.linalg.lstsq(gram, design.T @ (weight * cv2), rcond=None)[0]
        new = np.maximum(new, [0.0, 1e-6])
        done = np.allclose(new, coefficient, rtol=1e-6, atol=1e-9)
        coefficient, fitted = new, design @ new
        if done:
            break
    return DispersionTrend(float(coefficient[0]), float(coefficient[1]))


def level_means(
    X: sparse.csc_matrix, members: Mapping[str, np.ndarray], levels: Mapping[str, float]
) -> dict[str, float]:
    """Mean of a gene at a percentile of the genes of each region.

    Percentile t is the gene at rank ``floor(t / 100 * n)`` of the n expressed genes, the strongest
    first: 5 is a high level, 95 a low one.
    """
    by_row = sparse.csr_matrix(X)
    expressed = np.flatnonzero(np.diff(X.indptr))
    out = {}
    for name, level in levels.items():
        mean = np.asarray(by_row[members[name]].mean(axis=0)).ravel()[expressed]
        rank = min(int(np.floor(level / 100.0 * len(mean))), len(mean) - 1)
        out[name] = float(np.sort(mean)[::-1][rank])
    return out


def graded_counts(
    means: Mapping[str, float],
    members: Mapping[str, np.ndarray],
    trend: DispersionTrend,
    strength: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw one gene with a mean per region: float64 (n_obs,), NaN outside the regions.

    Negative-binomial draws of a region are handed out in the order of its spots' strength, ties
    at random.

    Parameters
    ----------
    means
        Region -> mean.
    members
        Region -> observations.
    trend
        Mean-variance relation.
    strength
        Value of each observation that the draws are sorted by, such as its median expression.
    rng
        Generator.
    """
    out = np.full(len(strength), np.nan)
    for name, mean in means.items():
        rows = members[name]
        if mean <= 0:
            out[rows] = 0.0
            continue
        size = float(trend.size(np.array(mean)))
        rate = np.full(len(rows), mean)
        if np.isfinite(size):
            rate = rng.gamma(size, mean / size, len(rows))
        order = np.lexsort((rng.random(len(rows)), strength[rows]))
        out[rows[order]] = np.sort(rng.poisson(rate))
    return out


def smooth_modes(position: np.ndarray, k: int, *, n_neighbors: int = 6) -> np.ndarray:
    """Smoothest orthonormal modes over the spots of one section, float64 (n, k), smoothest first.

    Eigenvectors of the Laplacian of the graph of nearest spots, without the constant.
    """
    from scipy.sparse.linalg import eigsh
    from scipy.spatial import KDTree

    n = len(position)
    k = min(k, n - 2)
    if k < 1:
        return np.zeros((n, 0))
    near = min(n_neighbors, n - 1)
    index = KDTree(position).query(position, k=near + 1)[1][:, 1:]
    rows = np.repeat(np.arange(n), near)
    graph = sparse.csr_matrix((np.ones(rows.size), (rows, index.ravel())), shape=(n, n))
    graph = graph.maximum(graph.T)
    laplacian = sparse.diags_array(np.asarray(graph.sum(axis=1)).ravel()) - graph
    if n <= 600:
        vector = np.linalg.eigh(laplacian.toarray())[1][:, : k + 1]
    else:
        start = np.random.default_rng(0).standard_normal(n)
        value, vector = eigsh(sparse.csc_matrix(laplacian), k=k + 1, sigma=-0.01, v0=start)
        vector = vector[:, np.argsort(value)]
    centred = vector - vector.mean(axis=0)
    varying = np.linalg.norm(centred, axis=0) > 1e-6
    return np.linalg.qr(centred[:, varying])[0][:, :k]


def surrogates(
    pattern: np.ndarray, modes: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Random patterns with the values and the smoothness of a pattern, elsewhere: (n, n_obs).

    The coefficients of the pattern along the smooth modes are turned by random rotations within
    bands of 3, 5, 7, ... modes of like smoothness (eigenmode resampling, Koussis et al. 2024),
    what is left is permuted, and the values of the pattern are put in the order that results.

    Parameters
    ----------
    pattern
        (n_obs,).
    modes
        (n_obs, k), orthonormal, smoothest first (:func:`smooth_modes`).
    n
        Number of surrogates.
    rng
        Generator.
    """
    centred = pattern - pattern.mean()
    coefficient = modes.T @ centred
    rest = centred - modes @ coefficient
    bands: list[slice] = []
    start = 0
    while start < modes.shape[1]:
        width = 2 * len(bands) + 3
        bands.append(slice(start, min(start + width, modes.shape[1])))
        start += width
    turned = np.empty((n, modes.shape[1]))
    for band in bands:
        length = np.linalg.norm(coefficient[band])
        direction = rng.standard_normal((n, len(coefficient[band])))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        turned[:, band] = length * direction
    values = turned @ modes.T
    for row in values:
        row += rng.permutation(rest)
    ordered = np.sort(pattern)
    out = np.empty_like(values)
    np.put_along_axis(out, np.argsort(values, axis=1), ordered[None], axis=1)
    return out
