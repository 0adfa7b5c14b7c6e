"""Intervals of counts of known depth, against counts drawn from their model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom

from omicllm.stats.count_intervals import CountIntervals


def drawn(rng, n=300, g=60, a=0.4, depth=1500.0):
    log_rate = np.sort(rng.normal(-6, 1.2, g)) + 0.3 * rng.normal(size=(n, g))
    total = depth * rng.lognormal(0, 0.6, n)
    rate = np.exp(log_rate) * rng.gamma(1 / a, a, (n, g))
    return rng.poisson(total[:, None] * rate), total, log_rate


def held(intervals, counts, total, log_rate):
    y = np.log1p(1e4 * counts / total[:, None])
    y = y.astype(np.float32)  # as values are often stored
    low, high = intervals.bounds(log_rate, total)
    return ((y >= low) & (y <= high)).mean()


def test_overdispersion_and_coverage_are_found_at_other_depths():
    rng = np.random.default_rng(0)
    parts = drawn(rng)
    intervals = CountIntervals.fitted(*parts, np.arange(300) % 2, rng)
    assert np.all((intervals.overdispersion > 0.2) & (intervals.overdispersion < 0.8))
    for depth in (150.0, 1500.0, 30000.0):  # a few counts more or less are a step when shallow
        assert abs(held(intervals, *drawn(rng, depth=depth)) - 0.9) < (
            0.05 if depth < 1000 else 0.03
        )


def test_shifts_of_sections_are_covered_by_their_variance():
    rng = np.random.default_rng(1)
    counts, total, log_rate = drawn(rng, a=0.05)
    sections = np.zeros(300, dtype=int)
    plain, wide = (
        CountIntervals.fitted(
            counts, total, log_rate, sections, np.random.default_rng(0), section_variance=v
        )
        for v in (0.0, 0.25)
    )
    np.testing.assert_allclose(wide.overdispersion, plain.overdispersion + 0.25)
    new, total, log_rate = drawn(rng, a=0.05, depth=6000.0)
    wrong = log_rate + rng.normal(0, 0.5, log_rate.shape[1])
    assert held(plain, new, total, wrong) < 0.8
    assert abs(held(wide, new, total, wrong) - 0.9) < 0.05


@pytest.mark.parametrize("mean", [0.02, 0.8, 5.0, 200.0])
def test_bounds_hold_their_share_and_are_shortest(mean):
    total, level = np.array([1000.0]), 0.1
    intervals = CountIntervals(np.array([-12.0, 0.0]), np.array([0.3, 0.3]), level)
    low, high = intervals.bounds(np.log(np.array([[mean / 1000]])), total)
    x = np.arange(0, 4000)
    y = np.log1p(1e4 * x / 1000)
    p = nbinom.pmf(x, 1 / 0.3, 1 / (1 + 0.3 * mean))
    inside = (y >= low[0, 0] - 1e-9) & (y <= high[0, 0] + 1e-9)
    assert p[inside].sum() >= 1 - level - 1e-9
    total_share = np.cumsum(p)
    shortest = min(
        y[np.searchsorted(total_share, (total_share[i - 1] if i else 0) + 1 - level)] - y[i]
        for i in range(int((total_share < level).sum()) + 1)
    )
    assert high[0, 0] - low[0, 0] <= shortest + 0.12  # a few ways to divide the rest are tried


def test_bounds_of_a_row_do_not_depend_on_other_rows():
    rng = np.random.default_rng(2)
    counts, total, log_rate = drawn(rng, n=60, g=9)
    intervals = CountIntervals.fitted(counts, total, log_rate, np.arange(60) % 2, rng)
    wanted = intervals.bounds(log_rate, total)
    ruined, deep = log_rate.copy(), total.copy()
    ruined[40:], deep[40:] = np.linspace(-27.6, 0, 9), 1e7
    for found, value in zip(intervals.bounds(ruined, deep), wanted, strict=True):
        np.testing.assert_allclose(found[:40], value[:40], rtol=1e-12)
