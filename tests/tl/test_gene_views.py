"""`tl.gene_views`, `get.table`, `pl.gene_views`: views of genes compared and joined."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import make_tiny
from helpers import same_object

import omicllm as ol

FAST = {"n_permutations": 19, "n_neighbors": 6}


def made(seed=0):
    """120 genes in six groups that two views share; a third view knows nothing."""
    rng = np.random.default_rng(seed)
    adata = make_tiny(120)
    group = np.arange(120) % 6
    centre = rng.normal(size=(2, 6, 8))
    adata.varm["X_sigel"] = centre[0, group] + 0.4 * rng.normal(size=(120, 8))
    adata.varm["X_kmers"] = (centre[1, group] + 0.4 * rng.normal(size=(120, 8)))[:, :7]
    adata.varm["X_noise"] = rng.normal(size=(120, 5))
    adata.varm["X_sigel"][:4] = 0
    adata.varm["X_kmers"][2:10] = np.nan
    adata.var["group"] = pd.Categorical([f"g{g}" for g in group])
    return adata


def test_views_compared(tmp_path):
    import anndata as ad

    adata = made()
    ol.tl.gene_views(adata, views=["X_sigel", "X_kmers", "X_noise"], n_axes=4, **FAST)
    entry = adata.uns["joint"]
    assert list(entry["views"]) == ["sigel", "kmers", "noise"]
    assert entry["n_genes"].tolist() == [116, 112, 120] and entry["n_shared"] == 110
    table = ol.get.table(adata, "joint").set_index(["source", "target"])
    sure = table["pval"] == 0.05
    assert sure["sigel", "kmers"] and sure["kmers", "sigel"] and table["r2"].max() > 0.5
    assert (table.loc[["noise"], "r2"] < 0.05).all() and len(table) == 6
    axes = ol.get.table(adata, "joint", table="canonical").set_index(["first", "second", "axis"])
    assert axes.loc[("sigel", "kmers", 1), "correlation"] > 0.8
    assert axes.loc[("sigel", "kmers", 1), "pval"] == 0.05
    near = ol.get.table(adata, "joint", table="neighbors").set_index(["first", "second"])
    assert near.loc[("sigel", "kmers"), "share"] > 5 * near.loc[("sigel", "noise"), "share"] / 2
    # Genes: those of a group are alike in both views.
    genes = ol.get.table(adata, "joint", table="genes")
    assert len(genes) == 110 and (genes["qval"] < 0.05).mean() > 0.15
    assert genes["pval"].is_monotonic_increasing
    best = genes.index[0]
    group = adata.var["group"]
    common = genes.loc[best, "common"].split(", ")
    assert np.mean([group[g] == group[best] for g in common]) > 0.5
    assert adata.var["joint_agreement"].isna().sum() == 10
    assert adata.var["joint_n_views"].iloc[[0, 2, 5, 20]].tolist() == [2, 1, 2, 3]
    alike = ol.get.table(adata, "joint", table="alike")
    assert set(alike["n_views"]) <= {2, 3} and (alike["gene"] != alike["neighbor"]).all()
    # The joint graph joins genes of a group, also those that lack a view.
    graph = adata.varp["joint_distances"]
    for rows, least in ((slice(10, 120), 0.7), (slice(0, 10), 0.35)):
        pairs = graph[rows].tocoo()
        own = group.cat.codes.to_numpy()
        assert (own[rows][pairs.row] == own[pairs.col]).mean() > least
    assert adata.varm["X_joint_views"].shape == (120, 3, 4)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    for name in ("prediction", "canonical", "neighbors", "genes", "alike"):
        pd.testing.assert_frame_equal(
            ol.get.table(back, "joint", table=name), ol.get.table(adata, "joint", table=name),
            check_dtype=False,
        )  # fmt: skip
    assert len(ol.get.gene_embedding_df(back, key="joint")) == 120


def test_genes_dealt_anew_share_nothing():
    adata = made()
    rng = np.random.default_rng(3)
    adata.varm["X_kmers"] = adata.varm["X_kmers"][rng.permutation(120)]
    ol.tl.gene_views(adata, views=["X_sigel", "X_kmers"], **FAST)
    table = ol.get.table(adata, "joint")
    assert (table["pval"] > 0.05).all() and (table["r2"] < 0.02).all()
    assert (adata.var["joint_qval"].dropna() > 0.05).all()


def test_groups_are_kept_together():
    adata = made()
    adata.var["family"] = adata.var["group"].astype(object)
    adata.var.loc[adata.var_names[:3], "family"] = None
    ol.tl.gene_views(adata, views=["X_sigel", "X_kmers"], groupby="family", n_folds=3, **FAST)
    # All that the views share is between genes of a family: nothing is left.
    assert (ol.get.table(adata, "joint")["r2"] < 0.05).all()
    alike = ol.get.table(adata, "joint", table="alike")
    family = adata.var["family"]
    assert (family[alike["gene"]].to_numpy() != family[alike["neighbor"]].to_numpy()).all()


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"views": ["X_sigel", "X_none"]}, KeyError, "'X_none' is not in adata.varm"),
        ({"views": ["X_sigel"]}, ValueError, "two or more different"),
        ({"views": ["X_sigel", "X_sigel"]}, ValueError, "two or more different"),
        ({"key_added": "sigel"}, ValueError, "would overwrite a view"),
        ({"method": "pls"}, ValueError, "method must be one of"),
        ({"n_folds": 1}, ValueError, "n_folds must be a whole number of at least 2"),
        ({"n_neighbors": 119}, ValueError, "110 genes have a vector in all views"),
        ({"regularization": -1}, ValueError, "regularization must be"),
        ({"groupby": "chrom"}, KeyError, "'chrom' is not in adata.var"),
        ({"groupby": "group", "n_folds": 7}, ValueError, "has 6 groups of shared genes"),
        ({"groupby": "halves", "n_folds": 2, "n_neighbors": 60}, ValueError, "fewer than"),
        ({"views": ["X_sigel", "X_few"]}, ValueError, "20 genes have a vector"),
    ],
)
def test_what_cannot_be(kwargs, error, message):
    adata = made()
    adata.var["halves"] = np.arange(120) // 60
    few = np.zeros((120, 3))
    few[100:] = 1.0
    adata.varm["X_few"] = few
    untouched = adata.copy()
    with pytest.raises(error, match=message):
        ol.tl.gene_views(adata, **({"views": ["X_sigel", "X_kmers"]} | kwargs))
    same_object(adata, untouched)


def test_families_do_not_make_genes_alike():
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(40), 10)
    adata = ad.AnnData(np.zeros((2, 400), dtype=np.float32))
    adata.var["family"] = family.astype(str)
    for name in ("X_a", "X_b"):  # independent of each other
        adata.varm[name] = rng.normal(size=(400, 8)) + 3 * rng.normal(size=(40, 8))[family]
    ol.tl.gene_views(adata, views=["X_a", "X_b"], groupby="family", n_axes=4, n_permutations=20)
    assert (adata.var["joint_qval"] < 0.05).sum() == 0
    assert (adata.var["joint_pval"] < 0.05).mean() < 0.1


def test_a_view_in_which_genes_do_not_differ_is_refused():
    adata = ad.AnnData(np.zeros((2, 60), dtype=np.float32))
    rng = np.random.default_rng(0)
    adata.varm["X_a"], adata.varm["X_b"] = rng.normal(size=(60, 5)), np.tile(rng.random(4), (60, 1))
    with pytest.raises(ValueError, match="same vector in adata.varm.'X_b'.: leave it out"):
        ol.tl.gene_views(adata, views=["X_a", "X_b"], n_axes=2, n_permutations=3)
    assert not adata.uns and set(adata.varm) == {"X_a", "X_b"}


def test_views_are_drawn():
    adata = made()
    with pytest.raises(KeyError, match=r"ol.tl.gene_views"):
        ol.pl.gene_views(adata)
    ol.tl.gene_views(adata, views=["X_sigel", "X_kmers", "X_noise"], n_axes=3, **FAST)
    untouched = adata.copy()
    figure = ol.pl.gene_views(adata, labels="Gene20", level=0.2)
    heat, lines, genes = figure.axes[:3]
    texts = {t.get_text() for t in heat.texts}
    assert len(heat.texts) == 6 and any(t.endswith("*") for t in texts) and "-0.00" not in texts
    shown = heat.images[0].get_array()
    table = ol.get.table(adata, "joint").set_index(["source", "target"])["r2"]
    assert shown[0, 1] == table["sigel", "kmers"] and shown.mask[0, 0]
    assert len(lines.get_legend().get_texts()) == 3
    assert genes.get_xlabel() == "joint axis 1" and genes.texts[0].get_text() == "Gene20"
    legend = ol.pl.gene_views(adata, color="group", axes=(2, 3)).axes[2].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [f"g{i}" for i in range(6)]
    with pytest.raises(ValueError, match="no joint axis 9: .*1 to 3"):
        ol.pl.gene_views(adata, axes=(1, 9))
    with pytest.raises(KeyError, match="'nope' is not in adata.var"):
        ol.pl.gene_views(adata, color="nope")
    same_object(adata, untouched)
    plt.close("all")
