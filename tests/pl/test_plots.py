"""Plots: what is drawn, where, and what is refused."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import omicllm as ol


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def _done():
    adata = make_tiny()
    ol.tl.sigel(adata, max_epochs=3)
    xy = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    xy[3:5] = np.nan
    adata.varm["X_sigel_umap"] = xy
    return adata


@pytest.fixture
def adata(_done):
    """The small set with results; drawing must not change it."""
    adata = _done.copy()
    yield adata
    same_object(adata, _done)


@pytest.fixture
def sections():
    two = ad.concat({"a": make_tiny(), "b": make_tiny()[:60]}, label="slide", index_unique="-")
    ol.pp.spatial_grid(two, batch_key="slide")
    two.var["sigel_cluster"] = np.where(np.arange(40) % 2, "x", "y")
    return two


def pixels(ax) -> np.ndarray:
    """The image in some axes, blank pixels as NaN."""
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def test_gene_image(adata):
    figure = ol.pl.gene_image(adata, ["Gene7", "Gene1"])
    assert isinstance(figure, Figure)
    panels = [a for a in figure.axes if a.images and a.get_title()]
    assert [a.get_title() for a in panels] == ["Gene7", "Gene1"]
    truth = ol.get.gene_images(adata, ["Gene7"])[0]
    seen = np.zeros((12, 11), dtype=bool)
    seen[tuple(adata.obsm["spatial_grid"].T)] = True
    drawn = pixels(panels[0])
    np.testing.assert_allclose(drawn[seen], np.log1p(truth[seen]), rtol=1e-5)
    assert np.isnan(drawn[~seen]).all()
    assert panels[0].get_aspect() == pytest.approx(np.sqrt(3) / 2)


def test_gene_image_into_axes(adata):
    _, ax = plt.subplots()
    assert ol.pl.gene_image(adata, "Gene0", ax=ax, log1p=False) is ax
    truth = ol.get.gene_images(adata, "Gene0")[0]
    assert np.nanmax(pixels(ax)) == truth.max()
    with pytest.raises(ValueError, match="ax= takes one gene, not 2"):
        ol.pl.gene_image(adata, ["Gene0", "Gene1"], ax=ax)
    with pytest.raises(KeyError, match="not in adata.var_names"):
        ol.pl.gene_image(adata, "Nope")


def test_gene_image_of_sections(sections):
    figure = ol.pl.gene_image(sections, "Gene0", section="b")
    assert pixels(figure.axes[0]).shape == (6, 11)
    with pytest.raises(ValueError, match="several sections"):
        ol.pl.gene_image(sections, "Gene0")
    with pytest.raises(KeyError, match="'c' is not in the sections"):
        ol.pl.gene_image(sections, "Gene0", section="c")


def test_gene_embedding(adata):
    ax = ol.pl.gene_embedding(adata, labels=["Gene7", "Gene9"])
    assert isinstance(ax, Axes)
    points = ax.collections[0].get_offsets()
    assert len(points) == 38 and np.isfinite(points).all()
    assert [t.get_text() for t in ax.texts] == ["Gene7", "Gene9"]
    np.testing.assert_allclose(ax.texts[0].xy, adata.varm["X_sigel_umap"][7])
    colours = ax.collections[0].get_facecolors()
    labels = adata.var["sigel_cluster"].dropna().astype(str).to_numpy()
    groups = {tuple(c): set(labels[(colours == c).all(axis=1)]) for c in colours}
    assert all(len(g) == 1 for g in groups.values()), "one colour per cluster"


def test_gene_embedding_by_a_number(adata):
    _, ax = plt.subplots()
    assert ol.pl.gene_embedding(adata, color="sigel_confidence", ax=ax) is ax
    seen = ~adata.var["sigel_empty"].to_numpy()
    drawn = np.asarray(ax.collections[0].get_array(), dtype=float)
    np.testing.assert_allclose(drawn, adata.var["sigel_confidence"][seen])


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"key": "nope"}, r"'X_nope_umap' is not in adata.varm.*umap=True"),
        ({"color": "nope"}, "'nope' is not in adata.var .*color="),
        ({"labels": "Nope"}, "not in adata.var_names"),
    ],
)
def test_gene_embedding_bad_input(adata, kwargs, message):
    with pytest.raises(KeyError, match=message):
        ol.pl.gene_embedding(adata, **kwargs)


def test_gene_heatmap(adata):
    figure = ol.pl.gene_heatmap(adata, groupby="program", groups=[1, 0])
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == ["1 (10 genes)", "0 (10 genes)"]
    # Program 0 grows with x, program 1 falls with it.
    one, zero = (pixels(a) for a in figure.axes[:2])
    columns = np.arange(zero.shape[1])
    seen = np.isfinite(zero)
    x = np.broadcast_to(columns, zero.shape)[seen]
    assert np.corrcoef(x, zero[seen])[0, 1] > 0.8 > -0.8 > np.corrcoef(x, one[seen])[0, 1]


def test_gene_heatmap_draws_the_largest_clusters(adata):
    figure = ol.pl.gene_heatmap(adata, n_groups=2)
    sizes = adata.var["sigel_cluster"].value_counts()
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == [f"{name} ({n} genes)" for name, n in sizes.iloc[:2].items()]
    assert isinstance(figure, Figure)


def test_gene_heatmap_bad_input(adata, sections):
    with pytest.raises(KeyError, match="'nope_cluster' is not in adata.var.*ol.tl.nope"):
        ol.pl.gene_heatmap(adata, key="nope")
    with pytest.raises(KeyError, match=r"'zz' is not in adata.var\['sigel_cluster'\]"):
        ol.pl.gene_heatmap(adata, groups=["zz"])
    with pytest.raises(KeyError, match="ol.pp.spatial_grid"):
        ol.pl.gene_heatmap(adata, grid_key="other")
    with pytest.raises(ValueError, match="section= .*'a', 'b'"):
        ol.pl.gene_heatmap(sections)
    assert pixels(ol.pl.gene_heatmap(sections, section="b").axes[0]).shape == (6, 11)


def test_training_history(adata):
    figure = ol.pl.training_history(adata)
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    history = adata.uns["sigel"]["history"]
    assert titles == [k.replace("_", " ") for k in history]
    for ax, values in zip(figure.axes, history.values(), strict=False):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), values)


def test_training_history_of_a_model(tiny):
    ol.model.SIGEL.setup_anndata(tiny)
    model = ol.model.SIGEL(tiny)
    model.train(pretrain_epochs=2)
    figure = ol.pl.training_history(model)
    assert len(figure.axes[0].lines[0].get_xdata()) == 2
    del tiny.uns
    with pytest.raises(KeyError, match=r"'history' is not in adata.uns\['sigel'\].*ol.tl.sigel"):
        ol.pl.training_history(tiny)
    tiny.uns["sigel"] = {"history": {}}
    with pytest.raises(ValueError, match="history is empty"):
        ol.pl.training_history(tiny)


def test_show(adata, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    ol.pl.gene_image(adata, "Gene0")
    assert shown == []
    ol.pl.gene_image(adata, "Gene0", show=True)
    assert shown == [1]
