"""What type checkers and editors see of the public names."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import omicllm

SOURCE = Path(omicllm.__file__).parent
STUBS = sorted(path for path in SOURCE.rglob("__init__.pyi"))
NAMESPACES = [path.parent.name for path in STUBS if path.parent != SOURCE]
SCRIPT = """
import anndata
import omicllm as ol

adata = anndata.AnnData()
reveal_type(ol.tl.sigel)
reveal_type(ol.pl.gene_image)
reveal_type(ol.get.gene_images(adata))
reveal_type(ol.model.SIGEL)
reveal_type(ol.settings.verbosity)
ol.tl.sigel(adata, n_cluster=3)
ol.tl.no_such_verb(adata)
ol.no_such_namespace
"""


def needs(name: str):
    try:
        distribution(name)
    except PackageNotFoundError:
        return pytest.mark.skip(reason=f"{name} is not installed")
    return pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.parent.name)
def test_a_stub_names_what_its_package_holds(path):
    package = ".".join(["omicllm", *path.parent.relative_to(SOURCE).parts])
    module = importlib.import_module(package)
    stated = [
        (node.module, alias.name, alias.asname)
        for node in ast.parse(path.read_text()).body
        for alias in node.names
    ]
    assert sorted(name for _, name, _ in stated) == module.__all__
    for _, name, shown in stated:
        assert shown == name, "a stub re-exports only what is imported under its own name"
        assert getattr(module, name) is not None


@needs("mypy")
def test_a_checker_reads_signatures(tmp_path):
    script = tmp_path / "user.py"
    script.write_text(SCRIPT)
    # Other packages are taken as Any: whether they are typed is not what is asked, and torch
    # alone takes a minute to read.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n"
        "[mypy-anndata.*,dask.*,h5py.*,igraph.*,lightning.*,matplotlib.*,mudata.*,numba.*,"
        "pandas.*,scanpy.*,scipy.*,scvi.*,skimage.*,sklearn.*,squidpy.*,torch.*,transformers.*,"
        "umap.*]\nfollow_imports = skip\nfollow_imports_for_stubs = True\n"
    )
    environment = os.environ | {"MYPYPATH": str(SOURCE.parent)}
    out = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    shown = re.findall(r'Revealed type is "(.*)"', out)
    assert len(shown) == 5, out
    for argument in inspect.signature(omicllm.tl.sigel).parameters:
        assert argument in shown[0]
    assert "layer: str | None" in shown[0] and "gene" in shown[1]
    assert "ndarray" in shown[2] and "SIGEL" in shown[3] and "str" in shown[4]
    errors = re.findall(r"error: (.*)", out)
    assert len(errors) == 3, out
    assert 'Unexpected keyword argument "n_cluster" for "sigel"' in errors[0]
    assert '"no_such_verb"' in errors[1] and '"no_such_namespace"' in errors[2]


@needs("jedi")
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_an_editor_completes(namespace):
    import jedi

    source = f"import omicllm as ol\nol.{namespace}."
    project = jedi.Project(SOURCE.parent)
    script = jedi.Script(source, project=project)
    offered = {completion.name for completion in script.complete(2, len(f"ol.{namespace}."))}
    public = set(importlib.import_module(f"omicllm.{namespace}").__all__)
    assert public <= offered


@needs("jedi")
def test_an_editor_shows_arguments():
    import jedi

    source = "import omicllm as ol\nol.tl.sigel("
    project = jedi.Project(SOURCE.parent)
    (signature,) = jedi.Script(source, project=project).get_signatures(2, len("ol.tl.sigel("))
    shown = [parameter.name for parameter in signature.params if parameter.name != "*"]
    assert shown == list(inspect.signature(omicllm.tl.sigel).parameters)
