"""How far a gene moves among the genes from one section to another, beyond noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm.stats.neighbors import unit_rows
from omicllm.stats.residuals import pearson_residuals
from omicllm.stats.spectrum import cross_validated_axes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CLIP, _FLOOR, _POWER = 5.0, 0.2, 0.25


@dataclass(frozen=True)
class Unit:
    """Genes of one section (or part of one) on trusted axes, from all counts and from two halves.

    Attributes
    ----------
    full, first, second
        float32 (n_genes, k), unit rows.
    """

    full: np.ndarray
    first: np.ndarray
    second: np.ndarray


def _depth_share(counts: sparse.csc_matrix) -> np.ndarray:
    depth = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return depth / max(depth.sum(), 1e-12)


def _on_axes(
    counts: sparse.csc_matrix, k: int
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Residual images of genes, and the axes they are projected on, weighted by their trust."""
    share = _depth_share(counts)

    def residual(genes: np.ndarray) -> np.ndarray:
        return pearson_residuals(counts[:, genes].toarray().T, share, clip=_CLIP)

    spectrum = cross_validated_axes(residual, counts.shape[1], counts.shape[0], k)
    gain = (spectrum.signal_to_noise + _FLOOR) ** _POWER
    return residual, spectrum.axes * gain.astype(np.float32)


def embedded_unit(counts: sparse.csc_matrix, rng: np.random.Generator, *, k: int = 64) -> Unit:
    """Embed the genes of one section, all their counts and two binomial halves of them.

    Parameters
    ----------
    counts
        csc (n_obs, n_genes).
    rng
        Generator of the coins.
    k
        Axes.
    """
    share, n = _depth_share(counts), counts.shape[1]
    weighted = _on_axes(counts, k)[1]
    first = rng.binomial(np.rint(counts.data).astype(np.int64), 0.5).astype(np.float32)

    def projected(data: np.ndarray) -> np.ndarray:
        part = sparse.csc_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
        blocks = [
            pearson_residuals(part[:, s : s + 2048].toarray().T, share, clip=_CLIP) @ weighted
            for s in range(0, n, 2048)
        ]
        return unit_rows(np.concatenate(blocks))

    return Unit(projected(counts.data), projected(first), projected(counts.data - first))


def common_axes(
    units: Sequence[Unit], n_anchors: int, *, rounds: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the units to common axes by their anchor genes, without any registration of tissue.

    Anchors are the genes whose two halves agree best in the section where they agree least.
    Rotations come from generalised orthogonal Procrustes on them, in which a few changed genes
    weigh little; each common axis is then weighted by the root of the share of its variance that
    the units have in common.

    Parameters
    ----------
    units
        Sections, genes in the same order.
    n_anchors
        Number of anchor genes.
    rounds
        Turns of Procrustes against the mean.

    Returns
    -------
    float32 (n_units, n_genes, k) unit rows, and float64 (n_units, n_genes): how far the place of a
    gene can be trusted, the agreement of its halves stepped up to all counts (Spearman-Brown).
    """
    k = min(u.full.shape[1] for u in units)
    agreement = np.min([np.einsum("gd,gd->g", u.first, u.second) for u in units], axis=0)
    anchors = np.sort(np.argsort(-agreement, kind="stable")[:n_anchors])
    scores = [u.full[anchors, :k].astype(np.float64) for u in units]
    mean = scores[0]
    for _ in range(rounds):
        turns = []
        for one in scores:
            left, _, right = np.linalg.svd(one.T @ mean, full_matrices=False)
            turns.append(left @ right)
        mean = np.mean([one @ t for one, t in zip(scores, turns, strict=True)], axis=0)
    basis = np.linalg.eigh(mean.T @ mean)[1][:, ::-1]
    turns = [t @ basis for t in turns]
    placed = np.stack([one @ t for one, t in zip(scores, turns, strict=True)])
    square, n = (placed**2).sum(axis=0), len(units)
    shared = ((placed.sum(axis=0) ** 2 - square) / (n * (n - 1))).mean(axis=0)
    weight = np.sqrt(np.maximum(shared, 0.0) / np.maximum(square.mean(axis=0) / n, 1e-12))
    places, trust = [], []
    for unit, turn in zip(units, turns, strict=True):
        change = (turn * weight).astype(np.float32)
        places.append(unit_rows(unit.full[:, :k] @ change))
        pair = unit_rows(unit.first[:, :k] @ change), unit_rows(unit.second[:, :k] @ change)
        half = np.clip(np.einsum("gd,gd->g", *pair).astype(np.float64), 0.0, 1.0)
        trust.append(2 * half / (1 + half))
    return np.stack(places), np.stack(trust)


def place_distances(places: np.ndarray) -> np.ndarray:
    """1 - cosine of each gene's places in each two units: float64 (n_units, n_units, n_genes)."""
    n = len(places)
    out = np.zeros((n, n, places.shape[1]))
    for a in range(n):
        for b in range(a):
            cosine = np.einsum("ga,ga->g", places[a], places[b])
            out[a, b] = out[b, a] = 1.0 - cosine
    return out


def contrast(distance: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Mean distance between units of different conditions less that within: (n_genes,)."""
    a, b = np.triu_indices(len(label), 1)
    same = label[a] == label[b]
    within = distance[a[same], b[same]].mean(axis=0) if same.any() else 0.0
    return distance[a[~same], b[~same]].mean(axis=0) - within


def beyond_noise(value: np.ndarray, noise: np.ndarray, *, window: int = 200) -> np.ndarray:
    """Standardise values by the median and spread of genes of about the same noise.

    Parameters
    ----------
    value, noise
        (n_genes,).
    window
        Genes compared with (lowered to a third of the genes there are).
    """
    from scipy.ndimage import median_filter

    n = len(value)
    window = max(3, min(window, n // 3)) | 1
    order = np.argsort(noise, kind="stable")
    ordered = value[order]
    centred = ordered - median_filter(ordered, window, mode="reflect")
    spread = 1.4826 * median_filter(np.abs(centred), window, mode="reflect")
    out = np.empty(n)
    out[order] = centred / np.maximum(spread, 1e-9)
    return out


def inflation(score: np.ndarray, null: np.ndarray) -> float:
    """How much wider than null scores the bulk of the scores is, at least 1 (genomic control)."""
    centre = np.median(null)
    levels = [0.75, 0.9]
    wide = np.quantile(score, levels) - np.median(score)
    return float(max(1.0, (wide / np.maximum(np.quantile(null, levels) - centre, 1e-9)).max()))


def labelings(label: np.ndarray, most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Every other way, or `most` random ones, to deal the labels to units; names are no matter."""

    def canonical(x: Any) -> tuple[int, ...]:
        number: dict[int, int] = {}
        return tuple(number.setdefault(int(v), len(number)) for v in x)

    observed = canonical(label)
    distinct: dict[tuple[int, ...], None] = {}
    if len(label) <= 8:
        for one in permutations(label.tolist()):
            distinct[canonical(one)] = None
    else:
        for _ in range(20 * most):
            distinct[canonical(rng.permutation(label))] = None
            if len(distinct) > most:
                break
    distinct.pop(observed, None)
    others = [np.array(x) for x in distinct]
    if len(others) > most:
        others = [others[i] for i in np.sort(rng.choice(len(others), most, replace=False))]
    return others


def block_tiles(coords: np.ndarray, *, side: int = 4) -> np.ndarray:
    """Cut a section into side x side blocks with equally many spots: int64 (n,)."""
    n = len(coords)
    strip, tile = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    strip[np.argsort(coords[:, 0], kind="stable")] = np.arange(n) * side // n
    for s in range(side):
        rows = np.flatnonzero(strip == s)
        order = rows[np.argsort(coords[rows, 1], kind="stable")]
        tile[order] = s * side + np.arange(len(rows)) * side // max(len(rows), 1)
    return tile


def block_halves(
    coords: np.ndarray, rng: np.random.Generator, *, side: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Deal the blocks of a section to two halves: of two neighbouring ones, one to each."""
    chosen = np.zeros(side * side, dtype=bool)
    for pair in np.arange(side * side).reshape(-1, 2):
        chosen[rng.choice(pair)] = True
    inside = chosen[block_tiles(coords, side=side)]
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def block_parts(counts: sparse.csc_matrix, tile: np.ndarray, *, k: int = 64) -> np.ndarray:
    """What each block of a section adds to the coordinates of its genes on trusted axes.

    Returns
    -------
    float32 (n_blocks, n_genes, k); their sum is the embedding of the section, before scaling.
    """
    residual, weighted = _on_axes(counts, k)
    out = np.zeros((int(tile.max()) + 1, counts.shape[1], weighted.shape[1]), dtype=np.float32)
    for start in range(0, counts.shape[1], 2048):
        genes = np.arange(start, min(start + 2048, counts.shape[1]))
        rows = residual(genes)
        for b in range(len(out)):
            inside = tile == b
            out[b, genes] = rows[:, inside] @ weighted[inside]
    return out
