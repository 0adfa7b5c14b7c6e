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

from omicllm._core import blocks
from omicllm._core.gene_groups import in_memory
from omicllm.spatial.moran_calibration import Draws, calibrated
from omicllm.spatial.permutation import (
    GraphSums,
    graph_sums,
    permutation_moments,
    symmetric_weights,
    upper_tail,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Expected neighbouring pairs of expressing spots below which p values are calibrated.
FEW_PAIRS = 60.0
_STEP, _WIDE, _ROWS = 16, 4, 2048


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


@dataclass(frozen=True)
class _Group:
    """Sums of consecutive genes.

    Attributes
    ----------
    start
        Number of the first gene.
    index, power
        z'Wz / z'z (n_sections, n) and power sums of unit scale (n_sections, 7, n).
    n_values
        Values other than zero (n,).
    few, columns
        Genes found in few spots, numbers within the group, and their expression (csc).
    """

    start: int
    index: np.ndarray
    power: np.ndarray
    n_values: np.ndarray
    few: np.ndarray
    columns: sparse.csc_matrix


def morans_i(
    groups: Iterable[tuple[slice, Any]],
    n_genes: int,
    graph: Any,
    *,
    sections: np.ndarray | None = None,
    n_jobs: int = 1,
    p_values: bool = True,
    rng: np.random.Generator | None = None,
    check: Callable[[Any, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Moran's I and one-sided p values of many genes.

    Parameters
    ----------
    groups
        Slices of genes and their expression (n_obs, n), dense or csc, covering all genes, in
        order; or dask arrays of that shape, worked on by the caller's client.
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
    check
        Called with each group in memory and the number of its first gene, to refuse bad values.

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
    layout = _layout(W, sections, p_values=p_values)
    size = np.diff(layout.bounds)
    index = np.zeros((len(size), n_genes))
    power = np.zeros((len(size), 7, n_genes))
    n_values = np.zeros(n_genes, dtype=np.int64)
    few_columns, few = [], []
    tasks = ((block, genes.start) for genes, block in groups)
    for got in blocks.run(_group, tasks, layout, W.nnz / 2, n_jobs, check):
        genes = slice(got.start, got.start + len(got.n_values))
        index[:, genes], power[:, :, genes], n_values[genes] = got.index, got.power, got.n_values
        few.append(got.start + got.few)
        few_columns.append(got.columns)
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
        draws = Draws(columns, W, sections, mean[chosen], sd[chosen])
        rng = rng or np.random.default_rng(0)
        p[chosen] = calibrated(p[chosen], standard[chosen], n_values[chosen], draws, rng)
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


def _group(
    block: Any, start: int, layout: _Layout, n_pairs: float, n_jobs: int,
    check: Callable[[Any, int], None] | None,
) -> _Group:  # fmt: skip
    """Sums of a group of genes."""
    block = in_memory(block)
    if check is not None:
        check(block, start)
    n, m = block.shape
    n_sections = len(layout.weight)
    index, power = np.zeros((n_sections, m)), np.zeros((n_sections, 7, m))
    n_values = np.zeros(m, dtype=np.int64)
    _score(block, layout, index, power, n_values, n_jobs)
    few = np.empty(0, dtype=np.int64)
    if layout.sums is not None:
        pairs = (n_values / n) ** 2 * n_pairs
        few = np.flatnonzero((pairs < FEW_PAIRS) & (power[:, 2] > 0).any(axis=0))
    columns = sparse.csc_matrix(block[:, few], dtype=np.float64)
    return _Group(start, index, power, n_values, few, columns)


def _score(
    block: Any,
    layout: _Layout,
    index: np.ndarray,
    power: np.ndarray,
    n_values: np.ndarray,
    n_jobs: int,
) -> None:
    """Fill in z'Wz / z'z, power sums of unit scale and the number of values of some genes."""
    n, m = block.shape
    # Few genes of large sections, whose products stay near the core; many of small ones.
    step = _STEP if n > 10_000 else 16 * _STEP

    def work(first: int) -> None:
        part = block[:, first : first + _WIDE * step]
        if not sparse.issparse(part):
            # Rows are gathered for several products at once: reaching a row is what costs.
            part = np.asarray(part)[layout.order]
        for j in range(0, part.shape[1], step):
            piece(part[:, j : j + step], first + j)

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
