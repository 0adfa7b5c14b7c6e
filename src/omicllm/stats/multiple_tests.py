"""Many tests at once, and the area under the curve."""

from __future__ import annotations

import numpy as np


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rates (Benjamini and Hochberg 1995), in the shape of `p`; NaN stay NaN."""
    p = np.asarray(p, dtype=np.float64)
    flat = p.ravel()
    q = np.full(flat.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    n = len(order)
    stepped = flat[order] * n / np.arange(1, n + 1)
    q[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return q.reshape(p.shape)


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties counting half; NaN without either.

    Parameters
    ----------
    score
        One value per item (n,).
    positive
        Bool (n,).
    """
    from scipy.stats import rankdata

    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    rank = rankdata(np.asarray(score))
    above = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def upper_tail(score: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Share of null values at or above each score, counting the score itself among them."""
    null = np.sort(np.asarray(null, dtype=np.float64))
    above = len(null) - np.searchsorted(null, score, side="left")
    return (1.0 + above) / (1.0 + len(null))
