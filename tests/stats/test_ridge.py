"""Ridge against sklearn and the normal equations; the penalty is chosen on held-out groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from omicllm.stats import ridge


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 7))
    Y = X[:, :3] @ rng.normal(size=(3, 5)) + rng.normal(size=(90, 5))
    return X, Y


@pytest.mark.parametrize("alpha", [0.1, 10.0, 1e4])
def test_the_path_is_ridge(data, alpha):
    X, Y = data
    wanted = Ridge(alpha, fit_intercept=False).fit(X, Y).coef_.T
    np.testing.assert_allclose(ridge.RidgePath(X, Y).coefficients(alpha), wanted, atol=1e-10)


def test_more_columns_than_rows_and_a_repeated_column(data):
    X, Y = data
    wide = np.hstack([X, X[:, :1], np.random.default_rng(1).normal(size=(90, 200))])
    wanted = Ridge(3.0, fit_intercept=False).fit(wide, Y).predict(wide)
    np.testing.assert_allclose(ridge.RidgePath(wide, Y).predict(wide, 3.0), wanted, atol=1e-8)


def test_components_are_those_of_sklearn(data):
    X, _ = data
    X = X * [1, 5, 2, 1, 1, 1, 9] + 3
    scores = ridge.Components.of(X, 4)(X)
    wanted = PCA(4).fit_transform(StandardScaler().fit_transform(X))
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted), atol=1e-8)
    constant = np.hstack([X, np.ones((90, 1))])
    assert np.isfinite(ridge.Components.of(constant, 20)(constant)).all()


def sections_with_batch(shift: float = 30.0):
    rng = np.random.default_rng(2)
    B = rng.normal(size=(4, 6))
    sections = np.repeat(["a", "b", "c", "d"], 60)
    X = rng.normal(size=(240, 4))
    Y = X @ B + rng.normal(size=(240, 6))
    offsets = {s: rng.normal(size=4) * shift for s in "abcd"}
    levels = {s: rng.normal(size=6) * shift for s in "abcd"}
    X = X + np.stack([offsets[s] for s in sections])
    Y = Y + np.stack([levels[s] for s in sections])
    return X, Y, sections


def test_centring_by_section_removes_how_sections_differ():
    X, Y, sections = sections_with_batch()
    train = sections != "d"
    scores = {}
    for center in (True, False):
        model = ridge.GroupedRidge(center=center).fit(X[train], Y[train], sections[train])
        guess = model.predict(X[~train], sections[~train])
        scores[center] = ridge.mean_correlation(guess, Y[~train], sections[~train])
    assert scores[True] > 0.7 and scores[True] > scores[False] + 0.2


def test_the_penalty_follows_held_out_groups():
    X, Y, sections = sections_with_batch(0.0)
    low = ridge.GroupedRidge().fit(X, Y, sections)
    noise = np.random.default_rng(3).normal(size=Y.shape)
    high = ridge.GroupedRidge(criterion="mse").fit(X, noise, sections)
    assert low.alpha_ <= 100 < 1e4 <= high.alpha_
    assert low.slope_ > 0.9
    assert set(low.scores_) == {"alpha", "pearson", "mse"}
    best = low.scores_["alpha"][low.scores_["pearson"].argmax()]
    assert low.scores_["pearson"].max() == low.scores_["pearson"][low.scores_["alpha"] == best][0]


def test_a_prediction_takes_features_alone_and_any_order():
    X, Y, sections = sections_with_batch()
    model = ridge.GroupedRidge().fit(X, Y, sections)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(
        model.predict(X[order], sections[order]), model.predict(X, sections)[order], atol=1e-8
    )
    one = model.predict(X[:1], np.array(["new"]))
    np.testing.assert_allclose(one[0], model.mean_, atol=1e-8)
    np.testing.assert_allclose(
        model.mean_, np.mean([Y[sections == s].mean(axis=0) for s in "abcd"], axis=0)
    )


def test_one_group_alone():
    X, Y, _ = sections_with_batch()
    model = ridge.GroupedRidge().fit(X, Y, np.zeros(len(X)))
    assert model.scores_ == {} and model.slope_ == 1


def test_hest_ridge_is_its_published_recipe(data):
    X, Y = data
    scaled = StandardScaler().fit(X[:60])
    pca = PCA(5).fit(scaled.transform(X[:60]))
    train, test = (pca.transform(scaled.transform(v)) for v in (X[:60], X[60:]))
    wanted = Ridge(100 / (5 * 5), fit_intercept=False).fit(train, Y[:60]).predict(test)
    found = ridge.hest_ridge(X[:60], Y[:60], X[60:], n_components=5)
    np.testing.assert_allclose(found, wanted, atol=1e-8)


def test_neighbours(data):
    X, Y = data
    near = NearestNeighbors(n_neighbors=6, metric="cosine").fit(X[:60]).kneighbors(X[60:])[1]
    found = ridge.knn_regression(X[:60], Y[:60], X[60:], k=6)
    np.testing.assert_allclose(found, Y[:60][near].mean(axis=1), atol=1e-8)
    assert ridge.knn_regression(X[:3], Y[:3], X[60:], k=50).shape == (30, 5)
