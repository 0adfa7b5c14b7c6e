"""Plots of the text codec."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import make_tiny

import omicllm as ol


@pytest.fixture
def drawn(tiny):
    ol.tl.ult(tiny, max_value=4.0)
    ol.tl.ult_quality(tiny)
    ol.tl.ult_distances(tiny, n_sample=20, n_permutations=9)
    tiny.obs["half"] = np.where(np.arange(120) < 60, "one", "two")
    yield tiny
    plt.close("all")


def test_table(drawn):
    figure = ol.pl.ult_table(drawn)
    left, right = figure.axes
    share = ol.get.lut_df(drawn)["share"]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), share)
    assert left.get_xscale() == "log" and right.get_xlabel() == "level"
    drawn.obs["note"] = ["some text"] * 120
    ol.tl.ult(drawn, method="text", text_key="note", key_added="note_ult")
    figure = ol.pl.ult_table(drawn, key="note_ult")
    labels = [t.get_text() for t in figure.axes[1].get_xticklabels()]
    assert "1\\x1d" in labels


def test_quality(drawn):
    ax = ol.pl.ult_quality(drawn)
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], drawn.obs["ult_psnr"])
    np.testing.assert_allclose(points[:, 0], 100 * drawn.obs["ult_saturated"])
    _, given = plt.subplots()
    ax = ol.pl.ult_quality(drawn, groupby="half", ax=given)
    assert ax is given
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    with pytest.raises(KeyError, match=r"ol.tl.ult_quality\(adata\)"):
        ol.pl.ult_quality(make_tiny())


def test_distances(drawn):
    figure = ol.pl.ult_distances(drawn)
    assert [a.get_ylabel().split()[0] for a in figure.axes[:3]] == [
        "level",
        "hamming",
        "levenshtein",
    ]
    assert len(figure.axes[0].collections[0].get_offsets()) == 190
    with pytest.warns(UserWarning, match="large whatever"):
        ol.tl.ult_distances(drawn, formula="reference", n_sample=20)
    with pytest.raises(KeyError, match="formula='mantel'"):
        ol.pl.ult_distances(drawn)
