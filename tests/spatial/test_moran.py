"""Moran's I against scanpy, permutation moments against all permutations, p values under chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse, stats

from omicllm.spatial import permutation
from omicllm.spatial.moran import morans_i


def lattice(side: int) -> sparse.csr_matrix:
    """Four-neighbour weights on a square."""
    line = sparse.diags_array([np.ones(side - 1)], offsets=[1], shape=(side, side))
    eye = sparse.eye_array(side)
    up = sparse.kron(line, eye) + sparse.kron(eye, line)
    return sparse.csr_matrix(up + up.T)


@pytest.mark.parametrize("as_sparse", [True, False])
def test_equals_scanpy_whatever_the_weights(as_sparse):
    import scanpy as sc

    rng = np.random.default_rng(0)
    W = sparse.csr_matrix(sparse.random_array((90, 90), density=0.1, rng=rng))  # directed, weighted
    X = rng.poisson(1.0, (90, 30)) * rng.random((90, 30)) + 50.0 * (np.arange(30) % 2)
    X[:, 4] = 3.7  # constant
    shown = sparse.csc_matrix(X) if as_sparse else X
    groups = [(slice(0, 11), shown[:, :11]), (slice(11, 30), shown[:, 11:])]
    index, p = morans_i(groups, 30, W)
    W.setdiag(0)
    wanted = sc.metrics.morans_i(W, X.T)
    varies = np.arange(30) != 4
    np.testing.assert_allclose(index[varies], wanted[varies], rtol=1e-10)
    assert np.isnan(index[4]) and np.isnan(p[4])
    threads = morans_i(groups, 30, W, n_jobs=2)
    np.testing.assert_array_equal(threads, (index, p))
    alone, none = morans_i(groups, 30, W, p_values=False)
    np.testing.assert_array_equal(alone, index)
    assert np.isnan(none).all()


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


def test_tail_is_pearson_type_three():
    z = np.array([-1.0, 0.0, 2.0, 5.0])
    for skew in (0.0, 0.7, -0.4):
        wanted = stats.pearson3.sf(z, skew)
        np.testing.assert_allclose(permutation.upper_tail(z, skew), wanted, atol=1e-12)


def test_p_values_are_uniform_without_a_pattern():
    rng = np.random.default_rng(2)
    mean = 10 ** rng.uniform(-1.2, 1, 3000)
    X = rng.negative_binomial(0.7, 0.7 / (0.7 + mean), (289, 3000)).astype(np.float64)
    X = X[:, (X > 0).sum(axis=0) >= 28]
    _, p = morans_i([(slice(0, X.shape[1]), sparse.csc_matrix(X))], X.shape[1], lattice(17))
    assert X.shape[1] > 2000 and stats.kstest(p, "uniform").pvalue > 0.01


def test_sections_are_scored_apart():
    rng = np.random.default_rng(3)
    X = rng.poisson(2.0, (450, 400)).astype(np.float64)
    section = np.repeat([0, 1], [225, 225])
    W = sparse.block_diag([lattice(15), lattice(15)], format="csr")
    joined = W.copy().tolil()
    joined[:225, 225:] = 1.0  # edges between sections do not count
    X[225:] += 10.0  # nor do differences between them
    everything = slice(0, 400)
    index, p = morans_i([(everything, X)], 400, joined, sections=section)
    parts = [morans_i([(everything, X[section == s])], 400, lattice(15))[0] for s in (0, 1)]
    np.testing.assert_allclose(index, np.mean(parts, axis=0), rtol=1e-9)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    few = sparse.random_array((450, 400), density=0.01, rng=rng).tocsc()
    few.data[:] = 1.0
    _, p = morans_i([(everything, few)], 400, W, sections=section)
    assert stats.kstest(p[np.isfinite(p)], "uniform").pvalue > 1e-6 and (p < 0.001).mean() < 0.01


def test_no_edges():
    with pytest.raises(ValueError, match="no edges"):
        morans_i([], 0, sparse.csr_matrix((4, 4)))
