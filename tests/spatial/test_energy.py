"""Distance to null images: its formula, what noise gives, p values under either null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from omicllm.spatial.energy import GraphScorer, PatternScorer, pattern_energy
from omicllm.spatial.moran import morans_i

SIDE = 18
N = SIDE**2
WHOLE = np.array([0, N])


@pytest.fixture
def setting():
    """Depth that follows the tissue, and three orthonormal axes that do so too."""
    rng = np.random.default_rng(0)
    y, x = np.divmod(np.arange(N), SIDE) / np.array([SIDE])
    share = (0.3 + x) * rng.gamma(5.0, size=N)
    axes = np.linalg.qr(np.stack([np.cos(3 * x), np.sin(4 * y), np.cos(3 * x * y)], axis=1))[0]
    return share / share.sum(), axes, np.array([3.0, 1.0, 0.5])


def by_chance(share, n_genes, rng):
    rate = np.exp(rng.uniform(4, 8, n_genes))[:, None] * share
    return rng.poisson(rate * rng.gamma(2.0, 0.5, rate.shape))


def counts_of(x):
    return sparse.csc_matrix(x.T.astype(np.float32))


def test_score_is_the_distance_to_null_images_less_noise(setting):
    share, axes, weights = setting
    rng = np.random.default_rng(1)
    x = by_chance(share, 40, rng).astype(np.float32)
    scorer = PatternScorer(share, WHOLE, axes, weights, free=False)
    r = scorer.fit(x).residuals(x)
    K = (axes * weights) @ axes.T
    np.fill_diagonal(K, 0)
    q, z, skewness = scorer(x)
    np.testing.assert_allclose(q, np.einsum("gi,ij,gj->g", r, K, r), rtol=1e-3, atol=1e-3)
    # Permuted residuals have the mean, spread and skewness that are taken off and divided by.
    null = np.stack([scorer.of_residuals(rng.permuted(r, axis=1))[1] for _ in range(1000)])
    assert abs(null.mean()) < 0.03 and abs(null.std() - 1) < 0.03
    assert abs(stats.skew(null, axis=0).mean() / skewness.mean() - 1) < 0.1
    score, _ = pattern_energy(counts_of(x), scorer, nulls=("zinb",), n_null=20, rng=rng)
    np.testing.assert_allclose(score, q / weights.sum(), rtol=1e-4)
    flat = scorer(np.zeros((2, N), dtype=np.float32))
    assert np.isnan(flat).all()


def test_graph_form_is_morans_i_of_the_residuals(setting):
    share = setting[0]
    rng = np.random.default_rng(2)
    graph = sparse.random_array((N, N), density=0.02, rng=rng)
    x = by_chance(share, 15, rng).astype(np.float32)
    scorer = GraphScorer(share, WHOLE, graph, free=False)
    r = scorer.fit(x).residuals(x)
    wanted, _ = morans_i([(slice(0, 15), r.T)], 15, graph)
    np.testing.assert_allclose(scorer(x)[0] / scorer.scale, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "nulls,free", [(("zinb",), False), (("zinb", "permuted"), True), (("spots",), False)]
)
def test_p_values(setting, nulls, free):
    share, axes, weights = setting
    rng = np.random.default_rng(3)
    chance = by_chance(share, 1500, rng)
    if nulls[-1] == "permuted":
        chance[::2] = rng.permuted(chance[::2], axis=1)
    elif nulls[-1] == "spots":  # depth moves with the counts: nothing else is exchangeable
        order = rng.permutation(N)
        share, chance = share[order], chance[:, order]
    pattern = np.exp(1.5 * np.sqrt(N) * axes[:, 1] * 0.5)
    planted = rng.poisson(np.full((60, 1), 800.0) * share * pattern / (share @ pattern))
    counts = counts_of(np.concatenate([chance, planted]))
    scorer = PatternScorer(share, WHOLE, axes, weights, free=free)
    score, p = pattern_energy(counts, scorer, nulls=nulls, n_null=150, rng=np.random.default_rng(4))
    assert (p[1500:] < 1e-4).all() and score[1500:].min() > 1
    assert abs(score[:1500].mean()) < 0.5 < score[1500:].mean()
    for level in (0.5, 0.1, 0.01, 0.001):
        share_below = (p[:1500] < level).mean()
        bound = 5 * np.sqrt(level / 1500)
        # The larger of two p values may be too large, never too small.
        assert share_below - level < bound and (len(nulls) > 1 or level - share_below < bound)
    threads = pattern_energy(
        counts, scorer, nulls=nulls, n_null=150, rng=np.random.default_rng(4), n_jobs=3
    )
    np.testing.assert_array_equal(threads, (score, p))
