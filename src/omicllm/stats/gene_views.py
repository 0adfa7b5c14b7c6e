"""Several views of the same genes: common axes, what each says about another, shared neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from omicllm.stats import shared_neighbors as shared
from omicllm.stats import view_axes as axes_of
from omicllm.stats import view_prediction as prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from omicllm.stats.view_axes import Basis


@dataclass(frozen=True)
class ViewOptions:
    """Choices of :func:`compare_views`; the verb describes them."""

    method: str = "cca"
    n_axes: int = 20
    n_components: int = 50
    regularization: float = 0.1
    n_folds: int = 5
    n_permutations: int = 200
    n_neighbors: int = 15


@dataclass
class ViewComparison:
    """What was found; the rows of every table are in the order of the views.

    Attributes
    ----------
    joint
        float32 (n_genes, n_axes): joint position, zero for genes without any view.
    placed
        float32 (n_genes, n_views, n_axes): views on the common axes, NaN where a gene lacks one.
    agreement, strength
        float64 (n_axes,): held-out agreement of the views on each axis, mean over folds, and what
        the fit to all shared genes says.
    prediction, canonical, neighbors
        Columns of the three tables.
    share, pval
        float64 (n_genes,): share of neighbours common to two views, mean over pairs of views, and
        its p value; NaN for genes that are not shared.
    alike
        Columns of the table of genes that are neighbours in several views.
    """

    joint: np.ndarray
    placed: np.ndarray
    agreement: np.ndarray
    strength: np.ndarray
    prediction: dict[str, list[Any]]
    canonical: dict[str, list[Any]]
    neighbors: dict[str, list[Any]]
    share: np.ndarray
    pval: np.ndarray
    alike: dict[str, np.ndarray]


def compare_views(
    views: Sequence[np.ndarray],
    has: np.ndarray,
    rng: np.random.Generator,
    options: ViewOptions,
    groups: np.ndarray | None = None,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> ViewComparison:
    """Compare views of genes and join them.

    Parameters
    ----------
    views
        (n_genes, d_v) arrays.
    has
        Bool (n_views, n_genes): genes that have a vector in each view.
    rng
        Deals folds, permutes genes.
    options
        How.
    groups
        Group of each gene, whole numbers (n_genes,): genes of a group are never split over folds,
        change places together, and are not counted as each other's neighbours.
    watch
        Wraps the loop over permutations, for a progress bar.
    """
    full = np.asarray(has.all(axis=0))
    rows = np.flatnonzero(full)
    part = [np.asarray(X[rows], dtype=np.float64) for X in views]
    group = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    n = len(rows)
    fold = prediction.gene_folds(n, options.n_folds, rng, group)
    bases = [
        [axes_of.Basis.of(X[fold != f], options.n_components) for f in range(options.n_folds)]
        for X in part
    ]
    orders = [np.arange(n)] + [
        prediction.shuffled_within(fold, rng, group) for _ in range(options.n_permutations)
    ]
    whole = [axes_of.Basis.of(X, options.n_components) for X in part]
    pairs = list(combinations(range(len(views)), 2))
    targets = [b.scores(X) for X, b in zip(part, whole, strict=True)]
    scores = [
        [
            prediction.FoldScores.of(X, b, target, fold != f, options.regularization)
            for f, b in enumerate(of_view)
        ]
        for X, of_view, target in zip(part, bases, targets, strict=True)
    ]
    lists = [shared.neighbor_lists(T, options.n_neighbors, group) for T in targets]
    tested = _tested_pairs(scores, fold, orders, lists, pairs, options, watch)
    agreement = _held_out_agreement(part, bases, fold, options)
    fitted = axes_of.fitted_axes(
        part,
        whole,
        method=options.method,
        n_axes=options.n_axes,
        regularization=options.regularization,
    )
    agreement = agreement[: len(fitted.strength)]
    # Axes that the views do not share count for nothing; where they share none, all count alike.
    weight = np.sqrt(np.clip(agreement, 0.0, 1.0))
    if not weight.any():
        weight = np.ones_like(weight)
    placed = np.full((len(views), len(full), len(weight)), np.nan)
    for v, (X, basis, turn) in enumerate(zip(views, whole, fitted.weights, strict=True)):
        placed[v, has[v]] = basis.scores(np.asarray(X)[has[v]]) @ turn * weight
    share, pval = np.full((2, len(full)), np.nan)
    share[rows], pval[rows] = _alike_genes(lists, pairs, group, options.n_neighbors, tested.tails)
    return ViewComparison(
        axes_of.joint_positions(placed, has).astype(np.float32),
        placed.transpose(1, 0, 2).astype(np.float32),
        agreement,
        fitted.strength,
        tested.directed,
        tested.canonical,
        tested.neighbors,
        share,
        pval,
        _alike_pairs(lists, rows),
    )


class _TestedPairs(NamedTuple):
    """Columns of the three tables, and the chances of common neighbours.

    Attributes
    ----------
    directed, canonical, neighbors
        Name -> column.
    tails
        For each pair the chance of 0, 1, ... n_neighbors common neighbours or more, over all
        permuted genes.
    """

    directed: dict[str, list[Any]]
    canonical: dict[str, list[Any]]
    neighbors: dict[str, list[Any]]
    tails: list[np.ndarray]


def _tested_pairs(
    scores: list[list[prediction.FoldScores]],
    fold: np.ndarray,
    orders: list[np.ndarray],
    lists: list[np.ndarray],
    pairs: list[tuple[int, int]],
    options: ViewOptions,
    watch: Callable[[Iterable[int]], Iterable[int]],
) -> _TestedPairs:
    """Every pair of views scored as they are and with the genes of the second permuted."""
    width = min(options.n_axes, *(len(s.scale) for of_view in scores for s in of_view))
    directed: dict[str, list[Any]] = {
        c: [] for c in ("source", "target", "r2", "correlation", "r2_null", "pval")
    }
    canonical: dict[str, list[Any]] = {
        c: [] for c in ("first", "second", "axis", "correlation", "null", "pval")
    }
    neighbors: dict[str, list[Any]] = {
        c: [] for c in ("first", "second", "share", "expected", "pval")
    }
    results: dict[tuple[int, int], tuple[list[Any], list[float]]] = {p: ([], []) for p in pairs}
    times = {p: np.zeros(options.n_neighbors + 1) for p in pairs}
    # Genes move in the same way for every pair, so that pairs can be compared.
    for i in watch(range(len(orders))):
        for a, b in pairs:
            one = prediction.pair_scores(scores[a], scores[b], fold, orders[i], n_axes=width)
            results[a, b][0].append(one)
            common = shared.common_neighbors(lists[a], lists[b], orders[i])
            results[a, b][1].append(float(common.mean()))
            if i:  # the first order is that of the data
                times[a, b] += np.bincount(common.sum(axis=1), minlength=len(times[a, b]))
    for (a, b), (scored, shares) in results.items():
        r2 = np.stack([s.r2 for s in scored])
        p = prediction.permutation_p(r2[0], r2[1:])
        for way, (x, y) in enumerate(((a, b), (b, a))):
            row = (x, y, r2[0, way], scored[0].correlation[way], r2[1:, way].mean(), p[way])
            for column, value in zip(directed.values(), row, strict=True):
                column.append(value)
        along = np.stack([s.canonical for s in scored])
        p = prediction.step_down(prediction.permutation_p(along[0], along[1:]))
        for axis in range(width):
            row = (a, b, axis + 1, along[0, axis], along[1:, axis].mean(), p[axis])
            for column, value in zip(canonical.values(), row, strict=True):
                column.append(value)
        null = np.array(shares[1:])
        chance = prediction.permutation_p(np.array(shares[0]), null)
        of_pair = (a, b, shares[0], null.mean(), float(chance))
        for column, value in zip(neighbors.values(), of_pair, strict=True):
            column.append(value)
    tails = [(1.0 + t[::-1].cumsum()[::-1]) / (1.0 + t.sum()) for t in times.values()]
    return _TestedPairs(directed, canonical, neighbors, tails)


def _held_out_agreement(
    part: list[np.ndarray], bases: list[list[Basis]], fold: np.ndarray, options: ViewOptions
) -> np.ndarray:
    """Agreement of the views on axes that other folds gave: float64 (n_axes,)."""
    out, size = np.zeros((2, options.n_axes))
    for f in range(options.n_folds):
        test = fold == f
        axes = axes_of.fitted_axes(
            [X[~test] for X in part],
            [of_view[f] for of_view in bases],
            method=options.method,
            n_axes=options.n_axes,
            regularization=options.regularization,
        )
        agreement = axes_of.axis_agreement(axes.place([X[test] for X in part]))
        out[: len(agreement)] += test.sum() * agreement
        size[: len(agreement)] += test.sum()
    return out / np.maximum(size, 1)


def _alike_genes(
    lists: list[np.ndarray],
    pairs: list[tuple[int, int]],
    group: np.ndarray | None,
    k: int,
    chance: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Share of common neighbours of each gene, mean over pairs of views, and its p value."""
    n = len(lists[0])
    others = np.full(n, n - 1) if group is None else n - np.bincount(group)[group]
    same = np.arange(n)
    counts = [shared.common_neighbors(lists[a], lists[b], same).sum(axis=1) for a, b in pairs]
    alone = [shared.overlap_p(c, k, others) for c in counts]
    if group is not None:
        # Groups become neighbours as a whole: common genes are then no independent evidence.
        alone = [np.maximum(p, of[c]) for p, of, c in zip(alone, chance, counts, strict=True)]
    p = shared.combined_p(alone)
    return np.mean(counts, axis=0) / k, p


def _alike_pairs(lists: list[np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Genes and those of their neighbours that two views or more agree on."""
    n = len(rows)
    codes = np.concatenate([(np.arange(n)[:, None] * n + one).ravel() for one in lists])
    code, times = np.unique(codes, return_counts=True)
    code, times = code[times > 1], times[times > 1]
    order = np.lexsort((code, -times))
    gene, neighbor = np.divmod(code[order], n)
    return {"gene": rows[gene], "neighbor": rows[neighbor], "n_views": times[order]}
