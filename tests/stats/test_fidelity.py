"""Figures of synthetic rows, against scipy and by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from omicllm.stats import fidelity as fi


def test_ks_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.poisson(3, size=(40, 12)), rng.poisson(4, size=(65, 12))  # many ties
    wanted = [stats.ks_2samp(a[:, j], b[:, j]).statistic for j in range(12)]
    np.testing.assert_allclose(fi.ks_distances(a, b), wanted)
    np.testing.assert_allclose(fi.ks_distances(a, a), 0, atol=1e-12)
    np.testing.assert_allclose(fi.ks_distances(a, a + 100), 1)


def test_correlations_and_agreement():
    X = np.random.default_rng(0).normal(size=(50, 6))
    X[:, 2] = 1.5
    r = fi.correlations(X)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.corrcoef(X.T)[np.triu_indices(6, 1)]
    np.testing.assert_allclose(r, wanted, atol=1e-12)
    assert np.isnan(r).sum() == 5
    assert fi.agreement(r, r) == pytest.approx(1)
    assert np.isnan(fi.agreement(r, r * np.nan)) and np.isnan(fi.agreement(r * 0, r))


def test_within_takes_class_means_out():
    X = np.random.default_rng(0).normal(size=(9, 4))
    codes = np.repeat([0, 1, 2], 3)
    out = fi.within(X, codes)
    for c in range(3):
        np.testing.assert_allclose(out[codes == c].mean(axis=0), 0, atol=1e-12)


def test_variance_ratios():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(400, 5)), rng.normal(0, 2, size=(400, 5))
    codes = np.repeat([0, 1], 200)
    ratios = fi.variance_ratios(real, fake, codes, codes)
    assert len(ratios) == 10 and np.median(ratios) == pytest.approx(4, rel=0.15)
    assert len(fi.variance_ratios(real[:1], fake, codes[:1], codes)) == 0


def test_near_copies():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 20))
    assert fi.near_copies(real[:10], real, 0.5) == 1
    assert fi.near_copies(rng.normal(size=(50, 20)), real, 0.5) == 0
    mixed = np.concatenate([real[:5] + 0.01, rng.normal(size=(15, 20))])
    assert fi.near_copies(mixed, real, 0.5) == 0.25
    assert np.isnan(fi.near_copies(real, real[:1], 0.5))


def test_separation_and_accuracy():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 30)
    centres = np.eye(3)[codes]
    tight = centres + 0.01 * rng.normal(size=(90, 3))
    assert fi.separation(tight, codes) > 0.9
    assert fi.separation(rng.normal(size=(90, 3)), codes) < 0.1
    assert np.isnan(fi.separation(tight, np.zeros(90, int)))
    assert fi.accuracy(tight, codes, tight, codes) == 1
    assert fi.accuracy(tight, codes, tight, (codes + 1) % 3) == 0
    assert np.isnan(fi.accuracy(tight, codes, tight[:0], codes[:0]))
    assert np.isnan(fi.accuracy(tight, codes * 0, tight, codes))
    # Balanced: two classes, the rare one always wrong.
    test_codes = np.array([0] * 9 + [1])
    test = np.eye(3)[[0] * 10]
    assert fi.accuracy(tight, codes, test, test_codes) == 0.5


def test_log_normalised():
    counts = np.array([[1.0, 3.0], [0.0, 0.0]])
    out = fi.log_normalised(counts, np.array([4.0, 0.0]), 8.0)
    np.testing.assert_allclose(out, np.log1p([[2, 6], [0, 0]]))
