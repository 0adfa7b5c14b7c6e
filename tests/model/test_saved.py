"""Folders of saved models that are not what was written: the error names file and way out."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
from conftest import make_tiny

import omicllm as ol
from omicllm._core.files import DamagedFileError
from omicllm.model import _saved

WEIGHTS, DESCRIPTION = _saved.WEIGHTS, _saved.DESCRIPTION


def _sigel(folder):
    ol.tl.sigel(make_tiny(), n_clusters=3, save=folder)


def _omic_lm(folder):
    from test_contract import FAST_LM, cohort

    ol.tl.classify_omics(cohort(), labels_key="kind", save=folder, **FAST_LM)


def _spam(folder):
    from test_contract import stained

    ol.tl.spam(stained(), save=folder, max_epochs=0)


def _ult(folder):
    adata = make_tiny()
    ol.model.ULT.setup_anndata(adata)
    model = ol.model.ULT(adata)
    model.train()
    model.save(folder)


def _genemask(folder):
    model = ol.model.GeneMaskLM(k=3, d_model=16, n_layers=1, n_heads=2, d_ff=32)
    model.pretrain(sequences=["ACGTTGCAAC" * 3] * 8, max_steps=1, batch_size=4, max_tokens=20)
    model.save(folder)


def _personal(folder):
    from made_people import FAST, cohort, tiny_trunk

    mdata, genome = cohort(folder.parent)
    train = {name: value for name, value in FAST.items() if name != "batch_size"}
    ol.tl.personal_expression(
        mdata,
        genome=genome,
        trunk=tiny_trunk(),
        baseline=None,
        max_epochs=1,
        train_args=train,
        save=folder,
    )


def _imputer(folder):
    adata, reference = make_tiny()[:, :30].copy(), make_tiny(seed=1)
    ol.model.SIGELImputer.setup_anndata(adata)
    model = ol.model.SIGELImputer(adata, reference)
    model.train(1)
    model.save(folder)


MAKE = {
    "SIGEL": _sigel,
    "OmicLM": _omic_lm,
    "SPAM": _spam,
    "ULT": _ult,
    "GeneMaskLM": _genemask,
    "PersonalExpression": _personal,
    "SIGELImputer": _imputer,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A whole model of each class."""
    made = {}
    for name, make in MAKE.items():
        made[name] = tmp_path_factory.mktemp("saved") / name
        make(made[name])
    return made


def refused(cls, folder, file, why=""):
    """Loading says which file is damaged, why, and what to do."""
    start = time.perf_counter()
    with pytest.raises(DamagedFileError, match="is damaged") as caught:
        getattr(ol.model, cls).load(folder)
    assert time.perf_counter() - start < 10
    text = str(caught.value)
    assert str(folder / file) in text and why in text
    assert "Train the model again, or fetch the file again." in text


@pytest.mark.parametrize("cls", MAKE)
def test_damaged_files(cls, saved, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(saved[cls], folder)
    whole = {n: (folder / n).read_bytes() for n in (WEIGHTS, DESCRIPTION)}
    contents = (b"", whole[WEIGHTS][:100], whole[WEIGHTS][:-1], b"no weights at all", b"\xff" * 64)
    for content in contents:
        (folder / WEIGHTS).write_bytes(content)
        refused(cls, folder, WEIGHTS)
    (folder / WEIGHTS).write_bytes(whole[WEIGHTS])
    contents = (b"", b"{", b"[]", b"{}", b"3", b"\xff\xfe", b"[" * 100_000, whole[DESCRIPTION][:-9])
    for content in contents:
        (folder / DESCRIPTION).write_bytes(content)
        if content == b"{}":  # the weights carry the description, so nothing is lost
            getattr(ol.model, cls).load(folder)
            continue
        refused(cls, folder, DESCRIPTION)
    (folder / DESCRIPTION).write_bytes(whole[DESCRIPTION])
    getattr(ol.model, cls).load(folder)


@pytest.mark.parametrize("cls", MAKE)
def test_edited_files(cls, saved, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(saved[cls], folder)
    told = json.loads((folder / DESCRIPTION).read_text())
    edits = [{"var_names": told["var_names"][::-1]}, {"init_params": {"d_model": 10**6}}]
    edits += [{k: None} for k in ("var_names", "attributes", "history", "init_params")]
    for edit in edits:
        if all(told[name] == value for name, value in edit.items()):
            continue  # a model of sequences has no genes to turn round
        (folder / DESCRIPTION).write_text(json.dumps({**told, **edit}))
        refused(cls, folder, DESCRIPTION)
    (folder / DESCRIPTION).write_text(json.dumps(told))
    # Arrays of another length or type, in a file that is whole.
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(folder / WEIGHTS, framework="np") as file:
        about = file.metadata()
        arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    name = max(arrays, key=lambda k: arrays[k].size)
    for value in (arrays[name][:3], arrays[name].astype(np.int64) + 1, arrays[name][::-1].copy()):
        save_file({**arrays, name: np.ascontiguousarray(value)}, folder / WEIGHTS, metadata=about)
        refused(cls, folder, WEIGHTS, "its arrays were changed")


def test_shapes_are_compared_before_memory_is_asked_for(saved, tmp_path):
    """A folder that was made to look whole, of a network of terabytes."""
    folder = tmp_path / "m"
    shutil.copytree(saved["OmicLM"], folder)
    told, arrays = _saved.read(folder)
    told["init_params"]["d_model"] = 800_000
    _saved.write(folder, arrays, told)
    refused("OmicLM", folder, DESCRIPTION, "bytes, but")


@pytest.mark.parametrize("cls", MAKE)
def test_entries_that_make_no_model(cls, saved, tmp_path):
    """Whole files of a description without what the class needs."""
    folder = tmp_path / "m"
    shutil.copytree(saved[cls], folder)
    told, arrays = _saved.read(folder)
    if cls == "GeneMaskLM":
        told["init_params"] = {"k": "three"}
        _saved.write(folder, arrays, told)
        with pytest.raises(ValueError, match="k must be one of") as caught:
            ol.model.GeneMaskLM.load(folder)
        assert str(folder) in caught.value.__notes__[0]
        return
    spoiled = {"ULT": {"modalities": [{"name": ""}]}, "OmicLM": {"text": {}}}
    told["attributes"] = spoiled.get(cls, {"genes": None})
    _saved.write(folder, arrays, told)
    refused(cls, folder, DESCRIPTION)


def test_a_failed_save_leaves_nothing_in_the_way(saved, tmp_path, monkeypatch):
    model = ol.model.SIGEL.load(saved["SIGEL"])
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.numpy.save_file", _full)
        with pytest.raises(OSError, match="No space left"):
            model.save(tmp_path / "a" / "m")
    assert not (tmp_path / "a").exists()
    model.save(tmp_path / "a" / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a" / "m").iterdir()}
    with monkeypatch.context() as patch:  # the second of the files
        patch.setattr(_saved, "whole_file", _second_fails(_saved.whole_file))
        with pytest.raises(OSError, match="No space left"):
            model.save(tmp_path / "b")
        assert not (tmp_path / "b").exists()
        with pytest.raises(OSError, match="No space left"):
            model.save(tmp_path / "a" / "m", overwrite=True)
    assert {p.name for p in (tmp_path / "a" / "m").iterdir()} == set(before)
    ol.model.SIGEL.load(tmp_path / "a" / "m")
    with pytest.raises(OSError, match="cannot be written"):
        model.save("/proc/foo")
    with pytest.raises(ValueError, match="NUL"):
        model.save("a\0b")


def _full(*_, **__):
    raise OSError(28, "No space left on device")


def _second_fails(whole_file):
    def choose(path):
        if path.name == DESCRIPTION:
            _full()
        return whole_file(path)

    return choose


def test_checkpoints_are_proven_writable_first():
    from omicllm.model._base import OmicModel

    model = ol.model.SIGEL.__new__(ol.model.SIGEL)
    with pytest.raises(OSError, match="checkpoint_dir='/proc/foo' cannot be written"):
        OmicModel._fit(
            model, None, None, stage="x", max_epochs=1, seed=0, checkpoint_dir="/proc/foo"
        )
