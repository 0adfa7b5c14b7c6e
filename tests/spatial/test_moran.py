"""Moran's I against scanpy and its formula, p values against permutations and under chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

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


def test_equals_the_formula_in_any_storage():
    rng = np.random.default_rng(5)
    X = rng.poisson(0.8, (70, 25)).astype(np.float32) * np.float32(0.37) + np.float32(4.0)
    X[:, ::3] = rng.poisson(0.3, (70, 9))
    W = np.triu(rng.random((70, 70)) < 0.1, 1) * rng.random((70, 70))
    z = X.astype(np.float64)
    z -= z.mean(axis=0)
    wanted = 70 / W.sum() * np.einsum("ig,ij,jg->g", z, W, z) / (z**2).sum(axis=0)
    twice = sparse.csc_matrix(X)
    twice = sparse.csc_matrix(
        (np.repeat(twice.data / 2, 2), np.repeat(twice.indices, 2), 2 * twice.indptr), shape=X.shape
    )  # every value as two halves, which add up
    storages = (
        X, np.asfortranarray(X), X.astype(np.float64), sparse.csc_matrix(X), twice,
        sparse.csc_matrix(X.astype(np.float64)),
    )  # fmt: skip
    for shown in storages:
        before = shown.copy()
        index, _ = morans_i([(slice(0, 25), shown)], 25, sparse.csr_matrix(W))
        np.testing.assert_allclose(index, wanted, rtol=1e-10)
        assert (before != shown).sum() == 0
    index, _ = morans_i([(slice(0, 9), X[:, ::3].astype(int))], 9, W)
    np.testing.assert_allclose(index, wanted[::3], rtol=1e-10)


def test_p_values_are_those_of_permutations():
    rng = np.random.default_rng(6)
    mean = np.repeat([0.15, 0.5, 3.0], 20)
    X = rng.negative_binomial(0.7, 0.7 / (0.7 + mean), (225, 60)).astype(np.float64)
    X[:, ::2] += rng.poisson(mean[::2], (225, 30)) * (np.arange(225)[:, None] < 60)
    W = lattice(15)
    z = X - X.mean(axis=0)
    found = np.einsum("ig,ig->g", z, W @ z)
    above, n_draws = np.zeros(60), 3000
    for _ in range(n_draws):
        v = rng.permuted(z, axis=0)
        above += np.einsum("ig,ig->g", v, W @ v) >= found - 1e-9
    share = above / n_draws
    _, p = morans_i([(slice(0, 60), X)], 60, W)
    error = np.sqrt(np.maximum(share * (1 - share), 1 / n_draws) / n_draws)
    assert (share < 0.05).sum() > 8 and (np.abs(p - share) < 4 * error + 0.02).all()


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
