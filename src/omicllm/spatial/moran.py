r"""Moran's I of many genes as sparse products, with p values from exact permutation moments.

:math:`I = \frac{n}{S_0} \frac{z^\top W z}{z^\top z}`, z the centred expression of a gene, W the
weights of the spatial graph (Moran 1950). Under permutation of spots the first three moments of
the numerator follow from sums over the graph and power sums of z; a Pearson type III curve through
them gives p values that hold for sparse genes, where the normal approximation fails (Mielke 1979;
Siemiatycki 1978).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse, stats

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK_BYTES = 2**26


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
        Sums for the index patterns of :data:`_TRIPLES`.
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
    """Sums over the edges of a symmetric graph that permutation moments need."""
    n = W.shape[0]
    power2 = W.multiply(W).tocsr()
    power3 = power2.multiply(W).tocsr()
    s, q, c = (np.asarray(m.sum(axis=1)).ravel() for m in (W, power2, power3))
    total, squares, cubes = s.sum() / 2, q.sum() / 2, c.sum() / 2
    # One row block at a time: W @ W would hold all pairs of neighbours at once.
    closed = 0.0
    for start in range(0, n, 20_000):
        rows = W[start : start + 20_000]
        closed += float((rows @ W).multiply(rows).sum())
    triangles = closed / 6
    adjacent = float((s**2 - q).sum() / 2)  # unordered pairs of edges at a common spot
    pairs = (squares, 2 * adjacent, total**2 - squares - 2 * adjacent)
    upper = sparse.triu(W, k=1).tocoo()
    i, j, w = upper.row, upper.col, upper.data
    touching = s[i] + s[j] - 2 * w
    twice_adjacent = 3 * float((w**2 * touching).sum())
    twice_disjoint = 3 * float((w**2 * (total - w - touching)).sum())
    star = float((s**3 - 3 * s * q + 2 * c).sum())
    path = 6 * (float((w * (s[i] - w) * (s[j] - w)).sum()) - 3 * triangles)
    neighbour_sum = float(((W @ s) * s - power2 @ s).sum())
    bent = 6 * (
        total * adjacent
        - neighbour_sum
        - float((s * (s**2 - q)).sum()) / 2
        + float((q * s - c).sum())
        + 3 * triangles
    )
    known = (cubes, twice_adjacent, twice_disjoint + path, 6 * triangles, star, bent)
    triples = (*known, total**3 - sum(known))
    return GraphSums(n, total, pairs, triples)


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
        return monomial(exponents) / ways

    first = 2 * sums.total * expected((1, 1))
    second = 4 * sum(c * expected(e) for c, e in zip(sums.pairs, _PAIRS, strict=True))
    third = 8 * sum(c * expected(e) for c, e in zip(sums.triples, _TRIPLES, strict=True))
    variance = second - first**2
    return first, np.maximum(variance, 0.0), third - 3 * first * second + 2 * first**3


def upper_tail(z: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """Probability of a standard score above `z` under Pearson type III with that skewness."""
    z, skewness = np.broadcast_arrays(z, skewness)
    p = stats.norm.sf(z)
    bent = np.abs(skewness) > 1e-4
    shape = 4.0 / np.maximum(skewness[bent] ** 2, 1e-12)
    at = shape + np.sign(skewness[bent]) * z[bent] * np.sqrt(shape)
    right = skewness[bent] > 0
    p = np.array(p)
    p[bent] = np.where(right, stats.gamma.sf(at, shape), stats.gamma.cdf(at, shape))
    return np.clip(p, np.finfo(float).tiny, 1.0)


@dataclass
class _Scores:
    """Standard scores of genes, and what is needed to draw permuted ones."""

    index: np.ndarray
    score: np.ndarray
    skewness: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    scale: np.ndarray
    n_values: np.ndarray


def morans_i(
    block_of: Callable[[slice], Any],
    n_genes: int,
    graph: Any,
    *,
    n_jobs: int = 1,
    p_values: bool = True,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Moran's I and one-sided p values of many genes.

    Parameters
    ----------
    block_of
        Takes a slice of genes, returns their expression (n_obs, n), dense or sparse.
    n_genes
        Number of genes.
    graph
        Spatial weights (n_obs, n_obs), sparse; need not be symmetric.
    n_jobs
        Threads. The sparse products release Python's lock.
    p_values
        Also compute p values (needs sums over the graph, once).
    rng
        For the permutations that calibrate genes found in few spots.

    Returns
    -------
    float64 (n_genes,) I and p; NaN for genes that do not vary.

    Notes
    -----
    The curve through three moments fits wherever many neighbouring pairs of spots express a gene.
    Where fewer than :data:`FEW_PAIRS` are expected, the body of the distribution (p > 0.01) is
    taken from permuted images of such genes, pooled over genes found in about as many spots.
    """
    W = symmetric_weights(graph)
    if not W.sum() > 0:
        msg = "The spatial graph has no edges."
        raise ValueError(msg)
    sums = graph_sums(W) if p_values else None
    step = max(1, min(128, _BLOCK_BYTES // (8 * max(1, W.shape[0]))))
    found = _Scores(*(np.full(n_genes, np.nan) for _ in range(7)))

    def work(start: int) -> None:
        genes = slice(start, min(start + step, n_genes))
        X = block_of(genes)
        Z = np.ascontiguousarray(
            X.toarray() if sparse.issparse(X) else np.asarray(X), dtype=np.float64
        )
        found.n_values[genes] = (Z != 0).sum(axis=0)
        _score_block(Z, W, sums, genes, found)

    _run(work, range(0, n_genes, step), n_jobs)
    if sums is None:
        return found.index, np.full(n_genes, np.nan)
    p = np.where(np.isfinite(found.score), 1.0, np.nan)
    known = np.isfinite(found.score)
    p[known] = upper_tail(found.score[known], found.skewness[known])
    n = W.shape[0]
    pairs = (found.n_values / n) ** 2 * (W.nnz / 2)
    few = np.flatnonzero(known & (pairs < FEW_PAIRS) & (found.n_values > 0))
    if len(few):
        rng = rng or np.random.default_rng(0)
        p[few] = _calibrated(few, p[few], block_of, W, found, step, rng)
    return found.index, p


#: Expected neighbouring pairs of expressing spots below which p values are calibrated.
FEW_PAIRS = 60.0
_DRAWS, _PER_BIN = 40_000, 4_000


def _run(work: Callable[[int], None], starts: range, n_jobs: int) -> None:
    if n_jobs == 1:
        for start in starts:
            work(start)
    else:
        with ThreadPoolExecutor(n_jobs) as pool:
            list(pool.map(work, starts))


def _score_block(
    Z: np.ndarray, W: sparse.csr_matrix, sums: GraphSums | None, genes: slice, found: _Scores
) -> None:
    """Fill in I and, with `sums`, standard scores of a block of dense genes (changed in place)."""
    n = len(Z)
    Z -= Z.mean(axis=0)
    product = np.einsum("ij,ij->j", Z, W @ Z)
    square = np.einsum("ij,ij->j", Z, Z)
    varies = square > 1e-12 * n
    safe = np.where(varies, square, 1.0)
    found.index[genes] = np.where(varies, n / W.sum() * product / safe, np.nan)
    if sums is None:
        return
    Z /= np.sqrt(safe)  # power sums of unit scale, whatever the units of expression
    power = np.empty((7, Z.shape[1]))
    value = np.ones_like(Z)
    for k in range(7):
        power[k] = value.sum(axis=0)
        value *= Z
    power[1] = 0.0
    mean, variance, third = permutation_moments(sums, power)
    sd = np.sqrt(variance)
    usable = varies & (sd > 0)
    sd = np.where(usable, sd, 1.0)
    found.score[genes] = np.where(usable, (product / safe - mean) / sd, np.nan)
    found.skewness[genes] = third / sd**3
    found.mean[genes], found.sd[genes], found.scale[genes] = mean, sd, np.sqrt(safe)


def _calibrated(
    few: np.ndarray,
    p: np.ndarray,
    block_of: Callable[[slice], Any],
    W: sparse.csr_matrix,
    found: _Scores,
    step: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """P values above 0.01 from pooled permuted scores of genes with about as many values."""
    repeats = int(np.clip(-(-_DRAWS // len(few)), 2, 200))
    degree = np.asarray(W.sum(axis=1)).ravel()
    drawn = np.empty((repeats, len(few)))
    for block in np.split(few, np.flatnonzero(np.diff(few // step)) + 1):
        start = int(block[0] // step * step)
        genes = slice(start, min(start + step, len(found.index)))
        X = sparse.csc_matrix(block_of(genes), dtype=np.float64)[:, block - start]
        X.data /= np.repeat(found.scale[block], np.diff(X.indptr))
        here = np.searchsorted(few, block)
        for r in range(repeats):
            drawn[r, here] = _permuted_scores(X, W, degree, found, block, rng)
    order = np.argsort(found.n_values[few], kind="stable")
    out = p.copy()
    for group in np.array_split(order, max(1, len(few) * repeats // _PER_BIN)):
        null = np.sort(drawn[:, group].ravel())
        score = found.score[few[group]]
        # Exact ties of a few discrete scores count as "at least as large".
        above = len(null) - np.searchsorted(null, score - 1e-9, side="left")
        body = (1 + above) / (1 + len(null))
        out[group] = np.where(body > 0.01, body, np.minimum(p[group], 0.01))
    return out


def _permuted_scores(
    X: sparse.csc_matrix,
    W: sparse.csr_matrix,
    degree: np.ndarray,
    found: _Scores,
    genes: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Standard scores of genes whose values lie at random spots, independently of each other."""
    n = X.shape[0]
    # One permutation, entered at an offset of each gene's own: as good as one per gene.
    offset = np.repeat(rng.integers(n, size=X.shape[1]), np.diff(X.indptr))
    moved = rng.permutation(n)[(X.indices + offset) % n]
    Y = sparse.csc_matrix((X.data, moved, X.indptr), shape=X.shape)
    Y.sort_indices()
    raw = np.asarray((W @ Y).multiply(Y).sum(axis=0)).ravel()
    centre = np.asarray(X.sum(axis=0)).ravel() / n
    product = raw - 2 * centre * (Y.T @ degree) + centre**2 * degree.sum()
    return (product - found.mean[genes]) / found.sd[genes]


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rates of p values; NaN stay NaN and do not count."""
    q = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    if len(known) == 0:
        return q
    order = known[np.argsort(p[known], kind="stable")]
    m = len(order)
    raised = p[order] * m / np.arange(1, m + 1)
    q[order] = np.minimum(1.0, np.minimum.accumulate(raised[::-1])[::-1])
    return q
