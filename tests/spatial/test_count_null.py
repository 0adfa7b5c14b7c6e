"""Null images: the depth of spots is followed, zeros and variance are those of the gene."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm.spatial.count_null import draw_permuted, draw_zinb, fit_depth

N = 3000
WHOLE = np.array([0, N])


@pytest.fixture
def share():
    depth = np.random.default_rng(0).gamma(2.0, size=N) + 0.1
    return depth / depth.sum()


def drawn(mean, dispersion=0.0, zeros=0.0, rng=None):
    """Zero-inflated negative binomial counts, from its definition."""
    rng = rng or np.random.default_rng(1)
    rate = mean / (1 - zeros)
    if dispersion:
        rate = rate * rng.gamma(1 / dispersion, dispersion, size=rate.shape)
    return (rng.poisson(rate) * (rng.random(rate.shape) >= zeros)).astype(np.float32)


def test_residuals_have_variance_one_whatever_makes_a_gene_vary(share):
    mean = np.geomspace(300, 60_000, 60)[:, None] * share
    for dispersion, zeros in ((0.0, 0.0), (0.8, 0.0), (0.3, 0.4)):
        x = drawn(mean, dispersion, zeros)
        fit = fit_depth(x, share, WHOLE, free=False)
        np.testing.assert_allclose(fit.mean.sum(axis=1), x.sum(axis=1), rtol=1e-4)
        wanted = (zeros + dispersion) / (1 - zeros)
        assert abs(np.median(fit.alpha[20:]) - wanted) < 0.05 + 0.1 * wanted
        r = fit.residuals(x)
        np.testing.assert_allclose(r.mean(axis=1), 0, atol=1e-4)
        np.testing.assert_allclose(r.std(axis=1), 1, atol=1e-3)
        deep = share > np.median(share)
        ratio = r[20:, deep].var(axis=1).mean() / r[20:, ~deep].var(axis=1).mean()
        assert 0.8 < ratio < 1.25, "spots of every depth count alike"


def test_a_gene_that_ignores_depth_gets_an_exponent_of_zero(share):
    follows = drawn(np.full((30, 1), 6000.0) * share, 0.5)
    ignores = np.random.default_rng(2).permuted(follows, axis=1)
    bounds = np.array([0, 1000, N])  # two sections, fitted apart
    sections = np.concatenate([s / s.sum() for s in (share[:1000], share[1000:])])
    for x, exponent in ((follows, 1.0), (ignores, 0.0)):
        fit = fit_depth(x, sections, bounds, free=True)
        for s in (slice(0, 1000), slice(1000, N)):
            slope = np.polyfit(np.log(sections[s]), np.log(fit.mean[:, s].T), 1)[0]
            assert abs(slope.mean() - exponent) < 0.06 and slope.std() < 0.15
            np.testing.assert_allclose(fit.mean[:, s].sum(1), x[:, s].sum(1), rtol=0.05)


def test_drawn_images_have_the_mean_variance_and_zeros_of_the_gene(share):
    rng = np.random.default_rng(3)
    for dispersion, zeros in ((0.0, 0.0), (0.6, 0.0), (0.5, 0.3)):
        x = drawn(np.full((200, 1), 4500.0) * share, dispersion, zeros, rng)
        out = draw_zinb(x, fit_depth(x, share, WHOLE, free=False), rng)
        assert out.dtype == np.float32 and (out >= 0).all() and (out % 1 == 0).all()
        for measure, tolerance in ((np.mean, 0.02), (np.var, 0.06)):
            assert abs(measure(out) / measure(x) - 1) < tolerance
        assert abs((out == 0).mean() - (x == 0).mean()) < 0.02
        shallow = share < np.quantile(share, 0.2)
        np.testing.assert_allclose(out[:, shallow].mean(), x[:, shallow].mean(), rtol=0.06)


def test_permuted_images_keep_values_and_sections():
    x = np.arange(40, dtype=np.float32).reshape(2, 20)
    out = draw_permuted(x, np.array([0, 8, 20]), np.random.default_rng(0))
    assert (out != x).any()
    for s in (slice(0, 8), slice(8, 20)):
        np.testing.assert_array_equal(np.sort(out[:, s], axis=1), x[:, s])


def test_empty_genes_do_no_harm(share):
    x = np.zeros((2, N), dtype=np.float32)
    for free in (True, False):
        fit = fit_depth(x, share, WHOLE, free=free)
        assert (fit.residuals(x) == 0).all()
        assert (draw_zinb(x, fit, np.random.default_rng(0)) == 0).all()
