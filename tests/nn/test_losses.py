"""Losses against plain loops, and where their gradients go."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from omicllm.nn.losses import (
    AutoWeighted,
    info_nce,
    neighbor_distillation,
    neighbor_logits,
    pseudo_contrastive,
    self_paced_target,
    size_entropy,
)


def _probabilities(n: int, k: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.dirichlet(np.full(k, 0.5), size=n))


def test_info_nce_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 5))
    ua, ub = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    total = 0.0
    for i in range(6):
        for left, right in ((ua, ub), (ub, ua)):
            scores = np.array([left[i] @ right[j] / 0.3 for j in range(6)])
            total += np.log(np.exp(scores).sum()) - scores[i]
    loss = info_nce(torch.tensor(a), torch.tensor(b), 0.3)
    assert float(loss) == pytest.approx(total / 12)


def test_info_nce_falls_for_matching_views() -> None:
    z = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert info_nce(z, z, 0.1) < 0.2 < info_nce(z, z.roll(1, 0), 0.1)


def test_info_nce_with_an_all_zero_row() -> None:
    z = torch.randn(4, 3).index_fill(0, torch.tensor([1]), 0.0).requires_grad_()
    info_nce(z, z * 2).backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("a", "b", "temperature", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), 0.2, "same shape"),
        (torch.ones(3), torch.ones(3), 0.2, "same shape"),
        (torch.ones(1, 2), torch.ones(1, 2), 0.2, "two rows"),
        (torch.ones(3, 2), torch.ones(3, 2), 0.0, "temperature"),
    ],
)
def test_info_nce_bad_input(
    a: torch.Tensor, b: torch.Tensor, temperature: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        info_nce(a, b, temperature)


def test_target_against_a_loop() -> None:
    q = _probabilities(7, 4)
    p = self_paced_target(q)
    f = q.sum(0)
    for i in range(7):
        row = [float(q[i, k] ** 2 / f[k]) for k in range(4)]
        np.testing.assert_allclose(p[i].numpy(), np.array(row) / sum(row), rtol=1e-10)


def test_target_has_no_gradient_and_survives_empty_components() -> None:
    q = torch.cat([_probabilities(5, 3), torch.zeros(5, 1, dtype=torch.float64)], 1)
    p = self_paced_target(q.requires_grad_())
    assert not p.requires_grad
    assert torch.isfinite(p).all()
    assert (p[:, 3] == 0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(5, dtype=torch.float64))


def test_pseudo_contrastive_is_the_batch_mean_divergence() -> None:
    q, p = _probabilities(6, 5), _probabilities(6, 5, seed=1)
    expected = sum(
        float(p[i, k]) * (math.log(float(p[i, k])) - math.log(float(q[i, k])))
        for i in range(6)
        for k in range(5)
    )
    assert float(pseudo_contrastive(q.log(), p)) == pytest.approx(expected / 6)
    assert float(pseudo_contrastive(q.log(), q)) == pytest.approx(0.0, abs=1e-12)


def test_pseudo_contrastive_ignores_impossible_components() -> None:
    log_q = torch.tensor([[0.0, -math.inf]], requires_grad=True)
    loss = pseudo_contrastive(log_q, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(log_q.grad).all()
    with pytest.raises(ValueError, match="one shape"):
        pseudo_contrastive(log_q, torch.ones(1, 3))


def test_size_entropy_bounds() -> None:
    assert float(size_entropy(torch.full((9, 4), 0.25))) == pytest.approx(-math.log(4))
    assert float(size_entropy(torch.eye(4)[[1, 1, 1]])) == 0.0


def test_auto_weighted() -> None:
    module = AutoWeighted(2)
    losses = torch.tensor(3.0), torch.tensor(0.5)
    assert module(*losses).item() == pytest.approx(3.5 / 2 + 2 * math.log(2))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        module(*losses).backward()
        optimiser.step()
    square = (2 * module.log_scale).exp().detach()
    # At the optimum L / (2 s^4) = 1 / (1 + s^2).
    for value, s2 in zip(losses, square, strict=True):
        assert float(value * (1 + s2)) == pytest.approx(float(2 * s2**2), rel=0.02)
    with pytest.raises(ValueError, match="Expected 2"):
        module(losses[0])
    with pytest.raises(ValueError, match="at least 1"):
        AutoWeighted(0)


def _unit(n: int, d: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.nn.functional.normalize(torch.tensor(rng.normal(size=(n, d))), dim=1)


def test_neighbor_logits_standardise_the_other_rows() -> None:
    z = _unit(9, 4, 0)
    logits = neighbor_logits(z @ z.T, 3.0)
    assert (logits.diagonal() == -1e4).all()
    for i in range(9):
        others = np.delete((z @ z.T)[i].numpy(), i)
        wanted = 3.0 * (others - others.mean()) / others.std()
        np.testing.assert_allclose(np.delete(logits[i].numpy(), i), wanted, rtol=1e-6)
    # Only order and spread count: weak similarities weigh as much as strong ones.
    weak = neighbor_logits(0.05 * (z @ z.T) + 0.2, 3.0)
    torch.testing.assert_close(weak, logits, rtol=1e-3, atol=1e-3)


def test_neighbor_distillation_against_a_loop() -> None:
    z, teacher = _unit(8, 3, 1), _unit(8, 5, 2)
    total = 0.0
    for i in range(8):
        logs = []
        for rows in (teacher, z):
            s = np.delete((rows @ rows.T)[i].numpy(), i)
            s = 2.0 * (s - s.mean()) / s.std()
            logs.append(s - np.log(np.exp(s).sum()))
        total -= (np.exp(logs[0]) * logs[1]).sum()
    assert float(neighbor_distillation(z, teacher, 2.0)) == pytest.approx(total / 8)


def test_neighbor_distillation_is_least_at_the_teacher() -> None:
    teacher = _unit(40, 6, 3).requires_grad_()
    z = _unit(40, 6, 4).requires_grad_()
    same = neighbor_distillation(teacher.detach(), teacher, 3.0)
    other = neighbor_distillation(z, teacher, 3.0)
    assert same < other
    other.backward()
    assert teacher.grad is None and z.grad.abs().sum() > 0
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        unit = torch.nn.functional.normalize(z, dim=1)
        loss = neighbor_distillation(unit, teacher, 3.0)
        loss.backward()
        optimizer.step()
    assert float(loss) - float(same) < 0.3 * (float(other) - float(same))


def test_neighbor_distillation_with_zero_rows() -> None:
    z = _unit(6, 3, 5).index_fill(0, torch.tensor([2]), 0.0).requires_grad_()
    loss = neighbor_distillation(z, _unit(6, 3, 6).index_fill(0, torch.tensor([2]), 0.0), 3.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()
