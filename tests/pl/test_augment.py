"""Plots of synthetic rows."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest

import omicllm as ol


@pytest.fixture
def cohort():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(5, size=(40, 8)).astype(np.float32))
    adata.obs["kind"] = ["a", "b"] * 18 + [None] * 4
    ol.pp.split(adata, labels_key="kind")
    return ol.pp.augment(adata, labels_key="kind", n_new=12)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_quality(cohort):
    with pytest.raises(KeyError, match="ol.tl.augment_quality"):
        ol.pl.augment_quality(cohort)
    ol.tl.augment_quality(cohort, labels_key="kind", methods=["poisson", "replacement"], n_new=9)
    figure = ol.pl.augment_quality(cohort)
    table = ol.get.table(cohort, "augment_quality").set_index("sampler")
    shown = figure.axes[0]
    assert [t.get_text() for t in shown.get_yticklabels()] == ["poisson", "replacement"]
    points = next(
        line for line in shown.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"
    )
    np.testing.assert_allclose(points.get_xdata(), table["ks"][["poisson", "replacement"]])
    np.testing.assert_allclose(shown.lines[0].get_xdata(), table.loc["real", "ks"])


def test_quality_without_test_rows(cohort):
    cohort.obs["split"] = "train"
    ol.tl.augment_quality(cohort, labels_key="kind")
    figure = ol.pl.augment_quality(cohort)
    assert any(t.get_text() == "no test rows" for t in figure.axes[-1].texts)


def test_rows_on_the_axes_of_the_real_ones(cohort):
    ax = ol.pl.augment(cohort, labels_key="kind")
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["a", "b", "synthetic", "real"]
    train = (cohort.obs["split"] == "train") & cohort.obs["kind"].notna()
    real = (train & ~cohort.obs["synthetic"]).sum()
    drawn = {"o": 0, ".": 0}
    for line in ax.lines:
        drawn[line.get_marker()] += len(line.get_xdata())
    assert drawn == {"o": real, ".": 24}
    mean = np.concatenate([ln.get_ydata() for ln in ax.lines if ln.get_marker() == "o"]).mean()
    assert mean == pytest.approx(0, abs=1e-9)  # scores of the rows that made the axes
    assert ol.pl.augment(cohort, labels_key="kind", ax=ax) is ax


def test_bad_input(cohort):
    with pytest.raises(KeyError, match="'type' is not in adata.obs"):
        ol.pl.augment(cohort, labels_key="type")
    cohort.obs["split"] = "test"
    with pytest.raises(ValueError, match="0 labelled real training rows"):
        ol.pl.augment(cohort, labels_key="kind")
    del cohort.obs["synthetic"]
    with pytest.raises(KeyError, match="ol.pp.augment"):
        ol.pl.augment(cohort, labels_key="kind")
