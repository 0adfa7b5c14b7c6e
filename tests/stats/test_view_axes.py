"""Common axes of views: CCA and Procrustes against closed forms, genes that lack a view."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from omicllm.stats.view_axes import (
    Basis,
    axis_agreement,
    generalised_cca,
    joint_positions,
    present,
    procrustes,
)


def planted(n=200, d=(7, 5), noise=1.0, k=2, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k))
    return [z @ rng.normal(size=(k, w)) + noise * rng.normal(size=(n, w)) + 3 for w in d]


def bases(views, k=50):
    return [Basis.of(X, k) for X in views]


@pytest.mark.parametrize("shape", [(60, 8), (20, 45)])
def test_basis_is_pca(shape):
    from sklearn.decomposition import PCA

    X = np.random.default_rng(0).normal(size=shape) + 5
    basis, pca = Basis.of(X, 6), PCA(6).fit(X)
    np.testing.assert_allclose(basis.scale, pca.singular_values_)
    np.testing.assert_allclose(np.abs(basis.scores(X)), np.abs(pca.transform(X)), atol=1e-9)
    flat = np.hstack([X[:, :2], X[:, :2]])
    assert len(Basis.of(flat, 10).scale) == 2, "axes without variance are dropped"


def test_two_views_are_canonical_correlation_analysis():
    from sklearn.cross_decomposition import CCA

    A, B = planted()
    found = generalised_cca([A, B], bases([A, B]), n_axes=3, regularization=0.0)
    qa, qb = (np.linalg.qr(X - X.mean(0))[0] for X in (A, B))
    rho = np.linalg.svd(qa.T @ qb)[1][:3]
    np.testing.assert_allclose(found.strength, (1 + rho) / 2)
    placed = found.place([A, B])
    np.testing.assert_allclose(axis_agreement(placed), rho)
    np.testing.assert_allclose(placed.std(axis=1), 1.0)
    reference = CCA(3, max_iter=5000, tol=1e-12).fit(A, B).transform(A, B)
    for v in range(2):
        r = [np.corrcoef(placed[v, :, i], reference[v][:, i])[0, 1] for i in range(3)]
        np.testing.assert_allclose(np.abs(r), 1.0, atol=1e-4)


def test_three_views_maximise_the_sum_of_projections():
    views = planted(d=(6, 5, 4))
    found = generalised_cca(views, bases(views), n_axes=2, regularization=0.5)
    total = 0
    for X in views:
        X = X - X.mean(0)
        ridge = 0.5 * (X**2).sum() / X.shape[1]
        total = total + X @ np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T)
    value, vector = np.linalg.eigh(total)
    np.testing.assert_allclose(found.strength, value[::-1][:2] / 3)
    mean = found.place(views).sum(axis=0)
    assert abs(np.corrcoef(mean[:, 0], vector[:, -1])[0, 1]) > 0.98


def test_procrustes_undoes_a_rotation():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(80, 5)) * [5, 4, 3, 2, 1]
    B = 7 * A @ ortho_group.rvs(5, random_state=1) + 2
    found = procrustes([A, B], bases([A, B]), n_axes=5)
    a, b = found.place([A, B])
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(found.strength, 1.0)
    # Distances are kept: nothing is stretched.
    gap = np.linalg.norm(a[:10] - a[10:20], axis=1)
    true = np.linalg.norm(A[:10] - A[10:20], axis=1)
    np.testing.assert_allclose(gap / true, (gap / true)[0])
    # Two noisy views: the turn of one to the other is the classical one.
    C = A + rng.normal(size=A.shape)
    a, c = procrustes([A, C], bases([A, C]), n_axes=5).place([A, C])
    R = orthogonal_procrustes(a, c)[0]
    np.testing.assert_allclose(R, np.eye(5), atol=1e-3)


def test_genes_with_some_views_are_placed_by_these():
    views = planted(n=300, d=(6, 5, 4), noise=0.3)
    found = generalised_cca(views, bases(views), n_axes=2, regularization=0.01)
    placed = found.place(views)
    has = np.ones((3, 300), dtype=bool)
    whole = joint_positions(placed, has)
    np.testing.assert_allclose(whole, placed.mean(axis=0), atol=1e-9)
    has[0, :50], has[1:, 50:90], has[:, 90] = False, False, False
    placed[~has] = np.nan
    some = joint_positions(placed, has)
    np.testing.assert_array_equal(some[90], 0)
    for rows in (slice(0, 50), slice(50, 90)):
        r = [np.corrcoef(some[rows, i], whole[rows, i])[0, 1] for i in range(2)]
        assert min(r) > 0.9
    # With one view of three less is known: nearer to the origin than the view itself says.
    assert np.linalg.norm(some[50:90]) < np.linalg.norm(placed[0, 50:90])


def test_present():
    X = np.array([[0, 0], [1, 0], [np.nan, 1], [0, np.inf]])
    assert present(X).tolist() == [False, True, False, False]
