"""`ol.tl.augment_quality`: the figures tell good samplers from bad ones."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest
from helpers import same_object

import omicllm as ol


@pytest.fixture
def cohort():
    """Three classes that differ in some genes; genes correlate within blocks."""
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 40)
    level = rng.lognormal(3, 0.5, size=24) * np.exp(0.8 * (np.arange(24) % 3 == codes[:, None]))
    shared = np.exp(0.6 * rng.normal(size=(120, 4)))[:, np.arange(24) % 4]
    adata = ad.AnnData(rng.poisson(level * shared).astype(np.float32))
    adata.obs["kind"] = np.array(["a", "b", "c"])[codes]
    ol.pp.split(adata, labels_key="kind", test_size=0.3, val_size=0)
    return adata


def table(adata, key="augment_quality"):
    return ol.get.table(adata, key).set_index("sampler")


def test_every_sampler_of_a_real_cohort(cohort):
    signatures = {k: [str(g) for g in range(i, 24, 3)] for i, k in enumerate("abc")}
    before = cohort.copy()
    out = ol.tl.augment_quality(cohort, labels_key="kind", signatures=signatures, copy=True)
    same_object(cohort, before)
    got = table(out)
    assert list(got.index) == [
        "real", "gamma_poisson", "poisson", "unmod_poisson", "unmod_gamma_poisson", "replacement",
        "smote", "local_crossover", "global_crossover", "vae",
    ]  # fmt: skip
    assert (got["n"][1:] == 300).all() and got.loc["real", "n"] == 84
    assert got.notna().all(axis=None)
    assert got.loc["replacement", "near_copies"] == 1 and got.loc["real", "near_copies"] < 0.1
    assert got["ks"].idxmin() == "replacement"
    assert got.loc["unmod_poisson", "variance_ratio"] < got.loc["gamma_poisson", "variance_ratio"]
    assert got.loc["replacement", "variance_ratio"] == pytest.approx(1, abs=0.15)
    assert got.loc["replacement", "correlation"] > 0.9 > got.loc["unmod_poisson", "correlation"]
    assert got.loc["gamma_poisson", "mean_abs_r"] < 0.5 * got.loc["real", "mean_abs_r"]
    assert got.loc["unmod_poisson", "separation"] > got.loc["real", "separation"]
    # One rate per class and gene: the class centre is lost, and with it the classification.
    use = got.drop(index="unmod_gamma_poisson")
    assert (use[["accuracy", "accuracy_with_real"]] > 0.8).all(axis=None)
    assert got.loc["unmod_gamma_poisson", "ks"] == got["ks"].max()


def test_rows_of_an_augmented_object(cohort):
    one = ol.pp.augment(cohort, labels_key="kind", method="poisson", n_new=30)
    both = ol.pp.augment(one, labels_key="kind", method="smote", n_new=20)
    ol.tl.augment_quality(both, labels_key="kind", key_added="how")
    got = table(both, key="how")
    assert got["n"].to_dict() == {"real": 84, "poisson": 90, "smote": 60}
    ol.tl.augment_quality(one, labels_key="kind")
    assert table(one).loc["poisson"].equals(got.loc["poisson"])
    # An object whose synthetic rows carry no sampler name.
    del one.obs["sampler"]
    ol.tl.augment_quality(one, labels_key="kind")
    assert list(table(one).index) == ["real", "synthetic"]


def test_shuffled_labels_show(cohort):
    out = ol.pp.augment(cohort, labels_key="kind", method="poisson", n_new=60)
    fake = np.flatnonzero(out.obs["synthetic"])
    kind = out.obs["kind"].to_numpy().astype(object)
    kind[fake] = np.random.default_rng(0).permutation(kind[fake])
    bad = out.copy()
    bad.obs["kind"] = kind
    for adata in (out, bad):
        ol.tl.augment_quality(adata, labels_key="kind")
    good, bad = table(out).loc["poisson"], table(bad).loc["poisson"]
    assert bad["ks"] > good["ks"] and bad["separation"] < 0.1 < good["separation"]
    assert bad["accuracy"] < 0.6 < good["accuracy"]


def test_test_rows_are_classified_and_not_compared_with(cohort):
    other = cohort.copy()
    other.X[np.flatnonzero(other.obs["split"] == "test")] += 50
    kwargs = {"labels_key": "kind", "methods": ["poisson"], "n_new": 30}
    for adata in (cohort, other):
        ol.tl.augment_quality(adata, **kwargs)
    one, two = table(cohort).loc["poisson"], table(other).loc["poisson"]
    same = ["ks", "variance_ratio", "mean_abs_r", "correlation", "separation", "near_copies"]
    assert one[same].equals(two[same])


def test_values_that_are_no_counts(cohort):
    cohort.layers["log"] = np.log1p(cohort.X)
    ol.tl.augment_quality(cohort, labels_key="kind", layer="log", n_new=20)
    assert list(table(cohort).index) == ["real", "replacement", "smote", "vae"]
    with pytest.raises(ValueError, match="whole numbers"):
        ol.tl.augment_quality(cohort, labels_key="kind", layer="log", methods=["poisson"])


def test_without_test_rows_or_with_one_class(cohort, caplog):
    cohort.obs["split"] = "train"
    with caplog.at_level(logging.WARNING, "omicllm"):
        ol.tl.augment_quality(cohort, labels_key="kind", methods=["poisson"], n_new=9)
    assert "no labelled test row" in caplog.text
    got = table(cohort).loc["poisson"]
    assert np.isnan(got["accuracy"]) and np.isfinite(got["ks"])
    one = cohort[cohort.obs["kind"] == "a"].copy()
    ol.tl.augment_quality(one, labels_key="kind", methods=["poisson"], n_new=9)
    assert np.isnan(table(one).loc["poisson", "separation"])


def test_a_class_of_one_leaves_samplers_out(cohort, caplog):
    train = np.flatnonzero((cohort.obs["kind"] == "c") & (cohort.obs["split"] == "train"))
    kind = cohort.obs["kind"].to_numpy().astype(object)
    kind[train[1:]] = None
    cohort.obs["kind"] = kind
    with caplog.at_level(logging.WARNING, "omicllm"):
        ol.tl.augment_quality(cohort, labels_key="kind", n_new=9)
    assert "smote" not in table(cohort).index and "smote and vae are left out" in caplog.text


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"labels_key": "no"}, KeyError, "'no' is not in adata.obs"),
        ({"methods": ["gan"]}, ValueError, "methods must be one of"),
        ({"n_genes": 0}, ValueError, "n_genes must be"),
        ({"copy_ratio": 2}, ValueError, "copy_ratio must lie"),
        ({"split_key": "kind"}, ValueError, "No labelled real row is marked 'train'"),
    ],
)
def test_bad_input(cohort, kwargs, error, message):
    before = cohort.copy()
    with pytest.raises(error, match=message):
        ol.tl.augment_quality(cohort, **{"labels_key": "kind", **kwargs})
    same_object(cohort, before)
    cohort.X[np.flatnonzero(cohort.obs["split"] == "train")[0], 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 84 rows"):
        ol.tl.augment_quality(cohort, labels_key="kind")


def test_no_results(cohort):
    with pytest.raises(KeyError, match="ol.tl.augment_quality"):
        ol.get.table(cohort, "augment_quality")
