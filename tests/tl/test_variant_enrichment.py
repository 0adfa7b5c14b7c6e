"""`ol.tl.variant_enrichment`, on variants whose places are known."""

import anndata as ad
import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from scipy import sparse

import omicllm as ol


def make(n_genes=30, planted=True, seed=0):
    """Genes 10 kb apart with 60 variants each; regions hold the strongest one, and some others."""
    rng = np.random.default_rng(seed)
    tss = 10_000 * np.arange(1, n_genes + 1)
    pos = (tss[:, None] + rng.integers(-2000, 2000, (n_genes, 60))).ravel()
    m = len(pos)
    var = pd.DataFrame({"chrom": "c", "pos": pos, "ref": "A", "alt": "G"})
    var["af"] = rng.uniform(0.05, 0.95, m)
    var.index = [f"v{i}" for i in range(m)]
    W = np.zeros((m, n_genes), dtype=np.float32)
    inside = rng.random(m) < 0.2
    for g in range(n_genes):
        own = np.arange(60 * g, 60 * g + 60)
        W[own, g] = rng.normal(size=60) * 0.1
        best = rng.choice(own)
        W[best, g] = -3
        if planted:
            inside[best] = rng.random() < 0.7
    geno = ad.AnnData(sparse.csc_matrix(rng.binomial(2, 0.3, (20, m)).astype(np.int8)), var=var)
    geno.varm["variant_effects"] = sparse.csr_matrix(W)
    names = [f"g{i}" for i in range(n_genes)]
    geno.uns["variant_effects"] = {"genes": np.array(names, dtype=object)}
    rna = ad.AnnData(np.zeros((20, n_genes), dtype=np.float32),
                     var=pd.DataFrame({"chrom": "c", "tss": tss}, index=names))  # fmt: skip
    rna.obs_names = geno.obs_names = [f"p{i}" for i in range(20)]
    regions = pd.DataFrame({"chrom": "c", "start": pos[inside] - 1, "end": pos[inside]})
    return md.MuData({"rna": rna, "geno": geno}), regions, inside


ARGS = {"window": 4000, "distance_bin": 500, "n_af_bins": 2}


def test_finds_what_is_planted(tmp_path):
    mdata, regions, inside = make()
    before = {m: slots(mdata[m]) for m in mdata.mod}
    (tmp_path / "r.bed").write_text(
        "".join(f"c\t{s}\t{e}\n" for s, e in zip(regions["start"], regions["end"], strict=True))
    )
    assert ol.tl.variant_enrichment(mdata, bed=tmp_path / "r.bed", **ARGS) is None
    for m in mdata.mod:
        only_declared_written(before[m], mdata[m], "tl.variant_enrichment")
        round_trip(mdata[m], tmp_path)
    row = ol.get.table(mdata, "variant_enrichment", mod="geno").iloc[0]
    best = np.abs(mdata["geno"].varm["variant_effects"].toarray()).argmax(axis=0)
    assert row["regions"] == "r.bed" and row["effects"] == "variant_effects"
    assert row["n_selected"] + row["n_unmatched"] == 30
    assert row["n_background"] == 30 * 60 - 30 and row["n_inside"] <= inside[best].sum()
    assert row["observed"] == pytest.approx(row["n_inside"] / row["n_selected"])
    assert 2 < row["low"] < row["enrichment"] < row["high"] and row["pval"] < 1e-4
    assert row["expected"] == pytest.approx(0.2, abs=0.06)
    out = ol.tl.variant_enrichment(mdata, bed=regions, copy=True, key_added="near", **ARGS)
    again = out["geno"].uns["near"]["table"].drop(columns="regions")
    pd.testing.assert_frame_equal(
        again, mdata["geno"].uns["variant_enrichment"]["table"].drop(columns="regions")
    )


def test_nothing_planted_and_several():
    mdata, regions, inside = make(planted=False)
    mdata["geno"].varm["twas_enet"] = mdata["geno"].varm["variant_effects"].copy()
    mdata["geno"].uns["twas"] = mdata["geno"].uns["variant_effects"]
    ol.tl.variant_enrichment(
        mdata, bed={"a": regions, "b": regions.iloc[::2]},
        effects_key=["variant_effects", "twas_enet"], n_top=3, **ARGS,
    )  # fmt: skip
    table = ol.get.table(mdata, "variant_enrichment", mod="geno")
    assert table["regions"].tolist() == list("aabb") and (table["pval"] > 0.02).all()
    assert (table["low"] < 1.3).all() and (table["high"] > 0.8).all()
    numbers = ["n_selected", "n_inside", "expected", "pval"]
    assert table.iloc[0][numbers].tolist() == table.iloc[1][numbers].tolist()
    assert table["n_selected"].iloc[0] > 60
    ax = ol.pl.variant_enrichment(mdata, mod="geno", show=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), table["enrichment"].iloc[[0, 2]])
    plt.close(ax.figure)


def test_drivers_frequency_and_windows():
    mdata, regions, _ = make()
    geno = mdata["geno"]
    rows = [("g0", "v3"), ("g0", "v7"), ("g2", "v121")]
    geno.uns["variant_drivers"] = {
        "table": pd.DataFrame(rows, columns=["gene", "variant"]),
        "params": {"effects_key": "variant_effects"},
    }
    ol.pp.gene_windows(mdata, mod="rna", length=4000)
    ol.tl.variant_enrichment(
        mdata, bed=regions, drivers_key="variant_drivers", distance_bin=2000, n_af_bins=1
    )
    row = geno.uns["variant_enrichment"]["table"].iloc[0]
    assert row["n_selected"] == 3 and row["n_background"] == 1797
    ol.tl.variant_enrichment(mdata, bed=regions, min_af=0.2, **ARGS)
    row = geno.uns["variant_enrichment"]["table"].iloc[0]
    af = geno.var["af"].to_numpy()
    kept = (np.minimum(af, 1 - af) >= 0.2).sum()
    assert row["n_background"] + row["n_selected"] + row["n_unmatched"] == kept
    # Of every gene the strongest of those that are left.
    assert row["n_selected"] + row["n_unmatched"] == geno.varm["variant_effects"].shape[1]
    geno.varm["x"], geno.uns["x"] = geno.varm["variant_effects"], geno.uns["variant_effects"]
    with pytest.raises(ValueError, match="drivers of 'variant_effects': pass effects_key="):
        ol.tl.variant_enrichment(mdata, bed=regions, drivers_key="variant_drivers", effects_key="x")


def test_bad_input(tmp_path):
    mdata, regions, _ = make(6)
    untouched = mdata["geno"].copy()
    with pytest.raises(KeyError, match="'c' is not in the contigs of the regions.*mean 'chrc'"):
        ol.tl.variant_enrichment(mdata, bed=regions.assign(chrom="chrc"), **ARGS)
    far = pd.DataFrame({"chrom": ["c"], "start": [1], "end": [9]})
    with pytest.raises(ValueError, match="None of the 360 variants lies in a region of far .1 reg"):
        ol.tl.variant_enrichment(mdata, bed={"far": far}, **ARGS)
    (tmp_path / "m.bed").write_text("c\t1\t5\nc 7\n")
    with pytest.raises(ValueError, match=r"m\.bed, line 2"):
        ol.tl.variant_enrichment(mdata, bed=tmp_path / "m.bed", **ARGS)
    with pytest.raises(KeyError, match="'twas_enet' is not in geno.varm.*ol.tl.twas"):
        ol.tl.variant_enrichment(mdata, bed=regions, effects_key="twas_enet")
    with pytest.raises(KeyError, match="'variant_drivers' is not in geno.uns"):
        ol.tl.variant_enrichment(mdata, bed=regions, drivers_key="variant_drivers")
    with pytest.raises(ValueError, match="widen distance_bin"):
        ol.tl.variant_enrichment(mdata, bed=regions, n_top=60, window=4000)
    with pytest.raises(ValueError, match="n_top"):
        ol.tl.variant_enrichment(mdata, bed=regions, n_top=0)
    same_object(mdata["geno"], untouched)
    with pytest.raises(KeyError, match="mod='geno'"):
        ol.get.table(mdata, "variant_enrichment", mod="rna")
