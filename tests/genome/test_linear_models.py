"""Linear models of expression against scikit-learn and closed forms."""

import numpy as np
import pytest

from omicllm.genome import linear_models
from omicllm.genome.bslmm import bslmm, split_rhat


def simulated(seed, n=250, m=60, h2=0.3, n_causal=3):
    """Standardised genotypes in linkage, centred expression, true effects."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(2, n, m))
    for j in range(1, m):
        Z[:, :, j] = 0.8 * Z[:, :, j - 1] + 0.6 * Z[:, :, j]
    D = (Z > 0.3).sum(axis=0).astype(float)
    X = (D - D.mean(axis=0)) / D.std(axis=0)
    w = np.zeros(m)
    w[rng.choice(m, n_causal, replace=False)] = rng.normal(size=n_causal)
    w *= np.sqrt(h2) / (X @ w).std()
    y = X @ w + np.sqrt(1 - h2) * rng.normal(size=n)
    return X, y - y.mean(), w


def test_top_variant_is_the_best_single_regression():
    X, y, _ = simulated(0)
    w = linear_models.top_variant(X, y)
    errors = [((y - X[:, j] * (X[:, j] @ y) / len(y)) ** 2).sum() for j in range(X.shape[1])]
    best = int(np.argmin(errors))
    assert np.flatnonzero(w).tolist() == [best]
    assert w[best] == pytest.approx(np.polyfit(X[:, best], y, 1)[0])


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_elastic_net_is_that_of_sklearn(l1_ratio, scale):
    from sklearn.linear_model import ElasticNetCV

    X, y, _ = simulated(1)
    folds = np.arange(len(y)) % 5
    w = linear_models.elastic_net(X, scale * y, l1_ratio=l1_ratio, folds=folds)
    cv = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(5)]
    unit = y / y.std()  # the penalty is that of expression of unit variance, as in glmnet
    oracle = ElasticNetCV(l1_ratio=l1_ratio, cv=cv, alphas=60, eps=0.01, tol=1e-6).fit(X, unit)
    np.testing.assert_allclose(w, oracle.coef_ * y.std() * scale, atol=0.01 * scale)
    assert 0 < (w != 0).sum() < X.shape[1]


def test_blup_is_ridge():
    from sklearn.linear_model import Ridge

    X, y, _ = simulated(2)
    m = X.shape[1]
    w = linear_models.Relatedness(X).blup(y, 0.25)
    oracle = Ridge(alpha=m * 0.75 / 0.25, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(w, oracle.coef_, atol=1e-10)
    assert not linear_models.Relatedness(X).blup(y, 0.0).any()


def test_reml_maximises_the_restricted_likelihood():
    X, y, _ = simulated(3, n=120)
    found = linear_models.Relatedness(X).reml(y)
    n = len(y)
    K = X @ X.T / X.shape[1]
    contrasts = np.linalg.svd(np.ones((1, n)))[2][1:]  # everything but the mean
    z = contrasts @ y

    def likelihood(h):
        V = contrasts @ (h * K + (1 - h) * np.eye(n)) @ contrasts.T
        return -0.5 * (np.linalg.slogdet(V)[1] + (n - 1) * np.log(z @ np.linalg.solve(V, z)))

    grid = np.linspace(0, 0.99, 100)
    best = grid[np.argmax([likelihood(h) for h in grid])]
    assert found.h2 == pytest.approx(best, abs=0.006)
    assert likelihood(found.h2) >= max(likelihood(h) for h in grid) - 1e-6


@pytest.mark.parametrize("method", ["reml", "haseman_elston"])
def test_heritability_is_unbiased_and_its_test_is_calibrated(method):
    found = {}
    for h2 in (0.0, 0.4):
        each = [
            getattr(linear_models.Relatedness(X), method)(y)
            for X, y, _ in (simulated(s, h2=h2, n_causal=30) for s in range(40))
        ]
        found[h2] = np.array([[e.h2, e.se, e.pval] for e in each])
    assert found[0.4][:, 0].mean() == pytest.approx(0.4, abs=0.06)
    assert found[0.0][:, 0].mean() < 0.05
    assert (found[0.0][:, 2] < 0.05).mean() <= 0.15
    assert (found[0.4][:, 2] < 0.05).mean() > 0.9
    if method == "reml":
        assert found[0.4][:, 1].mean() == pytest.approx(found[0.4][:, 0].std(), rel=0.5)


def test_bslmm_finds_large_effects_and_says_it_converged():
    X, y, w = simulated(5, h2=0.5, n_causal=2)
    found = bslmm(X, y, rng=np.random.default_rng(0), n_iter=300, n_burn=100)
    again = bslmm(X, y, rng=np.random.default_rng(0), n_iter=300, n_burn=100)
    np.testing.assert_array_equal(found.effects, again.effects)
    assert found.h2 == pytest.approx(0.5, abs=0.12) and found.rhat < 1.1
    truth = X @ w
    assert np.corrcoef(X @ found.effects, truth)[0, 1] > 0.95
    causal = np.flatnonzero(w)
    assert found.inclusion[causal].mean() > 5 * np.delete(found.inclusion, causal).mean()
    noise = bslmm(X, np.random.default_rng(1).normal(size=len(y)), rng=np.random.default_rng(0),
                  n_iter=300, n_burn=100)  # fmt: skip
    assert noise.h2 < 0.15


def test_bslmm_shares_the_effect_of_equal_variants():
    X, y, w = simulated(6, h2=0.5, n_causal=1, m=20)
    causal = int(np.flatnonzero(w)[0])
    twice = np.column_stack([X, X[:, causal], -X[:, causal]])
    found = bslmm(twice, y, rng=np.random.default_rng(0), n_iter=200, n_burn=60)
    assert found.effects[causal] == pytest.approx(found.effects[-2])
    assert found.effects[causal] == pytest.approx(-found.effects[-1])


def test_rhat():
    rng = np.random.default_rng(0)
    assert split_rhat(rng.normal(size=(4, 500))) == pytest.approx(1, abs=0.02)
    assert split_rhat(rng.normal(size=(2, 500)) + np.array([[0], [3]])) > 1.5
    assert np.isnan(split_rhat(np.zeros((2, 3))))


def test_nothing_to_predict():
    X, _, _ = simulated(0)
    none = np.zeros(len(X))
    assert not linear_models.elastic_net(X, none, l1_ratio=1.0, folds=np.arange(len(X)) % 5).any()
    assert not bslmm(X, none, rng=np.random.default_rng(0)).effects.any()
