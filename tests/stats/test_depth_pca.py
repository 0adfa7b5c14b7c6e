"""Square roots and weighted principal components against dense algebra."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from omicllm.stats.depth_pca import depth_weights, square_root, weighted_scores


def test_weights_and_roots_by_hand():
    depth = np.array([0.0, 10.0, 20.0, 40.0])
    np.testing.assert_allclose(depth_weights(depth), [1e-4, 0.5, 1.0, 1.0])
    counts = sparse.csr_matrix(np.array([[0, 0], [5, 1], [0, 4], [9, 16]], dtype=np.float32))
    before = counts.copy()
    root = square_root(counts, depth).toarray()
    np.testing.assert_allclose(root**2, [[0, 0], [10, 2], [0, 4], [4.5, 8]])
    assert (counts != before).nnz == 0
    poor = square_root(sparse.csr_matrix(np.ones((3, 1))), np.array([1.0, 20.0, 20.0]))
    np.testing.assert_allclose(poor.toarray()[0] ** 2, 5.0)  # a fifth of the median, not 20


def test_scores_equal_dense_ones():
    rng = np.random.default_rng(0)
    Y, w = rng.poisson(2.0, size=(60, 12)).astype(float), rng.uniform(0.1, 1, 60)
    groups = np.repeat([0, 1], 30)
    Z = Y.copy()
    for g in (0, 1):
        Z[groups == g] -= np.average(Y[groups == g], axis=0, weights=w[groups == g])
    values, axes = np.linalg.eigh((Z * w[:, None]).T @ Z / w.sum())
    wanted = Z @ axes[:, ::-1][:, :4]
    found = weighted_scores(sparse.csc_matrix(Y), 4, w, groups)
    sign = np.sign((wanted * found).sum(axis=0))
    np.testing.assert_allclose(found, wanted * sign, atol=1e-9)
    np.testing.assert_allclose(np.average(found**2, axis=0, weights=w), values[::-1][:4], rtol=1e-9)


def test_no_more_components_than_there_can_be():
    Y = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, size=(30, 5)).astype(float))
    assert weighted_scores(Y, 20, np.ones(30), np.zeros(30, dtype=int)).shape == (30, 5)
