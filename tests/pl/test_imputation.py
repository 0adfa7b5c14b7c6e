"""`pl.imputation`: agreement of hidden genes and maps."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object

import omicllm as ol


def test_agreement_and_maps():
    adata, reference = make_tiny(40), make_tiny(60, seed=1)
    for one in (adata, reference):
        one.X = np.log1p(one.X.toarray())
    with pytest.raises(KeyError, match=r"ol.tl.impute_genes\(adata, reference="):
        ol.pl.imputation(adata)
    ol.tl.impute_genes(adata, reference=reference)
    untouched = adata.copy()
    scores = adata.uns["sigel_imputed"]["scores"].set_index("gene")
    figure = ol.pl.imputation(adata, n_genes=2)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    best = scores["pearson"].idxmax()
    assert titles[0].startswith("38 genes while hidden: mean")
    assert titles[1] == f"{best}, measured"
    assert titles[2] == f"imputed while hidden, r = {scores['pearson'].max():.2f}"
    maps = [ax for ax in figure.axes if ax.get_title() in titles[1:3]]
    assert maps[0].collections[0].get_clim() == maps[1].collections[0].get_clim()
    drawn = np.sort(np.asarray(maps[0].collections[0].get_array()))
    np.testing.assert_allclose(drawn, np.sort(adata[:, best].X.ravel()))
    figure = ol.pl.imputation(adata, genes="Gene50")
    assert [ax.get_title() for ax in figure.axes if ax.get_title()][1:] == [
        "Gene50, imputed", "width of its interval",
    ]  # fmt: skip
    with pytest.raises(KeyError, match="nope"):
        ol.pl.imputation(adata, genes="nope")
    same_object(adata, untouched)


def test_sections_and_no_coordinates():
    adata = ad.concat({"a": make_tiny(), "b": make_tiny(seed=2)}, label="slide", index_unique="-")
    reference = make_tiny(45, seed=1)
    ol.tl.impute_genes(adata, reference=reference, batch_key="slide", method="knn")
    figure = ol.pl.imputation(adata, n_genes=1, section="b")
    maps = [ax for ax in figure.axes if ax.get_title().endswith("measured")]
    assert len(maps[0].collections[0].get_array()) == 120
    with pytest.raises(KeyError, match="'c' is not in the sections"):
        ol.pl.imputation(adata, section="c")
    del adata.obsm["spatial"]
    assert len(ol.pl.imputation(adata).axes) == 1
