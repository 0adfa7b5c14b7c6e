"""The projection encoder: residuals as in `stats`, sections, axes, genes without counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omicllm.nn.projection import ImageProjection
from omicllm.stats.residuals import pearson_residuals


def made(bounds=(0, 30), n_axes: int = 8, n_latent: int = 5, clip: float = 5.0):
    """A network on made-up axes and depths, and counts with an empty gene in row 2."""
    rng = np.random.default_rng(0)
    n = bounds[-1]
    counts = rng.poisson(rng.uniform(0.1, 3, (7, 1)), (7, n)).astype(np.float32)
    counts[0, 3] = 400  # one spot that would place the gene alone
    counts[2] = 0
    depth = rng.uniform(1, 4, n)
    share = np.concatenate(
        [depth[a:b] / depth[a:b].sum() for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    )
    axes = np.linalg.qr(rng.normal(size=(n, n_axes)))[0].astype(np.float32)
    gain = rng.uniform(0.5, 2, n_axes).astype(np.float32)
    network = ImageProjection(n, n_axes, n_latent, bounds=bounds, clip=clip)
    network.set_axes(axes, gain, share)
    return network, torch.from_numpy(counts), axes, gain, share


def test_residuals_are_those_of_stats() -> None:
    network, counts, _, _, share = made()
    wanted = pearson_residuals(counts.numpy(), share, clip=5.0)
    np.testing.assert_allclose(network.residuals(counts).numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert wanted.max() == 5.0
    loose, *_ = made(clip=1000.0)
    assert loose.residuals(counts).max() > 5.0


def test_sections_have_totals_of_their_own() -> None:
    network, counts, axes, gain, share = made(bounds=(0, 12, 30))
    parts = [
        pearson_residuals(counts.numpy()[:, a:b], share[a:b], clip=5.0)
        for a, b in ((0, 12), (12, 30))
    ]
    residuals = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(network.residuals(counts).numpy(), residuals, rtol=1e-4, atol=1e-5)
    projected = network.project(counts)
    wanted = residuals @ axes * gain
    np.testing.assert_allclose(projected.numpy(), wanted, rtol=1e-3, atol=1e-4)
    by_section = network.project_sections(counts)
    assert by_section.shape == (2, 7, 8)
    torch.testing.assert_close(by_section.sum(0), projected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        by_section[1].numpy(), parts[1] @ axes[12:] * gain, rtol=1e-3, atol=1e-4
    )


def test_shown_pixels_add_up() -> None:
    network, counts, *_ = made(bounds=(0, 12, 30))
    half = torch.arange(30) % 2 == 0
    for project in (network.project, network.project_sections):
        both = project(counts, half) + project(counts, ~half)
        torch.testing.assert_close(both, project(counts), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(project(counts, half), project(counts))


def test_embedding_is_unit_and_zero_for_empty_genes() -> None:
    network, counts, *_ = made()
    z = network(counts)
    assert z.shape == (7, network.n_latent)
    lengths = z.norm(dim=1).detach().numpy()
    np.testing.assert_allclose(lengths[[0, 1, 3, 4, 5, 6]], 1.0, rtol=1e-5)
    assert (z[2] == 0).all()
    z.square().mean().backward()
    assert torch.isfinite(network.map.weight.grad).all()
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {"map.weight"}


def test_starts_on_the_leading_axes() -> None:
    network, counts, *_ = made()
    y = network.project(counts)
    y = y / y.norm(dim=1, keepdim=True).clamp_min(1e-12)
    z = y[:, :5] / y[:, :5].norm(dim=1, keepdim=True).clamp_min(1e-12)
    torch.testing.assert_close(network(counts).detach(), z, rtol=1e-4, atol=1e-5)


def test_too_few_axes() -> None:
    with pytest.raises(ValueError, match="n_latent=9 is more than the 8 axes"):
        ImageProjection(30, 8, 9)


def test_making_one_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    ImageProjection(30, 8, 5)
    assert torch.equal(torch.get_rng_state(), before)
