"""Permutation moments against all permutations, tail probabilities against scipy."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import sparse, stats

from omicllm.spatial import permutation


def test_moments_are_those_of_all_permutations():
    rng = np.random.default_rng(1)
    z = rng.exponential(size=7)
    z -= z.mean()
    power = np.array([[(z**k).sum()] for k in range(7)])
    power[1] = 0
    A = rng.normal(size=(7, 2))
    K = A @ A.T
    W = permutation.symmetric_weights(sparse.random_array((7, 7), density=0.4, rng=rng))
    cases = (
        (W.toarray(), permutation.graph_sums(W)),
        (K - np.diag(np.diag(K)), permutation.low_rank_sums(A)),
    )
    for dense, sums in cases:
        all_values = np.array([
            z[list(o)] @ dense @ z[list(o)] for o in itertools.permutations(range(7))
        ])  # fmt: skip
        mean, variance, third = permutation.permutation_moments(sums, power)
        np.testing.assert_allclose(mean, all_values.mean(), rtol=1e-5)
        np.testing.assert_allclose(variance, all_values.var(), rtol=1e-5)
        central = ((all_values - all_values.mean()) ** 3).mean()
        np.testing.assert_allclose(third, central, rtol=1e-4)


def test_sums_of_axes_are_those_of_the_full_matrix():
    A = np.random.default_rng(2).normal(size=(50, 3))
    K = A @ A.T
    np.fill_diagonal(K, 0)
    dense = permutation.graph_sums(sparse.csr_matrix(K))
    for block in (7, 1024):
        sums = permutation.low_rank_sums(A, block=block)
        np.testing.assert_allclose(sums.pairs, dense.pairs, rtol=1e-4)
        np.testing.assert_allclose(sums.triples, dense.triples, rtol=1e-4)


def test_tail_is_pearson_type_three():
    z = np.array([-1.0, 0.0, 2.0, 5.0])
    for skew in (0.0, 0.7, -0.4):
        wanted = stats.pearson3.sf(z, skew)
        np.testing.assert_allclose(permutation.upper_tail(z, skew), wanted, atol=1e-12)


def test_weights_are_made_symmetric_without_a_diagonal():
    rng = np.random.default_rng(3)
    W, z = rng.random((6, 6)), rng.normal(size=6)
    out = permutation.symmetric_weights(sparse.csr_matrix(W)).toarray()
    np.testing.assert_array_equal(out, out.T)
    assert (np.diag(out) == 0).all()
    np.testing.assert_allclose(z @ out @ z, z @ (W - np.diag(np.diag(W))) @ z)
