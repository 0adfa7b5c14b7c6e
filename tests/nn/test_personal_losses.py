"""Losses of personal expression against closed forms, in double precision."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from omicllm.nn import personal_losses as losses

RNG = np.random.default_rng(0)
P, Y = RNG.normal(size=(50, 2)), RNG.normal(size=(50, 2))


def both(strategy, p=P, y=Y):
    return float(losses.strategy_loss(strategy, torch.from_numpy(p), torch.from_numpy(y)))


def smape(a, b):
    return np.mean(2 * np.abs(a - b) / (np.abs(a) + np.abs(b)))


def test_closed_forms():
    one = P[:, :1], Y[:, :1]
    assert both("single_counts", *one) == pytest.approx(smape(*one), abs=1e-6)
    assert both("single_z", *one) == pytest.approx(np.mean((one[0] - one[1]) ** 2), abs=1e-6)
    dp, dy = P[:, 0] - P[:, 1], Y[:, 0] - Y[:, 1]
    assert both("pair_regression") == pytest.approx(np.mean((dp - dy) ** 2), abs=1e-6)
    counts = (smape(P[:, 0], Y[:, 0]) + smape(P[:, 1], Y[:, 1])) / 2 + smape(dp, dy)
    assert both("pair_counts") == pytest.approx(counts, abs=1e-6)
    S = np.exp(P)
    a = 2 * np.sqrt(S + 3 / 8)
    p = norm.cdf((a[:, 0] - a[:, 1]) / np.sqrt(2))
    label = Y[:, 0] >= Y[:, 1]
    entropy = -np.mean(np.where(label, np.log(p), np.log(1 - p)))
    assert both("pair_classification", S) == pytest.approx(entropy, abs=1e-6)


def test_edges():
    zero = torch.zeros(3, 1)
    assert losses.smape(zero, zero) == 0
    assert losses.smape(zero, torch.ones(3, 1)) == 2
    far = torch.tensor([[0.0, 1e6]], requires_grad=True)
    loss = losses.pair_classification(far, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(far.grad).all()
    pairs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    assert losses.pair_accuracy(pairs, torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 0.0]])) == 2 / 3


def test_anscombe_makes_poisson_differences_standard_normal():
    drawn = np.random.default_rng(1).poisson(40, size=(200_000, 2)).astype(float)
    d = losses.anscombe_difference(torch.from_numpy(drawn)).numpy()
    assert d.std() == pytest.approx(1, abs=0.01) and d.mean() == pytest.approx(0, abs=0.01)


def test_closed_forms_of_other_data():
    rate, y = np.exp(RNG.normal(size=(3, 5, 4))), RNG.poisson(2.0, size=(3, 5, 4)).astype(float)
    wanted = np.mean(rate - y * np.log(rate + 1e-8))
    found = losses.poisson_nll(torch.from_numpy(rate), torch.from_numpy(y))
    assert float(found) == pytest.approx(wanted, abs=1e-6)
    r = torch.tensor([[[3.0, 0.0]]], requires_grad=True)
    losses.poisson_nll(r, torch.tensor([[[3.0, 0.0]]])).backward()
    assert r.grad[0, 0, 0] == pytest.approx(0, abs=1e-6), "least where the rate is the count"
    assert torch.isfinite(r.grad).all()
    predicted, effects = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 3))
    effects[0], effects[2, 1] = np.nan, np.nan
    p = torch.from_numpy(predicted).requires_grad_()
    found = losses.measured_error(p, torch.from_numpy(effects))
    assert float(found) == pytest.approx(np.nanmean((predicted - effects) ** 2), abs=1e-6)
    found.backward()
    assert torch.isfinite(p.grad).all() and (p.grad[0] == 0).all()
    nothing = losses.measured_error(p, torch.full((6, 3), torch.nan, dtype=torch.float64))
    assert float(nothing) == 0
    parts = {"pair": torch.tensor(1.5), "human": torch.tensor(2.0), "mouse": torch.tensor(-0.5)}
    assert float(losses.weighted_sum(parts, {})) == 3.0
    assert float(losses.weighted_sum(parts, {"pair": 2, "mouse": 0})) == 5.0
