"""SpaGCN: refused where it does not fit or is not there, run where it is."""

from __future__ import annotations

import sys
from importlib import metadata

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny

import omicllm as ol
from omicllm._bridges import spagcn

try:
    metadata.version("SpaGCN"), metadata.version("louvain")
    MISSING = ""
except metadata.PackageNotFoundError as error:
    MISSING = f"not installed: {error.args[0]} (pip install 'omicllm[spagcn]')"
needs_spagcn = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.parametrize("absent", ["SpaGCN", "louvain"])
def test_absent_package_names_the_pip_command(monkeypatch, absent):
    if absent == "louvain":
        monkeypatch.setitem(sys.modules, "SpaGCN", sys)
    monkeypatch.setitem(sys.modules, absent, None)
    adata = make_tiny()
    with pytest.raises(ImportError, match=r"pip install 'omicllm\[spagcn\]'") as error:
        ol.tl.spatial_domains(adata, n_domains=3, method="spagcn")
    assert absent in str(error.value) and "\n" not in str(error.value)
    assert "spatial_domain" not in adata.obs


def test_too_many_spots_are_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "SpaGCN", None)
    with pytest.raises(ValueError, match="353000 spots would take 498.4 GB.*method='builtin'"):
        spagcn.check_size(353_000)
    monkeypatch.setattr(spagcn, "MAX_SPOTS", 100)
    with pytest.raises(ValueError, match="refused above 100"):
        ol.tl.spatial_domains(make_tiny(), n_domains=3, method="spagcn")


@needs_spagcn
def test_it_runs_on_sections_and_leaves_global_state():
    parts = {"a": make_tiny(60), "b": make_tiny(60, seed=1)}
    adata = ad.concat(parts, label="slide", index_unique="-")
    np.random.seed(4)  # noqa: TID251
    state = np.random.get_state()[1].tolist()
    for key in ("one", "two"):
        ol.tl.spatial_domains(adata, n_domains=3, method="spagcn", batch_key="slide", key_added=key)
    assert np.random.get_state()[1].tolist() == state
    assert adata.obs["one"].equals(adata.obs["two"])
    assert 2 <= adata.obs["one"].nunique() <= 3
    assert adata.obs["one_confidence"].between(0, 1).all()
    assert len(adata.uns["one"]["genes"]) == 58, "the genes that vary"


@needs_spagcn
def test_sections_are_infinitely_far_apart():
    coords = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    distance = spagcn._distances(spagcn.load(), coords, np.array([0, 0, 1]))
    np.testing.assert_allclose(distance, [[0, 5, np.inf], [5, 0, np.inf], [np.inf, np.inf, 0]])


@needs_spagcn
def test_few_genes_start_from_k_means():
    adata = make_tiny(20)
    ol.tl.spatial_domains(adata, n_domains=3, method="spagcn")
    assert 2 <= adata.obs["spatial_domain"].nunique() <= 3
