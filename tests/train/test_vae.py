"""The variational autoencoder behind `method="vae"`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from omicllm.nn.vae import GaussianVAE
from omicllm.train._vae import _Scale, sample_vae


def test_loss_is_the_error_plus_the_divergence():
    torch.manual_seed(0)
    model, x = GaussianVAE(6, 5, 2), torch.randn(9, 6)
    mean, log_variance = model.encode(x)
    with torch.no_grad():
        got = np.mean([model.loss(x, unit=3.0).item() for _ in range(3000)])
        prior = torch.distributions.Normal(0, 1)
        posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
        divergence = torch.distributions.kl_divergence(posterior, prior).sum(dim=1).mean().item()
        error = np.mean(
            [
                (model.decode(posterior.sample()) - x).square().sum(dim=1).mean().item()
                for _ in range(3000)
            ]
        )
    assert got == pytest.approx(9 * error + divergence, rel=0.01)
    with torch.no_grad():  # a code equal to the prior costs nothing
        model.mean.weight.zero_(), model.mean.bias.zero_()
        model.log_variance.weight.zero_(), model.log_variance.bias.zero_()
        model.decoder[2].weight.zero_(), model.decoder[2].bias.zero_()
    assert model.loss(x).item() == pytest.approx(x.square().sum(dim=1).mean().item())


@pytest.mark.parametrize("counts", [True, False])
def test_scale_is_undone(counts):
    rng = np.random.default_rng(0)
    X = rng.poisson(9, size=(30, 12)).astype(float) if counts else rng.normal(size=(30, 12))
    X[:, 3] = 4
    torch.manual_seed(0)
    scale = _Scale(X)
    assert scale.counts is counts
    np.testing.assert_allclose(scale.back(scale.genes(scale.scores)), X, atol=1e-8)
    assert (scale.back(np.full((1, 12), 1e6)) <= X.max(axis=0) + 1e-9).all()  # no runaway values


def test_early_stopping_and_storage(caplog):
    rng = np.random.default_rng(0)
    X = rng.poisson(5, size=(220, 6)).astype(np.float32)  # noise: nothing to learn
    codes = np.zeros(220, dtype=int)
    with caplog.at_level("INFO", "omicllm"):
        rows = sample_vae(X, codes, [10], entropy=1, max_epochs=4000, patience=3)
    assert "stopped after" in caplog.text
    same = sample_vae(sparse.csr_matrix(X), codes, [10], entropy=1, max_epochs=4000, patience=3)
    assert sparse.issparse(same)
    np.testing.assert_array_equal(same.toarray(), rows)
    assert sample_vae(X, codes, [0], entropy=1, max_epochs=1).shape == (0, 6)
