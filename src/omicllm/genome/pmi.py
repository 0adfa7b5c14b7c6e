"""Which k-mers hold together: normalised pointwise mutual information.

A word ``w`` of k bases, seen ``c(w)`` times, has

    PMI(w) = ln p(w) - max over segmentations s of w into two pieces or more of sum_i ln p(s_i)

and the score is ``PMI(w) * ln c(w) / (ln c(w) + ln min_count)``, which discounts rare words.

References
----------
Levine et al. 2021, PMI-Masking, arXiv:2010.01825; Roy et al. 2023, GeneMask, arXiv:2307.15933.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def shorter_counts(counts: np.ndarray, k: int) -> list[np.ndarray]:
    """Counts of lengths 1 to k from those of length k alone (a word is counted as a prefix).

    They lack the words within k - 1 bases of the ends of runs, which is nothing in a genome.
    """
    out = [np.asarray(counts)]
    for _ in range(k - 1):
        out.append(out[-1].reshape(-1, 4).sum(axis=1))
    return out[::-1]


def normalised_pmi(
    counts: Sequence[np.ndarray],
    *,
    total: Literal["length", "reference"] = "length",
    max_piece: int | None = None,
    min_count: int = 101,
) -> np.ndarray:
    """Normalised PMI of every k-mer, float64 (4**k,); NaN where the count is below `min_count`.

    Parameters
    ----------
    counts
        Counts of lengths 1 to k, each (4**j,) in the order of k-mer numbers.
    total
        What counts are divided by. ``"length"``: the number of words of the same length.
        ``"reference"``: twice the number of bases for every length, which reproduces the published
        ranking (its cause is unknown; it adds ln 2 for every piece after the first).
    max_piece
        Longest piece of a segmentation; by default k - 1 for ``"length"`` (every segmentation, as
        Levine et al.) and 2 for ``"reference"`` (as the published ranking).
    min_count
        Rarer words have no score.

    Raises
    ------
    ValueError
        When `total` is unknown or a number is out of range.
    """
    k = len(counts)
    if total not in ("length", "reference"):
        msg = f"total must be 'length' or 'reference', not {total!r}."
        raise ValueError(msg)
    if k < 2:
        msg = "PMI needs words of at least 2 bases."
        raise ValueError(msg)
    if max_piece is None:
        max_piece = k - 1 if total == "length" else min(2, k - 1)
    if not 1 <= max_piece <= k - 1:
        msg = f"max_piece must be from 1 to k - 1 ({k - 1}), not {max_piece!r}."
        raise ValueError(msg)
    if min_count < 2:
        msg = f"min_count must be at least 2, not {min_count!r}."
        raise ValueError(msg)
    bases = float(counts[0].sum())
    logs = []
    for count in counts:
        whole = 2 * bases if total == "reference" else float(count.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            logs.append(np.log(np.asarray(count, dtype=np.float64) / whole))
    # best[j]: largest log probability of a word of j bases in pieces of up to max_piece.
    best = [np.zeros(1)]
    for j in range(1, k + 1):
        options = [
            np.add.outer(best[j - size], logs[size - 1]).ravel()
            for size in range(1, min(max_piece, j) + 1)
        ]
        best.append(np.maximum.reduce(options))
    count = np.asarray(counts[-1], dtype=np.float64)
    kept = count >= min_count
    log_count = np.log(np.where(kept, count, 1.0))
    discount = log_count / (log_count + np.log(min_count))
    with np.errstate(invalid="ignore"):
        return np.where(kept, (logs[-1] - best[k]) * discount, np.nan)


def descending_ranks(score: np.ndarray) -> np.ndarray:
    """Rank of each score, 1 for the highest; ties by position, NaN for NaN. float64."""
    order = np.argsort(-score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    return np.where(np.isnan(score), np.nan, ranks)
