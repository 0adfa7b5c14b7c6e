"""`stats.class_genes`: moderated t, choice of genes, ridge weights."""

from __future__ import annotations

import numpy as np

from omicllm.stats.class_genes import ClassMoments, class_genes, ridge_weights


def test_moderated_t_against_scipy():
    from scipy import stats

    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(20, 5)), np.arange(20) % 2
    X[:, 4] = 1
    moments = ClassMoments(2, 5)
    moments.add(X[:7], codes[:7])
    moments.add(X[7:], codes[7:])
    a, b = X[codes == 0], X[codes == 1]
    s = np.sqrt((9 * a.var(0, ddof=1) + 9 * b.var(0, ddof=1)) / 18)
    t = stats.ttest_ind(a[:, :4], b[:, :4]).statistic
    ours = moments.t_statistics()
    s0 = np.median(s[:4])
    np.testing.assert_allclose(ours[0, :4], t * s[:4] / (s[:4] + s0))
    np.testing.assert_allclose(ours[1], -ours[0])
    assert ours[0, 4] == 0
    np.testing.assert_allclose(moments.sd, X.std(axis=0))


def test_classes_take_turns():
    t = np.array([[5.0, 4, 3, 0, 0, 0], [0, 0, 0, 1, -2, 0.5]])
    assert class_genes(t, 4).tolist() == [0, 4, 1, 3]
    allowed = np.array([False, True, True, True, True, True])
    assert class_genes(t, 2, allowed=allowed).tolist() == [1, 4]
    assert len(class_genes(t, 50)) == 6


def test_ridge_weights_solve_weighted_least_squares():
    rng = np.random.default_rng(0)
    Z, codes = rng.normal(size=(15, 4)), np.array([0] * 10 + [1] * 5)
    W = ridge_weights(Z, codes, 2, 0.3)
    w = 1 / np.bincount(codes)[codes]
    w /= w.mean()
    lam = 0.3 * np.trace(Z @ Z.T) / 15
    Y = np.eye(2)[codes] - 0.5
    wanted = np.linalg.solve(Z.T @ (w[:, None] * Z) + lam * np.eye(4), Z.T @ (w[:, None] * Y))
    np.testing.assert_allclose(W, wanted)
