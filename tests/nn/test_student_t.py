"""Student-t mixture against scipy and plain loops; its objective never falls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, logsumexp
from scipy.stats import multivariate_t
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from omicllm.nn import student_t_steps as steps
from omicllm.nn.student_t import StudentTMixture


def _clusters(
    n: int = 300, k: int = 4, dim: int = 3, seed: int = 0, spread: float = 6.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, dim)) * spread
    labels = rng.integers(k, size=n)
    return centres[labels] + rng.standard_t(4, size=(n, dim)), labels


def _scipy_log_prob(z: np.ndarray, mixture: StudentTMixture) -> np.ndarray:
    columns = [
        multivariate_t.logpdf(z, mean, np.diag(variance), df=dof)
        for mean, variance, dof in zip(
            mixture.means_, mixture.variances_, mixture.dof_, strict=True
        )
    ]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("dim", [1, 3, 32])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_densities_agree_with_scipy(dim: int, shift: float) -> None:
    z = _clusters(200, 3, dim)[0] + shift
    mixture = StudentTMixture(3, max_iter=5).fit(z)
    expected = _scipy_log_prob(z, mixture)
    np.testing.assert_allclose(mixture.log_prob(z), expected, rtol=0, atol=1e-6)
    joint = expected + np.log(mixture.weights_)
    np.testing.assert_allclose(mixture.score_samples(z), logsumexp(joint, axis=1), atol=1e-6)
    proba = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(mixture.predict_proba(z), proba, atol=1e-6)
    assert mixture.score(z) == pytest.approx(logsumexp(joint, axis=1).mean())
    single = mixture.log_responsibilities(torch.tensor(z, dtype=torch.float32)).exp()
    if shift == 0:
        np.testing.assert_allclose(single.numpy(), proba, atol=1e-5)


@pytest.mark.parametrize("kappa0", [0.0, 0.7])
def test_one_em_iteration_against_a_loop(kappa0: float, monkeypatch: pytest.MonkeyPatch) -> None:
    z = _clusters(60, 3, 2)[0]
    z = z - z.mean(0)
    n, dim, k = 60, 2, 3
    rng = np.random.default_rng(1)
    weights, means = rng.dirichlet(np.ones(k)), rng.normal(size=(k, dim)) * 4
    variances, dof = rng.uniform(0.5, 3, size=(k, dim)), np.array([2.5, 5.0, 30.0])
    m0, s0 = np.array([0.1, -0.2]), np.array([0.8, 1.3])
    alpha0, rho0 = 1.5, 4.0
    params = steps.Parameters(*(torch.tensor(x) for x in (weights, means, variances, dof)))
    prior = steps.Prior(alpha0, kappa0, rho0, torch.tensor(m0), torch.tensor(s0))
    monkeypatch.setattr(steps, "_BLOCK_ELEMENTS", 50)  # several blocks
    sums = steps.expect(torch.tensor(z), params)
    new = steps.maximise(sums, params, prior, 0.0)

    delta = ((z[:, None] - means) ** 2 / variances).sum(2)
    log_t = np.stack(
        [multivariate_t.logpdf(z, means[j], np.diag(variances[j]), df=dof[j]) for j in range(k)],
        axis=1,
    )
    joint = np.log(weights) + log_t
    r = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    u = (dof + dim) / (dof + delta)
    for j in range(k):
        size, mass = r[:, j].sum(), (r[:, j] * u[:, j]).sum()
        w = (r[:, j] * u[:, j])[:, None]
        mu = (kappa0 * m0 + (w * z).sum(0)) / (kappa0 + mass)
        scatter = s0 + (w * (z - mu) ** 2).sum(0) + kappa0 * (mu - m0) ** 2
        extra = 2 if kappa0 else 1
        assert float(new.weights[j]) == pytest.approx((size + alpha0 - 1) / (n + k * (alpha0 - 1)))
        np.testing.assert_allclose(new.means[j], mu, rtol=1e-9)
        np.testing.assert_allclose(
            new.variances[j], scatter / (rho0 + size + dim + extra), rtol=1e-8
        )

        def condition(nu: float, j: int = j, size: float = size) -> float:
            old = (dof[j] + dim) / 2
            inner = (r[:, j] * (np.log(u[:, j]) - u[:, j])).sum() / size
            half = nu / 2
            return np.log(half) - digamma(half) + 1 + inner + digamma(old) - np.log(old)

        found = float(new.dof[j])
        if found < 2.1 + 1e-6:
            assert condition(2.1) <= 0
        elif found > 200 - 1e-6:
            assert condition(200.0) >= 0
        else:
            assert condition(found) == pytest.approx(0, abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(5, 80),
    k=st.integers(1, 12),
    dim=st.integers(1, 6),
    kappa0=st.sampled_from([0.0, 0.5]),
    alpha0=st.sampled_from([1.0, 2.0]),
    shared=st.sampled_from([0.0, 10.0]),
    prior_scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_objective_never_falls(
    seed: int,
    n: int,
    k: int,
    dim: int,
    kappa0: float,
    alpha0: float,
    shared: float,
    prior_scale: float,
) -> None:
    rng = np.random.default_rng(seed)
    z = rng.standard_t(3, size=(n, dim)) * rng.uniform(0.1, 10, size=dim)
    mixture = StudentTMixture(
        min(k, n),
        max_iter=30,
        tol=0.0,
        rng=seed,
        kappa0=kappa0,
        alpha0=alpha0,
        shared_nu_below=shared,
        prior_scale=prior_scale,
    ).fit(z)
    history = np.array(mixture.history_)
    assert np.isfinite(history).all()
    assert (np.diff(history) >= -1e-9 * np.abs(history[:-1]).clip(1)).all()


def test_recovers_planted_components_and_tails() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [40.0, 0.0], [0.0, 40.0]])
    labels = rng.integers(3, size=3000)
    tails = np.array([2.5, 6.0, 100.0])
    scale = np.sqrt(rng.chisquare(tails[labels]) / tails[labels])[:, None]
    z = centres[labels] + rng.normal(size=(3000, 2)) / scale
    # S0 follows the spread of all rows, which here is that of the centres: make it count little.
    mixture = StudentTMixture(3, max_iter=200, tol=1e-9, prior_scale=0.01).fit(z)
    order = [int(((mixture.means_ - c) ** 2).sum(1).argmin()) for c in centres]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(mixture.means_[order], centres, atol=0.15)
    np.testing.assert_allclose(mixture.variances_[order], 1.0, atol=0.25)
    np.testing.assert_allclose(mixture.weights_, 1 / 3, atol=0.05)
    dof = mixture.dof_[order]
    assert dof[0] < dof[1] < dof[2]
    assert dof[0] == pytest.approx(2.5, abs=0.6)
    agreement = (np.array(order)[labels] == mixture.predict(z)).mean()
    assert agreement > 0.95


def test_small_components_share_nu() -> None:
    z, _ = _clusters(60, 12, 2, spread=20)
    mixture = StudentTMixture(12, max_iter=50, shared_nu_below=1000).fit(z)
    assert np.ptp(mixture.dof_) == 0
    free = StudentTMixture(12, max_iter=50, shared_nu_below=0).fit(z)
    assert np.ptp(free.dof_) > 0


def test_empty_components_move_only_when_the_posterior_gains() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], 40, axis=0)
    z = clusters + rng.normal(size=(120, 2))
    start = np.array([[0.0, 0.0], [25.0, 25.0], [5000.0, 5000.0]])
    mixture = StudentTMixture(3, max_iter=200).fit(z, init=start)
    assert (np.diff(mixture.history_) >= -1e-8).all()
    assert sorted(np.bincount(mixture.predict(z), minlength=3)) == [40, 40, 40]


def test_kinds_of_input_give_the_same_numbers() -> None:
    z, _ = _clusters()
    array = StudentTMixture(4).fit(z)
    tensor = StudentTMixture(4).fit(torch.tensor(z))
    assert isinstance(array.means_, np.ndarray)
    assert isinstance(tensor.means_, torch.Tensor)
    np.testing.assert_array_equal(array.means_, tensor.means_.numpy())
    for name in ("predict", "predict_proba", "log_prob", "score_samples"):
        a, b = getattr(array, name)(z), getattr(tensor, name)(torch.tensor(z))
        assert isinstance(a, np.ndarray)
        assert isinstance(b, torch.Tensor)
        np.testing.assert_array_equal(a, b.numpy())
    np.testing.assert_allclose(array.predict_proba(z).sum(1), 1)
    single = StudentTMixture(4).fit(z.astype(np.float32))
    np.testing.assert_allclose(single.means_, array.means_, atol=1e-4)


def test_gradient_reaches_the_data_and_not_the_mixture() -> None:
    z, _ = _clusters(40)
    mixture = StudentTMixture(4).fit(z)
    x = torch.tensor(z, requires_grad=True)
    log_r = mixture.log_responsibilities(x)
    torch.testing.assert_close(log_r.exp().sum(1), torch.ones(40, dtype=torch.float64))
    assert torch.autograd.gradcheck(
        mixture.log_responsibilities, (x[:3].detach().requires_grad_(),)
    )
    single = x.detach().to(torch.float32).requires_grad_()
    out = mixture.log_responsibilities(single)
    out[:, 0].sum().backward()
    assert out.dtype == torch.float32
    assert torch.isfinite(single.grad).all()
    assert single.grad.any()


def test_seeds() -> None:
    z, _ = _clusters(200, 8)
    a, b = (StudentTMixture(8, rng=5).fit(z) for _ in range(2))
    np.testing.assert_array_equal(a.means_, b.means_)
    state = np.random.default_rng(5)
    np.testing.assert_array_equal(StudentTMixture(8, rng=state).fit(z).means_, a.means_)
    before = torch.get_rng_state()
    StudentTMixture(8, rng=None, max_iter=1).fit(z)
    assert torch.equal(torch.get_rng_state(), before)


def test_warm_start_continues() -> None:
    z, _ = _clusters(spread=2.0)
    first = StudentTMixture(4, max_iter=3, tol=0).fit(z)
    last = first.history_[-1]
    first.fit(z, init=first)
    assert first.history_[0] == pytest.approx(last)
    straight = StudentTMixture(4, max_iter=6, tol=0).fit(z)
    np.testing.assert_allclose(first.means_, straight.means_, atol=1e-8)


def test_state_round_trip() -> None:
    z, _ = _clusters()
    mixture = StudentTMixture(4).fit(z)
    again = StudentTMixture.from_state(mixture.get_state(), max_iter=7)
    assert again.max_iter == 7
    np.testing.assert_array_equal(again.predict_proba(z), mixture.predict_proba(z))


def test_stopping() -> None:
    z, _ = _clusters()
    done = StudentTMixture(4).fit(z)
    assert done.converged_
    assert done.n_iter_ == len(done.history_) - 1 < 100
    short = StudentTMixture(4, max_iter=2, tol=0).fit(z)
    assert (short.n_iter_, short.converged_) == (2, False)


@pytest.mark.parametrize(
    "z", [np.ones((6, 3)), np.c_[np.arange(6.0), np.ones(6)], np.zeros((2, 1))]
)
def test_degenerate_data_stays_finite(z: np.ndarray) -> None:
    mixture = StudentTMixture(2).fit(z)
    assert np.isfinite(mixture.history_).all()
    assert np.isfinite(mixture.predict_proba(z)).all()


def test_far_rows_are_still_assigned() -> None:
    z, _ = _clusters()
    mixture = StudentTMixture(4).fit(z)
    proba = mixture.predict_proba(np.full((1, 3), 1e8))
    assert np.isfinite(proba).all()
    assert proba.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((2, 3)), "2 rows cannot be fitted with n_components=3"),
        (np.zeros(9), "Expected 2D array"),
        (np.zeros((5, 0)), "0 feature"),
        (torch.zeros(9), "must be a matrix"),
        (torch.zeros(5, 0), "must be a matrix"),
        (np.array([[0.0], [np.nan], [1.0], [np.inf]]), "NaN or infinite entries in 2 of 4 rows"),
    ],
)
def test_bad_data(z: np.ndarray | torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentTMixture(3).fit(z)


@pytest.mark.parametrize(
    "options",
    [
        {"n_components": 0},
        {"n_components": 2.5},
        {"max_iter": 0},
        {"tol": -1.0},
        {"nu_init": 2.0},
        {"alpha0": 0.5},
        {"kappa0": -1.0},
        {"rho0": 0.0},
        {"prior_scale": 0.0},
    ],
)
def test_bad_parameters(options: dict[str, float]) -> None:
    mixture = StudentTMixture(2)
    mixture.set_params(**options)
    with pytest.raises(ValueError, match=next(iter(options))):
        mixture.fit(np.arange(12.0).reshape(6, 2))


def test_misuse_after_construction() -> None:
    z, _ = _clusters()
    with pytest.raises(AttributeError, match="not fitted"):
        _ = StudentTMixture(2).means_
    with pytest.raises(AttributeError, match="not fitted"):
        StudentTMixture(2).predict(z)
    with pytest.raises(ValueError, match="init has shape"):
        StudentTMixture(2).fit(z, init=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="X has 2 features, but StudentTMixture is expecting 3"):
        StudentTMixture(2).fit(z).predict(z[:, :2])
    with pytest.raises(ValueError, match="columns"):
        StudentTMixture(2).fit(z).predict(torch.tensor(z[:, :2]))
    with pytest.raises(AttributeError, match="no attribute"):
        _ = StudentTMixture(2).nothing


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([StudentTMixture(2, max_iter=20)])
def test_checks_of_scikit_learn(estimator: StudentTMixture, check) -> None:
    check(estimator)


def test_clones_take_the_place_of_the_original() -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    z, labels = _clusters(120)
    mixture = StudentTMixture(4, nu_init=5.0, rng=np.random.default_rng(3)).fit(z)
    again = clone(mixture)
    assert not hasattr(again, "means_") and again.nu_init == 5.0
    np.testing.assert_array_equal(clone(mixture).fit(z).means_, again.fit(z).means_)
    search = GridSearchCV(StudentTMixture(), {"n_components": [1, 4]}, cv=3).fit(z)
    # The score is the mean log density of rows left out: four clusters are found by it.
    assert search.best_params_ == {"n_components": 4}
    piped = make_pipeline(StandardScaler(), StudentTMixture(4)).fit(z, labels)
    scaled = (z - z.mean(0)) / z.std(0)
    np.testing.assert_array_equal(piped.predict(z), StudentTMixture(4).fit(scaled).predict(scaled))


def test_lists_and_tables_are_taken_as_arrays() -> None:
    import pandas as pd

    z, _ = _clusters(50)
    fitted = StudentTMixture(3).fit(z)
    table = pd.DataFrame(z, columns=list("abc"))
    for data in (z.tolist(), table):
        other = StudentTMixture(3).fit(data)
        np.testing.assert_array_equal(other.means_, fitted.means_)
        assert isinstance(other.predict(data), np.ndarray)
    assert other.feature_names_in_.tolist() == ["a", "b", "c"]
    assert not hasattr(other.fit(torch.tensor(z)), "feature_names_in_")
    fixed = z.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(StudentTMixture(3).fit(fixed).means_, fitted.means_)
