"""Sections that lie over each other are told by every verb that uses coordinates."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny

import omicllm as ol


def cells(column="section", *, apart=False, seed=0):
    """Two sections of cells on the same coordinates, or side by side."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(2):
        part = make_tiny(seed=i)
        part.obs_names = [f"{i}-{n}" for n in part.obs_names]
        part.obs = part.obs[[]]
        part.obsm["spatial"] = rng.random((120, 2)) * 100 + [120.0 * i * apart, 0.0]
        part.obs[column] = f"s{i}"
        part.obs["condition"] = ["healthy", "ill"][i]
        parts.append(part)
    return ad.concat(parts, merge="same")


def imputed(adata, **kwargs):
    reference = make_tiny(50, seed=5)
    reference.var_names = [*adata.var_names, *(f"New{i}" for i in range(10))]
    ol.tl.impute_genes(adata, reference=reference, method="knn", n_folds=3, **kwargs)


VERBS = {
    "pp.spatial_grid": ol.pp.spatial_grid,
    "pp.split": lambda a, **k: ol.pp.split(a, method="blocks", **k),
    "tl.sigel": lambda a, **k: ol.tl.sigel(a, n_clusters=3, **k),
    "tl.spatially_variable_genes": lambda a, **k: ol.tl.spatially_variable_genes(
        a, method="moran", **k),
    "tl.spatial_domains": lambda a, **k: ol.tl.spatial_domains(a, n_domains=2, n_starts=1, **k),
    "tl.impute_genes": imputed,
}  # fmt: skip


def told(verb, adata, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VERBS[verb](adata, **kwargs)
    of_ours = [w for w in caught if "lie over each other" in str(w.message)]
    assert all(w.filename == __file__ for w in of_ours), "points at the user's line"
    return [str(w.message) for w in of_ours]


@pytest.mark.parametrize("verb", VERBS)
def test_told_once_without_batch_key_and_not_with_it(verb):
    found = told(verb, cells())
    assert found and all("batch_key='section'" in text for text in found)
    assert not told(verb, cells(), batch_key="section")


@pytest.mark.parametrize("verb", VERBS)
def test_no_false_alarm(verb):
    assert not told(verb, cells(apart=True)), "side by side"
    one = cells(apart=True)[:120].copy()
    one.obs["batch"] = "only"
    assert not told(verb, one), "one section"
    assert not told(verb, cells(column="noted")), "no column that looks like sections"


def test_the_region_key_of_spatialdata():
    adata = cells(column="where")
    adata.uns["spatialdata_attrs"] = {"region_key": "where", "instance_key": "id"}
    assert "batch_key='where'" in told("pp.spatial_grid", adata)[0]


def test_grid_and_graph_rest_on_the_same_positions(tiny):
    """Text, objects and coordinates of an array give what its numbers give."""
    from omicllm.tl._graph import spatial_graph

    wanted = spatial_graph(tiny, "spatial_connectivities")
    ol.pp.spatial_grid(tiny)
    position = tiny.obsm["spatial_grid"]
    text = tiny.copy()
    for column in ("array_row", "array_col"):
        text.obs[column] = text.obs[column].astype(str)
    text.obsm["spatial"] = text.obsm["spatial"].astype(str).astype(object)
    bare = tiny.copy()
    bare.obs = bare.obs[[]]
    for other in (text, bare):
        ol.pp.spatial_grid(other)
        assert np.array_equal(other.obsm["spatial_grid"], position)
        assert (spatial_graph(other, "spatial_connectivities") != wanted).nnz == 0


def test_the_graph_of_a_section_without_array_positions_follows_its_coordinates(tiny):
    from omicllm.tl._graph import spatial_graph

    two = ad.concat({"a": tiny, "b": tiny[:60]}, label="slide", index_unique="-")
    two.obs["array_row"] = two.obs["array_row"].astype(float)
    two.obs.iloc[125, two.obs.columns.get_loc("array_row")] = np.nan
    two.obsm["spatial"] = two.obsm["spatial"].astype(float)
    two.obsm["spatial"][120:] = np.random.default_rng(0).random((60, 2))
    with pytest.warns(UserWarning, match="section 'b'"):
        graph = spatial_graph(two, "spatial_connectivities", batch_key="slide")
    alone = spatial_graph(tiny, "spatial_connectivities")
    assert (graph[:120, :120] != alone).nnz == 0 and graph[:120, 120:].nnz == 0
    degree = np.asarray((graph[120:, 120:] > 0).sum(axis=1)).ravel()
    assert degree.min() >= 6, "six nearest neighbours of each, as of cells"


def test_pixels_by_distinct_places():
    places = np.random.default_rng(0).random((800, 2)) * 900
    for times in (1, 2, 5):
        adata = ad.AnnData(np.ones((800 * times, 2), dtype=np.float32))
        adata.obsm["spatial"] = np.repeat(places, times, axis=0)
        ol.pp.spatial_grid(adata)
        occupied = len(np.unique(adata.obsm["spatial_grid"], axis=0))
        assert abs(occupied - 800 / 1.3) < 12
        assert np.prod(adata.uns["spatial_grid"]["shape"]) < 4 * 800


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_a_stray_spot_is_named_and_does_not_merge_the_others(far):
    coords = np.random.default_rng(0).random((300, 2))
    coords[7] += far
    adata = ad.AnnData(np.ones((300, 2), dtype=np.float32), obsm={"spatial": coords})
    adata.obs_names = [f"cell{i}" for i in range(300)]
    with pytest.warns(UserWarning, match=r"231 were aimed at\). 1 lie far .*'cell7'"):
        ol.pp.spatial_grid(adata)
    assert len(np.unique(adata.obsm["spatial_grid"], axis=0)) > 200
    with pytest.raises(ValueError, match="too large to draw"):
        ol.get.gene_images(adata, "0")
