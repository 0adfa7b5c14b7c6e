"""`pl.compare_genes`: rows of genes, columns of conditions."""

from __future__ import annotations

import anndata as ad
import pytest
from conftest import make_tiny
from helpers import same_object

import omicllm as ol


def test_genes_side_by_side():
    parts = {f"s{i}": make_tiny(60, seed=i) for i in range(2)}
    adata = ad.concat(parts, label="slide", index_unique="-")
    adata.obs["condition"] = adata.obs["slide"].map({"s0": "well", "s1": "ill"}).astype(str)
    with pytest.raises(KeyError, match=r"ol.tl.compare_genes\(adata, batch_key"):
        ol.pl.compare_genes(adata)
    ol.tl.compare_genes(adata, batch_key="slide", condition_key="condition")
    untouched = adata.copy()
    figure = ol.pl.compare_genes(adata, n_genes=3)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    best = adata.var["compare_score"].idxmax()
    assert titles[:2] == [f"{best}\nill (s1)", f"{best}\nwell (s0)"] and len(titles) == 6
    limits = [ax.images[0].get_clim() for ax in figure.axes[:2]]
    assert limits[0] == limits[1]
    figure = ol.pl.compare_genes(adata, genes="Gene7", sections=["s0"], log1p=False)
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["Gene7\nwell (s0)"]
    with pytest.raises(KeyError, match="'s9' is not in the sections"):
        ol.pl.compare_genes(adata, sections=["s9"])
    with pytest.raises(KeyError, match="nope"):
        ol.pl.compare_genes(adata, genes="nope")
    same_object(adata, untouched)
