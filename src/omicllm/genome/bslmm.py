"""Bayesian sparse linear mixed model, by Gibbs sampling.

y = X b + e, e ~ N(0, s2 I). Each effect is drawn from a mixture of two normals: b_j ~ N(0, v0)
with probability 1 - p (every variant has a small effect: the polygenic part), or N(0, v1), v1 > v0,
with probability p (a few have a large one). Variances have scaled inverse chi-square priors, log p
is uniform between log(1 / m) and 0.

References
----------
Zhou, Carbonetto and Stephens 2013, doi:10.1371/journal.pgen.1003264.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: Weight of the priors of variances, in observations.
_PRIOR = 4.0


@dataclass
class Posterior:
    """What the chains say.

    Attributes
    ----------
    effects
        Posterior mean of the effects (m,).
    inclusion
        Posterior probability of a large effect (m,).
    h2
        Posterior mean of the share of variance explained.
    rhat
        Potential scale reduction of that share over split chains; 1 is converged, and above 1.1
        the chains are too short.
    """

    effects: np.ndarray
    inclusion: np.ndarray
    h2: float
    rhat: float


def bslmm(
    X: np.ndarray,
    y: np.ndarray,
    *,
    rng: np.random.Generator,
    n_iter: int = 600,
    n_burn: int = 200,
    n_chains: int = 2,
) -> Posterior:
    """Fit the model.

    Parameters
    ----------
    X
        Standardised genotypes (n, m).
    y
        Centred expression (n,).
    rng
        Draws the chains.
    n_iter, n_burn
        Sweeps of each chain, and how many of them are left out.
    n_chains
        Number of chains.

    Returns
    -------
    Posterior means over all chains.

    Notes
    -----
    Variants that are alike in all these people (or opposite) are sampled as one, whose effect they
    share: the chain could not tell them apart and would mix badly.
    """
    n, m = X.shape
    scale = float(y.std())
    if scale == 0:
        return Posterior(np.zeros(m), np.zeros(m), 0.0, 1.0)
    group, sign, first = _alike(X)
    gram = X[:, first].T @ X[:, first]
    product = X[:, first].T @ y / scale
    sums = [np.zeros(len(first)), np.zeros(len(first))]
    traces = []
    for chain in rng.spawn(n_chains):
        effects, included, trace = _chain(gram, product, n, n_iter, n_burn, chain)
        sums[0] += effects / n_chains
        sums[1] += included / n_chains
        traces.append(trace)
    size = np.bincount(group)
    effects = sign * (sums[0] / size)[group] * scale
    all_traces = np.array(traces)
    return Posterior(effects, sums[1][group], float(all_traces.mean()), split_rhat(all_traces))


class _Alike(NamedTuple):
    """Group of each variant, its sign against the first of the group, and these firsts."""

    group: np.ndarray
    sign: np.ndarray
    first: np.ndarray


def _alike(X: np.ndarray) -> _Alike:
    """Variants that everybody carries alike, or exactly the other way round."""
    sign = np.sign(X[0] + 1e-300)
    sign[sign == 0] = 1.0
    rounded = np.round(X * sign, 6)
    _, first, group = np.unique(rounded, axis=1, return_index=True, return_inverse=True)
    group = group.ravel()
    return _Alike(group, sign * sign[first][group], first)


class _Chain(NamedTuple):
    """Mean effects, mean inclusion, and the share explained in each sweep."""

    effects: np.ndarray
    included: np.ndarray
    explained: np.ndarray


def _chain(
    gram: np.ndarray,
    product: np.ndarray,
    n: int,
    n_iter: int,
    n_burn: int,
    rng: np.random.Generator,
) -> _Chain:
    """One chain on unit-variance y."""
    m = len(product)
    b = np.zeros(m)
    residual_product = product.copy()  # X' (y - X b)
    large = np.zeros(m, dtype=bool)
    s2, v0, v1 = 1.0, 0.05 / m, 0.05
    p = min(0.5, 3.0 / m)
    prior0, prior1 = 0.05 / m, 0.05
    grid = np.geomspace(1.0 / m, 0.999, 40)
    diagonal = gram.diagonal().tolist()
    mean, included, trace = np.zeros(m), np.zeros(m), []
    for sweep in range(n_iter):
        normal, uniform = rng.standard_normal(m).tolist(), rng.random(m).tolist()
        odds = math.log(p / (1 - p))
        for j in rng.permutation(m).tolist():
            precision = diagonal[j] / s2
            signal = (residual_product[j] + diagonal[j] * b[j]) / s2
            small_v, large_v = 1 / (precision + 1 / v0), 1 / (precision + 1 / v1)
            log_odds = odds + 0.5 * (
                math.log(large_v / v1)
                - math.log(small_v / v0)
                + signal * signal * (large_v - small_v)
            )
            bounded = min(max(log_odds, -500.0), 500.0)
            is_large = uniform[j] < 1 / (1 + math.exp(-bounded))
            variance = large_v if is_large else small_v
            new = variance * signal + math.sqrt(variance) * normal[j]
            residual_product -= gram[j] * (new - b[j])
            b[j], large[j] = new, is_large
        k = int(large.sum())
        v0 = _variance(b[~large], prior0, rng)
        v1 = max(_variance(b[large], prior1, rng), v0)
        explained = float(b @ (product - residual_product))  # b' X' X b
        squares = max(n - 2 * float(b @ product) + explained, 1e-3)
        s2 = (squares + _PRIOR) / rng.chisquare(n + _PRIOR)
        log_p = k * np.log(grid) + (m - k) * np.log1p(-grid)
        weight = np.exp(log_p - log_p.max())
        p = float(grid[np.searchsorted(np.cumsum(weight), rng.random() * weight.sum())])
        if sweep >= n_burn:
            mean += b
            included += large
            trace.append(explained / n / (explained / n + s2))
    n_kept = n_iter - n_burn
    return _Chain(mean / n_kept, included / n_kept, np.array(trace))


def _variance(effects: np.ndarray, prior: float, rng: np.random.Generator) -> float:
    """Draw a variance given effects, under a scaled inverse chi-square prior."""
    total = _PRIOR * prior + float(effects @ effects)
    return total / rng.chisquare(_PRIOR + len(effects))


def split_rhat(traces: np.ndarray) -> float:
    """Potential scale reduction of traces (chains, draws), each cut into halves."""
    half = traces.shape[1] // 2
    if half < 2:
        return float("nan")
    parts = np.concatenate([traces[:, :half], traces[:, half : 2 * half]])
    within = parts.var(axis=1, ddof=1).mean()
    between = half * parts.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0
    return float(np.sqrt(((half - 1) / half * within + between / half) / within))
