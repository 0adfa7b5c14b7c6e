"""One labelling out of several: names matched by the Hungarian method, then a majority vote."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

_SAMPLE = 20_000


def matched(reference: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """`labels` renamed so that as many items as possible have their label of `reference`.

    Parameters
    ----------
    reference, labels
        (n,) whole numbers below `k`.
    k
        Number of names.

    Returns
    -------
    int16 (n,).
    """
    pairs = reference.astype(np.int64) * k + labels
    table = np.bincount(pairs, minlength=k * k).reshape(k, k)
    row, column = linear_sum_assignment(-table)
    name = np.empty(k, dtype=np.int16)
    name[column] = row
    return name[labels]


def adjusted_rand(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """Adjusted Rand index of labellings by whole numbers below `k` (Hubert and Arabie 1985)."""
    table = np.bincount(a.astype(np.int64) * k + b, minlength=k * k).reshape(k, k).astype(float)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    chance = rows * columns / max(pairs(table.sum()), 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == chance else (pairs(table) - chance) / (most - chance)


def consensus(
    labelings: list[np.ndarray], k: int, rng: np.random.Generator, *, rounds: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Majority vote of labellings, and the share of votes each item's label had.

    Names are matched to the labelling that agrees best with all others (adjusted Rand index, on
    at most 20,000 items), then to the vote itself. Labellings with fewer than `k` classes are
    left out if there are others. Where the vote would drop a class, the best-agreeing labelling
    stands instead.

    Parameters
    ----------
    labelings
        Arrays (n,) of whole numbers below `k`.
    k
        Number of classes.
    rng
        For the sample of items.
    rounds
        Votes; each names its labellings by the last.

    Returns
    -------
    Labels int64 (n,) and confidence float64 (n,) in (0, 1].
    """
    classes = [len(np.unique(one)) for one in labelings]
    used = [one for one, c in zip(labelings, classes, strict=True) if c == max(classes)]
    n, rows = len(used[0]), np.arange(len(used[0]))
    sample = rows if n <= _SAMPLE else rng.choice(n, _SAMPLE, replace=False)
    cut = [one[sample] for one in used]
    agreement = np.zeros((len(cut), len(cut)))
    for i, j in combinations(range(len(cut)), 2):
        agreement[i, j] = agreement[j, i] = adjusted_rand(cut[i], cut[j], k)
    central = used[int(agreement.sum(axis=1).argmax())].astype(np.int64)
    label = central
    for _ in range(rounds):
        votes = np.zeros((n, k), dtype=np.float32)
        for one in used:
            votes[rows, matched(label, one, k)] += 1
        label = votes.argmax(axis=1)
    if len(np.unique(label)) < max(classes):
        label = central
        votes = np.zeros((n, k), dtype=np.float32)
        for one in used:
            votes[rows, matched(label, one, k)] += 1
    return label, votes[rows, label].astype(np.float64) / len(used)
