"""Files that are whole or not there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import omicllm as ol
from omicllm._core.files import whole_file, whole_folder


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as fresh:
        fresh.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_good_file_or_folder_stays_after_an_error(tmp_path, error):
    path, folder = tmp_path / "a.txt", tmp_path / "b"
    path.write_text("good")
    folder.mkdir()
    (folder / "x").write_text("good")

    def fail(where, name):
        with where as fresh:
            (fresh / name).write_text("bad")
            raise error

    with pytest.raises(error):
        fail(whole_file(path), ".")
    with pytest.raises(error):
        fail(whole_folder(folder), "x")
    assert path.read_text() == (folder / "x").read_text() == "good"
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "b"}


def test_a_folder_is_replaced(tmp_path):
    folder = tmp_path / "b"
    for text in ("one", "two"):
        with whole_folder(folder) as fresh:
            (fresh / text).write_text(text)
        assert [p.name for p in folder.iterdir()] == [text]
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_good_folder_stays_when_stopped_between_the_renames(tmp_path, monkeypatch):
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "x").write_text("good")
    rename, calls = Path.rename, []

    def stopped(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as fresh:
        (fresh / "x").write_text("new")
    assert (folder / "x").read_text() == "good"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


SAVING = """
import sys
import omicllm as ol
adata = ol.datasets.mouse_olfactory_bulb()[:, :60].copy()
ol.model.ULT.setup_anndata(adata)
models = []
for bits in (6, 12):
    models.append(ol.model.ULT(adata, bits=bits))
    models[-1].train()
while True:
    for model in models:
        model.save(sys.argv[1], overwrite=True)
        print("saved", flush=True)
"""


def test_a_killed_save_leaves_a_model_that_loads(tmp_path):
    """The process is killed in the middle of saving over a good model, several times."""
    folder = tmp_path / "model"
    environment = {"PYTHONPATH": str(Path(ol.__file__).parents[1]), "PATH": ""}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SAVING, str(folder)], env=environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGSTOP)  # somewhere in the middle
        time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    loaded = ol.model.ULT.load(folder)
    assert loaded.is_trained_ and loaded.params_["bits"] in (6, 12)
    assert loaded.table.parameters.bits == loaded.params_["bits"]
