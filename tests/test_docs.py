"""The documentation names everything that is public, and nothing that is not there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from conftest import CHECKOUT

import omicllm as ol
from omicllm._core import keys

if TYPE_CHECKING:
    from pathlib import Path

DOCS = CHECKOUT / "docs"
NAMESPACES = sorted(
    name for name in ol.__all__
    if isinstance(getattr(ol, name), ModuleType) and hasattr(getattr(ol, name), "__all__")
)  # fmt: skip


def text(*parts: str) -> str:
    return DOCS.joinpath(*parts).read_text(encoding="utf-8")


def public(namespace: str) -> list[str]:
    return list(importlib.import_module(f"omicllm.{namespace}").__all__)


# -- pages made from the code ----------------------------------------------------------------


def test_every_namespace_has_an_api_page_of_all_its_names():
    """A page lists `__all__` by the directive `namespace-summary`, which docs/conf.py defines."""
    pages = {
        path.stem: re.findall(r"```\{namespace-summary\} (\w+)", path.read_text(encoding="utf-8"))
        for path in (DOCS / "api").glob("*.md")
    }
    assert {name: [name] for name in NAMESPACES} == {k: v for k, v in pages.items() if v}
    tree = ast.parse(text("conf.py"))
    (listed,) = (
        ast.literal_eval(node.value) for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "NAMESPACES"
    )  # fmt: skip
    assert sorted(listed) == NAMESPACES, "docs/conf.py writes a page for each of their names"
    index = text("api", "index.md")
    assert set(pages) - {"index"} <= set(re.findall(r"^(\w+)$", index, flags=re.MULTILINE))


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_public_name_can_be_documented(namespace):
    """What autodoc will import is there, and says what it is."""
    module = importlib.import_module(f"omicllm.{namespace}")
    assert public(namespace)
    for name in public(namespace):
        value = getattr(module, name)
        assert not isinstance(value, ModuleType) and (inspect.getdoc(value) or not callable(value))


def test_names_at_the_root_are_on_an_api_page():
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    for name in set(ol.__all__) - {"__version__"}:
        if not isinstance(getattr(ol, name), ModuleType):
            assert re.search(rf"omicllm\.{name}\b", pages), name


def test_every_method_is_in_the_table_of_keys():
    assert "_generated/keys.md" in text("keys.md")
    table = keys.markdown_table()
    for verb, row in keys.KEYS.items():
        assert f"| `{verb}` |" in table
        assert all(f'`{a}["{k}"]`' in table for a, k in map(row.name, row.slots))


# -- pages written by hand -------------------------------------------------------------------


def test_every_plot_is_in_the_gallery():
    cells = re.findall(r"```\{code-cell\}.*?```", text("gallery.md"), flags=re.DOTALL)
    drawn = set(re.findall(r"^ol\.pl\.(\w+)\(", "".join(cells), flags=re.MULTILINE))
    assert drawn == set(public("pl"))
    headings = re.findall(r"^### (\w+)$", text("gallery.md"), flags=re.MULTILINE)
    assert set(headings) == drawn


def test_every_benchmark_is_named_with_its_command():
    page = text("benchmarks.md")
    missing = [
        path.name for path in (CHECKOUT / "benchmarks").glob("bench_*.py") if path.name not in page
    ]
    assert not missing


def test_every_model_has_a_page_in_the_user_guide():
    index = text("user_guide", "index.md")
    pages = {path.stem: path.read_text(encoding="utf-8")
             for path in (DOCS / "user_guide").glob("*.md")}  # fmt: skip
    assert set(pages) - {"index"} == set(re.findall(r"^(\w+)$", index, flags=re.MULTILINE))
    for name in public("model"):
        assert any(re.search(rf"omicllm\.model\.{name}\b|ol\.model\.{name}\b", page)
                   for page in pages.values()), name  # fmt: skip


def test_every_tutorial_is_listed():
    notebooks = {path.stem for path in (CHECKOUT / "tutorials").glob("*.ipynb")}
    page = text("tutorials.md")
    assert set(re.findall(r"^tutorials/(\w+)$", page, flags=re.MULTILINE)) == notebooks
    for name in notebooks:
        assert f"(tutorials/{name}.ipynb)" in page, f"{name} has no line in the table"


# -- nothing is named that is not there --------------------------------------------------------


def pages() -> list[Path]:
    return [
        path for path in sorted(DOCS.rglob("*.md"))
        if not {"_build", "_generated", "generated", "jupyter_execute"} & set(path.parts)
    ]  # fmt: skip


def own_calls(source: str):
    """(`ns.name`, keywords) of every mention of ours, with a call's arguments where it has any."""
    for match in re.finditer(r"\b(?:ol|omicllm)\.([a-z]+)\.(\w+)(?:\.(\w+))?(\(?)", source):
        namespace, name, member, opened = match.groups()
        if namespace not in NAMESPACES:
            continue
        keywords: set[str] = set()
        if opened:
            depth, end = 1, match.end()
            while depth and end < len(source):
                depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(source[end], 0)
                end += 1
            inside = re.sub(r"\"[^\"]*\"|'[^']*'", "''", source[match.end() : end - 1])
            while (flat := re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "", inside)) != inside:
                inside = flat
            keywords = set(re.findall(r"(?:^|,)\s*(\w+)=(?!=)", inside))
        yield namespace, name, member, keywords


@pytest.mark.parametrize("path", pages(), ids=lambda p: str(p.relative_to(DOCS)))
def test_calls_on_a_page_exist(path):
    for namespace, name, member, keywords in own_calls(path.read_text(encoding="utf-8")):
        value = getattr(importlib.import_module(f"omicllm.{namespace}"), name, None)
        assert value is not None, f"there is no ol.{namespace}.{name}"
        if member:
            value = getattr(value, member, None)
            assert value is not None, f"there is no ol.{namespace}.{name}.{member}"
        if keywords and callable(value):
            parameters = inspect.signature(value).parameters
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
                unknown = keywords - set(parameters)
                assert not unknown, f"ol.{namespace}.{name} has no {unknown}"


def test_links_between_pages_lead_somewhere():
    for path in [*pages(), CHECKOUT / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+\.(?:md|ipynb|cff))[)#]",
                                 path.read_text(encoding="utf-8")):  # fmt: skip
            if "://" in target or target.startswith("tutorials/") or "/tutorials/" in target:
                continue  # notebooks are copied when the pages are built
            assert (path.parent / target).exists(), f"{path.name}: {target}"


# -- what is said about the package elsewhere --------------------------------------------------


def test_citations_agree():
    import yaml

    cff = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["version"] == ol.__version__ and cff["license"] == "BSD-3-Clause"
    page = text("citing.md")
    for reference in cff["references"]:
        assert reference.get("doi", reference["title"].split(":")[0]) in page
        verb = re.search(r"omicllm\.(\w+\.\w+)", reference["scope"])[1]
        assert f"`ol.{verb}`" in page
    for name in public("datasets"):
        made = name.startswith(("simulated_", "planted_"))
        assert made or f"omicllm.datasets.{name}" in page, f"{name} has no source and licence"


def test_the_entry_of_the_ecosystem_registry():
    """The fields that the registry's schema requires, and the same words as elsewhere."""
    import tomllib

    import yaml

    entry = yaml.safe_load(text("dev", "ecosystem", "meta.yaml"))
    required = {"name", "description", "project_home", "documentation_home", "install", "license",
                "tags", "version", "category", "contact"}  # fmt: skip
    assert required <= set(entry)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert entry["name"] == entry["install"]["pypi"] == project["name"]
    assert entry["version"].removeprefix("v") == ol.__version__
    assert entry["license"] == project["license"]
    assert entry["project_home"] == project["urls"]["Homepage"]
    assert entry["documentation_home"] == project["urls"]["Documentation"]
