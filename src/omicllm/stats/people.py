"""Agreement of predicted with observed expression over people, gene by gene."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


def constant(values: np.ndarray) -> bool:
    """Whether values do not vary beyond rounding."""
    scale = max(1e-30, float(np.abs(values).max(initial=0)))
    return len(values) == 0 or float(np.ptp(values)) < 1e-6 * scale


class Agreement(NamedTuple):
    """Correlations over people, NaN for a constant or fewer than three people."""

    pearson: float
    spearman: float
    n_people: int


def agreement(predicted: np.ndarray, observed: np.ndarray) -> Agreement:
    """Pearson and Spearman correlation, and the number of people used.

    Parameters
    ----------
    predicted, observed
        (n_people,); people with a NaN in either are left out.
    """
    known = np.isfinite(predicted) & np.isfinite(observed)
    a, b = np.asarray(predicted, float)[known], np.asarray(observed, float)[known]
    if len(a) < 3 or constant(a) or constant(b):
        return Agreement(np.nan, np.nan, len(a))
    pearson = float(np.corrcoef(a, b)[0, 1])
    spearman = float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    return Agreement(pearson, spearman, len(a))


def resampled_agreement(
    predicted: np.ndarray, observed: np.ndarray, among: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Pearson correlation over people who occur several times, or not at all.

    Parameters
    ----------
    predicted, observed
        (n_people,); people with a NaN in either are left out.
    among
        bool (n_people,): people to compare.
    times
        Whole numbers (n_draws, n_people): how often each person occurs in each draw.

    Returns
    -------
    float64 (n_draws,); 0 where a prediction is constant.
    """
    known = among & np.isfinite(predicted) & np.isfinite(observed)
    a, b = np.asarray(predicted, float)[known], np.asarray(observed, float)[known]
    if len(a) < 3 or constant(a) or constant(b):
        return np.zeros(len(times))
    a, b = a - a.mean(), b - b.mean()
    w = times[:, known].astype(np.float64)
    n = np.maximum(w.sum(axis=1), 1)
    x, y, xx, yy, xy = (w @ v / n for v in (a, b, a * a, b * b, a * b))
    spread = (xx - x * x) * (yy - y * y)
    tiny = 1e-12 * (a @ a) * (b @ b) / len(a) ** 2
    return np.where(spread > tiny, (xy - x * y) / np.sqrt(np.maximum(spread, tiny)), 0.0)
