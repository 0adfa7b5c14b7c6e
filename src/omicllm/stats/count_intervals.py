"""Intervals for a measurement of known depth, from predicted rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.stats.depth import TARGET

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Variance of the log rate of a gene between sections, where training has one section to tell.
SECTION_VARIANCE = 0.1
#: Nominal shares outside, overdispersions, and ways to divide the share outside, that are tried.
_LEVELS = np.array([0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25])
_OVERDISPERSIONS = np.logspace(-2.5, 1.5, 33)
_LOWER_SHARES = np.linspace(0, 1, 9)
#: Bounds are values of counts, which rounding must not put outside.
_ROUNDING = 1e-4
_BINS, _MAX_CELLS, _MAX_ROWS = 8, 8000, 600
#: Log rates and log depths at which counts are looked up are multiples of it.
_STEP = 0.05


def _log_likelihood(x: np.ndarray, mean: np.ndarray, a: float) -> float:
    """Of counts that are negative binomial with variance mean + a mean^2, up to a constant."""
    from scipy.special import gammaln

    r = 1 / a
    value = gammaln(x + r) - gammaln(r) + r * np.log(r / (r + mean)) + x * np.log(mean / (r + mean))
    return float(value.sum())


@dataclass(frozen=True)
class CountIntervals:
    """Shortest intervals of counts x ~ NB(mean L rho, variance mean + a mean^2).

    A log-normalised value log(1 + 10,000 x / L) is spread more the shallower the observation is,
    so an interval needs the depth L of the measurement. Overdispersion a is what held-out rates
    are wrong by (noise, wrong predictions, and shifts of whole sections) beyond Poisson noise.

    Attributes
    ----------
    log_rate, overdispersion
        (b,) predicted log rates, ascending, and overdispersion there; linear in between.
    level
        Nominal share outside.
    """

    log_rate: np.ndarray
    overdispersion: np.ndarray
    level: float

    @classmethod
    def fitted(
        cls,
        counts: np.ndarray,
        total: np.ndarray,
        log_rate: np.ndarray,
        sections: np.ndarray,
        rng: np.random.Generator,
        *,
        section_variance: float = 0.0,
        coverage: float = 0.9,
    ) -> CountIntervals:
        """Fit overdispersion and level on held-out predictions.

        Parameters
        ----------
        counts, log_rate
            (n, g) counts and held-out predictions of the log share of the profile.
        total, sections
            (n,) depths and sections, which weigh the same in the choice of the level.
        rng
            Draws the cells that are looked at.
        section_variance
            Variance of the log rate between sections, to add where the held-out predictions
            know the level of the section.
        coverage
            Wanted share of measurements inside.
        """
        order = np.argsort(log_rate, axis=None, kind="stable")
        mean = (total[:, None] * np.exp(log_rate)).ravel() + 1e-12
        centres, dispersions = [], []
        for part in np.array_split(order, _BINS):
            cells = part
            if len(part) > _MAX_CELLS:
                cells = rng.choice(part, _MAX_CELLS, replace=False)
            fits = [
                _log_likelihood(counts.ravel()[cells], mean[cells], a) for a in _OVERDISPERSIONS
            ]
            centres.append(log_rate.ravel()[cells].mean())
            dispersions.append(_OVERDISPERSIONS[int(np.argmax(fits))])
        intervals = cls(np.maximum.accumulate(centres), np.array(dispersions), 1 - coverage)
        inside = []
        for s in np.unique(sections):
            rows = np.flatnonzero(sections == s)
            if len(rows) > _MAX_ROWS:
                rows = np.sort(rng.choice(rows, _MAX_ROWS, replace=False))
            y = np.log1p(TARGET * counts[rows] / np.maximum(total[rows], 1.0)[:, None])
            bounds = intervals._bounds(log_rate[rows], total[rows], _LEVELS)
            inside.append([((y >= low - 1e-6) & (y <= high + 1e-6)).mean() for low, high in bounds])
        reached = np.minimum.accumulate(np.mean(inside, axis=0))
        level = float(np.interp(-coverage, -reached, _LEVELS))
        return cls(intervals.log_rate, intervals.overdispersion + section_variance, level)

    def bounds(self, log_rate: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of log-normalised values, float64 (m, g), of rates (m, g) at depths (m,)."""
        low, high = next(self._bounds(log_rate, total, np.array([self.level])))
        return np.maximum(low - _ROUNDING, 0.0), high + _ROUNDING

    def _bounds(
        self, log_rate: np.ndarray, total: np.ndarray, levels: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Bounds for each level: counts are looked up on a grid, then scaled by the depth."""
        total = np.maximum(np.asarray(total, dtype=np.float64), 1.0)
        rate_grid, rate_at = _grid(log_rate)
        depth_grid, depth_at = _grid(np.log(total))
        a = np.interp(rate_grid, self.log_rate, self.overdispersion)[:, None]
        for level in levels:
            edges = _shortest(np.exp(rate_grid)[:, None], np.exp(depth_grid)[None], a, level)
            yield tuple(  # type: ignore[misc]
                np.log1p(TARGET / total[:, None] * x[rate_at, depth_at[:, None]]) for x in edges
            )


def _grid(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The multiples of 0.05 that are nearest to some value, and which of them each value has.

    A row then has the same bounds whatever other rows there are.
    """
    nodes, nearest = np.unique(np.rint(values / _STEP), return_inverse=True)
    return nodes * _STEP, nearest.reshape(np.shape(values))


def _shortest(
    rate: np.ndarray, depth: np.ndarray, a: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest count inside, (r, d), of the interval that is shortest as a log value.

    An equal share on either side would hold 95 % rather than 90 % of a gene that is often zero.
    """
    from scipy.stats import nbinom

    mean = rate * depth
    size = np.broadcast_to(1 / np.maximum(a, 1e-3), mean.shape)
    p = size / (size + mean)
    best: Any = np.full(mean.shape, np.inf)
    low, high = np.zeros(mean.shape), np.zeros(mean.shape)
    for share in _LOWER_SHARES:
        # The count at the quantile is itself inside.
        first = np.maximum(nbinom.ppf(level * share, size, p), 0) if share else np.zeros(mean.shape)
        before = np.where(first > 0, nbinom.cdf(first - 1, size, p), 0.0)
        last = nbinom.ppf(np.minimum(before + 1 - level, 1 - 1e-9), size, p)
        width = np.log1p(TARGET * last / depth) - np.log1p(TARGET * first / depth)
        better = width < best - 1e-12
        best = np.where(better, width, best)
        low, high = np.where(better, first, low), np.where(better, last, high)
    return low, high
