"""Samplers: closed forms, published statistics, streams, and genes that are zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from omicllm.sampling import samplers as sm
from omicllm.sampling.recombination import crossover_blocks

PUBLISHED = np.load(Path(__file__).parents[1] / "data" / "augment_published.npz")
CLASSES = sorted(set(PUBLISHED["labels"].tolist()))


def cohort(n=(12, 9), genes=30, seed=0):
    """Overdispersed counts in two classes; gene 3 is zero in class 0, gene 4 constant."""
    rng = np.random.default_rng(seed)
    level = rng.lognormal(2, 1.2, genes)
    parts = [rng.poisson(rng.gamma(2, level / 2, size=(k, genes))) for k in n]
    X = np.concatenate(parts).astype(np.float32)
    X[: n[0], 3] = 0
    X[:, 4] = 7
    return X, np.repeat(np.arange(len(n)), n)


def published_rows(method, n=1500, seed=1, **options):
    X = PUBLISHED["counts"].astype(np.float64)
    codes = np.searchsorted(CLASSES, PUBLISHED["labels"])
    if method.endswith("crossover"):
        signatures = {c: np.flatnonzero(PUBLISHED["signature"] == c) for c in CLASSES}
        options["blocks"] = crossover_blocks(
            signatures, codes, CLASSES, X.shape[1], seed, everywhere=method.startswith("global")
        )
    rows = sm.sample(
        method, X, codes, [n] * len(CLASSES), entropy=seed, options=sm.Options(**options)
    )
    return X, codes, rows.reshape(len(CLASSES), n, -1)


def standard_errors(rows):
    """Of the mean and of the variance of each gene, the latter from the fourth moment."""
    n = rows.shape[0]
    centred = rows - rows.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    fourth = (centred**4).mean(axis=0)
    return np.sqrt(variance / n), np.sqrt(np.maximum(fourth - variance**2, 0) / n)


@pytest.mark.parametrize("method", ["gamma_poisson", "poisson", "unmod_poisson", "replacement"])
def test_means_and_variances_are_those_of_the_closed_forms(method):
    X, codes, rows = published_rows(method, n=4000)
    far = []
    for c in range(len(CLASSES)):
        own = X[codes == c]
        mean, variance = sm.closed_forms(
            method, own.mean(axis=0), own.var(axis=0, ddof=1), len(own)
        )
        se_mean, se_var = standard_errors(rows[c])
        far.append((rows[c].mean(axis=0) - mean) / se_mean)
        far.append((rows[c].var(axis=0, ddof=1) - variance) / se_var)
        assert np.median(rows[c].var(axis=0) / variance) == pytest.approx(1, abs=0.03)
    far = np.abs(np.concatenate(far))
    # 320 figures: about one in a thousand beyond 3.3 standard errors, heavy tails a little more.
    assert far.max() < 6 and (far > 2.6).mean() < 0.06


def test_closed_forms_of_small_classes_and_unknown_methods():
    mean, variance = np.array([4.0]), np.array([10.0])
    assert sm.closed_forms("gamma_poisson", mean, variance, 1, r=5)[1] == 4  # r = N = 1: Poisson
    assert sm.closed_forms("gamma_poisson", mean, variance, 3, r=5)[1] == 14  # r = N
    with pytest.raises(ValueError, match="no closed form for 'smote'"):
        sm.closed_forms("smote", mean, variance, 3)


@pytest.mark.parametrize("method", sm.SAMPLERS)
def test_statistics_of_the_published_code(method):
    n = 1500
    _, _, rows = published_rows(method, n=n)
    if method == "unmod_gamma_poisson":  # one rate per class and gene: only its spread compares
        ratio = rows.var(axis=1) / rows.mean(axis=1)
        assert np.median(ratio) == pytest.approx(1, abs=0.05)
        return
    wanted = PUBLISHED[f"{method}_mean"]
    error = np.sqrt((rows.var(axis=1) + PUBLISHED[f"{method}_var"]) / n)
    # The published SMOTE searches neighbours with the encoded sample id as a feature.
    assert np.abs((rows.mean(axis=1) - wanted) / error).max() < (8 if method == "smote" else 5)
    ratio = np.median(rows.var(axis=1, ddof=1) / PUBLISHED[f"{method}_var"])
    assert ratio == pytest.approx(1, abs=0.12 if method == "smote" else 0.04)
    r = [np.abs(np.corrcoef(k.T)[np.triu_indices(40, 1)]).mean() for k in rows]
    slack = 0.05 if method == "smote" else 0.012
    np.testing.assert_allclose(r, PUBLISHED[f"{method}_abs_r"], atol=slack)


def test_matched_dispersion_counts_poisson_noise_once():
    X, codes, rows = published_rows("gamma_poisson", n=4000, dispersion="matched")
    for c in range(len(CLASSES)):
        own = X[codes == c]
        spread, mean = own.var(axis=0, ddof=1), own.mean(axis=0)
        wide = spread > 20 * mean  # where the cut at zero hardly ever acts
        expected = spread * (1 + 1 / 5 - 1 / len(own))
        assert wide.sum() > 5
        assert np.median(rows[c].var(axis=0)[wide] / expected[wide]) == pytest.approx(1, abs=0.04)
    # Poisson data have no spread beyond the noise: matched halves what the reference doubles.
    flat = np.random.default_rng(0).poisson(50, size=(40, 300)).astype(float)
    by = {
        d: sm.sample(
            "gamma_poisson", flat, np.zeros(40, int), [2000], entropy=0,
            options=sm.Options(dispersion=d),
        ).var(axis=0).mean()
        for d in ("reference", "matched")
    }  # fmt: skip
    assert by["reference"] == pytest.approx(50 + 50 * (1 + 1 / 5 - 1 / 40), rel=0.03)
    assert by["matched"] < 0.85 * by["reference"]


@pytest.mark.parametrize("method", sm.SAMPLERS)
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix], ids=["dense", "csr"])
def test_threads_do_not_change_the_result(method, make, monkeypatch):
    monkeypatch.setattr(sm, "_BLOCK", 300)  # several blocks per class
    X, codes = cohort()
    blocks = crossover_blocks(
        {"a": np.arange(8), "b": np.arange(5, 12)}, codes, ["a", "b"], 30, 0,
        everywhere=method.startswith("global"),
    )  # fmt: skip
    options = sm.Options(blocks=blocks)
    runs = [
        sm.sample(method, make(X), codes, [55, 40], entropy=9, options=options, n_jobs=j)
        for j in (1, 2, 5)
    ]
    dense = [r.toarray() if sparse.issparse(r) else r for r in runs]
    assert sparse.issparse(runs[0]) == sparse.issparse(make(X))
    assert dense[0].shape == (95, 30) and dense[0].dtype == np.float32
    np.testing.assert_array_equal(dense[0], dense[1])
    np.testing.assert_array_equal(dense[0], dense[2])
    np.testing.assert_array_equal(
        dense[0],
        sm.sample(method, X.astype(np.float64), codes, [55, 40], entropy=9, options=options).astype(
            np.float32
        ),
    )
    other = sm.sample(method, X, codes, [55, 40], entropy=10, options=options)
    assert (other != dense[0]).any()


def test_blocks_are_independent_streams(monkeypatch):
    monkeypatch.setattr(sm, "_BLOCK", 300)
    X, codes = cohort()
    rows = sm.sample("gamma_poisson", X, codes, [40, 40], entropy=0)
    assert len(np.unique(rows, axis=0)) == 80
    # A class's rows do not depend on how many another class gets.
    again = sm.sample("gamma_poisson", X, codes, [3, 40], entropy=0)
    np.testing.assert_array_equal(rows[40:], again[3:])


@pytest.mark.parametrize("method", sm.SAMPLERS)
def test_zero_and_constant_genes(method):
    X, codes = cohort()
    blocks = crossover_blocks({"a": np.arange(8)}, codes, ["a", "b"], 30, 0, everywhere=False)
    rows = sm.sample(method, X, codes, [200, 200], entropy=0, options=sm.Options(blocks=blocks))
    assert np.isfinite(rows).all() and (rows >= 0).all()
    assert (rows[:200, 3] == 0).all() and (rows[200:, 3] > 0).any()
    if "poisson" in method:  # the constant gene becomes Poisson around its value
        assert rows[:, 4].mean() == pytest.approx(7, abs=5 * np.sqrt(7 / 400))
        assert (rows == np.rint(rows)).all()
    else:
        assert (rows[:, 4] == 7).all()
    empty = sm.sample(method, X * 0, codes, [5, 5], entropy=0, options=sm.Options(blocks=blocks))
    assert (empty == 0).all()


@pytest.mark.parametrize("method", [m for m in sm.SAMPLERS if m != "smote"])
def test_a_class_of_one(method):
    X, codes = cohort(n=(1, 5))
    blocks = crossover_blocks({"a": np.arange(8)}, codes, ["a", "b"], 30, 0, everywhere=False)
    rows = sm.sample(method, X, codes, [300, 0], entropy=0, options=sm.Options(blocks=blocks))
    assert rows.shape == (300, 30) and np.isfinite(rows).all()
    if "poisson" in method:
        error = np.sqrt(np.maximum(X[0], 1) / 300)
        assert (np.abs(rows.mean(axis=0) - X[0]) < 5 * error).all()
    else:
        assert (rows == X[0]).all()


def test_smote_lies_between_neighbours_of_the_class():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(8, 3)), 50 + rng.normal(size=(8, 3))])
    codes = np.repeat([0, 1], 8)
    rows = sm.sample("smote", X, codes, [100, 100], entropy=0, options=sm.Options(k=2))
    for c, own in ((0, rows[:100]), (1, rows[100:])):
        real = X[codes == c]
        distance = np.linalg.norm(real[:, None] - real[None], axis=2)
        near = np.argsort(distance, axis=1)[:, 1:3]
        for row in own:
            # On the segment from i to j, the two distances add up to the distance of i and j.
            away = np.linalg.norm(real - row, axis=1)
            assert any(
                away[i] + away[j] == pytest.approx(distance[i, j])
                for i in range(8)
                for j in near[i]
            )


def test_crossover_takes_each_block_from_one_row():
    X = np.arange(6, dtype=float)[:, None] + np.zeros((6, 10))  # a row is its number everywhere
    codes = np.array([0, 0, 0, 1, 1, 1])
    signatures = {"a": np.array([0, 1, 2]), "b": np.array([2, 3, 4]), "c": np.array([4, 5])}
    local = crossover_blocks(signatures, codes, ["a", "b"], 10, 0, everywhere=False)
    rows = sm.sample(
        "local_crossover", X, codes, [400, 400], entropy=0, options=sm.Options(blocks=local)
    )
    assert set(rows[:400].ravel()) == {0, 1, 2} and set(rows[400:].ravel()) == {3, 4, 5}
    own = rows[:400][:, [0, 1, 2, 6, 7, 8, 9]]  # the class's genes and those in no signature
    assert (own == own[:, :1]).all()
    assert (rows[:400, 0] != rows[:400, 3]).mean() > 0.5
    wide = crossover_blocks(signatures, codes, ["a", "b"], 10, 0, everywhere=True)
    rows = sm.sample(
        "global_crossover", X, codes, [400, 400], entropy=0, options=sm.Options(blocks=wide)
    )
    assert set(rows[:400, 0]) == {0, 1, 2}
    assert set(rows[:400, 3]) == {0, 1, 2}  # signature b: any row that is not of class b
    assert set(rows[:400, 5]) == {0, 1, 2, 3, 4, 5}  # signature c is of no class
    columns = np.sort(np.concatenate([c for c, _ in wide[0]]))
    np.testing.assert_array_equal(columns, np.arange(10))  # every gene has one owner


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))
def test_subsets_are_distinct(size, r, seed):
    out = sm.subsets(25, size, r, np.random.default_rng(seed))
    assert out.shape == (25, min(r, size))
    assert out.min() >= 0 and out.max() < size
    assert all(len(set(row)) == len(row) for row in out.tolist())


def test_subsets_are_uniform():
    out = np.sort(sm.subsets(60_000, 6, 3, np.random.default_rng(0)), axis=1)
    _, counts = np.unique(out, axis=0, return_counts=True)
    assert len(counts) == 20  # 6 choose 3
    expected = 3000
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 df, p = .001


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31),
    st.sampled_from(sm.COUNT_SAMPLERS), st.sampled_from(["reference", "matched"]),
)  # fmt: skip
def test_any_counts_give_counts(n, genes, seed, method, dispersion):
    rng = np.random.default_rng(seed)
    X = rng.poisson(rng.choice([0, 0.1, 3, 1e6], size=genes), size=(n, genes)).astype(np.float32)
    rows = sm.sample(
        method, X, np.zeros(n, int), [7], entropy=seed, options=sm.Options(dispersion=dispersion)
    )
    assert rows.shape == (7, genes) and np.isfinite(rows).all()
    assert (rows >= 0).all() and (rows == np.rint(rows)).all()
    assert (rows[:, (X == 0).all(axis=0)] == 0).all()
