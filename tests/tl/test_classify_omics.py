"""`tl.classify_omics`, `tl.explain_omics` and their plots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from model.test_omic_lm import cohort

import omicllm as ol
from omicllm.stats.classifiers import BASELINES
from omicllm.tl._classify_report import text

QUICK = {"n_top": 20, "max_epochs": 5, "model_args": {"n_members": 1}}


def classified(**kwargs):
    adata = cohort()
    ol.tl.classify_omics(adata, labels_key="kind", **{**QUICK, "n_folds": 0, **kwargs})
    return adata


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Classified with scores and a saved model, then explained."""
    adata = cohort()
    folder = tmp_path_factory.mktemp("m") / "model"
    ol.tl.classify_omics(adata, labels_key="kind", save=folder, **QUICK)
    ol.tl.explain_omics(adata, n_obs=30)
    return adata


def test_rows_without_a_label(done):
    hidden = done.obs["kind"].isna().to_numpy()
    right = done.obs["omiclm_label"].astype(str) == done.obs["truth"].astype(str)
    assert right[hidden].mean() > 0.9
    P = done.obsm["omiclm_proba"]
    assert list(P.columns) == ["A", "B", "C"]
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    assert done.obsm["X_omiclm"].shape == (48, 32)


def test_report_names_the_best_baseline(done):
    entry = done.uns["omiclm"]
    scores = ol.get.table(done, "omiclm")
    assert list(scores["classifier"]) == ["omiclm", *BASELINES]
    first = entry["report"].splitlines()[0]
    best = scores.iloc[1:].sort_values("balanced_accuracy").iloc[-1]
    ours = scores["balanced_accuracy"][0]
    assert ("does not beat" in first) == (ours <= best["balanced_accuracy"])
    assert (
        f"{best['balanced_accuracy']:.3f}" in first and "3-fold cross-validation, 36 rows" in first
    )
    confusion = ol.get.table(done, "omiclm", table="confusion")
    assert confusion.to_numpy().sum() == 36
    assert np.mean(np.diag(confusion) / confusion.sum(axis=1)) == pytest.approx(ours)
    bins = ol.get.table(done, "omiclm", table="calibration")
    assert bins["count"].sum() == 36
    assert scores.set_index("classifier").loc["majority", "balanced_accuracy"] == pytest.approx(
        1 / 3
    )


def test_first_line_says_when_the_model_loses():
    import pandas as pd

    frame = pd.DataFrame(
        {"classifier": ["omiclm", "knn"], "balanced_accuracy": [0.5, 0.7], "macro_f1": 0.5,
         "log_loss": 1.0, "ece": 0.1}
    )  # fmt: skip
    assert text(frame, "x").splitlines()[0].startswith("OmicLM does not beat the best baseline: ")
    frame["balanced_accuracy"] = [0.8, 0.7]
    assert text(frame, "x").splitlines()[0].startswith("OmicLM beats the best baseline")


def test_labels_of_test_rows_are_never_seen():
    one, two = cohort(), cohort()
    for adata in (one, two):
        adata.obs["split"] = np.where(np.arange(48) % 3 == 2, "test", "train")
        adata.obs["kind"] = np.array(["A", "B"])[np.arange(48) % 2]
    test = (two.obs["split"] == "test").to_numpy()
    two.obs["kind"] = np.where(test, np.where(two.obs["kind"] == "A", "B", "A"), two.obs["kind"])
    for adata in (one, two):
        ol.tl.classify_omics(adata, labels_key="kind", **QUICK)
    np.testing.assert_array_equal(one.obsm["omiclm_proba"], two.obsm["omiclm_proba"])
    assert "16 test rows" in one.uns["omiclm"]["report"]
    scores = [ol.get.table(a, "omiclm")["accuracy"][0] for a in (one, two)]
    assert sum(scores) == pytest.approx(1)


@pytest.mark.parametrize("method", ["smote", "replacement", None])
def test_samplers(method):
    adata = classified(augment=method, **({} if method is None else {"n_new": 10}))
    hidden = adata.obs["kind"].isna().to_numpy()
    right = adata.obs["omiclm_label"].astype(str) == adata.obs["truth"].astype(str)
    assert adata.n_obs == 48 and right[hidden].mean() > 0.8


def test_a_saved_model_is_applied(done):
    adata = cohort(seed=3)
    ol.tl.classify_omics(adata, labels_key="kind", model=done.uns["omiclm"]["model_dir"])
    right = adata.obs["omiclm_label"].astype(str) == adata.obs["truth"].astype(str)
    assert right.mean() > 0.8
    assert list(adata.uns["omiclm"]["genes"]) == list(done.uns["omiclm"]["genes"])


def test_what_is_written(tmp_path):
    adata = cohort()
    before = slots(adata)
    ol.tl.classify_omics(adata, labels_key="kind", n_folds=2, save=tmp_path / "m", **QUICK)
    only_declared_written(before, adata, "tl.classify_omics")
    before = slots(adata)
    ol.tl.explain_omics(adata, n_obs=6)
    only_declared_written(before, adata, "tl.explain_omics")
    adata.obs["kind"] = adata.obs["kind"].astype(object).fillna("").astype(str)
    round_trip(adata, tmp_path)


def test_multimodal():
    import mudata as md

    adata = cohort()
    mdata = md.MuData({"rna": adata[:, :30].copy(), "protein": adata[5:, 30:].copy()})
    ol.tl.classify_omics(mdata, labels_key="kind", **{**QUICK, "n_folds": 2})
    assert mdata.obs["omiclm_label"].notna().all()
    assert "2-fold" in mdata.uns["omiclm"]["report"]
    from omicllm.model import OmicLM

    model = OmicLM.over(
        mdata, mdata.mod["rna"].obs["kind"].reindex(mdata.obs_names),
        {"labels_key": "kind", "modalities": ["rna", "protein"]}, n_top=20, n_members=1,
    )  # fmt: skip
    model.train(max_epochs=5)
    ol.tl.explain_omics(mdata, model=model, n_obs=12)
    assert len(mdata.var["explain_omics_score"]) == 60
    table = ol.get.table(mdata, "explain_omics")
    assert set(table["modality"]) == {"rna", "protein"}
    ol.tl.classify_omics(mdata, labels_key="kind", mod="rna", **{**QUICK, "n_folds": 0})
    assert "omiclm_label" in mdata.mod["rna"].obs


def test_planted_genes_are_explained(done):
    from sklearn.metrics import roc_auc_score

    score = done.var["explain_omics_score"].to_numpy()
    assert roc_auc_score(done.var["planted"], score) > 0.9
    table = ol.get.table(done, "explain_omics")
    top = table[table["class"] == "A"].nlargest(4, "attribution")["gene"]
    assert set(top) <= {f"Gene{i}" for i in range(6)}


def test_bad_input(tmp_path):
    adata = cohort()
    untouched = adata.copy()

    def run(**kwargs):
        ol.tl.classify_omics(adata, **{"labels_key": "kind", **QUICK, **kwargs})

    for kwargs, error, message in (
        ({"labels_key": "x"}, KeyError, "labels_key="),
        ({"augment": "x"}, ValueError, "augment must be one of"),
        ({"n_folds": 1}, ValueError, "at least 2"),
        ({"save": tmp_path}, FileExistsError, "save="),
        ({"modalities": ["rna"]}, ValueError, "modalities= is for a MuData"),
        ({"n_top": 5000, "model_args": {"context": 30}}, ValueError, "27 genes fit"),
        ({"augment": "gamma_poisson"}, ValueError, "draws counts"),
    ):
        with pytest.raises(error, match=message):
            run(**kwargs)
    same_object(adata, untouched)
    adata.obs["split"] = "test"
    with pytest.raises(ValueError, match="No labelled row is marked 'train'"):
        run()
    with pytest.raises(KeyError, match=r"save=folder"):
        ol.tl.explain_omics(cohort())
    with pytest.raises(KeyError, match="classify_omics"):
        ol.get.table(cohort(), "omiclm")


def test_plots(done):
    assert ol.pl.confusion(done).get_xlabel() == "predicted class"
    assert "calibration error" in ol.pl.reliability(done).get_title()
    figure = ol.pl.gene_attributions(done, n_genes=5)
    assert len(figure.axes) == 3
    with pytest.raises(KeyError, match="'Z'"):
        ol.pl.gene_attributions(done, classes=["Z"])
    plt.close("all")
