"""Motifs that tell two sets of sequences apart: search on one half, p values from the other.

A search looks at thousands of words and thresholds, so its own p values mean nothing. The
sequences are therefore cut into halves (identical ones stay together): the motif and its threshold
come from the first, and the p value from the second, where nothing is chosen any more.

One motif is found as follows. The seed is the word of six bases that most distinguishes the two
sets by the number of sequences that hold it. A position weight matrix is grown about it by
expectation maximisation with zero or one site per sequence (Bailey and Elkan 1994); of all steps
the matrix that separates the sets best is kept. Its sites are then erased, and the search goes on.

References
----------
Bailey and Elkan 1994, Fitting a mixture model by expectation maximization to discover motifs in
biopolymers. Altschul and Erickson 1985, doi:10.1093/oxfordjournals.molbev.a040370.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from omicllm.genome.kmers import (
    BASES,
    COMPLEMENT,
    UNKNOWN,
    base_codes,
    kmer_names,
    kmer_numbers,
    reverse_complement,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bases of a seed.
SEED = 6
#: Base numbers (A, T, C, G) in alphabetical order, the order of published matrices.
ALPHABETICAL = np.array([BASES.index(b) for b in "ACGT"])
#: Score of an unknown base: no site lies on one.
_NEVER = -1e4
#: Columns at the ends with less information than this (bits) are cut off.
_LEAST_BITS = 0.3
_IUPAC = {
    "A": "A",
    "C": "C",
    "G": "G",
    "T": "T",
    "AC": "M",
    "AG": "R",
    "AT": "W",
    "CG": "S",
    "CT": "Y",
    "GT": "K",
    "ACG": "V",
    "ACT": "H",
    "AGT": "D",
    "CGT": "B",
    "ACGT": "N",
}


@dataclass
class Motif:
    """One motif and how it fared.

    Attributes
    ----------
    matrix
        Probability of A, C, G, T at each position (width, 4).
    log_odds
        Natural log odds by base number (width, 4), as sites are scored.
    threshold
        Score from which on a site counts.
    found
        Sequences with a site: discovery positives, negatives, held-out positives, negatives.
    pval
        One-sided Fisher test on the held-out half.
    """

    matrix: np.ndarray
    log_odds: np.ndarray
    threshold: float
    found: tuple[int, int, int, int]
    pval: float

    @property
    def consensus(self) -> str:
        """Bases of at least half the probability of the best one, as IUPAC letters."""
        return consensus(self.matrix)


@dataclass
class Sites:
    """Best site of each sequence: score, start (0-based) and whether on the strand given."""

    score: np.ndarray
    start: np.ndarray
    forward: np.ndarray


def padded(sequences: Sequence[str]) -> np.ndarray:
    """Base numbers of sequences (n, longest), unknown after the end."""
    out = np.full((len(sequences), max(map(len, sequences), default=0)), UNKNOWN, dtype=np.uint8)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = base_codes(sequence)
    return out


def consensus(matrix: np.ndarray) -> str:
    """IUPAC letters of the bases with at least half the probability of the best, per column."""
    letters = []
    for column in matrix:
        bases = "".join(b for b, p in zip("ACGT", column, strict=True) if p >= column.max() / 2)
        letters.append(_IUPAC[bases])
    return "".join(letters)


def halves(codes: np.ndarray, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bool (n,): the rows that are held out. Identical sequences are on one side."""
    _, group = np.unique(codes, axis=0, return_inverse=True)
    group = group.ravel()
    held = np.zeros(len(codes), dtype=bool)
    first = np.unique(group, return_index=True)[1]
    for side in (True, False):
        mine = rng.permutation(group[first][positive[first] == side])
        held |= np.isin(group, mine[: len(mine) // 2])
    return held


def find_motifs(
    codes: np.ndarray,
    positive: np.ndarray,
    held_out: np.ndarray,
    *,
    n_motifs: int = 5,
    width: int = 12,
    both_strands: bool = True,
    seed_pval: float = 0.05,
    n_seeds: int = 3,
    n_steps: int = 8,
) -> list[Motif]:
    """Search for motifs that sequences of one set hold more often than those of the other.

    Parameters
    ----------
    codes
        Base numbers (n, length), as :func:`padded` gives.
    positive
        Bool (n,): the set whose motifs are sought.
    held_out
        Bool (n,): rows that only p values come from.
    n_motifs
        Motifs sought, at most.
    width
        Widest motif, 6 or more; uninformative ends are cut off.
    both_strands
        Look at the other strand too.
    seed_pval
        The search ends when no word is enriched with this p value in the discovery half,
        corrected for the number of words.
    n_seeds
        Words tried for each motif; the best matrix wins.
    n_steps
        Steps of expectation maximisation.

    Returns
    -------
    Motifs in the order found.
    """
    codes = codes.copy()  # sites are erased here
    learn = ~held_out
    background = background_of(codes[learn], both_strands=both_strands)
    motifs: list[Motif] = []
    while len(motifs) < n_motifs:
        learn_codes, label = codes[learn], positive[learn]
        best: _Grown | None = None
        for word in _seeds(
            learn_codes, label, both_strands=both_strands, pval=seed_pval, n_seeds=n_seeds
        ):
            grown = _grown(
                learn_codes,
                label,
                word,
                width,
                background,
                both_strands=both_strands,
                n_steps=n_steps,
            )
            if best is None or grown.separation > best.separation:
                best = grown
        if best is None or best.separation <= 0:
            break
        motif = scored_motif(
            codes,
            positive,
            held_out,
            best.log_odds,
            background,
            threshold=best.threshold,
            both_strands=both_strands,
        )
        motifs.append(motif)
        erase(codes, motif.log_odds, motif.threshold, both_strands=both_strands)
    return motifs


def scored_motif(
    codes: np.ndarray,
    positive: np.ndarray,
    held_out: np.ndarray,
    log_odds: np.ndarray,
    background: np.ndarray,
    *,
    threshold: float | None = None,
    both_strands: bool = True,
) -> Motif:
    """Count the sequences with a site in both halves, and test those held out.

    Without a threshold, it is the one that separates the sets best in the discovery half.
    """
    score = best_sites(codes, log_odds, both_strands=both_strands).score
    learn, test = ~held_out, held_out
    if threshold is None:
        threshold = best_threshold(score[learn & positive], score[learn & ~positive])[1]
    hit = score >= threshold
    counts = [
        int((hit & part & side).sum()) for part in (learn, test) for side in (positive, ~positive)
    ]
    pval = enrichment(
        counts[2], int((test & positive).sum()), counts[3], int((test & ~positive).sum())
    )
    matrix = np.exp(log_odds) * background
    matrix = (matrix / matrix.sum(axis=1, keepdims=True))[:, ALPHABETICAL]
    found = (counts[0], counts[1], counts[2], counts[3])
    return Motif(matrix, log_odds, threshold, found, pval)


def enrichment(a: int, n: int, b: int, m: int) -> float:
    """One-sided Fisher p value of `a` of `n` against `b` of `m`."""
    from scipy.stats import hypergeom

    return float(min(1.0, hypergeom.sf(a - 1, n + m, a + b, n)))


def best_sites(codes: np.ndarray, log_odds: np.ndarray, *, both_strands: bool = True) -> Sites:
    """Best site of each sequence; the score is -1e4 or less where there is no room."""
    score = _scores(codes, log_odds, both_strands=both_strands)
    n, m = len(codes), score.shape[1] // (2 if both_strands else 1)
    if not m:
        return Sites(np.full(n, _NEVER), np.zeros(n, np.int64), np.ones(n, bool))
    site = score.argmax(axis=1)
    return Sites(score[np.arange(n), site], site % m, site < m)


def _scores(codes: np.ndarray, log_odds: np.ndarray, *, both_strands: bool) -> np.ndarray:
    """Log odds of a site at each start: float32 (n, starts), the other strand's after these."""
    strands = [log_odds]
    if both_strands:
        strands.append(log_odds[::-1][:, COMPLEMENT[:4]])
    width = len(log_odds)
    m = max(codes.shape[1] - width + 1, 0)
    out = np.zeros((len(codes), len(strands) * m), dtype=np.float32)
    for s, matrix in enumerate(strands):
        part = out[:, s * m : (s + 1) * m]
        for t, column in enumerate(matrix):
            part += np.append(column, _NEVER).astype(np.float32)[codes[:, t : t + m]]
    return out


def background_of(codes: np.ndarray, *, both_strands: bool) -> np.ndarray:
    """Share of each base by number."""
    count = np.bincount(codes[codes < UNKNOWN], minlength=4) + 1.0
    if both_strands:
        count = count + count[COMPLEMENT[:4]]
    return count / count.sum()


def _separation(a: np.ndarray, n: int, b: np.ndarray, m: int) -> np.ndarray:
    """Log-likelihood ratio (G / 2) of two shares; negative where the positives have fewer."""

    def entropy(x: np.ndarray, size: float) -> np.ndarray:
        share = np.clip(x / size, 1e-12, 1 - 1e-12)
        return size * (share * np.log(share) + (1 - share) * np.log1p(-share))

    ratio = entropy(a, n) + entropy(b, m) - entropy(a + b, n + m)
    return np.where(a * m > b * n, np.maximum(ratio, 0.0), -1.0)


def _seeds(
    codes: np.ndarray, label: np.ndarray, *, both_strands: bool, pval: float, n_seeds: int
) -> list[np.ndarray]:
    """Base numbers of the words that separate the sets best, those that pass only."""
    from scipy.stats import chi2

    edge = np.full((len(codes), 1), UNKNOWN, dtype=np.uint8)
    flat = np.concatenate([codes, edge], axis=1).ravel()
    number = kmer_numbers(flat, SEED)
    row = np.arange(len(number)) // (codes.shape[1] + 1)
    words = np.stack([base_codes(w) for w in kmer_names(SEED)])
    name = np.arange(4**SEED)
    if both_strands:
        other = np.array([kmer_numbers(reverse_complement(w), SEED)[0] for w in words])
        name = np.minimum(name, other)
    known = number >= 0
    pairs = np.unique(row[known] * 4**SEED + name[number[known]])
    row, word = np.divmod(pairs, 4**SEED)
    a = np.bincount(word[label[row]], minlength=4**SEED)
    b = np.bincount(word[~label[row]], minlength=4**SEED)
    score = _separation(a, int(label.sum()), b, int((~label).sum()))
    order = np.argsort(-score, kind="stable")[:n_seeds]
    p = chi2.sf(2 * np.maximum(score[order], 0), 1) / 2 * len(np.unique(name))
    return [words[i] for i, q in zip(order, p, strict=True) if q <= pval and score[i] > 0]


class _Grown(NamedTuple):
    """A matrix grown from a word: how well it separates, its log odds, and the threshold."""

    separation: float
    log_odds: np.ndarray
    threshold: float


def _grown(
    codes: np.ndarray,
    label: np.ndarray,
    word: np.ndarray,
    width: int,
    background: np.ndarray,
    *,
    both_strands: bool,
    n_steps: int,
) -> _Grown:
    """The best matrix grown from a word."""
    flank = max(0, width - SEED)
    left = flank // 2
    start = np.tile(background, (SEED + flank, 1))
    start[left : left + SEED] = 0.2 * background
    start[np.arange(left, left + SEED), word] += 0.8
    share, matrix = 0.5, start
    best = _Grown(-1.0, np.log(matrix / background), 0.0)
    for _ in range(n_steps):
        matrix, share = _step(codes[label], matrix, share, background, both_strands=both_strands)
        trimmed = informative(matrix, background)
        log_odds = np.log(trimmed / background)
        score = best_sites(codes, log_odds, both_strands=both_strands).score
        value, threshold = best_threshold(score[label], score[~label])
        if value > best.separation:
            best = _Grown(value, log_odds, threshold)
    return best


def _step(
    codes: np.ndarray,
    matrix: np.ndarray,
    share: float,
    background: np.ndarray,
    *,
    both_strands: bool,
) -> tuple[np.ndarray, float]:
    """One step of expectation maximisation, zero or one site per sequence."""
    width = len(matrix)
    score = _scores(codes, np.log(matrix / background), both_strands=both_strands)
    places = np.maximum((score > _NEVER / 2).sum(axis=1, keepdims=True), 1)
    odds = np.exp(np.clip(score, -60, 60)) * (share / places)
    odds[score <= _NEVER / 2] = 0
    posterior = odds / (1 - share + odds.sum(axis=1, keepdims=True))
    seq, site = np.nonzero(posterior > 1e-3)
    weight = posterior[seq, site]
    m = codes.shape[1] - width + 1
    back = site >= m
    base = codes[seq[:, None], (site % m)[:, None] + np.arange(width)]
    base[back] = COMPLEMENT[base[back, ::-1]]
    count = np.stack([np.bincount(base[:, t], weights=weight, minlength=4) for t in range(width)])
    new = count + background
    return new / new.sum(axis=1, keepdims=True), float(
        np.clip(posterior.sum(axis=1).mean(), 0.01, 0.99)
    )


def informative(matrix: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Probabilities by base number without ends that say little."""
    bits = (matrix * np.log2(matrix / background)).sum(axis=1)
    columns = np.flatnonzero(bits >= _LEAST_BITS)
    if len(columns) < 2 or columns[-1] - columns[0] < 4:
        return matrix
    return matrix[columns[0] : columns[-1] + 1]


def best_threshold(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """Score that separates the sets best, and how well."""
    thresholds = np.unique(positives[positives > _NEVER / 2])
    if not len(thresholds):
        return -1.0, np.inf
    a = len(positives) - np.searchsorted(np.sort(positives), thresholds, side="left")
    b = len(negatives) - np.searchsorted(np.sort(negatives), thresholds, side="left")
    value = _separation(a, len(positives), b, len(negatives))
    best = int(value.argmax())
    return float(value[best]), float(thresholds[best])


def erase(codes: np.ndarray, log_odds: np.ndarray, threshold: float, *, both_strands: bool) -> None:
    """Make every site unknown, in place."""
    score = _scores(codes, log_odds, both_strands=both_strands)
    seq, site = np.nonzero(score >= threshold)
    start = site % (codes.shape[1] - len(log_odds) + 1)
    codes[seq[:, None], start[:, None] + np.arange(len(log_odds))] = UNKNOWN


def dinucleotide_shuffle(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle a sequence so that every pair of neighbours occurs as often (Altschul, Erickson)."""
    n = int(codes.max()) + 1 if len(codes) else 0
    if len(codes) < 3:
        return codes.copy()
    last = int(codes[-1])
    edges = [codes[1:][codes[:-1] == b].tolist() for b in range(n)]
    while True:
        # The last edge out of each base must lead, edge by edge, to the base the sequence ends on.
        final = {b: int(rng.integers(len(e))) for b, e in enumerate(edges) if e and b != last}
        if all(_leads(b, final, edges, last) for b in final):
            break
    order = []
    for b, e in enumerate(edges):
        remaining = [x for i, x in enumerate(e) if i != final.get(b)]
        remaining = [remaining[i] for i in rng.permutation(len(remaining))]
        order.append(iter(remaining + ([e[final[b]]] if b in final else [])))
    out = [int(codes[0])]
    for _ in range(len(codes) - 1):
        out.append(next(order[out[-1]]))
    return np.array(out, dtype=codes.dtype)


def _leads(base: int, final: dict[int, int], edges: list[list[int]], last: int) -> bool:
    visited = set()
    while base != last:
        if base in visited:
            return False
        visited.add(base)
        base = edges[base][final[base]]
    return True
