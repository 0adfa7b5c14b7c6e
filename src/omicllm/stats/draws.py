"""What random draws say about a mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class MeanInterval(NamedTuple):
    """Mean of some draws, their standard deviation, and an interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float


def mean_interval(
    values: np.ndarray, coverage: float, *, lowest: float = 0.0, highest: float = 1.0
) -> MeanInterval:
    """Student's t interval of the mean of draws, which ends at the ends of their scale.

    One draw has no spread; draws that are all alike (to rounding) say nothing about the mean's:
    what cannot be told is NaN.

    Parameters
    ----------
    values
        One value per draw.
    coverage
        Share of intervals that hold the mean.
    lowest, highest
        Ends of the scale.
    """
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return MeanInterval(mean, np.nan, np.nan, np.nan)
    sd = float(np.std(values, ddof=1))
    if not sd > 1e-12:
        return MeanInterval(mean, sd, np.nan, np.nan)
    half = float(t.ppf((1 + coverage) / 2, n - 1)) * sd / np.sqrt(n)
    return MeanInterval(mean, sd, max(mean - half, lowest), min(mean + half, highest))
