"""Intervals of a mean over draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from omicllm.stats.draws import mean_interval


@pytest.mark.parametrize("coverage", [0.5, 0.95])
def test_interval_is_that_of_scipy_within_the_scale(coverage):
    values = np.array([0.5, 0.6, 0.55, 0.7])
    found = mean_interval(values, coverage)
    low, high = stats.t.interval(coverage, 3, values.mean(), stats.sem(values))
    np.testing.assert_allclose(found, [values.mean(), values.std(ddof=1), low, high])
    ends = np.array([0.02, 0.99, 0.98])
    assert mean_interval(ends, 0.95)[2:] == (0.0, 1.0)
    assert mean_interval(ends, 0.95, lowest=-1)[2] < 0


def test_what_draws_cannot_tell_is_nan():
    np.testing.assert_array_equal(mean_interval(np.array([0.3]), 0.95), [0.3, *[np.nan] * 3])
    np.testing.assert_array_equal(mean_interval(np.full(4, 0.5), 0.95), [0.5, 0, np.nan, np.nan])
