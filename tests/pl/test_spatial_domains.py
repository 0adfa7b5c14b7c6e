"""`pl.spatial_domains`: one panel per section, the object untouched."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object
from matplotlib.colors import to_rgba

import omicllm as ol


def with_domains():
    parts = {"a": make_tiny(), "b": make_tiny(seed=1)[:60]}
    adata = ad.concat(parts, label="slide", index_unique="-")
    ol.tl.spatial_domains(adata, n_domains=3, batch_key="slide", n_starts=1)
    return adata


def test_panels_and_colours():
    adata = with_domains()
    adata.uns["spatial_domain_colors"] = np.array(["#ff0000", "#00ff00", "#0000ff"])
    untouched = adata.copy()
    figure = ol.pl.spatial_domains(adata, confidence=True)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["a", "b", "confidence", "confidence"]
    first = adata.obs["spatial_domain"].cat.codes.to_numpy()[:120]
    drawn = figure.axes[0].collections[0]
    assert len(drawn.get_offsets()) == 120
    wanted = np.array([to_rgba(c) for c in ("#ff0000", "#00ff00", "#0000ff")])[first]
    np.testing.assert_allclose(drawn.get_facecolors(), wanted)
    same_object(adata, untouched)
    plt.close(figure)


def test_one_section_into_given_axes():
    adata = with_domains()
    _, ax = plt.subplots()
    assert ol.pl.spatial_domains(adata, section="b", ax=ax, palette="viridis") is ax
    assert len(ax.collections[0].get_offsets()) == 60
    plt.close("all")


def test_what_is_missing_is_named():
    adata = with_domains()
    with pytest.raises(KeyError, match=r"ol.tl.spatial_domains\(adata, n_domains="):
        ol.pl.spatial_domains(make_tiny())
    with pytest.raises(KeyError, match="'c' is not in the sections"):
        ol.pl.spatial_domains(adata, section="c")
    with pytest.raises(KeyError, match="'xy' is not in adata.obsm"):
        ol.pl.spatial_domains(adata, spatial_key="xy")
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="ax= takes one panel, and 2 are asked for"):
        ol.pl.spatial_domains(adata, ax=ax)
    plt.close("all")
