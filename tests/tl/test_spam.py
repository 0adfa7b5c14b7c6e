"""`tl.spam`, `tl.predict_expression` and their plots."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import round_trip, same_object, slots
from made_tissue import made_section, made_sections

import omicllm as ol

FAST = {"max_epochs": 2, "show_progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("spam") / "model"
    ol.tl.spam(made_sections(), save=out, **FAST)
    return out


@pytest.fixture
def new():
    return made_section("new", seed=9)


def test_test_sections_are_held_out_and_the_ridge_stands_beside():
    adata = made_sections("abc")
    adata.obs["split"] = np.where(adata.obs["section"] == "c", "test", "train")
    ol.tl.spam(adata, split_key="split", **FAST)
    entry = adata.uns["spam"]
    assert entry["baseline"]["held_out"] == "test rows"
    assert set(entry["baseline"]) == {"spam", "ridge", "held_out"}
    assert list(entry["train_sections"]) == ["a", "b"]
    np.testing.assert_allclose(adata.var["spam_pearson"].mean(), entry["baseline"]["spam"])
    # Counts of the test section play no part in predictions.
    other = adata.copy()
    X = other.X.toarray()
    rows = np.flatnonzero(other.obs["section"] == "c")
    X[rows] = X[rows[::-1]]
    other.X = X
    ol.tl.spam(other, split_key="split", **FAST)
    np.testing.assert_array_equal(other.layers["spam"], adata.layers["spam"])


def ruined(adata, factor):
    """The same with the features of section c made useless; without the section for None."""
    if factor is None:
        return adata[adata.obs["section"] != "c"].copy()
    out = adata.copy()
    out.obsm["X_classical"][np.asarray(out.obs["section"] == "c")] *= factor
    return out


@pytest.mark.parametrize("factor", [100.0, 1e6, None])
def test_a_section_does_not_depend_on_the_others(folder, factor):
    """Predictions, intervals, ridge and scores of sections a and b, whatever became of c."""
    adata = made_sections("abc")
    adata.obs["split"] = np.where(adata.obs["section"] == "a", "train", "test")
    out = []
    for one in (adata, ruined(adata, factor)):
        ol.tl.predict_expression(one, model=folder, library_size=2000.0)
        ol.tl.histology_baselines(one, split_key="split", n_boot=0)
        ol.tl.evaluate_expression(one, pred="spam", split_key="split", n_boot=0)
        out.append(one)
    kept = np.asarray(adata.obs["section"] != "c")
    rows = [kept, np.asarray(out[1].obs["section"] != "c")]
    for key in ("spam", "spam_lower", "spam_upper"):
        a, b = (o.layers[key][r] for o, r in zip(out, rows, strict=True))
        assert np.isfinite(a).all()
        np.testing.assert_allclose(b, a, atol=1e-6, err_msg=key)
    for key in ("X_spam", "histology_baselines_ridge"):
        a, b = (o.obsm[key][r] for o, r in zip(out, rows, strict=True))
        np.testing.assert_allclose(b, a, atol=1e-6, err_msg=key)
    for key in ("histology_baselines", "evaluate_expression"):
        tables = [ol.get.table(o, key) for o in out]
        a, b = (t[t["section"] == "b"].set_index("method") for t in tables)
        columns = ["pearson", "spearman", "mse", "mae", "rvd"]
        np.testing.assert_allclose(b[columns], a[columns], atol=1e-5)


@pytest.mark.parametrize("factor", [1e6, None])
def test_training_rows_do_not_depend_on_test_rows(factor):
    adata = made_sections("abc")
    adata.obs["split"] = np.where(adata.obs["section"] == "a", "train", "val")
    adata.obs.loc[adata.obs["section"] == "c", "split"] = "test"
    other = ruined(adata, factor)
    if factor is None:  # a row or two must be left to test on
        few = np.flatnonzero(adata.obs["section"] == "c")[:12]
        keep = np.r_[np.flatnonzero(adata.obs["section"] != "c"), few]
        other = adata[np.sort(keep)].copy()
    out = []
    for one in (adata, other):
        ol.tl.spam(one, split_key="split", **FAST)
        out.append(one.layers["spam"][np.asarray(one.obs["section"] != "c")])
    assert np.isfinite(out[0]).all()
    np.testing.assert_allclose(out[1], out[0], atol=1e-6)


def test_one_section_of_noise_scores_zero_on_both_sides():
    """Regions are held out: neither SPAM nor the ridge beside it is low or high for nothing."""
    adata = made_section("a", seed=3, side=14)
    adata.obsm["X_classical"] = np.random.default_rng(0).normal(size=(adata.n_obs, 12))
    ol.tl.spam(adata, max_epochs=0, show_progress=False)
    baseline = adata.uns["spam"]["baseline"]
    assert abs(baseline["spam"]) < 0.05 and abs(baseline["ridge"]) < 0.06


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("verb", ["spam", "predict_expression", "histology_baselines"])
def test_features_that_are_not_finite_are_named(folder, verb, value):
    adata = made_sections("ab")
    adata.obsm["X_classical"] = adata.obsm["X_classical"].astype(float)
    adata.obsm["X_classical"][3, 1] = value
    before, options = adata.copy(), {"predict_expression": {"model": folder}, "spam": FAST}
    with pytest.raises(ValueError, match=f"those of 1 of {adata.n_obs} .*{adata.obs_names[3]}"):
        getattr(ol.tl, verb)(adata, **options.get(verb, {}))
    same_object(adata, before)


def test_spots_of_one_section_are_not_split_at_random():
    adata = made_sections()
    adata.obs["split"] = np.where(np.arange(adata.n_obs) % 4 == 0, "test", "train")
    before = adata.copy()
    with pytest.raises(ValueError, match="allow_spot_split=True"):
        ol.tl.spam(adata, split_key="split", **FAST)
    same_object(adata, before)
    ol.tl.spam(adata, split_key="split", allow_spot_split=True, **FAST)


def test_without_a_split_held_out_groups_are_scored():
    adata = made_sections()
    ol.tl.spam(adata, genes=["Gene3", "Gene8"], **FAST)
    assert adata.uns["spam"]["baseline"]["held_out"] == "groups in turn"
    assert adata.var["spam_pearson"].notna().sum() == 2
    assert np.isfinite(adata.layers["spam"]).all(axis=0).sum() == 2


def test_predictions_of_a_saved_model(folder, new, tmp_path):
    ol.tl.predict_expression(new, model=folder)
    model = ol.model.SPAM.load(folder)
    np.testing.assert_allclose(new.layers["spam"], model.predict(new), atol=1e-6)
    assert (new.layers["spam_lower"] <= new.layers["spam_upper"]).all()
    assert new.uns["spam_predicted"]["model_dir"] == str(folder)
    round_trip(new, tmp_path)
    again = made_section("new", seed=9)
    ol.tl.predict_expression(again, model=model, intervals=False)
    assert "spam_lower" not in again.layers


def test_absent_genes_come_in_a_new_object(folder, new, tmp_path):
    few = new[:, :4].copy()
    before = few.copy()
    out = ol.tl.predict_expression(few, model=folder)
    same_object(few, before)
    assert out.shape == (new.n_obs, 30)
    assert "spam_lower" in out.layers
    assert "spam_reliability" in out.var
    np.testing.assert_array_equal(out.obsm["spatial"], new.obsm["spatial"])
    bare = ad.AnnData(obs=new.obs, obsm=dict(new.obsm))
    same = ol.tl.predict_expression(bare, model=folder)
    np.testing.assert_array_equal(same.X, out.X)
    round_trip(out, tmp_path)


def test_unreliable_genes_can_be_left_out(folder, new):
    ol.tl.predict_expression(new, model=folder)
    trust = new.var["spam_reliability"]
    limit = float(trust.median())
    ol.tl.predict_expression(new, model=folder, min_reliability=limit, key_added="kept")
    kept = new.var["kept_reliability"].notna()
    assert set(new.var_names[kept]) == set(new.var_names[trust >= limit])
    with pytest.raises(ValueError, match="No gene has a reliability"):
        ol.tl.predict_expression(new, model=folder, min_reliability=0.999)


def test_measured_spots_and_genes(folder, new):
    new.obs["seen"] = np.arange(new.n_obs) % 5 == 0
    ol.tl.predict_expression(new, model=folder)
    ol.tl.predict_expression(new, model=folder, context="seen", key_added="context")
    assert not np.allclose(new.layers["spam"], new.layers["context"])
    ol.tl.predict_expression(new, model=folder, panel=["Gene1", "Gene4"], key_added="panel")
    assert np.isnan(new.layers["panel"][:, [1, 4]]).all()


def test_mudata_of_counts_and_images(folder, new):
    import mudata as md

    adata = made_sections()
    image = ad.AnnData(adata.obsm["X_classical"], obs=pd.DataFrame(index=adata.obs_names))
    rna = adata.copy()
    del rna.obsm["X_classical"]
    mdata = md.MuData({"rna": rna, "image": image[5:].copy()})
    ol.tl.spam(mdata, **FAST)
    assert np.isnan(mdata["rna"].layers["spam"][:5]).all()
    assert np.isfinite(mdata["rna"].layers["spam"][5:]).all()
    ol.tl.predict_expression(mdata, model=folder)
    assert np.isfinite(mdata["rna"].layers["spam"][5:]).all()


def test_missing_model_and_taken_folder(folder, new):
    with pytest.raises(ValueError, match="train one with ol.tl.spam"):
        ol.tl.predict_expression(new)
    with pytest.raises(FileExistsError, match="exists already"):
        ol.tl.spam(made_sections(), save=folder, **FAST)
    with pytest.raises(ValueError, match="pretrain must be one of"):
        ol.tl.spam(made_sections(), pretrain="all")


def test_pretraining_runs():
    adata = made_sections()
    ol.tl.spam(adata, pretrain="joint", pretrain_epochs=2, **FAST)
    assert "pretrain_loss" in adata.uns["spam"]["history"]


def test_plots(folder, new):
    ol.tl.predict_expression(new, model=folder, genes=["Gene1", "Gene2"])
    figure = ol.pl.expression_maps(new, ["Gene1", "Gene2"])
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0] == "Gene1, measured"
    assert titles[1].startswith("Gene1, predicted (r = ")
    assert len(titles) == 4
    figure = ol.pl.expression_calibration(new)
    assert figure.axes[1].get_xlabel() == "share of observations in the interval"
    plt.close("all")
    with pytest.raises(ValueError, match="'Gene5' was not predicted"):
        ol.pl.expression_maps(new, "Gene5")
    with pytest.raises(KeyError, match="ol.tl.predict_expression"):
        ol.pl.expression_maps(made_section(), "Gene5")
    two = made_sections()
    two.layers["spam"] = two.X.toarray()
    with pytest.raises(ValueError, match="several sections"):
        ol.pl.expression_maps(two, "Gene5")
    del new.layers["spam_lower"]
    with pytest.raises(KeyError, match="intervals=True"):
        ol.pl.expression_calibration(new)


def test_only_declared_keys(folder, new):
    before = slots(new)
    ol.tl.predict_expression(new, model=folder, key_added="foo")
    assert set(new.layers) == {"foo", "foo_lower", "foo_upper"}
    assert set(new.uns) - before["uns"] == {"foo_predicted"}


def test_a_section_of_one_spot_changes_nothing():
    """It has no variance: it once had all the weight, and predictions were the means."""
    study, stray = made_sections(), made_section("stray", seed=7)[:1].copy()
    ol.tl.spam(study, max_epochs=0, show_progress=False)
    more = ad.concat([study, stray], join="inner")
    ol.tl.spam(more, max_epochs=0, show_progress=False)
    both = study.uns["spam"]["baseline"]["spam"], more.uns["spam"]["baseline"]["spam"]
    assert both[0] > 0.05
    np.testing.assert_allclose(*both, atol=0.02)


def test_a_section_without_counts_is_refused():
    study = made_sections()
    X = study.X.toarray()
    X[np.asarray(study.obs["section"] == "s1")] = 0
    study.X = X
    with pytest.raises(ValueError, match="no counts in section 's1'"):
        ol.tl.spam(study, **FAST)
    with pytest.raises(ValueError, match="At least two genes are needed; genes= names 1"):
        ol.tl.spam(made_sections(), genes=[study.var_names[0]], **FAST)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e30])
def test_one_spoiled_spot_does_not_move_its_section(folder, new, size, caplog):
    """It once shifted the mean of the section, and with it every prediction by thousands."""
    clean, spoiled = new.copy(), new.copy()
    spoiled.obsm["X_classical"] = spoiled.obsm["X_classical"].copy()
    spoiled.obsm["X_classical"][3, 0] = size
    ol.tl.predict_expression(clean, model=folder)
    with caplog.at_level("WARNING"):
        ol.tl.predict_expression(spoiled, model=folder)
    assert f"1 of {new.n_obs} observations" in caplog.text and new.obs_names[3] in caplog.text
    moved = np.abs(np.delete(spoiled.layers["spam"] - clean.layers["spam"], 3, axis=0))
    assert moved.max() < 1 and np.isfinite(spoiled.layers["spam"]).all()


@pytest.mark.parametrize("argument", ["library_size", "context"])
def test_a_series_goes_by_name(folder, new, argument, tmp_path):
    values = np.arange(new.n_obs) % 3 == 0 if argument == "context" else np.arange(new.n_obs) + 50.0
    order = np.random.default_rng(0).permutation(new.n_obs)
    series = pd.Series(values, index=new.obs_names).iloc[order]
    one, other = new.copy(), new.copy()
    ol.tl.predict_expression(one, model=folder, **{argument: values})
    ol.tl.predict_expression(other, model=folder, **{argument: series})
    for name in ("spam", "spam_upper"):
        np.testing.assert_array_equal(one.layers[name], other.layers[name])
    other.write_h5ad(tmp_path / "kept.h5ad")  # nothing of it is left in uns
    for wrong in (series.reset_index(drop=True), series[:-1]):
        with pytest.raises(ValueError, match=f"{argument}= is a Series, which goes by the names"):
            ol.tl.predict_expression(new, model=folder, **{argument: wrong})


def test_wide_objects_are_told_what_layers_hold(folder, new, caplog):
    wide = ad.AnnData(np.zeros((new.n_obs, 3 * new.n_vars), np.float32), obs=new.obs)
    wide.var_names = [*new.var_names, *(f"other{i}" for i in range(2 * new.n_vars))]
    wide.obsm.update(new.obsm)
    with caplog.at_level("INFO"):
        ol.tl.predict_expression(wide, model=folder)
    assert "the layers hold NaN for the others" in caplog.text
