"""Results as DataFrames and arrays."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import same_object

import omicllm as ol


def test_gene_embedding_df(tiny):
    with pytest.raises(KeyError, match=r"'X_sigel' is not in adata.varm.*ol.tl.sigel"):
        ol.get.gene_embedding_df(tiny)
    ol.tl.sigel(tiny)
    before = tiny.copy()
    frame = ol.get.gene_embedding_df(tiny)
    Z = tiny.varm["X_sigel"]
    assert frame.shape == (38, Z.shape[1]) and list(frame.columns[:2]) == ["sigel_0", "sigel_1"]
    assert not {"Gene3", "Gene4"} & set(frame.index)
    np.testing.assert_array_equal(frame.loc["Gene7"], Z[7])
    whole = ol.get.gene_embedding_df(tiny, drop_empty=False)
    assert list(whole.index) == list(tiny.var_names)
    np.testing.assert_array_equal(whole.to_numpy(), Z)
    same_object(tiny, before)


def test_gene_embedding_df_of_another_key_and_of_mudata(tiny):
    import mudata as md

    tiny.varm["X_mine"] = np.arange(80, dtype=np.float32).reshape(40, 2)
    frame = ol.get.gene_embedding_df(tiny, key="mine")
    assert frame.shape == (40, 2)
    mdata = md.MuData({"rna": tiny})
    np.testing.assert_array_equal(ol.get.gene_embedding_df(mdata, key="mine", mod="rna"), frame)
    with pytest.raises(ValueError, match="needs mod="):
        ol.get.gene_embedding_df(mdata, key="mine")


def test_gene_images_of_a_layer_in_the_order_asked(tiny):
    ol.pp.spatial_grid(tiny)
    tiny.layers["double"] = tiny.X * 2
    one, two = ol.get.gene_images(tiny, ["Gene9", "Gene1"]), ol.get.gene_images(tiny)
    np.testing.assert_array_equal(one, two[[9, 1]])
    np.testing.assert_array_equal(ol.get.gene_images(tiny, "Gene1")[0], one[1])
    np.testing.assert_array_equal(ol.get.gene_images(tiny, layer="double"), 2 * two)
    assert two.dtype == np.float32 and two.shape == (40, 12, 11)
    with pytest.raises(KeyError, match="'raw' is not in adata.layers"):
        ol.get.gene_images(tiny, layer="raw")
