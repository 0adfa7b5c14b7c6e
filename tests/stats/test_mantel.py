"""Mantel's test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

import omicllm as ol


def test_correlation_is_that_of_the_pairs():
    rng = np.random.default_rng(0)
    a, b = pdist(rng.normal(size=(15, 3))), pdist(rng.normal(size=(15, 3)))
    for method, wanted in (("pearson", pearsonr(a, b)[0]), ("spearman", spearmanr(a, b)[0])):
        score = ol.metrics.mantel(squareform(a), b, method=method, n_permutations=9)
        np.testing.assert_allclose(score.statistic, wanted)
    assert ol.metrics.mantel(a, a, n_permutations=99).pvalue == 0.01


def test_p_values_are_uniform_without_agreement():
    rng = np.random.default_rng(1)
    p = [
        ol.metrics.mantel(
            pdist(rng.normal(size=(12, 1))), pdist(rng.normal(size=(12, 1))), n_permutations=39
        ).pvalue
        for _ in range(200)
    ]
    # The p value of pairs taken as independent would be far too small too often.
    assert 0.03 < np.mean(np.array(p) <= 0.1) < 0.18
    assert 0.4 < np.mean(p) < 0.62


def test_degenerate_input():
    constant = ol.metrics.mantel(np.ones(6), np.arange(6.0))
    assert np.isnan(constant.statistic) and np.isnan(constant.pvalue)
    with pytest.raises(ValueError, match="one size and of three items"):
        ol.metrics.mantel(np.ones(6), np.ones(3))
    with pytest.raises(ValueError, match="method must be"):
        ol.metrics.mantel(np.ones(6), np.ones(6), method="kendall")
