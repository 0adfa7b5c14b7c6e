"""`ol.tl.sample_size` and its plot."""

import anndata as ad
import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from scipy import sparse

import omicllm as ol
from omicllm.stats.people import resampled_agreement


def make(n=300, seed=0):
    """Two genes of a few causal variants each."""
    rng = np.random.default_rng(seed)
    D = rng.binomial(2, 0.3, size=(n, 60)).astype(np.int8)
    Y = np.stack([D[:, :5].sum(1), D[:, 30:34].sum(1)], axis=1) + 2 * rng.normal(size=(n, 2))
    geno = ad.AnnData(sparse.csc_matrix(D))
    geno.var["pos"], geno.var["chrom"] = np.tile(np.arange(30), 2) + 1, np.repeat(["c", "d"], 30)
    geno.var["ref"], geno.var["alt"] = "A", "G"
    rna = ad.AnnData(Y.astype(np.float32))
    rna.var["chrom"], rna.var["tss"] = ["c", "d"], 15
    rna.obs_names = geno.obs_names = [f"p{i}" for i in range(n)]
    rna.obs["split"] = np.where(np.arange(n) % 3 == 0, "test", "train")
    return md.MuData({"rna": rna, "geno": geno})


def test_more_people_are_better(tmp_path):
    mdata = make()
    before = {m: slots(mdata[m]) for m in mdata.mod}
    args = {"model": ["top1", "blup"], "fractions": [0.15, 0.5, 1], "n_draws": 3, "n_boot": 200}
    assert ol.tl.sample_size(mdata, **args) is None
    for m in mdata.mod:
        only_declared_written(before[m], mdata[m], "tl.sample_size")
        round_trip(mdata[m], tmp_path)
    table = ol.get.table(mdata, "sample_size", mod="rna")
    assert len(table) == 2 * 2 * (3 + 3 + 1)
    assert sorted(table["n_people"].unique()) == [30, 100, 200]
    summary = ol.get.table(mdata, "sample_size", table="summary", mod="rna").set_index(
        ["model", "fraction"]
    )
    blup = summary.loc["blup"]
    assert blup["mean_pearson"].iloc[2] > blup["mean_pearson"].iloc[0] + 0.1
    assert (summary["low"] < summary["mean_pearson"]).all()
    assert (summary["high"] > summary["mean_pearson"]).all()
    assert blup["n_draws"].tolist() == [3, 3, 1] and np.isnan(blup["sd_draws"].iloc[2])
    filled = table.fillna({"pearson": 0})
    mean = filled.groupby(["model", "fraction"])["pearson"].mean()
    np.testing.assert_allclose(mean.loc["top1"], summary.loc["top1"]["mean_pearson"], atol=1e-6)
    # All people: what twas says.
    ol.tl.twas(mdata, model="blup")
    whole = table[(table["model"] == "blup") & (table["fraction"] == 1)]
    np.testing.assert_allclose(whole["pearson"], mdata["rna"].var["twas_blup_pearson"], atol=1e-5)
    ax = ol.pl.sample_size(mdata, points={"network": {200: 0.3, 100: 0.1}}, mod="rna", show=False)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["top1", "blup", "network"]
    assert ax.lines[2].get_xdata().tolist() == [100, 200]
    plt.close(ax.figure)
    again = ol.tl.sample_size(mdata, copy=True, key_added="other", **args)
    np.testing.assert_array_equal(again["rna"].uns["other"]["table"]["pearson"], table["pearson"])


def test_resampled_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    b += a
    b[3] = np.nan
    among = np.arange(40) > 4
    drawn = rng.integers(5, 40, size=(6, 35))
    times = np.stack([np.bincount(d, minlength=40) for d in drawn])
    wanted = [np.corrcoef(a[d], b[d])[0, 1] for d in drawn]
    np.testing.assert_allclose(resampled_agreement(a, b, among, times), wanted)
    assert not resampled_agreement(np.ones(40), b, among, times).any()


def test_bad_input():
    mdata = make(90)
    untouched = mdata["rna"].copy()
    with pytest.raises(
        ValueError, match="0.2 of 60 training people are fewer than 20: start at 0.34"
    ):
        ol.tl.sample_size(mdata)
    with pytest.raises(ValueError, match="fractions must lie between 0 and 1"):
        ol.tl.sample_size(mdata, fractions=[0.5, 2])
    with pytest.raises(ValueError, match="no share"):
        ol.tl.sample_size(mdata, fractions=[])
    with pytest.raises(ValueError, match="model must be one of"):
        ol.tl.sample_size(mdata, model="svm")
    with pytest.raises(KeyError, match="mod='rna'"):
        ol.pl.sample_size(mdata, mod="rna")
    same_object(mdata["rna"], untouched)
    mdata = make(150)
    mdata["rna"].obs["split"] = "train"
    with pytest.raises(ValueError, match="Nobody is in test"):
        ol.tl.sample_size(mdata)
