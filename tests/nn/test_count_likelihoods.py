"""Likelihoods against scipy and scvi."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scvi.distributions import ZeroInflatedNegativeBinomial

from omicllm.nn.count_likelihoods import gaussian, negative_binomial, poisson, zinb

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.poisson(3, (40, 30)).astype(np.float64))
MU = torch.from_numpy(RNG.uniform(0.05, 20, (40, 30)))
THETA = torch.from_numpy(RNG.uniform(0.1, 30, 30))
LOGITS = torch.from_numpy(RNG.normal(0, 3, 30))


def test_zinb_equals_scvi():
    expected = ZeroInflatedNegativeBinomial(mu=MU, theta=THETA, zi_logits=LOGITS).log_prob(X)
    # scvi adds 1e-8 inside its logarithms.
    np.testing.assert_allclose(zinb(X, MU, THETA, LOGITS), expected, atol=1e-5)


def test_zinb_equals_a_mixture_of_scipy():
    p = torch.sigmoid(LOGITS).numpy()
    theta, mu, x = THETA.numpy(), MU.numpy(), X.numpy()
    count = stats.nbinom.pmf(x, theta, theta / (theta + mu))
    expected = np.log(p * (x == 0) + (1 - p) * count)
    np.testing.assert_allclose(zinb(X, MU, THETA, LOGITS), expected, atol=1e-5)


def test_zinb_sums_to_one():
    x = torch.arange(2000, dtype=torch.float64)[:, None]
    total = zinb(x, MU[:1, :5], THETA[:5], LOGITS[:5]).exp().sum(0)
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_others_equal_scipy():
    theta, mu, x = THETA.numpy(), MU.numpy(), X.numpy()
    np.testing.assert_allclose(
        negative_binomial(X, MU, THETA), stats.nbinom.logpmf(x, theta, theta / (theta + mu))
    )
    np.testing.assert_allclose(poisson(X, MU), stats.poisson.logpmf(x, mu))
    np.testing.assert_allclose(gaussian(X, MU, THETA.log()), stats.norm.logpdf(x, mu, theta))


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_zinb_is_finite_with_gradients_at_the_ends(logit):
    value = torch.tensor([logit], requires_grad=True)
    out = zinb(torch.tensor([0.0, 3.0]), torch.tensor(2.0), torch.tensor(1.5), value)
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert torch.isfinite(value.grad).all()
