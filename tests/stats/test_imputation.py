"""`stats.imputation` and its parts: against independent forms, and on planted data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from omicllm.spatial.averages import neighbor_average
from omicllm.stats import imputation
from omicllm.stats.agreement import gene_pearson
from omicllm.stats.cell_predictors import CellPredictors, NeighborBaseline, standardised
from omicllm.stats.conformal import calibrated


def planted(n=400, m=300, p=40, q=15, seed=0, noise=0.5):
    """Cells of a tissue and of a reference, mixtures of six programs; coordinates follow them."""
    rng = np.random.default_rng(seed)
    load = rng.gamma(0.5, 1.0, (6, p + q))
    mixes = [rng.dirichlet(np.full(6, 0.3), k) for k in (n, m)]
    data = [
        np.log1p(rng.poisson(30 * a @ load) + noise * rng.random((len(a), p + q))) for a in mixes
    ]
    S, R = (x.astype(np.float32) for x in data)
    coords = mixes[0][:, :2] + 0.05 * rng.random((n, 2))
    return S[:, :p], R[:, :p], R[:, p:], S[:, p:], coords


def z(X):
    return np.clip((X - X.mean(0)) / X.std(0), -5, 5)


def test_single_predictors_are_what_they_are_called():
    S, R, T, _, _ = planted(60, 80)
    model = CellPredictors(S, R, T, n_neighbors=7, n_pcs=5)
    got = dict(model.predict(S))
    s, r, t = z(S.astype(float)), z(R.astype(float)), z(T.astype(float))
    us, ur = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (s, r))
    for penalty in (0.3, 3):
        ridge = Ridge(alpha=penalty * len(r), fit_intercept=False).fit(r, t)
        np.testing.assert_allclose(got[f"ridge_{penalty:g}"], ridge.predict(s), atol=2e-4)
    kernel = KernelRidge(alpha=3.0, kernel="precomputed").fit(np.exp(3 * (ur @ ur.T - 1)), t)
    wanted = kernel.predict(np.exp(3 * (us @ ur.T - 1)))
    np.testing.assert_allclose(got["kernel_ridge"], wanted, atol=2e-4)
    weight = np.exp(5 * us @ ur.T)
    wanted = weight @ t / weight.sum(1, keepdims=True)
    np.testing.assert_allclose(got["attention"], wanted, atol=2e-4)
    alike = np.exp(10 * np.corrcoef(r.T, t.T)[: r.shape[1], r.shape[1] :])
    # Clipped z-scores are not quite centred, hence the tolerance.
    np.testing.assert_allclose(got["gene_attention"], s @ (alike / alike.sum(0)), atol=0.02)
    np.testing.assert_allclose(got["mean_z"][:, 3], s.mean(1), atol=1e-5)
    assert [name for name, _ in model.predict(S, ("knn", "mean_z"))] == ["knn", "mean_z"]


def test_knn_baseline_equals_sklearn():
    S, R, T, _, _ = planted(60, 80)
    got = NeighborBaseline(S, R, T, n_neighbors=7, n_pcs=5).predict(S)
    s, r = z(S.astype(float)), z(R.astype(float))
    V = np.linalg.svd(r, full_matrices=False)[2][:5].T
    nearest = NearestNeighbors(n_neighbors=7, metric="cosine").fit(r @ V)
    index = nearest.kneighbors(s @ V, return_distance=False)
    t = (T - T.mean(0)) / T.std(0)
    np.testing.assert_allclose(got, t[index].mean(1), atol=1e-4)


def test_standardised_leaves_constant_columns_at_zero():
    X = np.array([[1.0, 2.0, 100], [1, 4, 0], [1, 6, 0]], dtype=np.float32)
    Z = standardised(X)
    np.testing.assert_allclose(Z[:, 1], [-1.2247, 0, 1.2247], atol=1e-4)
    assert not Z[:, 0].any()


def test_stack_weights_equal_nnls():
    rng = np.random.default_rng(0)
    P, y = rng.normal(size=(200, 4)), rng.normal(size=200)
    y += P @ [1, 0.5, 0, -1]
    wanted = nnls(P, y)[0]
    np.testing.assert_allclose(imputation.stack_weights(P.T @ P, P.T @ y), wanted, atol=1e-5)
    assert wanted[3] == 0


def test_moments_follow_those_of_the_reference():
    rng = np.random.default_rng(0)
    level = rng.uniform(0.5, 3, 60)
    R = rng.normal(level, 0.2 * level, (500, 60)).astype(np.float32)
    S = rng.normal(0.5 * level, 0.1 * level, (500, 60)).astype(np.float32)
    (mean, sd), (mean_out, sd_out) = imputation.moment_model(R[:, :40], S[:, :40], R[:, 40:])
    np.testing.assert_allclose(mean, 0.5 * level[40:], rtol=0.15, atol=0.05)
    np.testing.assert_allclose(sd, 0.1 * level[40:], rtol=0.25)
    # A shared gene's own moments take no part in its own prediction.
    moved = S[:, :40].copy()
    moved[:, 7] += 1.0
    again = imputation.moment_model(R[:, :40], moved, R[:, 40:])[1]
    assert again[0][7] == pytest.approx(mean_out[7]) and again[1][7] == pytest.approx(sd_out[7])


def test_intervals_cover_new_genes():
    rng = np.random.default_rng(0)
    predicted = rng.gamma(2, 1, (800, 80))
    measured = predicted + rng.normal(size=predicted.shape) * (0.3 + 0.3 * predicted)
    intervals = calibrated(predicted[:, :50], measured[:, :50], np.random.default_rng(1))
    low, high = intervals.bounds(predicted[:, 50:])
    assert (low <= predicted[:, 50:]).all() and (high >= predicted[:, 50:]).all()
    inside = (measured[:, 50:] >= low) & (measured[:, 50:] <= high)
    assert 0.88 < inside.mean() < 0.94
    assert 0.88 < intervals.coverage.mean() < 0.95 and len(intervals.coverage) == 50
    wider = calibrated(
        predicted[:, :50], measured[:, :50], np.random.default_rng(1), coverage=0.98
    ).bounds(predicted[:, 50:])
    assert (wider[1] - wider[0]).mean() > (high - low).mean()


def test_planted_genes_are_found():
    S, R, T, truth, coords = planted()
    averages = [neighbor_average(coords, 15)]
    made = imputation.impute(S, R, T, averages, rng=np.random.default_rng(0))
    plain = imputation.impute(S, R, T, rng=np.random.default_rng(0), method="knn")
    ours, knn = (gene_pearson(truth, x.values).mean() for x in (made, plain))
    assert ours > 0.7 and ours > knn
    assert gene_pearson(S, made.heldout).mean() > gene_pearson(S, made.heldout_knn).mean()
    np.testing.assert_allclose(made.heldout_knn, plain.heldout, atol=1e-6)
    inside = (truth >= made.lower) & (truth <= made.upper)
    assert 0.83 < inside.mean() < 0.97
    assert (made.values >= S.min()).all() and made.values.dtype == np.float32
    assert set(made.weights) >= {"attention", "tissue_0"} and not plain.weights
    # The scale is that of the tissue.
    assert np.corrcoef(made.values.mean(0), truth.mean(0))[0, 1] > 0.9


def test_hidden_predictions_do_not_see_the_gene():
    S, R, T, _, _ = planted(120, 90, p=12)
    one = imputation.impute(S, R, T, rng=np.random.default_rng(0), method="knn")
    other = S.copy()
    other[:, 4] = other[::-1, 4]  # same mean and deviation, other cells
    two = imputation.impute(other, R, T, rng=np.random.default_rng(0), method="knn")
    np.testing.assert_allclose(one.heldout[:, 4], two.heldout[:, 4], atol=1e-6)
    assert (np.abs(one.heldout - two.heldout).max(axis=0) > 1e-3).sum() > 5


def test_blocks_and_subsets_of_cells():
    S, R, T, truth, coords = planted()
    averages = [neighbor_average(coords, 15)]
    whole = imputation.impute(S, R, T, averages, rng=np.random.default_rng(0))
    blocks = imputation.impute(S, R, T, averages, rng=np.random.default_rng(0), block_bytes=30_000)
    for name in ("values", "lower", "upper", "heldout"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), atol=2e-4)
    part = imputation.impute(S, R, T, averages, rng=np.random.default_rng(0), max_cells=150)
    assert part.heldout.shape == (150, 40) and part.values.shape == (400, 15)
    assert gene_pearson(truth, part.values).mean() > gene_pearson(truth, whole.values).mean() - 0.03


@pytest.mark.parametrize("method", ["sigel", "knn"])
@pytest.mark.parametrize("with_tissue", [True, False])
def test_a_hidden_gene_takes_no_part_in_its_own_score(method, with_tissue):
    S, R, T, _, coords = planted(120, 100, p=12, q=3)
    averages = [neighbor_average(coords, k) for k in (6, 15)] if with_tissue else []

    def heldout(tissue):
        rng = np.random.default_rng(0)
        return imputation.impute(tissue, R, T, averages, rng=rng, method=method, n_folds=4)

    before = heldout(S)
    for gene in (0, 7):
        shuffled = S.copy()
        shuffled[:, gene] = np.random.default_rng(gene).permutation(S[:, gene])
        after = heldout(shuffled)
        np.testing.assert_array_equal(after.heldout[:, gene], before.heldout[:, gene])
        np.testing.assert_array_equal(after.heldout_knn[:, gene], before.heldout_knn[:, gene])
        assert np.abs(after.heldout - before.heldout).max() > 1e-3, "others do read it"
