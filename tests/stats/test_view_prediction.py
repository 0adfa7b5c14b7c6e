"""One view predicted from another: against scikit-learn, honest nulls, no leaks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from omicllm.stats.gene_views import ViewOptions, compare_views
from omicllm.stats.shared_neighbors import (
    combined_p,
    common_neighbors,
    neighbor_lists,
    overlap_p,
)
from omicllm.stats.view_axes import Basis
from omicllm.stats.view_prediction import (
    _PENALTIES,
    FoldScores,
    gene_folds,
    pair_scores,
    permutation_p,
    shuffled_within,
    step_down,
)


def fold_scores(X, fold, k=50, regularization=0.1):
    target = Basis.of(X, k).scores(X)
    return [
        FoldScores.of(X, Basis.of(X[fold != f], k), target, fold != f, regularization)
        for f in range(fold.max() + 1)
    ]


def compared(A, B, *, seed=0, n=49, groups=None, n_folds=5):
    rng = np.random.default_rng(seed)
    fold = gene_folds(len(A), n_folds, rng, groups)
    a, b = fold_scores(A, fold), fold_scores(B, fold)
    orders = [np.arange(len(A))] + [shuffled_within(fold, rng, groups) for _ in range(n)]
    found = [pair_scores(a, b, fold, o, n_axes=3) for o in orders]
    r2, along = (np.stack([getattr(s, f) for s in found]) for f in ("r2", "canonical"))
    return found[0], permutation_p(r2[0], r2[1:]), permutation_p(along[0], along[1:])


def shared_factor(n, share, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 1))
    return [share * z @ rng.normal(size=(1, d)) + rng.normal(size=(n, d)) for d in (8, 6)]


def test_held_out_scores_are_those_of_sklearn():
    from sklearn.linear_model import Ridge

    A, B = shared_factor(90, 1.0)
    fold = np.arange(90) % 3
    found = pair_scores(fold_scores(A, fold), fold_scores(B, fold), fold, np.arange(90), n_axes=2)
    for way, (X, Y) in enumerate(((A, B), (B, A))):
        predicted, mean = np.zeros_like(Y), np.zeros_like(Y)
        for f in range(3):
            train, test = fold != f, fold == f
            centred = X[train] - X[train].mean(0)
            best = np.inf
            for penalty in _PENALTIES * (centred**2).sum() / X.shape[1]:
                model = Ridge(penalty).fit(X[train], Y[train])
                gram = centred.T @ centred
                df = np.trace(np.linalg.solve(gram + penalty * np.eye(len(gram)), gram)) + 1
                left = Y[train] - model.predict(X[train])
                gcv = (left**2).sum() / (train.sum() - df) ** 2
                if gcv < best:
                    best, predicted[test] = gcv, model.predict(X[test])
            mean[test] = Y[train].mean(0)
        r2 = 1 - ((Y - predicted) ** 2).sum() / ((Y - mean) ** 2).sum()
        r = ((Y - mean) * (predicted - mean)).sum() / np.sqrt(
            ((Y - mean) ** 2).sum() * ((predicted - mean) ** 2).sum()
        )
        np.testing.assert_allclose([found.r2[way], found.correlation[way]], [r2, r], rtol=1e-6)


def test_held_out_canonical_correlation_by_hand():
    A, B = shared_factor(80, 1.0)
    fold = np.arange(80) % 2
    found = pair_scores(
        fold_scores(A, fold, regularization=0.0), fold_scores(B, fold, regularization=0.0), fold,
        np.arange(80), n_axes=2,
    )  # fmt: skip
    wanted = []
    for f in range(2):
        train, test = fold != f, fold == f
        qa, ra = np.linalg.qr(A[train] - A[train].mean(0))
        qb, rb = np.linalg.qr(B[train] - B[train].mean(0))
        left, _, right = np.linalg.svd(qa.T @ qb)
        u = A[test] @ np.linalg.solve(ra, left[:, :2])
        v = B[test] @ np.linalg.solve(rb, right[:2].T)
        wanted.append([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(2)])
    np.testing.assert_allclose(found.canonical, np.mean(wanted, axis=0))


def test_independent_views_give_uniform_p():
    p, first = [], []
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        _, r2, along = compared(rng.normal(size=(60, 5)), rng.normal(size=(60, 4)), seed=seed, n=39)
        p.append(r2[0])
        first.append(along[0])
    for values in (p, first):
        assert kstest(values, "uniform").pvalue > 0.01
        assert np.mean(np.array(values) <= 0.1) < 0.25


def test_a_shared_factor_is_found_and_no_second_one():
    A, B = shared_factor(150, 0.8)
    scores, p, along = compared(A, B, n=99)
    assert (p == 0.01).all() and (scores.r2 > 0.03).all()
    assert scores.canonical[0] > 0.4 and along[0] == 0.01
    assert abs(scores.canonical[1]) < 0.3 and step_down(along)[1] > 0.05


def test_nothing_leaks_from_genes_left_out():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(60, 100)), rng.normal(size=(60, 30))  # room to learn by heart
    fold = np.arange(60) % 5
    scores = pair_scores(fold_scores(A, fold), fold_scores(B, fold), fold, np.arange(60), n_axes=3)
    assert (scores.r2 < 0.05).all() and (np.abs(scores.canonical) < 0.35).all()
    changed = A.copy()
    changed[fold == 0] = 1e3 * rng.normal(size=(12, 100))
    before, after = fold_scores(A, fold)[0], fold_scores(changed, fold)[0]
    np.testing.assert_array_equal(before.unit[fold != 0], after.unit[fold != 0])
    np.testing.assert_array_equal(before.scale, after.scale)


def test_paralogues_predict_each_other_unless_kept_together():
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(40), 3)
    A = rng.normal(size=(40, 6))[family] + 0.2 * rng.normal(size=(120, 6))
    B = rng.normal(size=(40, 5))[family] + 0.2 * rng.normal(size=(120, 5))
    # The two views of a family have nothing to do with each other, yet single genes say otherwise.
    assert compared(A, B, n=19)[1][0] == 0.05
    p = [compared(A, B, n=19, groups=family, seed=s)[1][0] for s in range(5)]
    assert np.mean(p) > 0.2


@pytest.mark.parametrize("groups", [None, np.random.default_rng(1).integers(0, 15, 60)])
def test_genes_stay_in_their_folds(groups):
    rng = np.random.default_rng(0)
    fold = gene_folds(60, 4, rng, groups)
    order = shuffled_within(fold, rng, groups)
    assert sorted(order) == list(range(60)) and (order != np.arange(60)).any()
    np.testing.assert_array_equal(fold[order], fold)
    if groups is None:
        assert np.bincount(fold).tolist() == [15] * 4
    else:
        assert all(len(set(fold[groups == g])) == 1 for g in groups)


def test_neighbours_in_common():
    rng = np.random.default_rng(0)
    Z, other = rng.normal(size=(2, 40, 5))
    a, b = neighbor_lists(Z, 6), neighbor_lists(other, 6)
    same = np.arange(40)
    wanted = [len(set(x) & set(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert common_neighbors(a, b, same).sum(axis=1).tolist() == wanted
    assert common_neighbors(a, a, same).all()
    order = rng.permutation(40)
    moved = neighbor_lists(other[order], 6)
    np.testing.assert_array_equal(
        common_neighbors(a, b, order).sum(axis=1), common_neighbors(a, moved, same).sum(axis=1)
    )
    family = np.arange(40) // 4
    assert not (family[neighbor_lists(Z, 6, family)] == family[:, None]).any()


def test_p_of_a_gene_is_that_of_permutations():
    rng = np.random.default_rng(0)
    Z, other = rng.normal(size=(2, 30, 4))
    a, b = neighbor_lists(Z, 5), neighbor_lists(other, 5)
    drawn = np.array([common_neighbors(a, b, rng.permutation(30))[7].sum() for _ in range(4000)])
    for overlap in range(4):
        exact = overlap_p(np.array([overlap]), 5, np.array([29]))[0]
        assert abs(exact - (drawn >= overlap).mean()) < 0.03
    combined = combined_p([np.array([0.01, 0.9]), np.array([0.5, 0.8])])
    np.testing.assert_allclose(combined, [0.02, 1.0])


@pytest.mark.parametrize("method", ["cca", "procrustes"])
def test_whole_comparison(method):
    A, B = shared_factor(120, 1.5)
    views = [A, B, np.random.default_rng(5).normal(size=(120, 5))]
    has = np.ones((3, 120), dtype=bool)
    has[0, :6] = False
    options = ViewOptions(method=method, n_axes=4, n_permutations=19, n_neighbors=8)
    found = compare_views(views, has, np.random.default_rng(0), options)
    assert found.joint.shape == (120, 4) and found.placed.shape == (120, 3, 4)
    assert np.isnan(found.placed[:6, 0]).all() and np.isfinite(found.placed[6:]).all()
    assert np.abs(found.joint[:6]).sum() > 0, "placed by the views they have"
    rows = {
        (s, t): p
        for s, t, p in zip(
            *(found.prediction[c] for c in ("source", "target", "pval")), strict=True
        )
    }
    assert rows[0, 1] == rows[1, 0] == 0.05 and len(rows) == 6
    # The shared factor leads the joint axes; the others are turned down.
    lead = np.argmax(found.agreement)
    assert found.agreement[lead] > 0.15 and np.isnan(found.share[:6]).all()
    shared = np.linalg.svd(np.hstack(views[:2]) - np.hstack(views[:2]).mean(0))[0][:, 0]
    assert abs(np.corrcoef(found.joint[6:, lead], shared[6:])[0, 1]) > 0.8
    for gene, other in zip(found.alike["gene"][:20], found.alike["neighbor"][:20], strict=True):
        assert gene != other and min(gene, other) >= 6
    again = compare_views(views, has, np.random.default_rng(0), options)
    np.testing.assert_array_equal(found.joint, again.joint)
    assert found.prediction == again.prediction
