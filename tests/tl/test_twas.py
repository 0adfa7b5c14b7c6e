"""`ol.tl.twas`."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from made_genome import installed
from scipy import sparse

import omicllm as ol

FOUR = ["top1", "lasso", "enet", "blup"]


def make(n=120, seed=0, storage=sparse.csc_matrix):
    """Four genes on two contigs; the first three follow a variant each, the last none."""
    rng = np.random.default_rng(seed)
    dosage = rng.binomial(2, rng.uniform(0.1, 0.5, 60), size=(n, 60)).astype(np.int8)
    dosage[:, 10] = 0
    chrom = np.repeat(["c", "d"], 30)
    pos = np.tile(np.arange(30) * 100 + 1, 2)
    ref, alt = np.full(60, "A", dtype=object), np.full(60, "G", dtype=object)
    alt[7] = "AT"
    var = pd.DataFrame({"chrom": chrom, "pos": pos, "ref": ref, "alt": alt})
    var.index = [f"v{i}" for i in range(60)]
    geno = ad.AnnData(storage(dosage), var=var)
    causal = [3, 12, 45]
    Y = rng.normal(size=(n, 4)).astype(np.float32)
    Y[:, :3] += dosage[:, causal] + 5
    genes = pd.DataFrame({"chrom": ["c", "c", "d", "d"], "tss": [510, 1200, 1500, 2500]},
                         index=list("PQRS"))  # fmt: skip
    rna = ad.AnnData(Y, var=genes)
    rna.obs_names = geno.obs_names = [f"p{i}" for i in range(n)]
    rna.obs["split"] = pd.Categorical(np.where(np.arange(n) % 3 == 0, "test", "train"))
    return md.MuData({"rna": rna, "geno": geno})


def test_writes_what_it_says(tmp_path):
    mdata = make()
    before = {m: slots(mdata[m]) for m in mdata.mod}
    models = [*FOUR, "bslmm"]
    assert ol.tl.twas(mdata, model=models, window=1000, n_iter=60) is None
    rna, geno = mdata["rna"], mdata["geno"]
    for m in mdata.mod:
        only_declared_written(before[m], mdata[m], "tl.twas")
    for m in models:
        predicted = rna.layers[f"twas_{m}"]
        assert predicted.shape == rna.shape and predicted.dtype == np.float32
        W = geno.varm[f"twas_{m}"]
        assert sparse.issparse(W) and W.shape == (60, 4) and W.dtype == np.float32
        by_weights = geno.X @ W.toarray() + rna.var[f"twas_{m}_intercept"].to_numpy()
        np.testing.assert_allclose(by_weights, predicted, atol=1e-4)
        test = (rna.obs["split"] == "test").to_numpy()
        for g in range(3):
            r = np.corrcoef(predicted[test, g], rna.X[test, g])[0, 1]
            assert rna.var[f"twas_{m}_pearson"].iloc[g] == pytest.approx(r, abs=1e-4)
            assert r > 0.3
        inside = [slice(1, 11), slice(7, 17), slice(40, 50), slice(50, 60)]
        for g, some in enumerate(inside):
            assert not np.delete(W[:, g].toarray().ravel(), np.arange(60)[some]).any()
    assert (np.diff(geno.varm["twas_top1"].tocsc().indptr) == 1).all()
    assert np.flatnonzero(geno.varm["twas_top1"][:, 0].toarray()) == [3]
    assert rna.var["twas_n_variants"].tolist() == [8, 8, 10, 10], "no indel, no constant variant"
    assert rna.var["twas_h2"].iloc[:3].min() > 0.1 and rna.var["twas_h2_pval"].iloc[:3].max() < 0.05
    assert geno.uns["twas"]["genes"].tolist() == list("PQRS")
    summary = rna.uns["twas"]["summary"]
    assert summary["model"].tolist() == models and (summary["n_genes"] == 4).all()
    for m in mdata.mod:
        round_trip(mdata[m], tmp_path)


def test_test_people_are_not_seen():
    one, other = make(), make()
    test = (other["rna"].obs["split"] == "test").to_numpy()
    other["rna"].X[test] = 99 - 7 * other["rna"].X[test]
    for mdata in (one, other):
        ol.tl.twas(mdata, model=FOUR, window=1000)
    for m in FOUR:
        np.testing.assert_array_equal(
            one["rna"].layers[f"twas_{m}"], other["rna"].layers[f"twas_{m}"]
        )


def test_split_by_gene():
    mdata = make()
    codes = np.where((mdata["rna"].obs["split"] == "test").to_numpy()[:, None], 2, 0)
    codes = np.repeat(codes, 4, axis=1).astype(np.int8)
    wanted = ol.tl.twas(mdata, model="blup", window=1000, copy=True)["rna"].layers["twas_blup"]
    mdata["rna"].layers["split"] = codes
    del mdata["rna"].obs["split"]
    ol.tl.twas(mdata, model="blup", window=1000)
    np.testing.assert_array_equal(mdata["rna"].layers["twas_blup"], wanted)
    codes = codes.copy()
    codes[:, 1] = (np.arange(120) % 4 == 0) * 2
    codes[::5, 2] = 1
    mdata["rna"].layers["split"] = codes
    ol.tl.twas(mdata, model="blup", window=1000)
    same = (mdata["rna"].layers["twas_blup"] == wanted).all(axis=0)
    assert same.tolist() == [True, False, False, True]


@pytest.mark.parametrize("storage", [np.asarray, sparse.csr_matrix])
def test_storages_and_seeds(storage):
    wanted, other = make(), make(storage=storage)
    other["rna"].X = sparse.csr_matrix(other["rna"].X)
    for mdata in (wanted, other):
        ol.tl.twas(mdata, model=["enet", "bslmm"], window=1000, n_iter=40)
    for m in ("enet", "bslmm"):
        np.testing.assert_array_equal(
            wanted["rna"].layers[f"twas_{m}"], other["rna"].layers[f"twas_{m}"]
        )
    ol.tl.twas(other, model="bslmm", window=1000, n_iter=40, rng=1)
    assert (wanted["rna"].layers["twas_bslmm"] != other["rna"].layers["twas_bslmm"]).any()


def test_copy_key_and_layer():
    mdata = make()
    before = {m: mdata[m].copy() for m in mdata.mod}
    out = ol.tl.twas(mdata, model="top1", window=1000, key_added="near", copy=True)
    for m in mdata.mod:
        same_object(mdata[m], before[m])
    assert "near_top1" in out["rna"].layers and "near_top1" in out["geno"].varm
    mdata["rna"].layers["double"] = 2 * mdata["rna"].X
    ol.tl.twas(mdata, model="top1", window=1000, layer="double")
    twice = mdata["rna"].layers["twas_top1"]
    np.testing.assert_allclose(twice, 2 * out["rna"].layers["near_top1"], rtol=1e-5)


def test_windows_people_and_order():
    mdata = make()
    wanted = ol.tl.twas(mdata, model="blup", window=1000, copy=True)
    ol.pp.gene_windows(mdata, mod="rna", upstream=500, downstream=500)
    ol.tl.twas(mdata, model="blup")
    np.testing.assert_array_equal(
        mdata["rna"].layers["twas_blup"], wanted["rna"].layers["twas_blup"]
    )
    order = np.random.default_rng(0).permutation(120)
    geno = mdata["geno"][order, ::-1].copy()
    shuffled = md.MuData({"rna": make()["rna"][:, :2].copy(), "geno": geno})
    ol.tl.twas(shuffled, model="blup", window=1000)
    np.testing.assert_allclose(
        shuffled["rna"].layers["twas_blup"], wanted["rna"].layers["twas_blup"][:, :2], atol=1e-5
    )
    nowhere = make()
    nowhere["rna"].var = nowhere["rna"].var[[]]
    ol.tl.twas(nowhere, model="blup")
    assert nowhere["rna"].var["twas_n_variants"].tolist() == [58] * 4
    ol.tl.twas(nowhere, model="blup", variants="all")
    assert nowhere["rna"].var["twas_n_variants"].tolist() == [59] * 4


def test_missing_genotypes_are_filled_with_the_mean():
    mdata = make()
    geno = mdata["geno"]
    hap = geno.X.toarray()
    first, second = (hap > 0).astype(np.int8), (hap > 1).astype(np.int8)
    gone = np.random.default_rng(0).random(hap.shape) < 0.1
    first[gone] = second[gone] = -1
    hap[gone] = 0
    geno.X = sparse.csc_matrix(hap)
    geno.layers["hap1"], geno.layers["hap2"] = sparse.csc_matrix(first), sparse.csc_matrix(second)
    ol.tl.twas(mdata, model="top1", window=1000)
    W = geno.varm["twas_top1"].toarray()[:, 0]
    at = int(np.flatnonzero(W)[0])
    assert at == 3
    train = (mdata["rna"].obs["split"] == "train").to_numpy()
    filled = hap[:, 3].astype(float)
    filled[gone[:, 3]] = filled[train & ~gone[:, 3]].mean()
    slope, intercept = np.polyfit(filled[train], mdata["rna"].X[train, 0], 1)
    assert W[3] == pytest.approx(slope, rel=1e-4)
    np.testing.assert_allclose(
        mdata["rna"].layers["twas_top1"][:, 0], intercept + slope * filled, rtol=1e-4
    )


def test_missing_expression_and_genes_without_variants():
    mdata = make()
    mdata["rna"].X[:30, 0] = np.nan
    mdata["rna"].var["tss"] = [510, 1200, 1500, 900_000]
    ol.tl.twas(mdata, model=["enet", "blup"], window=1000)
    rna = mdata["rna"]
    assert np.isfinite(rna.layers["twas_enet"]).all()
    train = (rna.obs["split"] == "train").to_numpy()
    np.testing.assert_allclose(rna.layers["twas_enet"][:, 3], rna.X[train, 3].mean(), rtol=1e-5)
    assert np.isnan(rna.var["twas_enet_pearson"].iloc[3])
    assert rna.uns["twas"]["summary"]["n_constant"].tolist() == [1, 1]


def test_bad_input():
    mdata = make()
    untouched = mdata["rna"].copy()
    alone = md.MuData({"rna": mdata["rna"], "geno": mdata["geno"][:100].copy()})
    with pytest.raises(ValueError, match="20 of 120 people in .*'p100'.*intersection"):
        ol.tl.twas(alone)
    other = make()
    other["rna"].var["chrom"] = "chr" + other["rna"].var["chrom"]
    with pytest.raises(KeyError, match="'chrc' is not in .*Did you mean 'c'"):
        ol.tl.twas(other)
    unsplit = make()
    del unsplit["rna"].obs["split"]
    with pytest.raises(KeyError, match="'split' is not in obs and layers.*ol.pp.split"):
        ol.tl.twas(unsplit)
    unsplit["rna"].obs["split"] = "a"
    with pytest.raises(ValueError, match="nobody in 'train' .there: 'a'"):
        ol.tl.twas(unsplit)
    few = make()
    few["rna"].obs["split"] = np.where(np.arange(120) < 10, "train", "test")
    with pytest.raises(ValueError, match="4 of 4 genes have fewer than 20 training people"):
        ol.tl.twas(few)
    with pytest.raises(ValueError, match="model must be one of"):
        ol.tl.twas(mdata, model="svm")
    with pytest.raises(KeyError, match="'dna' is not in mdata.mod"):
        ol.tl.twas(mdata, geno="dna")
    with pytest.raises(ValueError, match="min_af"):
        ol.tl.twas(mdata, min_af=0.7)
    same_object(mdata["rna"], untouched)


@installed("cyvcf2")
def test_real_locus(data_dir):
    folder = data_dir / "genome" / "comt"
    frame = pd.read_csv(folder / "geuvadis_expression.csv").set_index("sample")
    rna = ad.AnnData(frame.astype(np.float32))
    geno = ol.io.read_vcf(folder / "comt.vcf.gz", samples=list(frame.index))
    mdata = md.MuData({"rna": rna, "geno": geno})
    fold = np.random.default_rng(0).permutation(np.arange(358) % 5)
    r = {m: np.zeros((5, 2)) for m in FOUR}
    for k in range(5):
        rna.obs["split"] = np.where(fold == k, "test", "train")
        ol.tl.twas(mdata, model=FOUR)
        for m in FOUR:
            r[m][k] = np.nan_to_num(rna.var[f"twas_{m}_pearson"])
    for m, least in (("top1", 0.2), ("blup", 0.18), ("enet", 0.17), ("lasso", 0.15)):
        comt, txnrd2 = r[m].mean(axis=0)
        assert comt > least and abs(txnrd2) < 0.16, m


def test_several_windows(tmp_path):
    mdata = make(200)
    before = {m: slots(mdata[m]) for m in mdata.mod}
    # The variant that P follows lies 109 bases off its start; Q's 1, R's 1.
    ol.tl.twas(mdata, model=["top1", "blup"], window=[2000, 100, 1000])
    rna = mdata["rna"]
    for m in mdata.mod:
        only_declared_written(before[m], mdata[m], "tl.twas")
        round_trip(mdata[m], tmp_path)
    table = ol.get.table(mdata, "twas", table="windows", mod="rna")
    assert len(table) == 4 * 2 * 3 and (table.groupby(["gene", "model"])["chosen"].sum() == 1).all()
    best = table.loc[table.groupby(["gene", "model"])["cv_pearson"].idxmax()]
    assert best["chosen"].all(), "the choice is that of the folds"
    first = table[(table["gene"] == "P") & (table["model"] == "top1")].set_index("window")
    assert first.loc[1000, "cv_pearson"] > first.loc[100, "cv_pearson"] + 0.1
    assert (first["n_variants"].diff().dropna() > 0).all() and first.index.is_monotonic_increasing
    alone = {
        w: ol.tl.twas(mdata, model=["top1", "blup"], window=w, copy=True)["rna"]
        for w in (100, 1000, 2000)
    }
    for row in table[table["chosen"]].itertuples():
        g, one = "PQRS".index(row.gene), alone[row.window]
        assert rna.var[f"twas_{row.model}_window"].iloc[g] == row.window
        np.testing.assert_allclose(
            rna.layers[f"twas_{row.model}"][:, g], one.layers[f"twas_{row.model}"][:, g], atol=1e-5
        )
        r = one.var[f"twas_{row.model}_pearson"].iloc[g]
        np.testing.assert_allclose(row.pearson, r, atol=1e-5)
    assert rna.var["twas_n_variants"].tolist() == [14, 18, 20, 15], "of the longest window"
    # What test people express has no part in the choice.
    other = make(200)
    test = (other["rna"].obs["split"] == "test").to_numpy()
    other["rna"].X[test] = 99 - 7 * other["rna"].X[test]
    ol.tl.twas(other, model=["top1", "blup"], window=[2000, 100, 1000])
    for m in ("top1", "blup"):
        np.testing.assert_array_equal(other["rna"].layers[f"twas_{m}"], rna.layers[f"twas_{m}"])
    assert (
        "twas_blup_window"
        not in ol.tl.twas(make(), model="blup", window=[900], copy=True)["rna"].var
    )
    with pytest.raises(ValueError, match="whole number"):
        ol.tl.twas(make(), window=[100, -1])
    with pytest.raises(ValueError, match="no length"):
        ol.tl.twas(make(), window=[])
    with pytest.raises(KeyError, match="'windows' is not in the tables of 'twas'.*of window"):
        ol.get.table(ol.tl.twas(make(), window=1000, copy=True), "twas", table="windows", mod="rna")
    with pytest.raises(KeyError, match="'nothing' is not in mdata..rna...uns"):
        ol.get.table(mdata, "nothing", mod="rna")


def of_sexes(style, chrom="X", n=160, men="half", seed=0):
    """One gene that follows a variant; men have one allele, which acts as much as two."""
    rng = np.random.default_rng(seed)
    male = np.ones(n, bool) if men == "all" else np.arange(n) % 2 == 0
    first, second = (rng.random((n, 3)) < 0.4 for _ in range(2))
    second[male] = first[male]
    y = first[:, 1].astype(float) + second[:, 1] + rng.normal(0, 0.5, n)
    hap = [sparse.csc_matrix(h.astype(np.int8)) for h in (first, second)]
    X = (hap[0] + hap[1]).tocsc()
    if style != "diploid":
        of_men = np.where(male[:, None], -1, second.astype(np.int8)).astype(np.int8)
        hap[1] = sparse.csc_matrix(of_men)
        X = sparse.csc_matrix(np.where(male[:, None], first, X.toarray()).astype(np.int8))
    names = [f"p{i}" for i in range(n)]
    var = pd.DataFrame(
        {
            "chrom": chrom,
            "pos": [900, 1000, 1100],
            "ref": "A",
            "alt": "G",
            "id": ["rs1", "rs2", "rs3"],
        }
    )
    var.index = var["id"].to_numpy()
    geno = ad.AnnData(X, obs=pd.DataFrame(index=names), var=var)
    geno.layers["hap1"], geno.layers["hap2"] = hap
    if style == "haploid":  # as `read_vcf` writes; "bare" is an object without this layer
        geno.layers["haploid"] = sparse.csc_matrix(np.repeat(male[:, None], 3, 1).astype(np.int8))
    rna = ad.AnnData(
        y[:, None].astype(np.float32),
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame({"chrom": chrom, "tss": [1000]}, index=["G"]),
    )
    rna.obs["split"] = np.where(np.arange(n) % 5, "train", "test")
    return md.MuData({"rna": rna, "geno": geno}), male, first, second


WEIGHTS = pd.DataFrame(
    {
        "gene": ["G", "G"],
        "variant": ["rs2", "rs3"],
        "effect_allele": "G",
        "other_allele": "A",
        "weight": [0.7, -0.3],
    }
)
USES = {
    "fitted": {"model": [*FOUR, "bslmm"], "window": 1000, "n_iter": 60},
    "published": {"weights": WEIGHTS},
    "windows": {"model": "enet", "window": [500, 2000]},
}


@pytest.mark.parametrize("men", ["half", "all"])
@pytest.mark.parametrize("style", ["haploid", "bare"])
@pytest.mark.parametrize("use", USES)
def test_haploid_calls_are_as_diploid_ones(use, style, men):
    """0/2: a man with one G is as a person with two, whatever the file writes."""
    (one, _, first, second), (other, *_) = of_sexes(style, men=men), of_sexes("diploid", men=men)
    for mdata in (one, other):
        ol.tl.twas(mdata, **USES[use])
    a, b = one["rna"], other["rna"]
    assert set(a.layers) == set(b.layers) and len(a.layers)
    for key in a.layers:
        np.testing.assert_allclose(a.layers[key], b.layers[key], atol=1e-5)
    pd.testing.assert_frame_equal(a.var, b.var, rtol=1e-4)
    if use == "published":
        D = first.astype(float) + second
        wanted = D @ [0, 0.7, -0.3]
        np.testing.assert_allclose(a.layers["twas_enet"][:, 0], wanted - wanted.mean(), atol=1e-5)
    else:
        assert a.var["twas_n_variants" if use != "windows" else "twas_enet_pearson"].iloc[0] > 0.5


@pytest.mark.parametrize("chrom", ["Y", "MT"])
def test_haploid_calls_counted_once(chrom):
    """0/1: effects of a cohort of men are twice those of 0/2, predictions are the same."""
    mdata, *_ = of_sexes("haploid", chrom=chrom, men="all")
    ol.tl.twas(mdata, model=["top1", "blup"], window=1000, key_added="double")
    ol.tl.twas(mdata, model=["top1", "blup"], window=1000, haploid="single", key_added="single")
    for m in ("top1", "blup"):
        double, single = (mdata["geno"].varm[f"{k}_{m}"].toarray() for k in ("double", "single"))
        np.testing.assert_allclose(single, 2 * double, atol=1e-5)
        np.testing.assert_allclose(
            mdata["rna"].layers[f"single_{m}"], mdata["rna"].layers[f"double_{m}"], atol=1e-4
        )
    with pytest.raises(ValueError, match="haploid must be one of 'double', 'single'"):
        ol.tl.twas(mdata, haploid="0/2")


@pytest.mark.parametrize("how", ["double", "single"])
def test_frequencies_take_a_haploid_call_as_one_allele(how):
    """A variant of which men alone have the other allele: 20 of 100 + 2 * 100 alleles."""
    mdata, male, *_ = of_sexes("haploid", n=200)
    mdata["rna"].obs["split"] = "train"
    G = np.zeros((200, 3), np.int8)
    G[np.flatnonzero(male)[:20], 1] = 1
    geno = mdata["geno"]
    geno.X, geno.layers["hap1"] = sparse.csc_matrix(G), sparse.csc_matrix(G)
    geno.layers["hap2"] = sparse.csc_matrix(
        np.where(male[:, None], -1, 0).astype(np.int8) * np.ones((1, 3), np.int8)
    )
    for af, n in ((20 / 300 - 0.001, 1), (20 / 300 + 0.001, 0)):
        ol.tl.twas(mdata, model="top1", window=1000, min_af=af, haploid=how)
        assert mdata["rna"].var["twas_n_variants"].tolist() == [n]


@pytest.mark.parametrize("use", ["fitted", "published"])
def test_dosages_take_the_place_of_genotypes(use):
    """Whole dosages give what genotypes give; NaN is missing."""
    genotypes, _, first, second = of_sexes("diploid")
    dosages, *_ = of_sexes("diploid")
    D = (first.astype(np.float32) + second).astype(np.float32)
    D[[3, 8], 1] = np.nan
    names = dosages["geno"].obs_names
    dosages.mod["geno"] = ad.AnnData(
        sparse.csc_matrix(D), obs=pd.DataFrame(index=names), var=dosages["geno"].var
    )
    for layer in ("hap1", "hap2"):
        values = genotypes["geno"].layers[layer].toarray()
        values[[3, 8], 1] = -1
        genotypes["geno"].layers[layer] = sparse.csc_matrix(values)
    for mdata in (genotypes, dosages):
        ol.tl.twas(mdata, **USES[use])
    for key in genotypes["rna"].layers:
        np.testing.assert_allclose(
            dosages["rna"].layers[key], genotypes["rna"].layers[key], atol=1e-5
        )
    assert np.isnan(dosages["geno"].X.toarray()).sum() == 2, "the object is as it was"
