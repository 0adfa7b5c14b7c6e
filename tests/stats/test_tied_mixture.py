"""The tied mixture against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from omicllm.stats.tied_mixture import (
    fit_tied_mixture,
    log_densities,
    most_likely,
    squared_distances,
    ward_start,
)


def blobs(n: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    mix = np.array([[1.0, 0.8], [0.0, 0.6]])
    return (rng.normal(size=(n, 2)) @ mix + 4.0 * np.eye(3, 2)[truth]), truth


def test_densities_are_gaussian():
    Z, _ = blobs()
    means, covariance = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([[2.0, 0.5], [0.5, 1.0]])
    found = log_densities(Z, np.array([0.3, 0.7]), means, covariance) - np.log(2 * np.pi)
    for j, share in enumerate((0.3, 0.7)):
        wanted = np.log(share) + multivariate_normal(means[j], covariance).logpdf(Z)
        np.testing.assert_allclose(found[:, j], wanted, atol=1e-9)


def test_fit_equals_that_of_sklearn():
    Z, truth = blobs()
    shares, means, covariance = fit_tied_mixture(Z, truth, 3, max_iter=500, tol=1e-10)
    other = GaussianMixture(
        3, covariance_type="tied", means_init=means, weights_init=shares, tol=1e-9, max_iter=500
    ).fit(Z)
    np.testing.assert_allclose(other.means_, means, atol=1e-3)
    np.testing.assert_allclose(other.covariances_, covariance, atol=1e-3)
    np.testing.assert_array_equal(most_likely(Z, shares, means, covariance), other.predict(Z))
    assert adjusted_rand_score(truth, other.predict(Z)) > 0.9


def test_em_never_lowers_the_likelihood():
    Z, _ = blobs(seed=3)
    start = np.random.default_rng(0).integers(3, size=len(Z))
    levels = []
    for steps in range(1, 12):
        density = log_densities(Z, *fit_tied_mixture(Z, start, 3, max_iter=steps, tol=0))
        levels.append(np.logaddexp.reduce(density, axis=1).mean())
    assert np.all(np.diff(levels) > -1e-9)


def test_an_axis_without_variance_is_survived():
    Z, truth = blobs()
    Z = np.column_stack([Z, np.zeros(len(Z))])
    label = most_likely(Z, *fit_tied_mixture(Z, truth, 3))
    assert adjusted_rand_score(truth, label) > 0.9


def test_ward_start_finds_blobs_from_a_subset():
    Z, truth = blobs(600)
    start = ward_start(Z, 3, 100, np.random.default_rng(0))
    assert adjusted_rand_score(truth, start) > 0.7
    np.testing.assert_allclose(
        squared_distances(Z[:4], Z[:2]), ((Z[:4, None] - Z[None, :2]) ** 2).sum(-1), atol=1e-9
    )
