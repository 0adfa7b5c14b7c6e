"""Grids of sections, made and read back, also after the object was subset."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import omicllm as ol
from omicllm.spatial.sections import make_grid, section_grids, stored_grid


@pytest.fixture
def two(tiny):
    return ad.concat({"b": tiny, "a": tiny[:50]}, label="slide", index_unique="-")


def test_sections_are_in_name_order_and_hold_their_rows(two):
    position, arrays = make_grid(two, batch_key="slide")
    assert arrays["sections"].tolist() == ["a", "b"]
    assert arrays["shape"].tolist() == [12, 11]
    a, b = section_grids(two, position, arrays)
    assert np.array_equal(a.rows, np.arange(120, 170)) and np.array_equal(b.rows, np.arange(120))
    assert a.shape == (5, 11) and b.shape == (12, 11)
    row, col = np.divmod(b.pixel, 11)
    assert np.array_equal(row, two.obs["array_row"][:120])
    assert np.array_equal(col, (two.obs["array_col"][:120] + 1) // 2)
    assert not {"spatial_grid"} & (set(two.obsm) | set(two.uns)), "nothing is written"


def test_a_stored_grid_survives_subsetting(two):
    ol.pp.spatial_grid(two, batch_key="slide")
    whole = {g.name: g for g in stored_grid(two)}
    some = two[np.arange(0, 170, 3)].copy()
    for part in stored_grid(some):
        kept = np.isin(whole[part.name].rows, np.arange(0, 170, 3))
        assert np.array_equal(part.pixel, whole[part.name].pixel[kept])
        assert part.shape == whole[part.name].shape
    only = two[two.obs["slide"] == "b"].copy()
    sizes = {g.name: len(g.rows) for g in stored_grid(only)}
    assert sizes == {"a": 0, "b": 120}


def test_a_section_without_a_name(two):
    two.obs["slide"] = two.obs["slide"].astype(object)
    two.obs.iloc[4, two.obs.columns.get_loc("slide")] = None
    with pytest.raises(ValueError, match="1 observations have no value"):
        make_grid(two, batch_key="slide")


def test_each_section_is_binned_on_its_own(two):
    two.obsm["spatial"] = two.obsm["spatial"].astype(float)
    two.obsm["spatial"][120:] += 1e6
    position, arrays = make_grid(two, batch_key="slide", method="bin", pixel_size=100.0)
    assert arrays["scale"].tolist() == [0.01, 0.01]
    assert position[120:].min() == 0 and position[:120].min() == 0
    assert (arrays["shapes"] < 20).all()


SECTION_VALUES = {
    "text": ["a", "b"], "numbers": [1, 2], "fractions": [0.5, 1e16], "truth": [False, True],
    "days": list(pd.to_datetime(["2020-01-01", "2021-03-04"])), "slashes": ["x y", "x/y"],
}  # fmt: skip


@pytest.mark.parametrize("kind", SECTION_VALUES)
@pytest.mark.parametrize("categorical", [False, True])
def test_sections_of_any_type_are_found_by_value(tiny, kind, categorical):
    """The name that the grid keeps is the one that rows, readers and plots go by."""
    first, second = SECTION_VALUES[kind]
    rows = np.arange(tiny.n_obs) % 2 == 0
    column = pd.Series([first if r else second for r in rows], index=tiny.obs_names)
    tiny.obs["slide"] = column.astype("category") if categorical else column
    ol.pp.spatial_grid(tiny, batch_key="slide")
    for value, chosen in ((first, rows), (second, ~rows)):
        images = ol.get.gene_images(tiny, section=value)
        np.testing.assert_allclose(images.sum(axis=(1, 2)), np.ravel(tiny.X[chosen].sum(axis=0)))
        ol.pl.gene_image(tiny, tiny.var_names[0], section=value, show=False)
    by_text = tiny.copy()
    by_text.obs["slide"] = np.where(rows, "a", "b")
    for adata in (tiny, by_text):
        ol.tl.pattern_genes(
            adata, mask=np.arange(tiny.n_obs) % 10 > 4, n_null=20, batch_key="slide"
        )  # a verb that lends the sections to a model
    np.testing.assert_array_equal(tiny.var["pattern_score"], by_text.var["pattern_score"])


def test_sections_that_read_alike_are_told(tiny):
    tiny.obs["slide"] = [1 if i % 2 else "1" for i in range(tiny.n_obs)]
    with pytest.raises(ValueError, match="different values that read alike: '1'"):
        ol.pp.spatial_grid(tiny, batch_key="slide")
