"""Results as DataFrames and arrays."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import KEYS, same_object

import omicllm as ol
from omicllm._core import results


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


# -- `get.table`; that each verb's tables are read by their root is in `tests/test_contract.py` --


def written(adata, verb, values=None, arrays=None, key_added=None, mod=None):
    """Write results as the verb would."""
    result = results.Result(verb, values or {}, {}, arrays or {}, key_added)
    results.write(adata, result, mod=mod)
    return adata


def frame(**columns):
    out = pd.DataFrame(columns)
    out.index = out.index.astype(str)
    return out


def with_patterns(key_added=None):
    """Five genes with a pattern's scores, and one column of somebody else."""
    adata = ad.AnnData(np.ones((4, 5)), var=pd.DataFrame(index=list("abcde")))
    adata.var["pattern_other"] = 7
    values = {
        "var:{root}_score": np.arange(5, dtype=np.float32),
        "var:{root}_pval": np.linspace(0, 1, 5).astype(np.float32),
    }
    return written(adata, "tl.pattern_genes", values, key_added=key_added)


def test_columns_of_var_come_without_the_root():
    adata = with_patterns()
    before = adata.copy()
    table = ol.get.table(adata, "pattern")
    expected = pd.DataFrame(
        {"score": np.arange(5, dtype=np.float32), "pval": np.linspace(0, 1, 5, dtype=np.float32)},
        index=list("abcde"),
    )
    pd.testing.assert_frame_equal(table, expected)
    table["score"] = 0.0
    same_object(adata, before)
    pd.testing.assert_frame_equal(ol.get.table(adata, "pattern", "var"), expected)
    pd.testing.assert_frame_equal(ol.get.table(with_patterns("mine"), "mine"), expected)
    pd.testing.assert_frame_equal(
        ol.get.table(adata[:, ["d", "b"]], "pattern"), expected.loc[["d", "b"]]
    )
    del adata.var["pattern_score"]
    assert list(ol.get.table(adata, key="pattern")) == ["pval"]


def test_columns_that_lost_their_entry_are_read_by_the_verb_s_root():
    adata = with_patterns()
    wanted = ol.get.table(adata, "pattern")
    del adata.uns["pattern"]  # as `ad.concat` does
    pd.testing.assert_frame_equal(ol.get.table(adata, "pattern"), wanted)


def test_verbs_that_share_a_root_make_one_table():
    adata = ad.AnnData(np.ones((4, 3)), var=pd.DataFrame(index=list("abc")))
    written(adata, "tl.sigel", {"var:{root}_cluster": pd.Categorical(["1", "0", None])})
    written(adata, "tl.spatially_variable_genes", {"var:{root}_svg_score": np.arange(3.0)})
    table = ol.get.table(adata, "sigel")
    assert list(table) == ["cluster", "svg_score"] and table["cluster"].dtype == object
    assert table["cluster"].tolist()[:2] == ["1", "0"] and pd.isna(table["cluster"].iloc[2])
    assert list(ol.get.table(adata, "sigel_svg")) == ["score"]


def with_two_tables():
    adata = ad.AnnData(np.ones((2, 2)))
    arrays = {
        "table": frame(gene=["a", "b"], pearson=[0.1, 0.2]),
        "summary": frame(prediction=["p"], n_genes=[2]),
    }
    return written(adata, "tl.evaluate_personal", arrays=arrays)


def test_the_main_table_and_others_by_name():
    adata = with_two_tables()
    assert list(ol.get.table(adata, "evaluate_personal")) == ["gene", "pearson"]
    summary = ol.get.table(adata, "evaluate_personal", table="summary")
    assert summary.index.tolist() == [0] and list(summary) == ["prediction", "n_genes"]
    with pytest.raises(
        KeyError, match=r"'genes' is not in the tables of 'evaluate_personal' .*'table', 'summary'"
    ):
        ol.get.table(adata, "evaluate_personal", "genes")
    written(adata, "tl.twas", arrays={"windows": frame(gene=["a"])})
    assert list(ol.get.table(adata, "twas")) == ["gene"], "the only one is the main one"
    with pytest.raises(KeyError, match=r"ol\.tl\.twas may write it \(of `rna`, DataFrame: publ"):
        ol.get.table(adata, "twas", "weights")
    written(
        adata, "tl.histology_baselines",
        arrays={"gene_table": frame(gene=["a"]), "folds": frame(n=[1])},
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"name one with table= \('gene_table', 'folds'\)"):
        ol.get.table(adata, "histology_baselines")


def test_a_dict_of_columns_is_a_table_and_labels_stay(tmp_path):
    counts = pd.DataFrame(
        [[3, 1], [0, 2]], index=pd.Index(["10", "2"], name="true class"), columns=["10", "2"]
    )
    adata = written(ad.AnnData(np.ones((2, 2))), "tl.classify_omics", arrays={
        "confusion": counts, "history": {"b": np.arange(3.0), "a": np.ones(3)},
        "scores": frame(classifier=["omiclm", "knn"], accuracy=[1.0, 0.5]),
    })  # fmt: skip
    adata.write_h5ad(tmp_path / "a.h5ad")
    for one in (adata, ad.read_h5ad(tmp_path / "a.h5ad")):
        pd.testing.assert_frame_equal(ol.get.table(one, "omiclm", "confusion"), counts)
        history = ol.get.table(one, "omiclm", "history")
        pd.testing.assert_frame_equal(history, pd.DataFrame({"a": np.ones(3), "b": np.arange(3.0)}))
        assert ol.get.table(one, "omiclm")["classifier"].tolist() == ["omiclm", "knn"]


def two_modalities():
    """Expression and genotypes, with results as the verbs of two modalities leave them."""
    rna = ad.AnnData(np.ones((3, 2)), var=pd.DataFrame(index=["g1", "g2"]))
    geno = ad.AnnData(np.ones((3, 4)), var=pd.DataFrame(index=list("wxyz")))
    written(
        rna, "tl.twas", {"var:{root}_top1_pearson": np.ones(2)}, {"summary": frame(model=["a"])}
    )
    written(geno, "tl.twas", arrays={"genes": ["g1", "g2"]})
    written(rna, "tl.variant_drivers", {"var:{root}_n": np.array([1, 0])})
    written(geno, "tl.variant_drivers", arrays={"table": frame(gene=["g1"], variant=["w"])})
    for one in (rna, geno):
        written(one, "tl.gene_interactions", arrays={"table": frame(n=[one.n_vars])})
    return md.MuData({"rna": rna, "geno": geno})


def test_a_mudata_is_searched():
    mdata = two_modalities()
    assert ol.get.table(mdata, "twas")["model"].tolist() == ["a"]
    assert list(ol.get.table(mdata, "twas", "var")) == ["top1_pearson"]
    assert ol.get.table(mdata, "variant_drivers")["variant"].tolist() == ["w"], "of geno"
    assert ol.get.table(mdata, "variant_drivers", "var")["n"].tolist() == [1, 0], "of rna"
    assert ol.get.table(mdata, "gene_interactions", mod="geno")["n"].tolist() == [4]
    with pytest.raises(
        ValueError, match=r"hold 'table' of 'gene_interactions'.*mod= \('rna', 'geno'\)"
    ):
        ol.get.table(mdata, "gene_interactions")
    with pytest.raises(KeyError, match=r"\['geno'\]\.uns.*It is in another modality: mod='rna'"):
        ol.get.table(mdata, "twas", mod="geno")
    with pytest.raises(KeyError, match="'dna' is not in mdata.mod"):
        ol.get.table(mdata, "twas", mod="dna")
    with pytest.raises(ValueError, match="which has no modalities"):
        ol.get.table(mdata["rna"], "twas", mod="rna")
    with pytest.raises(TypeError, match="AnnData or a MuData"):
        ol.get.table(pd.DataFrame(), "twas")
    mdata.uns["explain_omics"] = {
        "params": {},
        "keys": {},
        "version": "1",
        "table": frame(gene=["g1"]),
    }
    assert ol.get.table(mdata, "explain_omics")["gene"].tolist() == ["g1"]


@pytest.mark.parametrize("key,message", [
    ("twas", r"is not in adata.uns \(there: .evaluate_personal.\). Make it with ol.tl.twas"),
    ("window", "Make it with ol.pp.gene_windows."),
    ("sigel", "Make it with ol.tl.sigel or ol.tl.spatially_variable_genes"),
    ("pattern_genes", "ol.tl.pattern_genes writes under 'pattern'."),
    ("evaluate_persona", r"Did you mean 'evaluate_personal' or "),
    ("neighbors", r"'neighbors' is not in the results with tables in adata.uns"),
])  # fmt: skip
def test_what_is_not_there_is_told(key, message):
    adata = with_two_tables()
    adata.uns["neighbors"] = {"params": {"n_neighbors": 5}}
    with pytest.raises(KeyError, match=message):
        ol.get.table(adata, key)


def test_every_root_is_told_its_verb():
    empty = ad.AnnData(np.ones((2, 2)))
    for verb, row in KEYS.items():
        with pytest.raises(KeyError, match=rf"Make it with .*ol\.{verb}\b"):
            ol.get.table(empty, row.root)
