"""Notebooks run where the package is installed and nothing else is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import CHECKOUT

NOTEBOOKS = sorted((CHECKOUT / "tutorials").glob("*.ipynb"))


def code(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_files_that_are_not_bundled_have_a_substitute(path):
    source = code(path)
    assert "import omicllm as ol" in source
    if "OMICLLM_DATA" in source:
        assert "else:" in source or "if not " in source
        assert "ol.datasets." in source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_saved_outputs_hold_no_error(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", output.get("evalue")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_in_an_empty_folder(path, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    import omicllm

    # The kernel finds the package that is tested, and no larger data.
    source = str(Path(omicllm.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMICLLM_DATA", str(tmp_path / "none"))
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
