"""How much one view of genes says about another: held-out ridge and CCA, with a null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omicllm.stats.splits import by_groups, by_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omicllm.stats.view_axes import Basis

#: Ridge penalties that are tried, in units of the mean variance of the axes.
_PENALTIES = 10.0 ** np.arange(-3.0, 3.01, 0.5)


def gene_folds(
    n: int, n_folds: int, rng: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """Deal genes to folds of about equal size, whole groups together: int64 (n,).

    Parameters
    ----------
    n, n_folds
        Genes and folds.
    rng
        Deals them.
    groups
        Group of each gene, whole numbers from 0 (n,); None for genes one by one.

    Raises
    ------
    ValueError
        Fewer groups than folds.
    """
    shares = np.full(n_folds, 1.0 / n_folds)
    strata = np.zeros(n, dtype=np.int64)
    if groups is None:
        return by_rows(strata, shares, rng)
    return by_groups(groups, strata, shares, rng)


def shuffled_within(
    fold: np.ndarray, rng: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """Random reordering of genes that keeps each in its fold: int64 (n,).

    With groups, those of a fold are lined up twice, small ones before large ones and at random
    among groups of about one size, and the second line is laid over the first: genes of a group
    mostly land together again, so that what they have in common stays as it is.

    Parameters
    ----------
    fold
        Fold of each gene (n,).
    rng
        Shuffles.
    groups
        Group of each gene, none of which lies in two folds.
    """
    out = np.empty(len(fold), dtype=np.int64)
    for f in np.unique(fold):
        rows = np.flatnonzero(fold == f)
        if groups is None:
            out[rows] = rng.permutation(rows)
        else:
            out[_lined_up(rows, groups, rng)] = _lined_up(rows, groups, rng)
    return out


def _lined_up(rows: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows group by group; groups of about one size, and rows of a group, in random order."""
    names, code, size = np.unique(groups[rows], return_inverse=True, return_counts=True)
    about = np.floor(np.log2(size))[code]
    rank = rng.permutation(len(names))[code]
    return rows[np.lexsort((rng.random(len(rows)), rank, about))]


@dataclass(frozen=True)
class FoldScores:
    """One view, on the principal axes of the training genes of one fold.

    Attributes
    ----------
    unit
        float64 (n, k): all genes, centred and turned by training genes alone, and divided by
        `scale`: the columns of training rows are orthonormal.
    target
        float64 (n, k): what is predicted of the view, its principal axes over all genes, less the
        mean of the training genes. Axes fitted to training genes would have another variance in
        the genes left out, and R² would fall for no fault of the prediction.
    scale
        float64 (k,): singular values of the training rows.
    trust
        float64 (k,): what regularisation leaves of each axis in CCA.
    """

    unit: np.ndarray
    target: np.ndarray
    scale: np.ndarray
    trust: np.ndarray

    @classmethod
    def of(
        cls,
        X: np.ndarray,
        basis: Basis,
        target: np.ndarray,
        train: np.ndarray,
        regularization: float,
    ) -> FoldScores:
        """Put all rows of `X` (n, d) on a basis that was fitted on the rows `train` (bool)."""
        centred = target - target[train].mean(axis=0)
        return cls(basis.scores(X) / basis.scale, centred, basis.scale, basis.trust(regularization))


@dataclass(frozen=True)
class PairScores:
    """How much two views say about each other on held-out genes.

    Attributes
    ----------
    r2
        float64 (2,): share of the variance of the second view explained by the first, and the
        other way round.
    correlation
        float64 (2,): of predictions with the view, over all held-out genes and axes.
    canonical
        float64 (n_axes,): held-out correlation of each pair of canonical variates.
    """

    r2: np.ndarray
    correlation: np.ndarray
    canonical: np.ndarray


def pair_scores(
    first: Sequence[FoldScores],
    second: Sequence[FoldScores],
    fold: np.ndarray,
    order: np.ndarray,
    *,
    n_axes: int,
) -> PairScores:
    """Score a pair of views, the genes of the second reordered.

    Ridge regression from one view to the other and regularised CCA are fitted on the training
    genes of each fold and applied to the genes left out. The penalty of the ridge is chosen by
    generalised cross-validation (Golub, Heath and Wahba 1979) among the training genes.

    Parameters
    ----------
    first, second
        Both views on the axes of each fold, as :class:`FoldScores`, in the order of the folds.
    fold
        Fold of each gene (n,), numbered as `first` and `second` are.
    order
        Gene whose row of the second view stands at each place (n,); it must lie in the same fold.
        The identity for the data as they are.
    n_axes
        Canonical axes.
    """
    error, total, cross, guess = (np.zeros(2) for _ in range(4))
    canonical, weight = np.zeros(n_axes), np.zeros(n_axes)
    for f, (a, b) in enumerate(zip(first, second, strict=True)):
        test = np.flatnonzero(fold == f)
        n_train = len(fold) - len(test)
        A, B = a.unit, b.unit[order]
        targets = b.target[order], a.target
        for way, (X, Y, s) in enumerate(zip((A, B), targets, (a.scale, b.scale), strict=True)):
            X_test, wanted = X[test], Y[test]
            # Sums over training genes: those over all, less those left out.
            Q = X.T @ Y - X_test.T @ wanted
            square = float((Y**2).sum() - (wanted**2).sum())
            shrink = _ridge_shrinkage(Q, s, square, n_train)
            predicted = (X_test * shrink) @ Q
            error[way] += ((wanted - predicted) ** 2).sum()
            total[way] += (wanted**2).sum()
            cross[way] += (wanted * predicted).sum()
            guess[way] += (predicted**2).sum()
        wa, wb = np.sqrt(a.trust), np.sqrt(b.trust)
        left_out = A[test], B[test]
        product = wa[:, None] * (A.T @ B - left_out[0].T @ left_out[1]) * wb
        left, _, right = np.linalg.svd(product, full_matrices=False)
        k = min(n_axes, left.shape[1])
        u, v = (left_out[0] * wa) @ left[:, :k], (left_out[1] * wb) @ right[:k].T
        canonical[:k] += len(test) * _column_correlation(u, v)
        weight[:k] += len(test)
    tiny = 1e-300
    return PairScores(
        1.0 - error / np.maximum(total, tiny),
        cross / np.maximum(np.sqrt(total * guess), tiny),
        canonical / np.maximum(weight, 1),
    )


def _ridge_shrinkage(Q: np.ndarray, s: np.ndarray, total: float, n: int) -> np.ndarray:
    """Shrinkage of each axis, ``s^2 / (s^2 + alpha)``, with the least GCV score."""
    square = s**2
    shrink = square / (square + _PENALTIES[:, None] * square.mean())
    size = (Q**2).sum(axis=1)
    residual = total - (size * (1.0 - (1.0 - shrink) ** 2)).sum(axis=1)
    # One degree of freedom went into the mean.
    freedom = np.maximum(n - 1 - shrink.sum(axis=1), 1.0)
    return shrink[int(np.argmin(residual / freedom**2))]


def _column_correlation(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = u - u.mean(axis=0), v - v.mean(axis=0)
    norm = np.linalg.norm(u, axis=0) * np.linalg.norm(v, axis=0)
    return (u * v).sum(axis=0) / np.maximum(norm, 1e-300)


def permutation_p(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Share of permutations, the data included, that score as high: same shape as `observed`.

    Parameters
    ----------
    observed
        Scores of the data.
    null
        (n_permutations, *observed.shape).
    """
    return (1.0 + (null >= observed).sum(axis=0)) / (1.0 + len(null))


def step_down(p: np.ndarray) -> np.ndarray:
    """Largest p value up to each axis: an axis is only as sure as those before it."""
    return np.maximum.accumulate(p)
