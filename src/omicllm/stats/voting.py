"""Labels of genes voted for by their neighbours, with cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from omicllm.stats.neighbors import unit_rows
from omicllm.stats.scores import auroc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1024


def fold_of_members(
    members: sparse.csc_matrix, n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Fold of every stored entry: the members of each set are dealt out evenly, at random."""
    fold = np.empty(members.nnz, dtype=np.int64)
    for start, stop in zip(members.indptr[:-1], members.indptr[1:], strict=True):
        fold[start:stop] = rng.permutation(stop - start) % n_folds
    return fold


def vote_shares(
    rows: Callable[[np.ndarray], np.ndarray], n: int, labels: sparse.csc_matrix, k: int
) -> Iterator[tuple[slice, np.ndarray]]:
    r"""Share of the votes of other genes that each label gets.

    Gene j votes for its labels at gene i with weight
    :math:`\exp(-(d_{ij} / d_{i(k)})^2)`, d being 1 - cosine and :math:`d_{i(k)}` that of the k-th
    nearest gene: a smooth form of the vote of the k nearest, without ties.

    Parameters
    ----------
    rows
        Takes gene numbers, returns their vectors (unit rows or zero).
    n
        Number of genes.
    labels
        csc (n, n_labels).
    k
        Neighbours.

    Yields
    ------
    Rows, and float32 (rows, n_labels).
    """
    everybody = rows(np.arange(n))
    by_row = sparse.csr_matrix(labels).T.tocsr()
    for start in range(0, n, _BLOCK):
        block = slice(start, min(start + _BLOCK, n))
        distance = everybody[block] @ everybody.T
        np.subtract(1.0, distance, out=distance)
        np.maximum(distance, 1e-6, out=distance)
        itself = np.arange(distance.shape[0])
        distance[itself, np.arange(block.start, block.stop)] = np.inf
        width = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
        distance /= width
        np.square(distance, out=distance)
        np.negative(distance, out=distance)
        weight = np.exp(distance, out=distance)
        yield block, (by_row @ weight.T).T / weight.sum(axis=1, keepdims=True)


class Votes(NamedTuple):
    """Votes for sets, and how well they find hidden members.

    Attributes
    ----------
    votes
        float32 (n, n_sets): votes of all other genes.
    auroc
        (n_sets,).
    hidden
        float32 (nnz,): votes that each member got while it was hidden.
    """

    votes: np.ndarray
    auroc: np.ndarray
    hidden: np.ndarray


def cross_validated_votes(
    Z: np.ndarray, members: sparse.csc_matrix, fold: np.ndarray, k: int
) -> Votes:
    """Score every gene for every set, and measure how well hidden members are found.

    The members of a set are hidden one fold at a time; hidden members are then ranked among the
    genes outside the set by the votes of the members left. The AUROC is the mean over folds.

    Parameters
    ----------
    Z
        Vectors of genes (n, d).
    members
        csc (n, n_sets).
    fold
        Fold of each stored entry of `members` (:func:`fold_of_members`).
    k
        Neighbours.
    """
    unit = unit_rows(Z)
    n, n_sets = members.shape
    n_folds = int(fold.max()) + 1
    column = np.repeat(np.arange(n_sets), np.diff(members.indptr))
    votes, area = np.empty((n, n_sets), dtype=np.float32), np.full(n_sets, np.nan)
    hidden = np.zeros(members.nnz, dtype=np.float32)
    step = max(1, 2**28 // (4 * n * n_folds))
    for first in range(0, n_sets, step):
        chosen = slice(first, min(first + step, n_sets))
        width = chosen.stop - chosen.start
        part = (column >= chosen.start) & (column < chosen.stop)
        where, label = members.indices[part], column[part] - first
        split = sparse.csc_matrix(
            (np.ones(int(part.sum()), dtype=np.float32), (where, label * n_folds + fold[part])),
            shape=(n, width * n_folds),
        )
        by_fold = np.empty((n, width, n_folds), dtype=np.float32)
        for block, share in vote_shares(lambda g: unit[g], n, split, k):
            by_fold[block] = share.reshape(-1, width, n_folds)
        total = by_fold.sum(axis=2)
        votes[:, chosen] = total
        hidden[part] = total[where, label] - by_fold[where, label, fold[part]]
        for s in range(width):
            in_set = label == s
            outside = np.ones(n, dtype=bool)
            outside[where[in_set]] = False
            areas = []
            for f in np.unique(fold[part][in_set]):
                members_f = where[in_set][fold[part][in_set] == f]
                left = total[:, s] - by_fold[:, s, f]
                score = np.concatenate([left[members_f], left[outside]])
                areas.append(auroc(score, np.arange(len(score)) < len(members_f)))
            area[first + s] = np.mean(areas) if areas else np.nan
    return Votes(votes, area, hidden)


def precision_at(
    score: np.ndarray, hidden: np.ndarray, outside: np.ndarray, share: float
) -> np.ndarray:
    """Share of known members among genes that score at least as high, in cross-validation.

    A gene outside the set counts against it though it may belong there: a lower bound. The hidden
    members scored without a fold of the set, so that their scores are divided by what was left.

    Parameters
    ----------
    score
        Scores asked about (m,).
    hidden, outside
        Scores of members while hidden, and of genes outside the set.
    share
        Share of the set that voted while members were hidden.
    """
    hidden, outside = np.sort(hidden / max(share, 1e-9)), np.sort(outside)
    members = len(hidden) - np.searchsorted(hidden, score, side="left")
    others = len(outside) - np.searchsorted(outside, score, side="left")
    return members / np.maximum(members + others, 1)
