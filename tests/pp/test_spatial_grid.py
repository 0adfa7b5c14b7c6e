"""`pp.spatial_grid` on AnnData: choice of method, sections, bad input, contract."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from helpers import only_declared_written, round_trip, same_object, slots

import omicllm as ol


def test_hexagonal(tiny, tmp_path):
    before = slots(tiny)
    ol.pp.spatial_grid(tiny)
    grid = tiny.uns["spatial_grid"]
    assert grid["method"] == "hex" and grid["shape"].tolist() == [12, 11]
    assert tiny.obsm["spatial_grid"].dtype == np.int32
    only_declared_written(before, tiny, "pp.spatial_grid")
    round_trip(tiny, tmp_path)


def test_methods(tiny):
    tiny.obs["array_col"] = tiny.obs["array_col"] // 2
    ol.pp.spatial_grid(tiny)
    assert tiny.uns["spatial_grid"]["method"] == "square"
    ol.pp.spatial_grid(tiny, method="bin")
    assert tiny.uns["spatial_grid"]["method"] == "bin"
    with pytest.raises(ValueError, match="method='hex' needs"):
        ol.pp.spatial_grid(tiny, method="hex")
    del tiny.obs["array_col"]  # the coordinates are those of a hexagonal array
    ol.pp.spatial_grid(tiny)
    assert tiny.uns["spatial_grid"]["method"] == "hex"
    tiny.obsm["spatial"] = np.random.default_rng(0).random((120, 2))
    ol.pp.spatial_grid(tiny)
    assert tiny.uns["spatial_grid"]["method"] == "bin"
    with pytest.raises(KeyError, match="'array_col' is not in adata.obs"):
        ol.pp.spatial_grid(tiny, method="square")


def test_broken_array_positions_fall_back_to_coordinates(tiny):
    ol.pp.spatial_grid(tiny)
    wanted = tiny.obsm["spatial_grid"].copy()
    tiny.obs["array_col"] = tiny.obs["array_col"] + 0.25
    with pytest.warns(UserWarning, match="120 of 120 are not whole numbers .*'spot0' is 0.25"):
        ol.pp.spatial_grid(tiny)
    assert tiny.uns["spatial_grid"]["made_from"].tolist() == ["coordinates"]
    assert np.array_equal(tiny.obsm["spatial_grid"], wanted)


def test_sections(tiny, tmp_path):
    two = ad.concat({"a": tiny, "b": tiny[:50]}, label="slide", index_unique="-")
    with pytest.raises(ValueError, match="50 spots .* batch_key="):
        ol.pp.spatial_grid(two)
    ol.pp.spatial_grid(two, batch_key="slide")
    grid = two.uns["spatial_grid"]
    assert grid["shapes"].tolist() == [[12, 11], [5, 11]]
    assert grid["sections"].tolist() == ["a", "b"]
    round_trip(two, tmp_path)
    images = ol.get.gene_images(two, ["Gene0"], section="b")
    assert images.shape == (1, 5, 11)
    assert images.sum() == two[two.obs["slide"] == "b", "Gene0"].X.sum()
    with pytest.raises(ValueError, match="several sections"):
        ol.get.gene_images(two)
    with pytest.raises(KeyError, match="'c' is not in the sections"):
        ol.get.gene_images(two, section="c")


def test_copy_key_added_mudata(tiny):
    import mudata as md

    before = tiny.copy()
    out = ol.pp.spatial_grid(tiny, copy=True, key_added="mine")
    same_object(tiny, before)
    assert "mine" in out.obsm and "mine" in out.uns
    mdata = md.MuData({"rna": tiny.copy()})
    ol.pp.spatial_grid(mdata, mod="rna")
    assert np.array_equal(mdata["rna"].obsm["spatial_grid"], out.obsm["mine"])


def bad_inputs(tiny):
    nan = tiny.copy()
    nan.obsm["spatial"][3, 0] = np.nan
    three = tiny.copy()
    three.obsm["spatial"] = np.zeros((120, 3))
    nowhere = tiny.copy()
    del nowhere.obsm["spatial"], nowhere.obs["array_row"]
    return [
        (nan, {"method": "bin"}, ValueError, "NaN or infinite coordinates in 1 of 120"),
        (three, {"method": "bin"}, ValueError, "3 columns, but a gene image needs 2-D"),
        (nowhere, {}, KeyError, "'spatial' is not in adata.obsm"),
        (tiny[:1].copy(), {}, ValueError, "at least two spots; the object has 1"),
        (tiny, {"method": "round"}, ValueError, "method must be one of"),
        (tiny, {"agg": "max"}, ValueError, "agg must be one of"),
        (tiny, {"pixel_size": -1}, ValueError, "pixel_size must be positive"),
        (tiny, {"method": "hex", "pixel_size": 3.0}, ValueError, "belong to method='bin'"),
        (tiny, {"batch_key": "slide"}, KeyError, "'slide' is not in adata.obs"),
    ]


@pytest.mark.parametrize("case", range(9))
def test_bad_input(tiny, case):
    adata, kwargs, error, message = bad_inputs(tiny)[case]
    before = adata.copy()
    with pytest.raises(error, match=message):
        ol.pp.spatial_grid(adata, **kwargs)
    same_object(adata, before)


def test_gene_images_from_every_storage(tiny, tmp_path):
    ol.pp.spatial_grid(tiny)
    wanted = ol.get.gene_images(tiny)
    dense = tiny.X.toarray()
    position = tiny.obsm["spatial_grid"]
    assert np.array_equal(wanted[:, position[:, 0], position[:, 1]], dense.T)
    tiny.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert np.array_equal(ol.get.gene_images(backed), wanted)
    some = ["Gene7", "Gene2"]
    assert np.array_equal(ol.get.gene_images(backed, some), wanted[[7, 2]])
    assert np.array_equal(ol.get.gene_images(tiny[:, :9], some), wanted[[7, 2]])
    tiny.X = tiny.X.tocsc()
    assert np.array_equal(ol.get.gene_images(tiny, some), wanted[[7, 2]])
    tiny.X = dense
    assert np.array_equal(ol.get.gene_images(tiny), wanted)
    lazy = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    assert np.array_equal(ol.get.gene_images(lazy, some), wanted[[7, 2]])
    with pytest.raises(KeyError, match="ol.pp.spatial_grid"):
        ol.get.gene_images(tiny, key="other")
    with pytest.raises(KeyError, match="not in adata.var_names"):
        ol.get.gene_images(tiny, ["Nope"])
