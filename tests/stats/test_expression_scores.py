"""Scores against scipy; weights of blocks against repeated rows; holes and constants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from omicllm.stats.expression_scores import SCORES, Sums, held_out_pearson, section_scores


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(80, 6)) + 50
    pred = truth + rng.normal(size=(80, 6))
    truth[:, 4] = 2.0
    pred[:, 5] = 1.0
    return pred, truth


def test_scores_are_those_of_scipy(data):
    pred, truth = data
    scores = Sums.of(pred, truth, np.arange(80) // 8).scores()[0]
    for g in range(4):
        wanted = [
            pearsonr(pred[:, g], truth[:, g])[0],
            spearmanr(pred[:, g], truth[:, g])[0],
            ((pred - truth)[:, g] ** 2).mean(),
            np.abs(pred - truth)[:, g].mean(),
            (pred[:, g].var() / truth[:, g].var() - 1) ** 2,
        ]
        np.testing.assert_allclose(scores[:, g], wanted, rtol=1e-8)


def test_constants(data):
    pred, truth = data
    scores = Sums.of(pred, truth, np.zeros(80)).scores()[0]
    assert np.isnan(scores[[0, 1, 4], 4]).all(), "a constant truth has no correlation"
    assert scores[0, 5] == 0 and scores[1, 5] == 0 and scores[4, 5] == 1
    assert np.isfinite(scores[2:4]).all()


def test_a_constant_with_decimals_is_constant():
    truth = np.random.default_rng(0).normal(size=(50, 1)) * 1e-3 + 7
    pred = np.full((50, 1), 7.123456789)
    assert Sums.of(pred, truth, np.zeros(50)).scores()[0, 0, 0] == 0


def test_weights_stand_for_repeated_rows(data):
    pred, truth = data
    blocks = np.arange(80) // 20
    weights = np.array([[2.0, 0.0, 1.0, 1.0]])
    again = np.concatenate([np.arange(20), np.arange(20), np.arange(40, 80)])
    found = Sums.of(pred, truth, blocks).scores(weights)[0]
    wanted = Sums.of(pred[again], truth[again], np.zeros(80)).scores()[0]
    for i in (0, 2, 3, 4):  # ranks are those of the whole section
        np.testing.assert_allclose(found[i, :4], wanted[i, :4], rtol=1e-8, err_msg=SCORES[i])


def options(**more):
    return {"n_boot": 200, "level": 0.9, "rng": np.random.default_rng(0)} | more


def test_sections_all_and_pooled(data):
    pred, truth = data
    sections = np.repeat(["a", "b"], 40)
    shifted = pred + np.where(sections == "a", 0, 20)[:, None]
    rows, per_gene = section_scores(
        {"m": shifted, "ridge": truth * 1.0}, truth, sections, np.arange(80) // 5,
        **options(versus="ridge"),
    )  # fmt: skip
    table = {(r["method"], r["section"]): r for r in rows}
    assert {s for _, s in table} == {"a", "b", "all", "pooled"}
    one = [pearsonr(shifted[:40, g], truth[:40, g])[0] for g in (0, 1, 2, 3)] + [0]
    np.testing.assert_allclose(table["m", "a"]["pearson"], np.mean(one), rtol=1e-8)
    mean = (table["m", "a"]["pearson"] + table["m", "b"]["pearson"]) / 2
    np.testing.assert_allclose(table["m", "all"]["pearson"], mean, rtol=1e-12)
    assert table["m", "pooled"]["pearson"] < mean, "the shift between sections costs"
    assert table["m", "a"]["pearson_low"] < table["m", "a"]["pearson"]
    assert table["m", "a"]["pearson"] < table["m", "a"]["pearson_high"]
    assert table["m", "all"]["over_ridge_high"] < 0
    assert table["ridge", "all"]["over_ridge_low"] == 0
    assert table["m", "a"]["n_genes"] == 5
    np.testing.assert_allclose(per_gene["m"][0, 0], np.mean(
        [pearsonr(shifted[r, 0], truth[r, 0])[0] for r in (slice(40), slice(40, 80))]
    ))  # fmt: skip


def test_a_gene_with_holes_is_scored_where_it_is_whole(data):
    pred, truth = data
    sections = np.repeat(["a", "b"], 40)
    pred = pred.copy()
    pred[3, 0] = np.nan
    rows, per_gene = section_scores({"m": pred}, truth, sections, sections, **options(n_boot=0))
    wanted = pearsonr(pred[40:, 0], truth[40:, 0])[0]
    np.testing.assert_allclose(per_gene["m"][0, 0], wanted)
    assert np.isnan(rows[0]["pearson_low"])


def test_intervals_cover(data):
    """The interval of the mean over blocks of independent rows holds the truth as often as said."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        truth = rng.normal(size=(150, 1))
        pred = 0.6 * truth + 0.8 * rng.normal(size=(150, 1))
        rows, _ = section_scores(
            {"m": pred}, truth, np.zeros(150), np.arange(150), **options(rng=rng)
        )
        hits += rows[0]["pearson_low"] < 0.6 < rows[0]["pearson_high"]
    assert 46 <= hits <= 60


def test_the_same_draws_for_every_block_order(data):
    pred, truth = data
    blocks = np.arange(80) // 4
    order = np.random.default_rng(0).permutation(80)
    one, _ = section_scores({"m": pred}, truth, np.zeros(80), blocks, **options())
    two, _ = section_scores(
        {"m": pred[order]}, truth[order], np.zeros(80), blocks[order], **options()
    )
    for key in ("pearson_low", "pearson_high", "mse_low"):
        np.testing.assert_allclose(one[0][key], two[0][key], rtol=1e-9)


def test_what_knows_nothing_scores_zero_in_regions():
    """Means of the other regions, as a prediction without features makes them."""
    rng = np.random.default_rng(0)
    folds = np.repeat(np.arange(5), 30)
    truth = (rng.normal(size=(5, 7))[folds] + rng.normal(size=(150, 7)) + 3).astype(np.float32)
    mean = np.stack([truth[folds != f].mean(axis=0) for f in folds]).astype(np.float32)
    pooled = [pearsonr(mean[:, g], truth[:, g])[0] for g in range(7)]
    assert np.max(pooled) < -0.3, "what would come out without folds"
    rows, per_gene = section_scores(
        {"mean": mean}, truth, np.zeros(150), folds, folds=folds, **options(n_boot=30)
    )
    np.testing.assert_allclose(per_gene["mean"][:2], 0, atol=1e-12)
    np.testing.assert_allclose([rows[0]["pearson_low"], rows[0]["pearson_high"]], 0, atol=1e-12)
    np.testing.assert_allclose(per_gene["mean"][2], ((mean - truth) ** 2).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(per_gene["mean"][4], 1)
    one = np.zeros(150)
    np.testing.assert_allclose(held_out_pearson(truth, mean, one, folds), 0, atol=1e-12)
    # A prediction that knows something: residuals of both on the regions.
    pred = mean + 0.3 * truth
    level = np.eye(5)[folds]
    left = [v - level @ np.linalg.lstsq(level, v, rcond=None)[0] for v in (pred, truth)]
    wanted = [pearsonr(left[0][:, g], left[1][:, g])[0] for g in range(7)]
    _, per_gene = section_scores({"m": pred}, truth, one, folds, folds=folds, **options(n_boot=0))
    np.testing.assert_allclose(per_gene["m"][0], wanted, rtol=1e-5)
    np.testing.assert_allclose(held_out_pearson(truth, pred, one, folds), wanted, rtol=1e-5)


def test_one_fold_in_a_section_changes_nothing(data):
    pred, truth = data
    sections = np.arange(80) // 40
    plain, folded = (
        section_scores({"m": pred}, truth, sections, np.arange(80) // 4, folds=f, **options())
        for f in (None, sections + 7)
    )
    assert repr(plain[0]) == repr(folded[0])
    np.testing.assert_array_equal(plain[1]["m"], folded[1]["m"])


@pytest.mark.parametrize("what", ["one spot", "no counts"])
def test_a_section_without_correlations_leaves_the_mean_of_the_others(what):
    """All is the mean of the sections that have a score, and so are its intervals."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(61, 4))
    pred = truth + rng.normal(size=truth.shape)
    sections = np.repeat(["a", "b", "t"], [30, 30, 1])
    if what == "no counts":
        sections = np.repeat(["a", "b", "t"], [30, 20, 11])
        truth[50:] = 0.0
    blocks = np.arange(61) // 5
    rows, per_gene = section_scores(
        {"p": pred}, truth, sections, blocks, n_boot=80, level=0.9, rng=np.random.default_rng(1)
    )
    table = {row["section"]: row for row in rows}
    mean = np.mean([table[s]["pearson"] for s in "ab"])
    assert table["all"]["pearson"] == pytest.approx(mean, abs=1e-12)
    assert np.isnan([table["t"][k] for k in ("pearson", "pearson_low", "pearson_high")]).all()
    assert table["all"]["pearson_low"] < mean < table["all"]["pearson_high"]
    assert table["all"]["mse"] == pytest.approx(np.mean([table[s]["mse"] for s in "abt"]))
    assert np.isfinite(per_gene["p"][0]).all()
