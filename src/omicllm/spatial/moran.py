r"""Moran's I of many genes, with p values from exact permutation moments.

:math:`I = \frac{n}{S_0} \frac{z^\top W z}{z^\top z}`, z the centred expression of a gene, W the
weights of the spatial graph (Moran 1950). One sparse product per gene, with a vector that fits in
the cache of a core.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from omicllm.spatial.permutation import (
    GraphSums,
    graph_sums,
    permutation_moments,
    symmetric_weights,
    upper_tail,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Expected neighbouring pairs of expressing spots below which p values are calibrated.
FEW_PAIRS = 60.0
_DRAWS, _PER_BIN, _STEP, _WIDE, _ROWS = 40_000, 4_000, 16, 4, 2048


@dataclass(frozen=True)
class _Layout:
    """Spots ordered by section and, inside, so that neighbours are close in memory.

    Attributes
    ----------
    order
        Spot at each place.
    place
        Place of each spot.
    upper
        Upper triangle of the weights between places.
    bounds
        First place of each section, and the end.
    weight
        Sum of all weights of each section.
    sums
        Sums over the graph of each section, or None.
    """

    order: np.ndarray
    place: np.ndarray
    upper: sparse.csr_matrix
    bounds: np.ndarray
    weight: np.ndarray
    sums: list[GraphSums] | None


def morans_i(
    groups: Iterable[tuple[slice, Any]],
    n_genes: int,
    graph: Any,
    *,
    sections: np.ndarray | None = None,
    n_jobs: int = 1,
    p_values: bool = True,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Moran's I and one-sided p values of many genes.

    Parameters
    ----------
    groups
        Slices of genes and their expression (n_obs, n), dense or csc, covering all genes.
    n_genes
        Number of genes.
    graph
        Spatial weights (n_obs, n_obs), sparse; need not be symmetric.
    sections
        Section number of each spot (n_obs,). Expression is then centred and scaled within
        sections, edges between them are left out, I is the mean over sections weighted by their
        edges, and spots are permuted within sections.
    n_jobs
        Threads. The sparse products release Python's lock.
    p_values
        Also compute p values (needs sums over the graph, once).
    rng
        For the permutations that calibrate genes found in few spots.

    Returns
    -------
    float64 (n_genes,) I and p; NaN for genes that do not vary.

    Raises
    ------
    ValueError
        When the graph has no edges.

    Notes
    -----
    The curve through three moments fits wherever many neighbouring pairs of spots express a gene.
    Where fewer than :data:`FEW_PAIRS` are expected, the body of the distribution (p > 0.01) is
    taken from permuted images of such genes, pooled over genes found in about as many spots.
    """
    W = symmetric_weights(graph)
    if sections is not None:
        W = within(W, sections)
    if not W.sum() > 0:
        msg = "The spatial graph has no edges."
        raise ValueError(msg)
    n, layout = W.shape[0], _layout(W, sections, p_values=p_values)
    size = np.diff(layout.bounds)
    index = np.zeros((len(size), n_genes))
    power = np.zeros((len(size), 7, n_genes))
    n_values = np.zeros(n_genes, dtype=np.int64)
    few_columns, few = [], []
    for genes, block in groups:
        _score(block, genes.start, layout, index, power, n_values, n_jobs)
        if p_values:
            pairs = (n_values[genes] / n) ** 2 * (W.nnz / 2)
            chosen = np.flatnonzero((pairs < FEW_PAIRS) & (power[:, 2, genes] > 0).any(axis=0))
            few.append(genes.start + chosen)
            few_columns.append(sparse.csc_matrix(block[:, chosen], dtype=np.float64))
    varies = power[:, 2] > 0
    weight = layout.weight @ varies
    known = weight > 0
    # The statistic of a section is n z'Wz / z'z; sections add up.
    total = size @ index
    score = np.where(known, total / np.where(known, weight, 1.0), np.nan)
    if layout.sums is None:
        return score, np.full(n_genes, np.nan)
    mean, variance, third = np.zeros((3, n_genes))
    for n_spots, sums, p, here in zip(size, layout.sums, power, varies, strict=True):
        moments = permutation_moments(sums, p)
        for k, (into, moment) in enumerate(zip((mean, variance, third), moments, strict=True)):
            into += np.where(here, moment, 0.0) * float(n_spots) ** (k + 1)
    usable = known & (variance > 0)
    sd = np.sqrt(np.where(usable, variance, 1.0))
    standard = (total - mean) / sd
    p = np.where(known, 1.0, np.nan)
    p[usable] = upper_tail(standard[usable], (third / sd**3)[usable])
    chosen, columns = np.concatenate(few), sparse.hstack(few_columns, format="csc")
    columns = columns[:, usable[chosen]]
    chosen = chosen[usable[chosen]]
    if len(chosen):
        draws = _Draws(columns, W, sections, mean[chosen], sd[chosen])
        rng = rng or np.random.default_rng(0)
        p[chosen] = _calibrated(p[chosen], standard[chosen], n_values[chosen], draws, rng)
    return score, p


def within(W: sparse.csr_matrix, sections: np.ndarray) -> sparse.csr_matrix:
    """Weights without the edges between sections."""
    edges = sparse.coo_matrix(W)
    keep = sections[edges.row] == sections[edges.col]
    kept = (edges.data[keep], (edges.row[keep], edges.col[keep]))
    return sparse.csr_matrix(kept, shape=W.shape)


def _layout(W: sparse.csr_matrix, sections: np.ndarray | None, *, p_values: bool) -> _Layout:
    order = np.asarray(csgraph.reverse_cuthill_mckee(W, symmetric_mode=True), dtype=np.int64)
    size = np.array([len(order)])
    if sections is not None:
        order = order[np.argsort(sections[order], kind="stable")]
        size = np.unique(sections, return_counts=True)[1]
    bounds = np.concatenate([[0], np.cumsum(size)])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    moved = sparse.csr_matrix(W[order][:, order])
    parts = [moved[a:b, a:b] for a, b in pairwise(bounds)]
    weight = np.array([float(part.sum()) for part in parts])
    sums = [graph_sums(part) for part in parts] if p_values else None
    upper = sparse.csr_matrix(sparse.triu(moved, k=1))
    upper.sort_indices()
    return _Layout(order, place, upper, bounds, weight, sums)


def _score(
    block: Any,
    start: int,
    layout: _Layout,
    index: np.ndarray,
    power: np.ndarray,
    n_values: np.ndarray,
    n_jobs: int,
) -> None:
    """Fill in z'Wz / z'z, power sums of unit scale and the number of values of some genes."""
    if sparse.issparse(block) and not block.has_canonical_format:
        block = block.copy()
        block.sum_duplicates()
    n, m = block.shape
    # Few genes of large sections, whose products stay near the core; many of small ones.
    step = _STEP if n > 10_000 else 16 * _STEP

    def work(first: int) -> None:
        part = block[:, first : first + _WIDE * step]
        if not sparse.issparse(part):
            # Rows are gathered for several products at once: reaching a row is what costs.
            part = np.asarray(part)[layout.order]
        for j in range(0, part.shape[1], step):
            piece(part[:, j : j + step], start + first + j)

    def piece(part: Any, begin: int) -> None:
        out = slice(begin, begin + part.shape[1])
        if sparse.issparse(part):
            gene = np.repeat(np.arange(part.shape[1]), np.diff(part.indptr))
            V = np.zeros(part.shape)
            V[layout.place[part.indices], gene] = part.data
            n_values[out] = np.bincount(gene[part.data != 0], minlength=part.shape[1])
        else:
            V = np.array(part, dtype=np.float64, order="C")
            n_values[out] = np.count_nonzero(V, axis=0)
        means = [np.full(b - a, 1.0 / (b - a)) @ V[a:b] for a, b in pairwise(layout.bounds)]
        for (a, b), mean in zip(pairwise(layout.bounds), means, strict=True):
            V[a:b] -= mean
        Y = layout.upper @ V
        for k, (a, b) in enumerate(pairwise(layout.bounds)):
            p_values = layout.sums is not None
            _section(V[a:b], Y[a:b], means[k], index[k, out], power[k, :, out], p_values=p_values)

    if n_jobs == 1:
        for first in range(0, m, _WIDE * step):
            work(first)
    else:
        with ThreadPoolExecutor(n_jobs) as pool:
            list(pool.map(work, range(0, m, _WIDE * step)))


def _section(
    V: np.ndarray,
    Y: np.ndarray,
    mean: np.ndarray,
    index: np.ndarray,
    power: np.ndarray,
    *,
    p_values: bool,
) -> None:
    """Fill in z'Wz / z'z and power sums of unit scale of some genes, blocks of rows at a time."""
    sums = np.zeros((7, V.shape[1]))  # row 1 holds z'Wz / 2 until the end
    for start in range(0, len(V), _ROWS):
        z, y = V[start : start + _ROWS], Y[start : start + _ROWS]
        sums[1] += _dots(z, y)
        sums[2] += _dots(z, z)
        if p_values:
            z2 = z * z
            z3 = z2 * z
            for k, (left, right) in enumerate(((z, z2), (z2, z2), (z2, z3), (z3, z3)), start=3):
                sums[k] += _dots(left, right)
    varies = sums[2] > 1e-24 * len(V) * mean**2  # centring a constant leaves rounding errors
    safe = np.where(varies, sums[2], 1.0)
    index[:] = np.where(varies, 2.0 * sums[1] / safe, 0.0)
    power[0], power[1], power[2] = len(V), 0.0, varies
    for k in range(3, 7):
        power[k] = np.where(varies, sums[k] / safe ** (k / 2), 0.0)


def _dots(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Scalar products of the columns of two C-ordered arrays."""
    whole, m = len(A) // 32 * 32, A.shape[1]
    # Rows joined by 32: einsum pays for every row, not for its length.
    long = np.einsum("ij,ij->j", A[:whole].reshape(-1, 32 * m), B[:whole].reshape(-1, 32 * m))
    return long.reshape(32, m).sum(axis=0) + np.einsum("ij,ij->j", A[whole:], B[whole:])


class _Draws:
    """Standard scores of genes whose values lie at random spots of their section.

    Parameters
    ----------
    X
        csc (n_obs, n_genes), values of genes found in few spots.
    W
        Weights without edges between sections.
    sections
        Section number of each spot, or None.
    mean, sd
        Moments of the statistic of each gene.
    """

    def __init__(
        self, X: sparse.csc_matrix, W: sparse.csr_matrix, sections: np.ndarray | None,
        mean: np.ndarray, sd: np.ndarray,
    ) -> None:  # fmt: skip
        n = X.shape[0]
        codes = np.zeros(n, dtype=np.int64) if sections is None else sections
        codes = np.unique(codes, return_inverse=True)[1]
        self.W, self.mean, self.sd = W, mean, sd
        self.order = np.argsort(codes, kind="stable")
        self.size = np.bincount(codes)
        self.start = np.cumsum(self.size) - self.size
        self.codes = codes
        local = np.empty(n, dtype=np.int64)
        local[self.order] = np.arange(n) - self.start[codes[self.order]]
        self.local = local
        member = sparse.csr_matrix((np.ones(n), (codes, np.arange(n))))
        degree = np.asarray(W.sum(axis=1)).ravel()
        self.degrees = member.multiply(degree[None]).tocsr()
        total = np.asarray((member @ X).todense())
        square = np.asarray((member @ X.multiply(X)).todense())
        size = self.size[:, None]
        square = square - total**2 / size
        # Sections add up as n z'Wz / z'z; a section in which a gene is constant adds nothing.
        varies = square > 1e-12 * np.maximum(total**2 / size, 1e-300)
        scale = np.sqrt(np.where(varies, size / np.where(varies, square, 1.0), 0.0))
        gene = np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
        data = X.data * scale[codes[X.indices], gene]
        self.X = sparse.csc_matrix((data, X.indices, X.indptr), shape=X.shape)
        centre = total * scale / size
        self.centre = centre
        self.constant = (centre**2 * np.asarray(self.degrees.sum(axis=1))).sum(axis=0)

    def draw(self, genes: slice, rng: np.random.Generator) -> np.ndarray:
        """Scores of one permuted image of each of some genes, independent of each other."""
        X = self.X[:, genes]
        shuffled = self.order.copy()
        for start, size in zip(self.start, self.size, strict=True):
            rng.shuffle(shuffled[start : start + size])
        # One permutation, entered at an offset of each gene's own: as good as one per gene.
        offset = np.repeat(rng.integers(X.shape[0], size=X.shape[1]), np.diff(X.indptr))
        code = self.codes[X.indices]
        moved = shuffled[self.start[code] + (self.local[X.indices] + offset) % self.size[code]]
        Y = sparse.csc_matrix((X.data, moved, X.indptr), shape=X.shape)
        Y.sort_indices()
        raw = np.asarray((self.W @ Y).multiply(Y).sum(axis=0)).ravel()
        cross = (np.asarray((self.degrees @ Y).todense()) * self.centre[:, genes]).sum(axis=0)
        return (raw - 2 * cross + self.constant[genes] - self.mean[genes]) / self.sd[genes]


def _calibrated(
    p: np.ndarray,
    score: np.ndarray,
    n_values: np.ndarray,
    draws: _Draws,
    rng: np.random.Generator,
) -> np.ndarray:
    """P values above 0.01 from pooled permuted scores of genes with about as many values."""
    repeats = int(np.clip(-(-_DRAWS // len(p)), 2, 200))
    drawn = np.empty((repeats, len(p)))
    for start in range(0, len(p), 128):
        genes = slice(start, start + 128)
        for r in range(repeats):
            drawn[r, genes] = draws.draw(genes, rng)
    order = np.argsort(n_values, kind="stable")
    out = p.copy()
    for group in np.array_split(order, max(1, len(p) * repeats // _PER_BIN)):
        null = np.sort(drawn[:, group].ravel())
        # Exact ties of a few discrete scores count as "at least as large".
        above = len(null) - np.searchsorted(null, score[group] - 1e-9, side="left")
        body = (1 + above) / (1 + len(null))
        out[group] = np.where(body > 0.01, body, np.minimum(p[group], 0.01))
    return out
