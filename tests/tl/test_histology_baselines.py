"""`ol.tl.histology_baselines`: divisions, refusals, honest choices, results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import round_trip, same_object
from made_histology import make_section, make_study
from scipy.stats import pearsonr

import omicllm as ol

FAST = {"n_boot": 20, "n_top": 8}


@pytest.fixture(scope="module")
def made():
    return make_study(3)


@pytest.fixture
def study(made):
    return made.copy()


def scores(adata, section="all"):
    table = ol.get.table(adata, "histology_baselines")
    return table[table["section"] == section].set_index("method")


def test_by_patient(study, tmp_path):
    assert ol.tl.histology_baselines(study, **FAST) is None
    entry = study.uns["histology_baselines"]
    assert entry["split"] == "patient"
    table = scores(study)
    assert list(table.index) == ["mean", "rgb", "knn", "ridge", "hest"]
    assert table.loc["ridge", "pearson"] > 0.15 > abs(table.loc["mean", "pearson"])
    assert table.loc["ridge", "pearson_low"] < table.loc["ridge", "pearson"]
    assert table.loc["ridge", "mse"] < table.loc["mean", "mse"]
    folds = ol.get.table(study, "histology_baselines", table="folds")
    assert folds["fold"].tolist() == ["P0", "P1", "P2"] and (folds["n_test"] == 144).all()
    round_trip(study, tmp_path)


def test_figures_are_those_of_the_stored_predictions(study):
    ol.tl.histology_baselines(study, genes=["Gene4", "Gene1"], n_boot=0)
    pred = study.obsm["histology_baselines_ridge"]
    X = study.X.toarray()
    logged = np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4)
    r = [
        pearsonr(pred[rows, 0], logged[rows, 4])[0]
        for rows in (study.obs["section"] == s for s in ("S0", "S1", "S2"))
    ]
    np.testing.assert_allclose(study.var.loc["Gene4", "histology_baselines_pearson"], np.mean(r),
                               rtol=1e-4)  # fmt: skip
    genes = ol.get.table(study, "histology_baselines", table="gene_table")
    assert genes["gene"].unique().tolist() == ["Gene4", "Gene1"]
    assert study.var["histology_baselines_pearson"].notna().sum() == 2
    even = genes[(genes["method"] == "ridge")].set_index("gene")["pearson"]
    assert even["Gene4"] > even["Gene1"]


def test_test_expression_is_never_seen(study):
    study.obs["split"] = np.where(study.obs["section"] == "S2", "test", "train")
    ol.tl.histology_baselines(study, split_key="split", **FAST)
    wanted = study.obsm["histology_baselines_ridge"]
    other = study.copy()
    rows = np.flatnonzero(study.obs["section"] == "S2")
    X = other.X.toarray()
    X[rows] = np.random.default_rng(0).permuted(X[rows], axis=0)
    other.X = X
    ol.tl.histology_baselines(other, split_key="split", **FAST)
    np.testing.assert_array_equal(other.obsm["histology_baselines_ridge"], wanted)
    assert list(other.uns["histology_baselines"]["genes"]) == list(
        study.uns["histology_baselines"]["genes"]
    )
    assert np.isnan(wanted[study.obs["section"] != "S2"]).all()


def test_noise_has_no_correlation(study):
    rng = np.random.default_rng(0)
    study.X = rng.poisson(5, study.shape).astype(np.float32)
    ol.tl.histology_baselines(study, n_top=None, n_boot=0)
    assert abs(scores(study).loc["ridge", "pearson"]) < 0.05


def test_spots_at_random_are_refused(study):
    rng = np.random.default_rng(0)
    study.obs["split"] = rng.choice(["train", "test"], study.n_obs)
    before = study.copy()
    with pytest.raises(ValueError, match="mixed into training and test.*allow_spot_split"):
        ol.tl.histology_baselines(study, split_key="split", **FAST)
    same_object(study, before)
    ol.tl.histology_baselines(study, split_key="split", allow_spot_split=True, **FAST)
    assert study.uns["histology_baselines"]["split"] == "spot"


def test_sections_and_regions(study):
    del study.obs["patient"]
    ol.tl.histology_baselines(study, **FAST)
    assert study.uns["histology_baselines"]["split"] == "section"
    x = study.obsm["spatial"][:, 0]
    study.obs["split"] = np.where(x > 300, "test", "train")
    ol.tl.histology_baselines(study, split_key="split", **FAST)
    assert study.uns["histology_baselines"]["split"] == "region"


def test_one_section_alone(caplog):
    section = make_section(n_side=16)
    ol.pp.image_features(section, out_px=24)
    ol.tl.histology_baselines(section, genes=["Gene0", "Gene2"], n_boot=0)
    assert section.uns["histology_baselines"]["split"] == "region"
    assert "regions are held out" in caplog.text
    folds = ol.get.table(section, "histology_baselines", table="folds")
    assert (folds["n_train"] + folds["n_test"] < section.n_obs).all(), "there is a margin"
    assert np.isfinite(section.obsm["histology_baselines_ridge"]).all()


@pytest.mark.parametrize("seed", [3, 4])
def test_one_section_what_knows_nothing_scores_zero(seed):
    """By regions: the mean, a ridge on noise, and the same through tl.evaluate_expression."""
    section = make_section(n_side=14, seed=seed)
    rng = np.random.default_rng(seed)
    section.obsm["X_noise"] = rng.normal(size=(section.n_obs, 10))
    methods = ["mean", "knn", "ridge"]
    ol.tl.histology_baselines(section, use_rep="X_noise", methods=methods, n_top=None, n_boot=5)
    table = scores(section)
    np.testing.assert_allclose(
        table.loc["mean", ["pearson", "spearman"]].astype(float), 0, atol=1e-12
    )
    assert table.loc[["ridge", "knn"], "pearson"].abs().max() < 0.06
    folds = section.obs["histology_baselines_fold"]
    assert folds.notna().all() and folds.nunique() == 4
    X = section.X.toarray()
    logged = np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4)
    level = np.eye(4)[folds.cat.codes]
    mean = np.stack([logged[folds != f].mean(axis=0) for f in folds])
    guess, truth = (
        v - level @ np.linalg.lstsq(level, v, rcond=None)[0]
        for v in (section.obsm["histology_baselines_ridge"], logged)
    )
    wanted = [pearsonr(g, t)[0] for g, t in zip(guess.T, truth.T, strict=True)]
    np.testing.assert_allclose(section.var["histology_baselines_pearson"], wanted, atol=1e-4)
    section.layers["mean"] = mean
    for name, kwargs in (("stored", {}), ("given", {"fold_key": "region"})):
        section.obs["region"] = folds
        ol.tl.evaluate_expression(section, pred="mean", n_boot=0, key_added=name, **kwargs)
        found = section.uns[name]["table"].set_index(["section", "method"])["pearson"]
        np.testing.assert_allclose(found["all", "prediction"], 0, atol=1e-12)
        np.testing.assert_allclose(found["all", "ridge"], np.mean(wanted), atol=1e-4)


@pytest.mark.parametrize("what", ["genes", "observations"])
def test_nothing_to_predict(study, what):
    empty = study[:, :0].copy() if what == "genes" else study[:0].copy()
    with pytest.raises(ValueError, match=f"nothing to predict: .*0 {what}"):
        ol.tl.histology_baselines(empty)


def test_features_by_any_name_and_row_order(study):
    study.obsm["X_mine"] = study.obsm["X_classical"]
    ol.tl.histology_baselines(study, use_rep="X_mine", key_added="mine", rng=1, **FAST)
    assert "rgb" not in set(study.uns["mine"]["table"]["method"]), "no column is known as a colour"
    order = np.random.default_rng(0).permutation(study.n_obs)
    other = study[order].copy()
    ol.tl.histology_baselines(other, use_rep="X_mine", key_added="mine", rng=1, **FAST)
    np.testing.assert_allclose(
        other.obsm["mine_ridge"], study.obsm["mine_ridge"][order], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"use_rep": "X_uni"}, KeyError, "ol.pp.image_features"),
        ({"genes": ["Gene0", "Other"]}, KeyError, "'Other'"),
        ({"methods": ["forest"]}, ValueError, "methods must be one of"),
        ({"section_key": "slide"}, KeyError, "'slide' is not in adata.obs"),
        ({"split_key": "section"}, ValueError, "needs rows of 'train' and of 'test'"),
        ({"criterion": "r2"}, ValueError, "criterion"),
        ({"level": 2}, ValueError, "level"),
        ({"n_top": 0}, ValueError, "n_top"),
        ({"layer": "log"}, ValueError, "not whole numbers"),
    ],
)
def test_bad_input(study, kwargs, error, message):
    study.layers["log"] = np.log1p(study.X.toarray())
    before = study.copy()
    with pytest.raises(error, match=message):
        ol.tl.histology_baselines(study, **kwargs)
    same_object(study, before)


def test_values_as_they_are(study):
    X = study.X.toarray()
    study.layers["log"] = np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4)
    ol.tl.histology_baselines(study, layer="log", input="values", key_added="v", **FAST)
    ol.tl.histology_baselines(study, key_added="c", **FAST)
    left, right = study.uns["v"]["table"], study.uns["c"]["table"]
    pd.testing.assert_frame_equal(left, right, rtol=1e-2, atol=1e-3)


def test_a_section_too_small_for_regions(study):
    tiny = study[study.obs["section"] == "S1"][:3].copy()
    with pytest.raises(ValueError, match="One section of 3 observations is too small"):
        ol.tl.histology_baselines(tiny)
