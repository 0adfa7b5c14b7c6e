"""Training in two processes (DDP, gloo) learns what one process learns, and loads in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_backbone import make_backbone

import omicllm as ol

HERE = Path(__file__).parent
#: Batches are the same but for a remainder that does not divide; masks of tokens are others.
TOLERANCE = {"sigel": 0.05, "spam": 0.05, "omiclm": 1e-3, "genemask": 0.05}
#: Curves whose batches are drawn by each process on its own.
OWN = {"genemask": {"pretrain_loss"}}


def start(folder, *command):
    """Run Python in a folder, as if nothing of this process were set up for training."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = str(Path(ol.__file__).parents[1])
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, cwd=folder, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of both runs."""
    folders = {n: tmp_path_factory.mktemp(f"processes{n}") for n in (1, 2)}
    for n, folder in folders.items():
        start(folder, HERE / "train_everything.py", folder, n)
    return folders


@pytest.mark.parametrize("name", TOLERANCE)
def test_same_loss_curve_at_the_same_batch(runs, name):
    one, two = (json.loads((runs[n] / "curves.json").read_text())[name] for n in (1, 2))
    assert one.keys() == two.keys()
    for key in one.keys() - OWN.get(name, set()):
        np.testing.assert_allclose(two[key], one[key], rtol=TOLERANCE[name], err_msg=key)


def test_nothing_appears_in_the_working_directory(runs):
    for folder in runs.values():
        found = {p.name for p in folder.iterdir()}
        assert found == {"curves.json", "sigel", "spam", "omiclm", "genemask"}


@pytest.mark.parametrize(
    ("name", "model"),
    [("sigel", "SIGEL"), ("spam", "SPAM"), ("omiclm", "OmicLM"), ("genemask", "GeneMaskLM")],
)
def test_loads_in_one_process(runs, name, model):
    loaded = [getattr(ol.model, model).load(runs[n] / name) for n in (1, 2)]
    assert all(m.is_trained_ for m in loaded)
    one, two = (m.module.state_dict() for m in loaded)
    assert one.keys() == two.keys()


def test_a_pretrained_backbone_in_two_processes(tmp_path):
    """By torch's launcher, which accelerate reads; the loss curve is that of one process."""
    backbone = make_backbone(tmp_path / "backbone")
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    told = {}
    for size, how in {1: (), 2: launch}.items():
        folder = tmp_path / str(size)
        folder.mkdir()
        start(folder, *how, HERE / "train_backbone.py", backbone, folder)
        told[size] = [json.loads((folder / f"rank{r}.json").read_text()) for r in range(size)]
        assert all(t["size"] == size for t in told[size])
    np.testing.assert_allclose(told[2][0]["loss"], told[1][0]["loss"], rtol=0.01)
    one, two = (ol.model.OmicLM.load(tmp_path / str(n) / "model") for n in (1, 2))
    assert one.classes_ == two.classes_
