r"""Permutation moments of quadratic forms :math:`z^\top W z`, and tail probabilities from them.

Under permutation of spots the first three moments follow from sums over the pairs and triples of
entries of W and the power sums of z; a Pearson type III curve through them gives p values that hold
for sparse genes, where the normal approximation fails (Siemiatycki 1978; Mielke 1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import sparse, stats


@dataclass(frozen=True)
class GraphSums:
    """Sums over ordered pairs and triples of edges of a graph, by the shape they form.

    Attributes
    ----------
    n
        Number of spots.
    total
        Sum of the weights of all undirected edges.
    pairs
        Same edge, two edges that share a spot, two disjoint edges.
    triples
        Sums for the index patterns of ``_TRIPLES``.
    """

    n: int
    total: float
    pairs: tuple[float, float, float]
    triples: tuple[float, ...]


# Exponents of z that a shape of two or three edges gives.
_PAIRS = ((2, 2), (2, 1, 1), (1, 1, 1, 1))
_TRIPLES = (
    (3, 3), (3, 2, 1), (2, 2, 1, 1), (2, 2, 2), (3, 1, 1, 1), (2, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1),
)  # fmt: skip


def symmetric_weights(graph: Any) -> sparse.csr_matrix:
    """Weights as a symmetric float64 csr matrix without diagonal; z'Wz is unchanged by this."""
    W = sparse.csr_matrix(graph, dtype=np.float64)
    W = (W + W.T) * 0.5
    W.setdiag(0)
    W.eliminate_zeros()
    return sparse.csr_matrix(W)


def graph_sums(W: sparse.csr_matrix) -> GraphSums:
    """Sums over the edges of a symmetric sparse graph without diagonal."""
    power2 = W.multiply(W).tocsr()
    s, q = (np.asarray(m.sum(axis=1)).ravel() for m in (W, power2))
    cubes = float(power2.multiply(W).sum())
    # One row block at a time: W @ W would hold all pairs of neighbours at once.
    closed = 0.0
    for start in range(0, W.shape[0], 20_000):
        rows = W[start : start + 20_000]
        closed += float((rows @ W).multiply(rows).sum())
    return _sums(s, q, cubes, float(s @ (W @ s)), closed)


def low_rank_sums(A: np.ndarray, *, block: int = 1024) -> GraphSums:
    r"""Sums for the weights :math:`A A^\top` without their diagonal; A is (n, k), never n x n."""
    A = np.asarray(A, dtype=np.float64)
    gram = A.T @ A
    d = np.einsum("ij,ij->i", A, A)
    square = np.einsum("ij,ij->i", A @ gram, A)
    s, q = A @ A.sum(axis=0) - d, square - d**2
    narrow = A.astype(np.float32)
    cubes = -float((d**3).sum())
    for start in range(0, len(A), block):
        K = narrow[start : start + block] @ narrow.T
        cubes += float(np.einsum("ij,ij->", K * K, K, dtype=np.float64))
    closed = float(np.trace(gram @ gram @ gram)) - 3 * float(square @ d) + 2 * float((d**3).sum())
    along = A.T @ s
    return _sums(s, q, cubes, float(along @ along - d @ s**2), closed)


def _sums(s: np.ndarray, q: np.ndarray, cubes: float, s_w_s: float, closed: float) -> GraphSums:
    """Sums over shapes from row sums of W and W**2, the sum of W**3, s'Ws and the trace of W^3."""
    total, squares = s.sum() / 2, q.sum() / 2
    triangles, q_s = closed / 6, float(q @ s)
    adjacent = float((s**2 - q).sum() / 2)  # unordered pairs of edges at a common spot
    touching = q_s - cubes  # sum over edges of w**2 times the edges that touch it
    path = 6 * ((s_w_s - 2 * q_s + cubes) / 2 - 3 * triangles)
    star = float((s**3).sum()) - 3 * q_s + 2 * cubes
    bent = 6 * (
        total * adjacent - (s_w_s - q_s) - float((s * (s**2 - q)).sum()) / 2
        + (q_s - cubes) + 3 * triangles
    )  # fmt: skip
    disjoint = 3 * (total * squares - cubes / 2 - touching)
    known = (cubes / 2, 3 * touching, disjoint + path, 6 * triangles, star, bent)
    pairs = (squares, 2 * adjacent, total**2 - squares - 2 * adjacent)
    return GraphSums(len(s), float(total), pairs, (*known, total**3 - sum(known)))


def permutation_moments(
    sums: GraphSums, power: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and third central moment of z'Wz when spots are permuted.

    Parameters
    ----------
    sums
        Sums over the graph.
    power
        Power sums of centred expression, (7, n_genes): row k is the sum of z**k.
    """

    @cache
    def monomial(exponents: tuple[int, ...]) -> np.ndarray:
        """Sum of the product of powers over all tuples of different spots."""
        *others, last = exponents
        if not others:
            return power[last]
        value = power[last] * monomial(tuple(others))
        for k in range(len(others)):
            joined = list(others)
            joined[k] += last
            value = value - monomial(tuple(sorted(joined, reverse=True)))
        return value

    def expected(exponents: tuple[int, ...]) -> np.ndarray:
        ways = np.prod([float(sums.n - k) for k in range(len(exponents))])
        return monomial(exponents) / ways if ways > 0 else np.zeros(power.shape[1])

    first = 2 * sums.total * expected((1, 1))
    second = 4 * sum(c * expected(e) for c, e in zip(sums.pairs, _PAIRS, strict=True))
    third = 8 * sum(c * expected(e) for c, e in zip(sums.triples, _TRIPLES, strict=True))
    variance = second - first**2
    return first, np.maximum(variance, 0.0), third - 3 * first * second + 2 * first**3


def upper_tail(z: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """Probability of a standard score above `z` under Pearson type III with that skewness."""
    z, skewness = np.broadcast_arrays(z, skewness)
    p = np.array(stats.norm.sf(z))
    bent = np.abs(skewness) > 1e-4
    shape = 4.0 / np.maximum(skewness[bent] ** 2, 1e-12)
    at = shape + np.sign(skewness[bent]) * z[bent] * np.sqrt(shape)
    right = skewness[bent] > 0
    p[bent] = np.where(right, stats.gamma.sf(at, shape), stats.gamma.cdf(at, shape))
    return np.clip(p, np.finfo(float).tiny, 1.0)
