"""Motifs from regions of sequences that a model looks at.

A trained classifier scores every base, by attention or by attribution. Runs of high bases are its
regions. Words of six bases in the regions of one class are tested against the other class (by the
number of sequences that hold them; hypergeometric, Benjamini-Hochberg); the best word and those
that align with it become a matrix; its sites are erased, and so on (after Ji et al. 2021, DNABERT,
doi:10.1093/bioinformatics/btab083). All of that uses the discovery half; p values come from the
held-out one, as in :mod:`omicllm.genome.motifs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm.genome.kmers import (
    COMPLEMENT,
    UNKNOWN,
    base_codes,
    kmer_names,
    kmer_numbers,
    reverse_complement,
)
from omicllm.genome.motifs import (
    SEED,
    Motif,
    background_of,
    erase,
    informative,
    scored_motif,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Adjusted p value of words that motifs are made from, and how many regions hold them at least.
_WORD_Q, _FEWEST = 0.005, 3
#: Words align with the best one when so many bases in a row agree, or all but so many.
_OVERLAP, _MISMATCHES = 4, 1


def high_regions(
    scores: Sequence[np.ndarray], width: int, *, cutoff: float | None = None, shortest: int = 5
) -> np.ndarray:
    """Bases in runs of high scores: bool (n, width).

    Parameters
    ----------
    scores
        One array per sequence; NaN is never high.
    width
        Columns of the result, at least the longest sequence.
    cutoff
        High scores are above it, and always above the mean of their sequence by one standard
        deviation.
    shortest
        Bases of the shortest run that counts.
    """
    out = np.zeros((len(scores), width), dtype=bool)
    for row, score in zip(out, scores, strict=True):
        known = score[np.isfinite(score)]
        if not len(known):
            continue
        limit = known.mean() + known.std()
        if cutoff is not None:
            limit = max(limit, cutoff)
        high = np.concatenate([[False], np.nan_to_num(score, nan=-np.inf) > limit, [False]])
        edges = np.flatnonzero(high[1:] != high[:-1])
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= shortest:
                row[start:end] = True
    return out


def motifs_of_regions(
    codes: np.ndarray,
    positive: np.ndarray,
    held_out: np.ndarray,
    high: np.ndarray,
    *,
    n_motifs: int = 5,
    width: int = 12,
    both_strands: bool = True,
) -> list[Motif]:
    """Make motifs from the words that regions of the positive sequences hold.

    Parameters
    ----------
    codes, positive, held_out, n_motifs, width, both_strands
        As for :func:`omicllm.genome.motifs.find_motifs`.
    high
        Bool, as `codes`: bases in regions; those of held-out rows are not looked at.

    Returns
    -------
    Motifs in the order found.
    """
    codes = codes.copy()  # sites are erased here
    learn = ~held_out
    background = background_of(codes[learn], both_strands=both_strands)
    words = np.stack([base_codes(w) for w in kmer_names(SEED)])
    motifs: list[Motif] = []
    while len(motifs) < n_motifs:
        best, members = _enriched(
            codes[learn], positive[learn], high[learn], words, both_strands=both_strands
        )
        if best is None:
            break
        aligned = _aligned(words[best], words[members], both_strands=both_strands)
        matrix = _matrix(
            codes[learn & positive],
            high[learn & positive],
            words[members],
            aligned,
            width,
            background,
            both_strands=both_strands,
        )
        log_odds = np.log(informative(matrix, background) / background)
        motif = scored_motif(
            codes, positive, held_out, log_odds, background, both_strands=both_strands
        )
        if not np.isfinite(motif.threshold) or motif.found[0] < _FEWEST:
            break
        motifs.append(motif)
        # The best word goes too, wherever the matrix leaves it: the search must go on.
        erase(codes, motif.log_odds, motif.threshold, both_strands=both_strands)
        exact = np.where(np.arange(4) == words[best][:, None], 0.0, -1.0)
        erase(codes, exact, 0.0, both_strands=both_strands)
    return motifs


def motifs_of_matrices(
    codes: np.ndarray,
    positive: np.ndarray,
    held_out: np.ndarray,
    matrices: Sequence[np.ndarray],
    *,
    both_strands: bool = True,
) -> list[Motif]:
    """Thresholds for matrices (width, 4; A, C, G, T) of another program, tested as all are.

    They must not come from held-out sequences.
    """
    background = background_of(codes[~held_out], both_strands=both_strands)
    out = []
    for given in matrices:
        matrix = np.asarray(given, dtype=np.float64)[:, [0, 3, 1, 2]]  # A, T, C, G
        matrix = (matrix + 0.01 * background) / (matrix.sum(axis=1, keepdims=True) + 0.01)
        if len(matrix) > codes.shape[1]:
            continue
        log_odds = np.log(matrix / background)
        out.append(
            scored_motif(codes, positive, held_out, log_odds, background, both_strands=both_strands)
        )
    return [m for m in out if np.isfinite(m.threshold)]


def _word_numbers(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, start and number of every word of `SEED` bases."""
    flat = np.concatenate([codes, np.full((len(codes), 1), UNKNOWN, np.uint8)], axis=1).ravel()
    number = kmer_numbers(flat, SEED)
    at = np.flatnonzero(number >= 0)
    row, start = np.divmod(at, codes.shape[1] + 1)
    return row, start, number[at]


def _enriched(
    codes: np.ndarray,
    label: np.ndarray,
    high: np.ndarray,
    words: np.ndarray,
    *,
    both_strands: bool,
) -> tuple[int | None, np.ndarray]:
    """Number of the most enriched word of the regions, and of all that pass."""
    from scipy.stats import hypergeom

    name = np.arange(len(words))
    if both_strands:
        other = np.array([kmer_numbers(reverse_complement(w), SEED)[0] for w in words])
        name = np.minimum(name, other)
    n, m = int(label.sum()), int((~label).sum())

    def holders(part: np.ndarray) -> np.ndarray:
        row, _, number = _word_numbers(part)
        pairs = np.unique(row * len(words) + name[number])
        return np.bincount(pairs % len(words), minlength=len(words))

    seen = holders(np.where(high, codes, UNKNOWN)[label])
    a, b = holders(codes[label]), holders(codes[~label])
    tried = np.flatnonzero(seen >= _FEWEST)
    p = hypergeom.sf(a[tried] - 1, n + m, a[tried] + b[tried], n)
    # Of words that are as good, the one that more regions hold comes first.
    order = np.lexsort((-seen[tried], p))
    passed = np.flatnonzero(p[order] <= _WORD_Q * np.arange(1, len(p) + 1) / max(len(p), 1))
    kept = tried[order[: passed[-1] + 1]] if len(passed) else tried[:0]
    return (int(kept[0]) if len(kept) else None), kept


def _aligned(word: np.ndarray, others: np.ndarray, *, both_strands: bool) -> list[tuple[int, bool]]:
    """Where each other word lies against `word`: its shift and strand; shift 99 where nowhere."""
    out = []
    for other in others:
        found, best = (99, True), 0.0
        for forward in (True, False) if both_strands else (True,):
            own = other if forward else reverse_complement(other)
            for shift in range(-(SEED - _OVERLAP), SEED - _OVERLAP + 1):
                a = word[max(shift, 0) : SEED + min(shift, 0)]
                b = own[max(-shift, 0) : SEED + min(-shift, 0)]
                wrong = int((a != b).sum())
                # A shift without mismatch is preferred: words of a motif that resembles its own
                # reverse complement lie on both strands.
                score = len(a) - 2.5 * wrong
                if (not wrong or (shift == 0 and wrong <= _MISMATCHES)) and score > best:
                    found, best = (shift, forward), score
        out.append(found)
    return out


def _matrix(
    codes: np.ndarray,
    high: np.ndarray,
    members: np.ndarray,
    aligned: list[tuple[int, bool]],
    width: int,
    background: np.ndarray,
    *,
    both_strands: bool,
) -> np.ndarray:
    """Probabilities by base number (width, 4) of the places where members lie in regions."""
    row, start, number = _word_numbers(np.where(high, codes, UNKNOWN))
    power = 4 ** np.arange(SEED - 1, -1, -1)
    left = (width - SEED) // 2
    windows = set()
    for word, (shift, forward) in zip(members, aligned, strict=True):
        if shift == 99:
            continue
        found = [(word, forward)]
        if both_strands:
            found.append((reverse_complement(word), not forward))
        for own, along in found:
            at = number == int((own * power).sum())
            # Where the window begins, which lies about the best word, along or against it.
            first = start[at] - shift - left if along else start[at] + shift + SEED + left - width
            windows |= {(i, j, along) for i, j in zip(row[at], first, strict=True)}
    place = np.array(sorted(windows), dtype=np.int64).reshape(-1, 3)
    index = place[:, 1, None] + np.arange(width)
    inside = (index >= 0) & (index < codes.shape[1])
    base = np.where(inside, codes[place[:, :1], np.clip(index, 0, codes.shape[1] - 1)], UNKNOWN)
    back = place[:, 2] == 0
    base[back] = COMPLEMENT[base[back, ::-1]]
    count = np.stack([np.bincount(base[:, t], minlength=5)[:4] for t in range(width)])
    new = count + background
    return new / new.sum(axis=1, keepdims=True)
