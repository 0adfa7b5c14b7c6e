"""Column moments over blocks."""

from __future__ import annotations

import numpy as np

from omicllm.stats import scaling


def test_blocks_give_the_moments_of_the_whole():
    X = np.random.default_rng(0).normal(1e6, 1, size=(101, 7))
    blocks = [X[:1], X[1:1], X[1:40], X[40:]]
    n, mean, variance = scaling.moments(blocks, 7)
    assert n == 101
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, X.var(axis=0), rtol=1e-6)


def test_a_constant_column_has_scale_one():
    X = np.full((50, 2), 0.1)
    X[:, 1] = np.arange(50) % 2
    _, mean, variance = scaling.moments([X[:13], X[13:]], 2)
    np.testing.assert_allclose(scaling.scales(mean, variance), [1, 0.5])
