"""What every public function checks before it works: object, name of results, place to save."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import round_trip, same_object

import omicllm as ol
from omicllm._core import calls, files

FIRST = ("adata", "mdata", "geno")


def verbs(*rooms, having=()):
    """Public functions on an object, and None for each further argument that they ask for."""
    return list(_verbs(rooms, having))


def _verbs(rooms, having):
    for room in rooms:
        module = importlib.import_module(f"omicllm.{room}")
        for name in module.__all__:
            function = getattr(module, name)
            if not inspect.isfunction(function):
                continue
            first, *rest = inspect.signature(function).parameters.values()
            if first.name in FIRST and set(having) <= {p.name for p in rest}:
                needed = {p.name: None for p in rest if p.default is p.empty}
                yield pytest.param(function, first.name, needed, id=f"{room}.{name}")


def some():
    return ad.AnnData(np.ones((3, 2), dtype=np.float32))


def of(first):
    """An object of the kind that a function asks for."""
    if first != "mdata":
        return some()
    import mudata

    genes, variants = some(), some()
    variants.var_names = ["v0", "v1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.MuData({"rna": genes, "geno": variants})


def test_another_type_is_refused_before_anything_heavy_loads():
    code = """
import importlib, inspect, sys
import omicllm
n = 0
for room in ("pp", "tl", "get"):
    module = importlib.import_module(f"omicllm.{room}")
    for name in module.__all__:
        function = getattr(module, name)
        first, *rest = inspect.signature(function).parameters.values()
        if first.name not in ("adata", "mdata", "geno"):
            continue
        needed = {p.name: None for p in rest if p.default is p.empty}
        try:
            function([[1.0]], **needed)
        except TypeError as error:
            assert "Expected an AnnData or a MuData, not list" in str(error), (name, error)
            n += 1
        else:
            raise AssertionError(name)
assert n > 50, n
heavy = [m for m in ("torch", "scvi", "transformers", "scanpy", "anndata") if m in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("function,first,needed", verbs("pp", "tl", "get", "pl"))
def test_mod_and_missing_arguments(function, first, needed):
    data = of(first)
    if "mod" in inspect.signature(function).parameters:
        with pytest.raises(ValueError, match="mod='rna' was given, but the object is an AnnData"):
            function(data, mod="rna", **needed)
        with pytest.raises(KeyError, match="'protein' is not in mdata.mod"):
            function(of("mdata"), mod="protein", **needed)
    if first == "mdata":
        with pytest.raises(ValueError, match="MuData is needed, but the object is an AnnData"):
            function(some(), **needed)
    if "kwargs" not in inspect.signature(function).parameters:
        with pytest.raises(TypeError, match="unexpected keyword argument 'no_such'"):
            function(data, no_such=1, **needed)


UNUSABLE = ("a/b", "../x", ".", "..", ".zgroup", "a\0b", "a\\b", "_index", "__x", "zarr.json",
            "", "  ", "X_", "\ud800", "x" * 400, "é" * 150)  # fmt: skip


@pytest.mark.parametrize("function,first,needed", verbs("pp", "tl", having=["key_added"]))
def test_a_name_that_cannot_be_stored_is_refused(function, first, needed, monkeypatch):
    data = of(first)
    before = data.copy()
    for name in UNUSABLE:
        if name == "X_" and not _embeds(function):
            continue
        with pytest.raises(ValueError, match="cannot be stored in h5ad and zarr"):
            function(data, key_added=name, **needed)
    for name in (5, b"x", ["x"]):
        with pytest.raises(TypeError, match="key_added must be text"):
            function(data, key_added=name, **needed)
    if first != "mdata":
        same_object(data, before)


def _embeds(function):
    from omicllm._core.keys import KEYS

    verb = ".".join([function.__module__.split(".")[1], function.__name__])
    return any(slot.endswith(":X_{root}") for slot in KEYS[verb].slots)


@pytest.mark.parametrize("name", ["a b", "_x", "é" * 100, "x" * 200, "a|b", "*", "c", "index", "0"])
def test_a_name_that_is_let_through_comes_back(name, tmp_path):
    assert calls.root_of(name) == name
    adata = some()
    adata.obs[name] = [1, 2, 3]
    adata.var[name + "_cluster"] = pd.Categorical(["a", "b"])
    adata.obsm["X_" + name] = adata.layers[name] = np.ones((3, 2))
    adata.uns[name] = {"params": {"x": 1}}
    round_trip(adata, tmp_path)


def test_a_leading_x_is_not_doubled():
    from conftest import make_tiny

    import omicllm as ol

    adata = make_tiny()
    ol.tl.sigel(adata, n_clusters=3, key_added="X_mine")
    assert "X_mine" in adata.varm and "mine_cluster" in adata.var and "mine" in adata.uns
    frame = ol.get.gene_embedding_df(adata, key="X_mine")
    assert frame.equals(ol.get.gene_embedding_df(adata, key="mine"))
    ol.tl.gene_neighbors(adata, key="X_mine", n_neighbors=3)
    assert "mine_connectivities" in adata.varp


def unusable_places(folder):
    """Places where nothing can be saved, and the error that says so."""
    file = folder / "file"
    file.write_text("x")
    locked = folder / "locked"
    locked.mkdir()
    places = [
        ("/proc/foo", OSError, "cannot be written"),
        (file / "below", OSError, "cannot be written"),
        (file / "below" / "deeper", OSError, "cannot be written"),
        (folder / ("x" * 300), OSError, "cannot be written"),
        ("a\0b", ValueError, "holds NUL"),
        ("", ValueError, "empty"),
        (b"bytes", TypeError, "must be a path"),
        (3, TypeError, "must be a path"),
    ]
    if os.geteuid():
        locked.chmod(0o500)
        places.append((locked / "model", PermissionError, "cannot be written"))
    return places


@pytest.mark.parametrize("function,first,needed", verbs("pp", "tl", having=["save"]))
def test_a_place_that_cannot_be_written_is_refused(function, first, needed, tmp_path):
    data = of(first)
    for place, error, message in unusable_places(tmp_path):
        with pytest.raises(error, match=message):
            function(data, save=place, **needed)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "locked"}


def test_a_proof_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    files.check_writable(tmp_path / "a" / "b" / "c", argument="save")
    files.check_writable(tmp_path / "d" / "weights.safetensors", argument="save", kind="file")
    files.check_writable(tmp_path / "there", argument="checkpoint_dir", fresh=False)
    with pytest.raises(FileExistsError, match="there exists already: name a new folder with save="):
        files.check_writable(tmp_path / "there", argument="save")
    with pytest.raises(IsADirectoryError, match="name a file with save="):
        files.check_writable(tmp_path / "there", argument="save", kind="file")
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        files.check_writable(tmp_path / "a" / "b", argument="save")
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]


def test_a_signature_stays_what_it_was():
    import omicllm as ol

    parameters = inspect.signature(ol.tl.sigel).parameters
    assert list(parameters)[0] == "adata" and parameters["rng"].default == 0
    assert ol.tl.sigel.__name__ == "sigel" and ol.tl.sigel.__module__ == "omicllm.tl._sigel"
    assert "def sigel(" in inspect.getsource(ol.tl.sigel)


@pytest.mark.parametrize("verb,name,arguments", [
    ("pp.spatial_grid", "spatial", {}), ("pp.split", "slide", {"groupby": "slide"}),
    ("pp.standardize", "z", {"layer": "z", "fit_on": None}),
    ("tl.ult", "slide", {"method": "text", "text_key": "slide"}),
])  # fmt: skip
def test_results_do_not_replace_what_they_are_made_from(tiny, verb, name, arguments):
    tiny.obs["slide"] = ["a", "b", "c"] * (tiny.n_obs // 3)
    tiny.layers["z"] = tiny.X.copy()
    before = tiny.copy()
    namespace, function = verb.split(".")
    with pytest.raises(ValueError, match=rf"key_added='{name}' would overwrite"):
        getattr(getattr(ol, namespace), function)(tiny, key_added=name, **arguments)
    same_object(tiny, before)
    getattr(getattr(ol, namespace), function)(tiny, key_added="other", **arguments)


def test_layers_of_several_modalities_are_no_one_name(tiny):
    import mudata as md

    tiny.layers["z"] = tiny.X.copy()
    mdata = md.MuData({"rna": tiny})
    ol.tl.ult(mdata, layer={"rna": "z"}, key_added="z")
    assert "z" in mdata.obs
