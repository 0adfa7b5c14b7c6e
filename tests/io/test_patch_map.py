"""`ol.io.read_patch_map`: three published layouts, exact ids."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import omicllm as ol
from omicllm.spatial.patch_map import matched_rows


def write(folder, /, **columns):
    pd.DataFrame(columns).to_csv(folder / "map.csv", index=False)
    return folder / "map.csv"


def test_places_in_a_large_image(tmp_path):
    csv = write(tmp_path, x=[1.5, 2], y=[3, 4], source_image=["a.png", "a.png"], spot_id=["p", "q"])
    table = ol.io.read_patch_map(csv)
    assert list(table.columns) == ["id", "path", "x", "y", "crop"]
    assert table["id"].tolist() == ["p", "q"] and table["crop"].all()
    assert table["path"].tolist() == [str(tmp_path / "a.png")] * 2
    np.testing.assert_array_equal(table[["x", "y"]], [[1.5, 3], [2, 4]])


def test_patch_files_with_the_first_pair_of_coordinates(tmp_path):
    csv = write(
        tmp_path, cell_id=[1.0, 2.0], patch_path=["u/1.png", "/abs/2.png"], x_um=[1, 2],
        y_um=[3, 4], x_he_px=[10, 20], y_he_px=[30, 40],
    )  # fmt: skip
    table = ol.io.read_patch_map(csv, root="/data")
    assert table["id"].tolist() == ["1", "2"], "whole numbers lose their .0"
    assert table["path"].tolist() == ["/data/u/1.png", "/abs/2.png"]
    np.testing.assert_array_equal(table[["x", "y"]], [[10, 30], [20, 40]])
    assert not table["crop"].any()


def test_generic_tables(tmp_path):
    table = ol.io.read_patch_map(write(tmp_path, barcode=[" a ", "b"], filepath=["1", "2"]))
    assert table["id"].tolist() == ["a", "b"] and table["x"].isna().all()
    table = ol.io.read_patch_map(write(tmp_path, first=["a", "b"], second=["1", "2"]))
    assert table["id"].tolist() == ["a", "b"]
    (tmp_path / "map.tsv").write_text("id\tfile\na\t1.png\n")
    assert ol.io.read_patch_map(tmp_path / "map.tsv")["path"].tolist() == [str(tmp_path / "1.png")]


def test_image_only_object(tmp_path):
    csv = write(tmp_path, x=[1, 2], y=[3, 4], source_image=["a.png"] * 2, cell_id=["p", "q"])
    adata = ol.io.read_patch_map(csv, as_anndata=True)
    assert adata.shape == (2, 0) and adata.obs_names.tolist() == ["p", "q"]
    np.testing.assert_array_equal(adata.obsm["spatial"], [[1, 3], [2, 4]])
    plain = ol.io.read_patch_map(write(tmp_path, id=["a"], path=["1"]), as_anndata=True)
    assert "spatial" not in plain.obsm


@pytest.mark.parametrize(
    "columns,message",
    [
        ({"id": ["a", "a"], "path": ["1", "2"]}, "more than once: 'a'"),
        ({"id": ["a", None], "path": ["1", "2"]}, "without an id"),
        ({"id": ["a", "b"], "path": ["1", None]}, "without a path"),
        ({"id": ["a", "b"]}, "no column of paths"),
        ({"id": ["a"], "source_image": ["b"]}, "no place in it"),
        ({"id": ["a"], "source_image": ["b"], "x": ["left"], "y": [1]}, "is no number"),
    ],
)
def test_bad_tables(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        ol.io.read_patch_map(write(tmp_path, **columns))


def test_no_file():
    with pytest.raises(FileNotFoundError, match="There is no file"):
        ol.io.read_patch_map("nowhere.csv")


def test_ids_match_exactly_or_not_at_all():
    table = pd.DataFrame({"id": [str(i) for i in range(1, 11)]})
    names = [f"{i}.0" for i in range(10, 0, -1)]
    np.testing.assert_array_equal(matched_rows(table, names), np.arange(9, -1, -1))
    with pytest.raises(ValueError, match=r"0 of 10 .*-100 added|0 of 10"):
        matched_rows(table, [str(i) for i in range(101, 111)])
    shifted = [str(i) for i in range(10)]
    assert (matched_rows(table, shifted) >= 0).sum() == 9
    with pytest.raises(ValueError, match="-1 added to each would match 10"):
        matched_rows(table, shifted, min_matched=0.95)
    with pytest.raises(ValueError, match="'-1' at the end would match 2"):
        matched_rows(pd.DataFrame({"id": ["AA", "BB"]}), ["AA-1", "BB-1"])
