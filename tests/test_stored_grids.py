"""A stored grid that no longer fits is made anew or refused by every verb, and never half used.

The rows are ways that users take to such a grid; the columns all verbs that read one.
"""

from __future__ import annotations

import warnings

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import make_tiny

import omicllm as ol
from omicllm.spatial.sections import serving_grid, stored_grid


def section(seed, name, *, shift=0, n=120):
    """A section with an array (or its coordinates) of its own."""
    adata = make_tiny(seed=seed)[:n].copy()
    adata.obs_names = [f"{name}{i}" for i in range(n)]
    adata.obs["section"] = name
    adata.obs["array_row"] += shift
    adata.obs["region"] = np.where(adata.obs["array_col"] < 8, "west", "east")
    return adata


def joined(*, uns_merge=None, batch_key: str | None = "section"):
    parts = [section(0, "a"), section(1, "b", shift=2, n=90)]
    if uns_merge is not None:
        for part in parts:
            ol.pp.spatial_grid(part, batch_key=batch_key)
    out = ad.concat(parts, uns_merge=uns_merge, merge="same")
    return out


def gridded(**options):
    adata = joined()
    ol.pp.spatial_grid(adata, batch_key="section", **options)
    return adata


def renamed():
    adata = gridded()
    adata.obs["section"] = adata.obs["section"].astype(object).replace({"b": "late"})
    return adata


def all_renamed():
    adata = gridded()
    adata.obs["section"] = adata.obs["section"].astype(object).replace({"a": "early", "b": "late"})
    return adata


def exchanged():
    adata = gridded()
    adata.obs["section"] = adata.obs["section"].astype(object).replace({"a": "b", "b": "a"})
    return adata


def numbered():
    adata = joined()
    adata.obs["section"] = adata.obs["section"].map({"a": 1.0, "b": 2.0}).astype(float)
    ol.pp.spatial_grid(adata, batch_key="section")
    adata.obs["section"] = adata.obs["section"].astype(int)
    return adata


def moved():
    adata = gridded()
    adata.obs.loc[adata.obs_names[7:9], "array_row"] += 20
    return adata


def without_batch_key():
    return joined(uns_merge="first", batch_key=None)


def scaled():
    """Bins whose coordinates were brought to another unit since."""
    adata = joined()
    adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
    rng = np.random.default_rng(0)
    adata.obsm["spatial"] = rng.random((adata.n_obs, 2)) * 100
    ol.pp.spatial_grid(adata, batch_key="section")
    adata.obsm["spatial"] = adata.obsm["spatial"] * 0.37
    return adata


def other_coordinates():
    """The first rows were replaced by those of another section."""
    adata = scaled()
    adata.obsm["spatial"] = np.random.default_rng(1).random((adata.n_obs, 2))
    return adata


UNFIT = {
    "one renamed": renamed, "all renamed": all_renamed, "exchanged": exchanged,
    "1.0 read back as 1": numbered, "array edited": moved, "coordinates scaled": scaled,
    "coordinates replaced": other_coordinates, "gridded without batch_key": without_batch_key,
    "concat first": lambda: joined(uns_merge="first"),
    "concat same": lambda: joined(uns_merge="same"),
    "concat unique": lambda: joined(uns_merge="unique"),
}  # fmt: skip


def of_model(adata, *, batch_key):
    ol.model.SIGEL.setup_anndata(adata, batch_key=batch_key)
    model = ol.model.SIGEL(adata, n_clusters=3)
    model.train()
    return model.get_gene_embedding()


#: Verbs that make a grid where they need one, and what to compare.
MAKERS = {
    "tl.sigel": lambda a, **k: (ol.tl.sigel(a, n_clusters=3, **k), a.varm["X_sigel"])[1],
    "tl.spatially_variable_genes": lambda a, **k: (
        ol.tl.spatially_variable_genes(a, n_null=20, **k), a.var["sigel_svg_score"])[1],
    "tl.pattern_genes": lambda a, **k: (
        ol.tl.pattern_genes(a, region="west", groupby="region", n_null=20, **k),
        a.var["pattern_score"])[1],
    "model.SIGEL": of_model,
}  # fmt: skip
#: What reads a grid and makes none. One section is named where several are there.
READERS = {
    "get.gene_images": lambda a, s: ol.get.gene_images(a, "Gene0", section=s),
    "tl.ult": lambda a, s: ol.tl.ult(a, method="image"),
    "pl.gene_image": lambda a, s: ol.pl.gene_image(a, "Gene0", section=s, show=False),
    "pl.gene_heatmap": lambda a, s: ol.pl.gene_heatmap(a, section=s, show=False),
    "pl.svg": lambda a, s: ol.pl.svg(a, section=s, show=False),
}


def fresh(adata):
    out = adata.copy()
    del out.obsm["spatial_grid"]
    out.uns.pop("spatial_grid", None)
    return out


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.parametrize("verb", MAKERS)
def test_made_anew(case, verb):
    adata = UNFIT[case]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = MAKERS[verb](fresh(adata), batch_key="section")
    with pytest.warns(UserWarning, match="The stored grid does not fit"):
        found = MAKERS[verb](adata, batch_key="section")
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


@pytest.mark.parametrize("case", [c for c in UNFIT if c != "gridded without batch_key"])
@pytest.mark.parametrize("verb", READERS)
def test_refused(case, verb):
    adata = UNFIT[case]()
    adata.var["sigel_cluster"] = "0"
    adata.var["sigel_svg_score"] = adata.var["sigel_svg_pval"] = 0.5
    adata.var["sigel_svg_qval"], adata.var["sigel_svg_rank"] = 0.5, range(1, 41)
    before = len(plt.get_fignums())
    with pytest.raises(ValueError, match=r"does not fit the object: .*ol\.pp\.spatial_grid"):
        READERS[verb](adata, "a")
    assert len(plt.get_fignums()) == before


@pytest.mark.parametrize("verb", MAKERS)
def test_sections_on_one_grid_are_refused_as_without_one(verb):
    adata = without_batch_key()
    for given in (adata, fresh(adata)):
        with pytest.raises(
            ValueError, match="lie on a pixel that another spot .*batch_key='section'"
        ):
            MAKERS[verb](given, batch_key=None)


def test_a_grid_of_another_name_is_refused():
    adata = joined()
    ol.pp.spatial_grid(adata, batch_key="section", key_added="mine")
    adata.obs["section"] = adata.obs["section"].astype(object).replace({"b": "late"})
    with pytest.raises(ValueError, match=r"'mine' does not fit.*key_added='mine'"):
        ol.tl.sigel(adata, batch_key="section", grid_key="mine")


def no_change(adata):
    return adata


def shuffled(adata):
    return adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()


def subset(adata):
    return adata[np.arange(0, adata.n_obs, 2)].copy()


def one_section(adata):
    return adata[(adata.obs["section"] == "b").to_numpy()].copy()


def other_names(adata):
    adata.obs_names = [f"spot-{i}" for i in range(adata.n_obs)]
    return adata


def single_precision(adata):
    adata.obsm["spatial"] = adata.obsm["spatial"].astype(np.float32)
    return adata


def without_sources(adata):
    adata.obs = adata.obs[["section", "mark"]]
    del adata.obsm["spatial"]
    return adata


CHANGES = (no_change, shuffled, subset, one_section, other_names, single_precision, without_sources)


@pytest.mark.parametrize("kind", ["array", "lattice", "cells"])
@pytest.mark.parametrize("change,storage", [*((c, "memory") for c in CHANGES), (shuffled, "h5ad")])
def test_a_grid_that_fits_goes_on_serving(kind, change, storage, tmp_path):
    adata = joined()
    options = {}
    if kind != "array":
        adata.obs = adata.obs.drop(columns=["array_row", "array_col"])
    if kind == "cells":
        adata.obsm["spatial"] = np.random.default_rng(0).random((adata.n_obs, 2)) * 1e4
        options = {"n_pixels": 60, "agg": "mean"}  # a user's own
    ol.pp.spatial_grid(adata, batch_key="section", **options)
    place = adata.obsm["spatial_grid"].copy()
    adata.obs["mark"] = np.arange(adata.n_obs)
    if storage != "memory":
        adata.write_h5ad(tmp_path / "a")
        adata = ad.read_h5ad(tmp_path / "a")
    adata = change(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        position, arrays, made = serving_grid(adata, batch_key="section")
        by_name = {g.name: g for g in stored_grid(adata)}
    assert not made and str(arrays["agg"]) == options.get("agg", "sum")
    assert np.array_equal(position, place[adata.obs["mark"]])
    assert sum(len(g.rows) for g in by_name.values()) == adata.n_obs


def test_another_spatial_key_is_another_grid():
    adata = scaled()
    with pytest.warns(UserWarning, match="does not fit"):
        ol.tl.sigel(adata, batch_key="section", n_clusters=3)
    adata.obsm["other"] = np.random.default_rng(9).random((adata.n_obs, 2))
    wanted = fresh(adata)
    ol.tl.sigel(wanted, batch_key="section", n_clusters=3, spatial_key="other")
    with pytest.warns(UserWarning, match=r"elsewhere now, by adata.obsm\['other'\]"):
        ol.tl.sigel(adata, batch_key="section", n_clusters=3, spatial_key="other")
    assert np.array_equal(adata.obsm["spatial_grid"], wanted.obsm["spatial_grid"])
    assert adata.uns["spatial_grid"]["spatial_key"] == "other"
    with pytest.raises(KeyError, match="'nowhere' is not in adata.obsm"):
        ol.tl.sigel(adata, batch_key="section", n_clusters=3, spatial_key="nowhere")


def test_strings_of_images_on_another_grid_are_not_read_on_this_one():
    adata = section(0, "a")
    ol.pp.spatial_grid(adata)
    ol.tl.ult(adata, method="image")
    ol.tl.ult_decode(adata)
    ol.pp.spatial_grid(adata, method="bin", n_pixels=30)
    with pytest.raises(ValueError, match="hold images of 12 x 11 pixels, but the grid has"):
        ol.tl.ult_decode(adata)
