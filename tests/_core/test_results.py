"""The writer: declared slots only, complete or not at all, storable values."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from helpers import round_trip, same_object, slots

from omicllm._core import results
from omicllm._core.results import Result


@pytest.fixture
def adata():
    return ad.AnnData(np.ones((6, 4), dtype=np.float32))


def position(n=6):
    return np.zeros((n, 2), dtype=np.int32)


def result(value=None, **kwargs):
    slot = {"obsm:{root}": position() if value is None else value}
    return Result("pp.spatial_grid", slot, {"a": 1, "b": None}, {"agg": "sum"}, **kwargs)


def test_write(adata, tmp_path):
    assert results.write(adata, result()) is None
    entry = adata.uns["spatial_grid"]
    assert entry["params"] == {"a": 1}
    assert entry["keys"]["obsm"].tolist() == ["spatial_grid"]
    assert entry["agg"] == "sum" and entry["version"]
    round_trip(adata, tmp_path)


def test_key_added_replaces_the_root(adata):
    results.write(adata, result(key_added="foo"))
    assert "foo" in adata.obsm and "foo" in adata.uns and "spatial_grid" not in adata.uns


def test_copy_leaves_the_object(adata):
    before = slots(adata)
    out = results.write(adata, result(), copy=True)
    assert slots(adata) == before and "spatial_grid" in out.obsm


def test_a_failed_write_is_undone(adata):
    adata.uns["spatial_grid"] = {"old": 1}
    before = adata.copy()
    with pytest.raises(ValueError):
        results.write(adata, result(key_added="first"), result(position(5)))
    same_object(adata, before)


def test_undeclared_slots_are_refused(adata):
    with pytest.raises(RuntimeError, match="its row of the key table lacks"):
        results.write(adata, Result("pp.spatial_grid", {"obs:{root}": 1}, {}))


def test_views_become_actual(adata):
    view = adata[:3]
    results.write(view, result(position(3)))
    assert not view.is_view and "spatial_grid" in view.obsm
    assert "spatial_grid" not in adata.obsm


def test_backed(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    out = results.write(backed, result(), copy=True)
    assert not out.isbacked and "spatial_grid" not in backed.obsm
    results.write(backed, result())
    assert "spatial_grid" in backed.obsm
    view = backed[:3]
    results.write(view, result(position(3)))
    assert "spatial_grid" in view.obsm


def test_mudata(adata):
    import mudata as md

    mdata = md.MuData({"rna": adata})
    results.write(mdata, result(), mod="rna")
    assert "spatial_grid" in mdata["rna"].obsm
    out = results.write(mdata, result(key_added="foo"), mod="rna", copy=True)
    assert "foo" in out["rna"].obsm and "foo" not in mdata["rna"].obsm


def test_storable(adata, tmp_path):
    adata.uns["entry"] = results.storable(
        {
            "path": Path("a/b"), "none": None, "pair": (1, 2), "names": ["a", "b"],
            "mixed": [1, "a"],
            "rng": np.random.default_rng(0), "nested": {"a/b": (1.0,), "none": None}, "flag": True,
        }
    )  # fmt: skip
    entry = adata.uns["entry"]
    assert "none" not in entry and entry["rng"] == "generator"
    assert list(entry["nested"]) == ["a|b"]
    round_trip(adata, tmp_path)


def test_key_added_is_text():
    with pytest.raises(TypeError, match="key_added must be text, not 3"):
        results.Result("tl.sigel", {}, {}, key_added=3)


class _Model:
    """Something that can be saved, as long as there is room."""

    def __init__(self, *, fails):
        self.fails, self.places = fails, []

    def save(self, path):
        self.places.append(str(path))
        if len(self.places) <= self.fails:
            msg = "No space left on device"
            raise OSError(msg)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("fails", [0, 1, 2])
def test_results_are_written_when_saving_fails(tiny, tmp_path, fails, copy):
    model = _Model(fails=fails)
    saved = results.saved(model, tmp_path / "m")
    assert (saved.path is None) == bool(fails)
    result = results.Result(
        "tl.gene_neighbors", {"varp:{root}_connectivities": np.eye(tiny.n_vars)}, {}
    )
    if not fails:
        results.write(tiny, result, saved=saved)
        return
    with pytest.raises(results.NotSavedError, match=r"No space left.*results are written") as told:
        results.write(tiny, result, saved=saved, copy=copy)
    error = told.value
    assert error.model is model and (error.data is tiny) != copy
    assert "sigel_connectivities" in error.data.varp
    assert ("sigel_connectivities" in tiny.varp) != copy
    # Where the model lies instead, if anywhere.
    assert model.places == [str(tmp_path / "m"), *model.places[1:]] and len(model.places) == 2
    assert error.folder == (model.places[1] if fails == 1 else None)
    assert (str(error.folder) in str(error)) == (fails == 1)


def test_parameters_come_back_as_they_were_stored(tiny, tmp_path):
    params = {
        "none": None, "path": Path("a/b"), "flag": True, "number": 3, "share": 0.1, "nan": np.nan,
        "text": "ä/b", "pair": (1, 2), "names": ["a", "b"], "mixed": [1, "a"], "empty": [],
        "scalar": np.float32(0.5), "nested": {"a/b": {"c/d": 1, "e": None}, "a|b": 2},
    }  # fmt: skip
    result = Result("tl.gene_neighbors", {}, params)
    results.write(tiny, result)
    stored = tiny.uns["sigel_neighbors"]["params"]
    assert set(params) - set(stored) == {"none"}
    assert stored["nested"] == {"a|b": {"c|d": 1}, "a|b|": 2}, "no entry takes the place of another"
    assert stored["text"] == "ä/b" and stored["path"] == "a/b"
    assert results.storable(stored).keys() == stored.keys()
    round_trip(tiny, tmp_path)
