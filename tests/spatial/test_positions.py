"""The one reader of positions, and sections that lie over each other."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import omicllm as ol
from omicllm.spatial import positions

XY = np.random.default_rng(0).random((60, 2)) * 100


def with_coordinates(values):
    adata = ad.AnnData(np.ones((60, 2), dtype=np.float32))
    adata.obsm["spatial"] = values
    return adata


SAME = {
    "object": lambda: XY.astype(object),
    "text": lambda: np.array([[repr(float(v)) for v in row] for row in XY], dtype=object),
    "strings": lambda: np.array([[repr(float(v)) for v in row] for row in XY]),
    "DataFrame": lambda: pd.DataFrame(XY, columns=["x", "y"], index=[str(i) for i in range(60)]),
    "read-only": lambda: np.frombuffer(XY.tobytes()).reshape(60, 2),
    "Fortran": lambda: np.asfortranarray(XY),
    "big-endian": lambda: XY.astype(">f8"),
}


@pytest.mark.parametrize("kind", SAME)
def test_numbers_in_any_clothing(kind):
    given = SAME[kind]()
    before = np.array(given, copy=True)
    adata = with_coordinates(given)
    found = positions.coordinates(adata)
    assert found.dtype == np.float64 and np.array_equal(found, XY)
    assert np.array_equal(np.asarray(given), before)


def test_whole_numbers_and_centroids():
    assert np.array_equal(positions.coordinates(with_coordinates(np.int16(XY))), np.trunc(XY))
    adata = ad.AnnData(np.ones((60, 2), dtype=np.float32))
    adata.obs["x_centroid"], adata.obs["y_centroid"] = XY[:, 0].astype(str), XY[:, 1]
    assert np.array_equal(positions.coordinates(adata), XY)
    with pytest.raises(KeyError, match="'um' is not in adata.obsm"):
        positions.coordinates(adata, "um")


def broken(row, value):
    out = XY.astype(object)
    out[row, 1] = value
    return out


@pytest.mark.parametrize(
    "values,message",
    [
        (broken(3, "r28"), r"holds text that is no number \('r28', row 3\)"),
        (broken(4, None), r"NaN or infinite coordinates in 1 of 60 rows \(first: row 4\)"),
        (broken(5, np.inf), r"NaN or infinite coordinates in 1 of 60 rows \(first: row 5\)"),
        (np.ones((60, 3)), "has 3 columns, but a gene image needs 2-D"),
        (np.ones((60, 1)), "has 1 columns, but a gene image needs 2-D"),
    ],
)
def test_bad_coordinates(values, message):
    with pytest.raises(ValueError, match=message):
        positions.coordinates(with_coordinates(values))


ARRAYS = {
    "int8": lambda v: v.astype(np.int8),
    "float32": lambda v: v.astype(np.float32),
    "text": lambda v: v.astype(str),
    "text with points": lambda v: np.array([f" {i}.0" for i in v]),
    "objects": lambda v: v.astype(object),
    "categories": lambda v: pd.Categorical(v.astype(str)),
    "nullable": lambda v: pd.array(v, dtype="Int64"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_array_positions_in_any_clothing(tiny, kind):
    wanted = tiny.obs[["array_row", "array_col"]].to_numpy()
    for column in ("array_row", "array_col"):
        tiny.obs[column] = ARRAYS[kind](tiny.obs[column].to_numpy())
    codes = np.zeros(tiny.n_obs, dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, usable = positions.array_positions(tiny, codes, ["section"])
    assert usable.all() and np.array_equal(values, wanted)


@pytest.mark.parametrize(
    "value,what", [(np.nan, "is nan"), (2.5, "is 2.5"), ("r28", "is 'r28'"), (None, "is None")]
)
def test_one_bad_array_position_is_told_and_only_its_section_suffers(tiny, value, what):
    two = ad.concat({"a": tiny, "b": tiny}, label="slide", index_unique="-")
    two.obs["array_row"] = two.obs["array_row"].astype(object)
    two.obs.iloc[125, two.obs.columns.get_loc("array_row")] = value
    codes = np.repeat([0, 1], 120)
    with pytest.warns(UserWarning, match=f"section 'b'.*1 of 120 are not.*spot5-b' {what}"):
        _, usable = positions.array_positions(two, codes, ["a", "b"])
    assert usable.tolist() == [True, False]


def test_pixel_coordinates_are_no_array(tiny):
    for column in ("array_row", "array_col"):
        tiny.obs[column] = tiny.obs[column] * 171 + 2000
    codes = np.zeros(120, dtype=int)
    with pytest.warns(UserWarning, match="1882 x 1625 for 120 spots looks like pixels"):
        _, usable = positions.array_positions(tiny, codes, ["section"])
    assert not usable.any()
    del tiny.obsm["spatial"]  # nothing else to go by
    assert positions.array_positions(tiny, codes, ["section"])[1].all()


def test_columns_that_tell_sections_apart():
    obs = pd.DataFrame({c: ["1"] * 4 for c in ("n", "Batch", "section", "where", "sample")})
    adata = ad.AnnData(np.ones((4, 1)), obs=obs)
    assert positions.section_columns(adata) == ["section", "sample", "Batch"]
    adata.uns["spatialdata_attrs"] = {"region_key": "where"}
    assert positions.section_columns(adata) == ["where", "section", "sample", "Batch"]


def sheet(n, seed, *, left=0.0, size=100.0):
    return np.random.default_rng(seed).random((n, 2)) * size + [left, 0.0]


def lattice(shift=0.0):
    row, col = (a.ravel() for a in np.indices((18, 18)))
    return np.stack([col * 10.0 + row % 2 * 5, row * 8.66], axis=1) + shift


OVER = {
    "two sections of cells": [sheet(400, 1), sheet(350, 2)],
    "three": [sheet(300, 1), sheet(300, 2, left=300), sheet(200, 3, left=300)],
    "half over each other": [sheet(400, 1), sheet(400, 2, left=50)],
    "a small one on a large one": [sheet(2000, 1), sheet(40, 2)],
    "two arrays": [lattice(), lattice(3.0)],
    "two arrays on the same places": [lattice(), lattice()],
}
APART = {
    "side by side": [sheet(400, 1), sheet(400, 2, left=100.0)],
    "one above the other": [sheet(400, 1)[:, ::-1], sheet(400, 2)[:, ::-1] + [0, 100]],
    "halves of one array": [lattice()[:150], lattice()[150:]],
    "a region inside another": [
        (s := sheet(900, 4))[(i := np.linalg.norm(s - 50, axis=1) < 25)],
        s[~i],
    ],
    "far apart": [sheet(100, 1), sheet(100, 2, left=1e5)],
    "one section": [sheet(400, 1)],
    "three spots": [sheet(300, 1), sheet(3, 2)],
}


@pytest.mark.parametrize("case", OVER)
def test_sections_over_each_other_are_seen(case):
    codes = np.repeat(np.arange(len(OVER[case])), [len(p) for p in OVER[case]])
    found = positions.overlaid(np.concatenate(OVER[case]), codes)
    assert found is not None and found[2] >= 0.3


@pytest.mark.parametrize("case", APART)
def test_regions_beside_each_other_are_not(case):
    codes = np.repeat(np.arange(len(APART[case])), [len(p) for p in APART[case]])
    assert positions.overlaid(np.concatenate(APART[case]), codes) is None


@pytest.mark.parametrize("verb", ["spatial_grid", "split", "moran"])
def test_places_beyond_all_measure_are_refused(tiny, verb):
    tiny.obs = tiny.obs.drop(columns=["array_row", "array_col"])
    tiny.obsm["spatial"] = tiny.obsm["spatial"] * 1e300
    with pytest.raises(ValueError, match=r"obsm\['spatial'\] holds values up to"):
        {
            "spatial_grid": ol.pp.spatial_grid,
            "split": lambda a: ol.pp.split(a, method="blocks"),
            "moran": lambda a: ol.tl.spatially_variable_genes(a, method="moran"),
        }[verb](tiny)
