"""Random numbers, settings, optional packages, checks, docs, lazy names."""

from __future__ import annotations

import importlib
import random
import sys

import numpy as np
import pytest

from omicllm._core import checks, docs, keys, log, optional, rng
from omicllm._core.settings import Settings, settings


def test_generator():
    same = np.random.default_rng(1)
    assert rng.generator(same) is same
    assert rng.generator(3).integers(100) == rng.generator(np.int64(3)).integers(100)
    for bad in ("a", True, 1.5):
        with pytest.raises(TypeError, match="rng must be"):
            rng.generator(bad)
    assert rng.recorded(4) == 4 and rng.recorded(None) == "unseeded"
    assert rng.recorded(same) == "generator"
    assert rng.seed_of(7) == 7


def test_isolated_restores_every_state():
    import torch

    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    drawn = []
    for _ in range(2):
        with rng.isolated(5):
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after


def test_settings(monkeypatch, tmp_path):
    own = Settings()
    monkeypatch.setenv("OMICLLM_CACHE", str(tmp_path))
    assert own.cache_dir == tmp_path
    with pytest.raises(ValueError, match="verbosity must be one of"):
        own.verbosity = "loud"
    assert "verbosity='warning'" in repr(own)


def test_progress(monkeypatch, capsys):
    assert list(log.progress(range(3), what="x", show_progress=False)) == [0, 1, 2]
    assert list(log.progress(range(3), what="x", show_progress=True)) == [0, 1, 2]
    monkeypatch.setattr(settings, "show_progress", False)
    assert not log.progress_wanted()
    assert log.progress_wanted(show_progress=True)


def test_optional_names_the_pip_line():
    assert optional.require("json", extra="r", why="Reading") is not None
    with pytest.raises(ImportError, match=r"pip install 'omicllm\[motif\]'"):
        optional.require("not_there_at_all", extra="motif", why="Scanning motifs")


def test_checks():
    assert checks.listed(range(12), most=2) == "'0', '1' and 10 more"
    assert checks.whole_number("k", np.int64(3)) == 3
    for bad in (0, 1.5, True, "a"):
        with pytest.raises(ValueError, match="k must be a whole number"):
            checks.whole_number("k", bad)
    with pytest.raises(ValueError, match="must lie between"):
        checks.share("p", 1.5)
    with pytest.raises(ValueError, match="one of 'a', 'b', not 'c'"):
        checks.one_of("x", "c", "ab")


def test_docs_fill():
    @docs.fill()
    def function():
        """Say.

        Parameters
        ----------
        {adata}
        {rng}
        """

    assert "    Annotated data" in function.__doc__ and "{rng}" not in function.__doc__


def test_lazy_names(tmp_path, monkeypatch):
    package = tmp_path / "made_lazily"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from omicllm._core.lazy import attach\n"
        "__getattr__, __dir__, __all__ = attach(__name__, __file__)\n"
    )
    (package / "__init__.pyi").write_text("from ._sums import total as total\n")
    (package / "_sums.py").write_text("import random\nrandom.random()\ntotal = sum\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("made_lazily")
    assert dir(module) == module.__all__ == ["total"]
    assert "made_lazily._sums" not in sys.modules
    before = random.getstate()
    assert module.total([1, 2]) == 3
    assert random.getstate() == before, "what an import draws is put back"
    assert vars(module)["total"] is sum
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        module.nope  # noqa: B018


def test_key_table():
    table = keys.markdown_table()
    for verb in keys.KEYS:
        assert f"`{verb}`" in table
