"""`ol.tl.evaluate_expression`: figures against scipy, where the ridge comes from, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import round_trip, same_object
from made_histology import make_study
from scipy import sparse
from scipy.stats import pearsonr, spearmanr

import omicllm as ol


@pytest.fixture(scope="module")
def made():
    study = make_study(3)
    X = study.X.toarray()
    study.layers["log"] = np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.5, X.shape)
    study.layers["guess"] = (study.layers["log"] + noise).astype(np.float32)
    return study


@pytest.fixture
def study(made):
    return made.copy()


def row(adata, method="prediction", section="all"):
    table = ol.get.table(adata, "evaluate_expression")
    return table[(table["method"] == method) & (table["section"] == section)].iloc[0]


def test_figures(study, tmp_path):
    assert ol.tl.evaluate_expression(study, pred="guess", n_boot=50) is None
    own = study[study.obs["section"] == "S1"]
    pred, truth = own.layers["guess"], own.layers["log"]
    genes = range(study.n_vars)
    wanted = {
        "pearson": np.mean([pearsonr(pred[:, g], truth[:, g])[0] for g in genes]),
        "spearman": np.mean([spearmanr(pred[:, g], truth[:, g])[0] for g in genes]),
        "mse": ((pred - truth) ** 2).mean(),
        "mae": np.abs(pred - truth).mean(),
        "rvd": np.mean((pred.var(axis=0) / truth.var(axis=0) - 1) ** 2),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(row(study, section="S1")[name], value, rtol=1e-4, err_msg=name)
    assert row(study)["pearson_low"] < row(study)["pearson"] < row(study)["pearson_high"]
    r = np.mean([pearsonr(study.layers["guess"][s, 3], study.layers["log"][s, 3])[0]
                 for s in (study.obs["section"] == f"S{i}" for i in range(3))])  # fmt: skip
    np.testing.assert_allclose(study.var["evaluate_expression_pearson"].iloc[3], r, rtol=1e-4)
    round_trip(study, tmp_path)


def test_values_and_counts(study):
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0, key_added="a")
    ol.tl.evaluate_expression(study, truth="log", pred="guess", n_boot=0, key_added="b")
    assert study.uns["a"]["params"]["input"] == "counts"
    assert study.uns["b"]["params"]["input"] == "values"
    np.testing.assert_allclose(study.var["a_pearson"], study.var["b_pearson"], rtol=1e-4)
    study.layers["counts"] = study.X.copy()
    ol.tl.evaluate_expression(study, truth="counts", pred="counts", n_boot=0, key_added="c")
    np.testing.assert_allclose(study.var["c_pearson"], 1)
    assert (study.var["c_mse"] == 0).all()


def test_a_frame_goes_by_name(study):
    frame = pd.DataFrame(study.layers["guess"], index=study.obs_names, columns=study.var_names)
    shuffled = frame.sample(frac=1, random_state=0).iloc[:, ::-1].assign(Unmeasured=0.0)
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0, key_added="a")
    ol.tl.evaluate_expression(study, pred=shuffled, n_boot=0, key_added="b")
    np.testing.assert_allclose(study.var["a_mse"], study.var["b_mse"], rtol=1e-6)
    ol.tl.evaluate_expression(study, pred=frame, genes=["Gene2"], n_boot=0, key_added="c")
    assert study.var["c_mse"].notna().sum() == 1


@pytest.mark.parametrize("wrong", ["one typo", "another index", "twice a row", "twice a gene"])
def test_a_frame_is_never_taken_by_position_in_part(study, wrong):
    """A shuffled frame with one unknown name was once taken in the order of its rows."""
    frame = pd.DataFrame(study.layers["guess"], index=study.obs_names, columns=study.var_names)
    frame = frame.sample(frac=1, random_state=0)
    if wrong == "one typo":
        frame.index = ["typo", *frame.index[1:]]
    elif wrong == "another index":
        frame.index = [f"x{i}" for i in range(len(frame))]
    elif wrong == "twice a row":
        frame = pd.concat([frame, frame[:2]])
    else:
        frame = pd.concat([frame, frame.iloc[:, [1]]], axis=1)
    message = {"one typo": "pred= lacks 1 obs", "another index": f"pred= lacks {study.n_obs} obs"}
    with pytest.raises(ValueError, match=message.get(wrong, "occur twice")):
        ol.tl.evaluate_expression(study, pred=frame, n_boot=0)


def test_a_frame_without_names_goes_by_position(study):
    frame = pd.DataFrame(study.layers["guess"], columns=study.var_names)
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0, key_added="a")
    ol.tl.evaluate_expression(study, pred=frame, n_boot=0, key_added="b")
    np.testing.assert_array_equal(study.var["a_mse"], study.var["b_mse"])


def test_the_ridge_of_the_baselines_stands_beside(study):
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0)
    assert study.uns["evaluate_expression"]["ridge"] == ""
    assert np.isnan(row(study, "ridge")["pearson"])
    ol.tl.histology_baselines(study, n_top=None, n_boot=0)
    ol.tl.evaluate_expression(study, pred="guess", n_boot=30)
    assert study.uns["evaluate_expression"]["ridge"] == "stored"
    table = ol.get.table(study, "histology_baselines")
    wanted = table[(table["method"] == "ridge") & (table["section"] == "all")]["pearson"].item()
    np.testing.assert_allclose(row(study, "ridge")["pearson"], wanted, rtol=1e-4)
    assert row(study)["over_ridge_low"] > 0
    entry = study.uns["histology_baselines"]
    frame = pd.DataFrame(
        study.obsm["histology_baselines_ridge"], index=study.obs_names, columns=entry["genes"]
    )
    ol.tl.evaluate_expression(study, pred=frame, n_boot=0)
    np.testing.assert_allclose(row(study)["pearson"], wanted, rtol=1e-4)


def test_the_ridge_is_trained_on_a_reference_or_a_split(study):
    train = study[study.obs["section"] != "S2"].copy()
    test = study[study.obs["section"] == "S2"].copy()
    ol.tl.evaluate_expression(test, pred="guess", reference=train, n_boot=0)
    assert test.uns["evaluate_expression"]["ridge"] == "reference"
    study.obs["split"] = np.where(study.obs["section"] == "S2", "test", "train")
    ol.tl.evaluate_expression(study, pred="guess", split_key="split", n_boot=0)
    assert study.uns["evaluate_expression"]["ridge"] == "split"
    for method in ("prediction", "ridge"):
        np.testing.assert_allclose(
            row(study, method)["pearson"], row(test, method)["pearson"], rtol=1e-6
        )
    assert row(study)["n_obs"] == 144
    assert set(ol.get.table(study, "evaluate_expression")["section"]) == {"S2", "all"}
    study.obs["split"] = np.random.default_rng(0).choice(["train", "test"], study.n_obs)
    with pytest.raises(ValueError, match="mixed into training and test"):
        ol.tl.evaluate_expression(study, pred="guess", split_key="split")


def test_rows_without_a_prediction_are_left_out(study):
    study.layers["guess"][study.obs["section"] == "S0"] = np.nan
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0)
    assert set(ol.get.table(study, "evaluate_expression")["section"]) == {
        "S1",
        "S2",
        "all",
        "pooled",
    }
    study.layers["guess"][:] = np.nan
    with pytest.raises(ValueError, match="nothing to score"):
        ol.tl.evaluate_expression(study, pred="guess")


def test_features_in_obsm_with_names_in_uns(study):
    study.obsm["mine"] = study.layers["guess"][:, [5, 2]]
    with pytest.raises(ValueError, match=r"uns\['mine'\]\['genes'\]"):
        ol.tl.evaluate_expression(study, pred="mine")
    study.uns["mine"] = {"genes": ["Gene5", "Gene2"]}
    ol.tl.evaluate_expression(study, pred="mine", n_boot=0, key_added="a")
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0, key_added="b")
    wanted = study.var.loc[["Gene5", "Gene2"], "b_mse"]
    np.testing.assert_allclose(study.var.loc[["Gene5", "Gene2"], "a_mse"], wanted)


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"pred": "none"}, KeyError, "ol.tl.spam"),
        ({"pred": "guess", "truth": "none"}, KeyError, "adata.layers"),
        ({"pred": np.zeros((3, 3))}, ValueError, "of shape"),
        ({"pred": pd.DataFrame({"x": [1.0]})}, ValueError, "lacks 432 observations"),
        ({"pred": "guess", "genes": ["Other"]}, KeyError, "'Other' is not in the predictions"),
        ({"pred": "guess", "input": "z"}, ValueError, "input"),
        ({"pred": "guess", "reference": "bare"}, KeyError, "ol.pp.image_features"),
    ],
)
def test_bad_input(study, kwargs, error, message):
    if kwargs.get("reference") == "bare":
        bare = study.copy()
        del bare.obsm["X_classical"]
        kwargs = kwargs | {"reference": bare}
    before = study.copy()
    with pytest.raises(error, match=message):
        ol.tl.evaluate_expression(study, **kwargs)
    same_object(study, before)


def test_no_gene_in_common(study):
    frame = pd.DataFrame({"Other": np.zeros(study.n_obs)}, index=study.obs_names)
    with pytest.raises(ValueError, match="None of the predicted genes"):
        ol.tl.evaluate_expression(study, pred=frame)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, pd.DataFrame])
def test_predictions_without_names_go_by_position(study, form):
    pred = form(study.layers["guess"])
    if hasattr(pred, "columns"):
        pred.columns = study.var_names
    ol.tl.evaluate_expression(study, pred="guess", n_boot=0, key_added="a")
    ol.tl.evaluate_expression(study, pred=pred, n_boot=0, key_added="b")
    np.testing.assert_array_equal(study.var["a_pearson"], study.var["b_pearson"])
    assert study.var["a_pearson"].mean() > 0.3
