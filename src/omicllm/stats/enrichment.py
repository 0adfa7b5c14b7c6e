"""Enrichment of selected things in a set, against others of the same stratum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import hypergeom

#: With fewer groups of things than this, things are resampled and not groups.
_FEWEST_GROUPS = 5
#: Bootstrap draws at a time.
_DRAWS = 100


@dataclass
class Enrichment:
    """Selected things inside the set, and how many were to be expected.

    Attributes
    ----------
    n_selected, n_unmatched, n_background
        Selected things that have others in their stratum; those that have none and are left out;
        the others.
    n_inside
        Selected things inside the set.
    observed, expected
        Share inside, of the selected and of others weighted to the same strata.
    ratio, low, high
        ``observed / expected`` and its bootstrap interval.
    pval
        Probability of at least as many inside, were the selected drawn at random within strata.
    """

    n_selected: int
    n_unmatched: int
    n_background: int
    n_inside: int
    observed: float
    expected: float
    ratio: float
    low: float
    high: float
    pval: float


def matched_enrichment(
    selected: np.ndarray,
    inside: np.ndarray,
    stratum: np.ndarray,
    group: np.ndarray,
    *,
    n_boot: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Enrichment:
    """Compare selected with other things of the same stratum.

    Parameters
    ----------
    selected, inside
        bool (n,).
    stratum
        Whole numbers (n,): things of one stratum are alike but for selection.
    group
        Whole numbers (n,): things of one group are not independent; the interval resamples groups,
        selected and other things alike (only selected things, where fewer than 5 groups hold some).
    n_boot, level
        Bootstrap draws and coverage of the interval.
    rng
        Draws them.

    Returns
    -------
    Counts, ratio, interval and p value; NaN ratio where nothing is to be expected inside.

    Notes
    -----
    With r_s the share of the stratum's other things inside, ``expected`` is the mean of r_s over
    selected things. The p value is exact: given how many things of a stratum are inside, the
    number of selected ones among them is hypergeometric, and strata are independent.
    """
    _, code = np.unique(stratum, return_inverse=True)
    n = int(code.max()) + 1 if len(code) else 0
    others = np.bincount(code[~selected], minlength=n)
    others_in = np.bincount(code[~selected & inside], minlength=n)
    matched = selected & (others[code] > 0) if n else selected
    n_matched = np.bincount(code[matched], minlength=n)
    own_in = np.bincount(code[matched & inside], minlength=n)
    n_selected, n_inside = int(n_matched.sum()), int(own_in.sum())
    rate = others_in / np.maximum(others, 1)
    counts = (n_selected, int(selected.sum()) - n_selected, int(others.sum()), n_inside)
    if not n_selected:
        return Enrichment(*counts, *[float("nan")] * 6)
    rows = np.flatnonzero(matched)
    hit, chance = inside[rows].astype(np.float64), rate[code[rows]]
    observed, expected = float(hit.mean()), float(chance.mean())
    if len(np.unique(group[rows])) < _FEWEST_GROUPS:
        drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n_boot)
        drawn_inside, wanted = drawn @ hit, drawn @ chance
    else:
        drawn_inside, wanted = _by_group(group, code, selected, matched, inside, rate, n_boot, rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = drawn_inside / wanted
        ratio = float(np.float64(observed) / expected)
    ratios = ratios[np.isfinite(ratios)]
    tail = (1 - level) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail)) if len(ratios) else (np.nan, np.nan)
    pval = _at_least(n_matched, own_in + others_in, n_matched + others, n_inside)
    ratio = ratio if np.isfinite(ratio) else float("nan")
    return Enrichment(*counts, observed, expected, ratio, float(low), float(high), pval)


def _by_group(
    group: np.ndarray,
    code: np.ndarray,
    selected: np.ndarray,
    matched: np.ndarray,
    inside: np.ndarray,
    rate: np.ndarray,
    n_boot: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Selected things inside, and the number to be expected, of groups drawn with replacement.

    The shares of the strata are those of the drawn groups too.
    """
    units, unit = np.unique(group, return_inverse=True)
    shape = (len(units), len(rate))

    def counts(which: np.ndarray) -> sparse.csr_matrix:
        ones = np.ones(int(which.sum()))
        return sparse.csr_matrix((ones, (unit[which], code[which])), shape=shape)

    n_matched, own_in = counts(matched), np.bincount(unit[matched & inside], minlength=len(units))
    others, others_in = counts(~selected), counts(~selected & inside)
    observed, wanted = np.zeros(n_boot), np.zeros(n_boot)
    share = np.full(len(units), 1 / len(units))
    for low in range(0, n_boot, _DRAWS):
        block = slice(low, min(low + _DRAWS, n_boot))
        times = rng.multinomial(len(units), share, size=block.stop - low).astype(np.float64)
        known = times @ others
        drawn = np.where(known > 0, times @ others_in / np.maximum(known, 1), rate)
        observed[block] = times @ own_in
        wanted[block] = ((times @ n_matched) * drawn).sum(axis=1)
    return observed, wanted


def _at_least(drawn: np.ndarray, marked: np.ndarray, total: np.ndarray, least: int) -> float:
    """Probability that draws without replacement from all strata hold `least` marked things."""
    known = np.array([1.0])
    for n, k, size in zip(drawn.tolist(), marked.tolist(), total.tolist(), strict=True):
        if n and k:
            known = np.convolve(known, hypergeom.pmf(np.arange(min(n, k) + 1), size, k, n))
    return float(min(1.0, known[least:].sum()))
