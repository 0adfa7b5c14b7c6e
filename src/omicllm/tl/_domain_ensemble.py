"""Spatial domains of arrays: smoothing, tied mixtures from several starts, and their consensus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omicllm.spatial.smoothing import AMOUNTS, cross_validation, laplacian, smooth
from omicllm.stats.consensus import consensus
from omicllm.stats.tied_mixture import fit_tied_mixture, most_likely, ward_start

if TYPE_CHECKING:
    from scipy import sparse

#: Largest random subset that Ward clustering and EM see: their cost does not grow with the tissue.
_WARD, _FIT = 1200, 20_000
#: Spots per dimension of the mixture, at least.
_PER_DIMENSION = 8


@dataclass(frozen=True)
class Domains:
    """What the ensemble found.

    Attributes
    ----------
    label, confidence
        (n,) domain, largest first, and its share of the votes.
    smoothed
        (n, d) components of the first member of the ensemble.
    dims, amounts
        Components and amount of smoothing of each member.
    """

    label: np.ndarray
    confidence: np.ndarray
    smoothed: np.ndarray
    dims: list[int]
    amounts: list[float]


def domain_ensemble(
    P: np.ndarray,
    graph: sparse.csr_matrix,
    k: int,
    rng: np.random.Generator,
    *,
    weights: np.ndarray | None = None,
    dims: tuple[int, ...] = (15, 30),
    factors: tuple[float, ...] = (1.0, 2.0),
    n_starts: int = 6,
) -> Domains:
    """Cluster spots by smoothed components.

    Parameters
    ----------
    P
        (n, d) components.
    graph
        Symmetric (n, n).
    k
        Domains.
    rng
        For probes, subsets and starts.
    weights
        (n,) reliability of spots in the smoother.
    dims
        Numbers of leading components.
    factors
        Amounts of smoothing, as multiples of what generalised cross-validation picks.
    n_starts
        Starts of the mixture for each number of components and amount.
    """
    n = len(P)
    P = P - P.mean(axis=0)
    L = laplacian(graph)
    curve = cross_validation(P[:, : max(dims)], L, rng, weights=weights)
    most = max(2, n // _PER_DIMENSION)
    labelings: list[np.ndarray] = []
    first, used, amounts = None, [], []
    for d in sorted({min(d, P.shape[1], most) for d in dims}):
        amount = float(AMOUNTS[curve[:, :d].sum(axis=1).argmin()])
        for factor in factors:
            Z = smooth(P[:, :d], L, factor * amount, weights=weights)
            Z /= max(float(Z.std(axis=0).max()), 1e-300)
            first = Z if first is None else first
            used.append(d)
            amounts.append(factor * amount)
            for _ in range(n_starts):
                part = Z if n <= _FIT else Z[rng.choice(n, _FIT, replace=False)]
                bag = max(k, min(int(0.8 * len(part)), _WARD))
                mixture = fit_tied_mixture(part, ward_start(part, k, bag, rng), k)
                labelings.append(most_likely(Z, *mixture))
    label, confidence = consensus(labelings, k, rng)
    assert first is not None
    return Domains(by_size(label), confidence, first, used, amounts)


def by_size(label: np.ndarray) -> np.ndarray:
    """Numbers 0, 1, ... in order of decreasing size; ties by the first observation."""
    _, start, code, size = np.unique(
        label, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), dtype=np.int64)
    rank[np.lexsort((start, -size))] = np.arange(len(size))
    return rank[code]
