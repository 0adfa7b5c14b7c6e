r"""Gaussian mixture whose components share one covariance (model EEE of mclust), from Ward starts.

Density :math:`\sum_k \pi_k\, N(z; \mu_k, \Sigma)`, fitted by EM (Dempster, Laird and Rubin 1977;
Scrucca et al. 2016 for the model names).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular

_BLOCK = 50_000


def squared_distances(Z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, k), up to rounding."""
    return (Z**2).sum(axis=1)[:, None] - 2.0 * Z @ centres.T + (centres**2).sum(axis=1)


def log_densities(
    Z: np.ndarray, shares: np.ndarray, means: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Log of share times density of each component (n, k), without the constant of 2 pi."""
    C = cholesky(covariance, lower=True)
    Y = solve_triangular(C, Z.T, lower=True).T
    M = solve_triangular(C, means.T, lower=True).T
    return np.log(shares) - 0.5 * squared_distances(Y, M) - np.log(np.diag(C)).sum()


class TiedMixture(NamedTuple):
    """Shares (k,), means (k, d) and the covariance (d, d) of all components."""

    shares: np.ndarray
    means: np.ndarray
    covariance: np.ndarray


def fit_tied_mixture(
    Z: np.ndarray, labels: np.ndarray, k: int, *, max_iter: int = 150, tol: float = 1e-4
) -> TiedMixture:
    """EM from hard labels.

    Parameters
    ----------
    Z
        (n, d) points.
    labels
        (n,) start, whole numbers below `k`.
    k
        Components.
    max_iter, tol
        Iterations, and smallest gain of the mean log likelihood that goes on.
    """
    n, d = Z.shape
    R, square, before = np.eye(k)[labels], Z.T @ Z, -np.inf
    for _ in range(max_iter):
        size = R.sum(axis=0) + 1e-9
        means = (R.T @ Z) / size[:, None]
        covariance = (square - (means.T * size) @ means) / n
        # Keeps the Cholesky factor defined where axes are all but constant.
        covariance += np.eye(d) * (1e-8 * np.trace(covariance) / d + 1e-300)
        shares = size / size.sum()
        log_p = log_densities(Z, shares, means, covariance)
        top = log_p.max(axis=1, keepdims=True)
        R = np.exp(log_p - top)
        total = R.sum(axis=1, keepdims=True)
        R /= total
        level = float((top + np.log(total)).mean())
        if abs(level - before) < tol:
            break
        before = level
    return TiedMixture(shares, means, covariance)


def most_likely(
    Z: np.ndarray, shares: np.ndarray, means: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Most likely component of each point, int16 (n,), in blocks of points."""
    blocks = [
        log_densities(Z[i : i + _BLOCK], shares, means, covariance).argmax(axis=1)
        for i in range(0, len(Z), _BLOCK)
    ]
    return np.concatenate(blocks).astype(np.int16)


def ward_start(Z: np.ndarray, k: int, n_points: int, rng: np.random.Generator) -> np.ndarray:
    """Labels (n,) by the nearest of `k` Ward clusters of a random subset of `n_points` points."""
    from sklearn.cluster import AgglomerativeClustering

    bag = Z[rng.choice(len(Z), n_points, replace=False)]
    ward = AgglomerativeClustering(k, linkage="ward").fit_predict(bag)
    centres = np.array([bag[ward == j].mean(axis=0) for j in range(k)])
    return squared_distances(Z, centres).argmin(axis=1)
