"""Conventions of every public function: adata first, all else by keyword, copy and key_added."""

from __future__ import annotations

import importlib
import inspect

import pytest

from omicllm._core.keys import KEYS

#: Public functions that return values and write nothing (ARCHITECTURE, section 6).
MAKERS = {"pp.augment", "pp.tiles", "pp.kmer_counts", "pp.haplotypes"}


def public(*namespaces: str):
    """Every public function or class of some namespaces."""
    return list(_public(namespaces))


def _public(namespaces):
    for namespace in namespaces:
        module = importlib.import_module(f"omicllm.{namespace}")
        for name in module.__all__:
            yield pytest.param(
                f"{namespace}.{name}", getattr(module, name), id=f"{namespace}.{name}"
            )


@pytest.mark.parametrize("name,function", public("pp", "tl"))
def test_verbs(name, function):
    parameters = inspect.signature(function).parameters
    first, *rest = parameters.values()
    assert first.name in ("adata", "mdata", "geno", "image")
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest)
    if name in MAKERS:
        return
    assert name in KEYS, "every verb has a row in the key table"
    for argument, default in (("copy", False), ("key_added", None)):
        assert parameters[argument].default is default
    if first.name == "adata":
        assert parameters["mod"].default is None
    if "rng" in parameters:
        assert parameters["rng"].default == 0


@pytest.mark.parametrize("name,function", public("pl"))
def test_plots(name, function):
    parameters = inspect.signature(function).parameters
    assert parameters["show"].default is None


@pytest.mark.parametrize(
    "name,function", public("pp", "tl", "pl", "get", "datasets", "metrics", "nn", "model")
)
def test_docstrings(name, function):
    text = inspect.getdoc(function) or ""
    assert len(text.splitlines()) > 1, "a docstring of more than one line"
    assert "{" not in text.split("Parameters")[-1] or "`{" in text, "unfilled placeholder"
    if inspect.isfunction(function):
        for parameter in inspect.signature(function).parameters:
            assert parameter in text, f"{name}: {parameter} is not described"
        assert "Returns\n---" in text


@pytest.mark.parametrize("verb", KEYS)
def test_key_table_names_existing_verbs(verb):
    namespace, name = verb.split(".")
    assert name in importlib.import_module(f"omicllm.{namespace}").__all__
