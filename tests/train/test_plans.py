"""Batches and schedules of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omicllm.nn.projection import ImageProjection
from omicllm.train._genes import GeneData
from omicllm.train._sigel import DistillationPlan


@pytest.mark.parametrize("n_steps", [0, 1, 2, 5, 8, 9, 10, 19, 100])
def test_the_rate_rises_and_falls_whatever_the_number_of_steps(n_steps):
    plan = DistillationPlan(
        ImageProjection(20, 6, 4), lr=1e-2, n_steps=n_steps, sharpness=3.0, contrast_weight=0.0,
        temperature=0.1,
    )  # fmt: skip
    made = plan.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.isfinite(rates).all() and all(0 < r <= 1e-2 for r in rates)
    if n_steps >= 5:
        assert max(rates) == pytest.approx(1e-2, rel=0.05) and rates[-1] < 5e-3


@pytest.mark.parametrize("n_genes", [1, 7, 20, 21, 39, 40, 41])
def test_an_epoch_shows_every_gene_once_in_batches_alike(n_genes):
    genes = np.arange(100, 100 + n_genes)
    data = GeneData(genes, 20, 3, lambda rng: lambda batch: (torch.from_numpy(batch * 2),))
    epochs = [list(data.train_dataloader()) for _ in range(2)]
    for batches in epochs:
        shown = torch.cat([b[0] for b in batches]).numpy()
        assert sorted(shown) == genes.tolist()
        assert all((b[1] == 2 * b[0]).all() for b in batches)
        sizes = [len(b[0]) for b in batches]
        assert len(sizes) == len(data.batches) and max(sizes) - min(sizes) <= 1
    if n_genes > 5:
        first, second = (torch.cat([b[0] for b in e]).tolist() for e in epochs)
        assert first != second, "each epoch has an order of its own"
    again = GeneData(genes, 20, 3, lambda rng: lambda batch: (torch.from_numpy(batch * 2),))
    for a, b in zip(epochs[0], again.train_dataloader(), strict=True):
        assert torch.equal(a[0], b[0])
