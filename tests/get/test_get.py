"""Results as DataFrames and arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
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


@pytest.mark.parametrize(
    "reader", ["get.imputed", "pl.imputation", "pl.spatial_domains", "get.lut_df"]
)
@pytest.mark.parametrize("left", ["nothing", "params", "all but params"])
def test_what_joining_left_of_an_entry_is_told(tiny, reader, left):
    """``ad.concat(uns_merge="same")`` keeps of an entry what is the same in all objects."""
    genes = [f"new{i}" for i in range(4)]
    rng = np.random.default_rng(0)
    tiny.obsm["sigel_imputed"] = rng.random((tiny.n_obs, 4)).astype(np.float32)
    tiny.obsm["sigel_imputed_heldout"] = rng.random((tiny.n_obs, 4)).astype(np.float32)
    tiny.obs["spatial_domain"] = "1"
    ol.tl.ult(tiny)
    scores = pd.DataFrame({"gene": list(tiny.var_names[:4]), "pearson": 0.1}, index=list("abcd"))
    entries = {
        "sigel_imputed": {"params": {}, "genes": np.array(genes), "scores": scores},
        "spatial_domain": {"params": {"spatial_key": "spatial"}, "n": 1},
        "ult": tiny.uns["ult"],
    }
    for key, entry in entries.items():
        kept = {
            "nothing": {"version": "1"}, "params": {"params": entry["params"]},
            "all but params": {k: v for k, v in entry.items() if k != "params"},
        }  # fmt: skip
        tiny.uns[key] = kept[left]
    namespace, name = reader.split(".")
    call = getattr(getattr(ol, namespace), name)
    if reader == "pl.spatial_domains" and left == "params":
        call(tiny, show=False)
        return
    with pytest.raises((KeyError, ValueError), match=r"adata\.uns\[.*as after joining objects"):
        call(tiny, **({"show": False} if namespace == "pl" else {}))


def test_imputed_of_other_genes_is_not_named_after_these(tiny):
    tiny.obsm["sigel_imputed"] = np.ones((tiny.n_obs, 3), dtype=np.float32)
    tiny.uns["sigel_imputed"] = {"params": {}, "genes": np.array(["a", "b"])}
    with pytest.raises(ValueError, match="3 columns, .* names 2 genes"):
        ol.get.imputed(tiny)
