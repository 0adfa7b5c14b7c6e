"""`ol.io.read_twas_weights` and published weights in `ol.tl.twas`."""

import base64
import sqlite3

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from made_genome import installed
from scipy import sparse

import omicllm as ol
from omicllm.genome.expression_weights import gene_of, orientation

RDAT = (
    "H4sIAAAAAAAAAwtyiTDmiuBiYGBgZmBhYmJgZgUyGVhDQ9x0LRiAIkAOIwMLAyeQ5ipPL9HLTSwpyqxgYGDiA4pw"
    "2O+cCQKz7E9C6cvGYGB/E8JngAL7Bww4AIoNzCmZuUCKF4hBwiwQGkUJB1BJXmJuajGQLQxVJwBWCzWiqNgQwTRC"
    "MI0RTBOoHiaoEEtSTmkBjF2SX2AIpP+h2ctSnFcAtJMZZCcb1I0g94mhYXLcwgc1ixCA2sn8Ekj5AvFGYESJotnJ"
    "6AhjuMMYITCGM7padwxNjghNqP5nhQW6ADgAIIJMYYZwlhGcZQxnmcBZpnCWGbrByTmJxTCD4UktJbEkUS+tCGgn"
    "mnLOovxyPZhbwAmlAUj8////D5ZI40su0ytILUrLL8pNzEtOhaZaFvuV0NTaUvXQfZ1Itf0SKD0FQkNMYfqPlBSZ"
    "EEmR+T9a0mNCxGYhLLUUlCXmkJHKmDOARkASBBM8T62E5SUUpWxApXoFZVDVjPZSZo9eyzjrooeun15JfglMkUNp"
    "Aywt/QMA9ChdZfkDAAA="
)


@pytest.fixture
def rdat(tmp_path):
    """A file as FUSION writes it (by R 4.2): 4 variants, models blup and top1 (z scores)."""
    path = tmp_path / "Blood.GENE1.wgt.RDat"
    path.write_bytes(base64.b64decode(RDAT))
    return path


def cohort(n=80, seed=0, split=True):
    """One gene; six variants, of which rs2 is on the other strand and rs6 has other alleles."""
    rng = np.random.default_rng(seed)
    D = rng.binomial(2, 0.4, size=(n, 6)).astype(np.int8)
    var = pd.DataFrame({
        "chrom": "chr22", "pos": [1001, 1101, 1201, 1301, 1401, 1501],
        "ref": list("GTTCAA"), "alt": list("ACACGG"), "id": ["rs1", "rs2", ".", "x;rs4", "", "rs6"],
    }, index=[f"v{i}" for i in range(6)])  # fmt: skip
    var.loc["v3", ["ref", "alt"]] = ["C", "T"]
    geno = ad.AnnData(sparse.csc_matrix(D), var=var)
    rna = ad.AnnData(rng.normal(size=(n, 2)).astype(np.float32))
    rna.var_names = ["GENE1", "other"]
    rna.obs_names = geno.obs_names = [f"p{i}" for i in range(n)]
    if split:
        rna.obs["split"] = np.where(np.arange(n) < 50, "train", "test")
    return md.MuData({"rna": rna, "geno": geno}), D.astype(float)


@installed("rdata")
def test_reads_r_data(rdat):
    frame = ol.io.read_twas_weights(rdat)
    assert frame["gene"].unique().tolist() == ["GENE1"]
    blup, top1 = (frame[frame["model"] == m] for m in ("blup", "top1"))
    assert blup["variant"].tolist() == ["rs1", "rs2", "rs3", "rs4"]
    assert blup["weight"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert blup["effect_allele"].tolist() == list("AGTC")
    assert blup["other_allele"].tolist() == list("GAAT")
    assert blup["pos"].tolist() == [1001, 1101, 1201, 1301] and set(blup["chrom"]) == {"22"}
    assert top1[["variant", "weight"]].to_numpy().tolist() == [["rs2", 0.5]], "one variant"
    assert frame["standardized"].all()
    assert blup["cv_r2"].iloc[0] == 0.05 and top1["cv_pval"].iloc[0] == 0.02
    assert ol.io.read_twas_weights(rdat, gene="ENSG1")["gene"].iloc[0] == "ENSG1"
    table = rdat.parent / "some.pos"
    table.write_text(f"PANEL WGT ID CHR P0 P1\nB {rdat.name} MINE 22 1 2\n")
    assert ol.io.read_twas_weights(table)["gene"].unique().tolist() == ["MINE"]
    pd.testing.assert_frame_equal(ol.io.read_twas_weights(rdat.parent), frame)


def test_gene_in_a_file_name():
    assert gene_of("Whole_Blood.ENSG00000167633.12.wgt.RDat") == "ENSG00000167633.12"
    assert gene_of("YFS.BLOOD.RNAARRAY.ARHGAP11B.wgt.RDat") == "ARHGAP11B"


@pytest.mark.parametrize(
    "published,record,sign,strand,ambiguous",
    [
        (("A", "G"), ("G", "A"), 1, False, False),
        (("A", "G"), ("A", "G"), -1, False, False),
        (("T", "C"), ("G", "A"), 1, True, False),
        (("T", "C"), ("A", "G"), -1, True, False),
        (("A", "T"), ("T", "A"), 1, False, True),
        (("C", "G"), ("C", "G"), -1, False, True),
        (("AT", "A"), ("A", "AT"), 1, False, False),
        (("TA", "T"), ("A", "AT"), None, None, None),
        (("A", "C"), ("G", "A"), None, None, None),
    ],
)
def test_orientation_of_alleles(published, record, sign, strand, ambiguous):
    found = orientation(*published, *record)
    assert found == (None if sign is None else (sign, strand, ambiguous))


@installed("rdata")
def test_fusion_weights_are_per_standard_deviation(rdat, tmp_path):
    mdata, D = cohort()
    before = {m: slots(mdata[m]) for m in mdata.mod}
    assert ol.tl.twas(mdata, weights=ol.io.read_twas_weights(rdat)) is None
    rna, geno = mdata["rna"], mdata["geno"]
    for m in mdata.mod:
        only_declared_written(before[m], mdata[m], "tl.twas")
        round_trip(mdata[m], tmp_path)
    z = (D - D.mean(0)) / D.std(0)
    # rs1 as published; rs2 A,G is T,C of the other strand, counted allele G = C: alternate; rs3 is
    # T/A and left out; rs4 counts C, here the reference.
    wanted = 0.1 * z[:, 0] + 0.2 * z[:, 1] - 0.4 * z[:, 3]
    np.testing.assert_allclose(rna.layers["twas_blup"][:, 0], wanted, atol=1e-5)
    np.testing.assert_allclose(rna.layers["twas_top1"][:, 0], 0.5 * z[:, 1], atol=1e-5)
    assert not rna.layers["twas_blup"][:, 1].any()
    by_weights = geno.X @ geno.varm["twas_blup"].toarray()
    by_weights = by_weights + rna.var["twas_blup_intercept"].fillna(0).to_numpy()
    np.testing.assert_allclose(by_weights, rna.layers["twas_blup"], atol=1e-5)
    r = np.corrcoef(wanted[50:], rna.X[50:, 0])[0, 1]
    assert rna.var["twas_blup_pearson"].iloc[0] == pytest.approx(r, abs=1e-5)
    table = rna.uns["twas"]["weights"].set_index("model").loc["blup"]
    assert table[["n_published", "n_used", "n_ambiguous", "n_flipped", "n_strand"]].tolist() == [
        4, 3, 1, 1, 1,
    ]  # fmt: skip
    assert table["share_used"] == pytest.approx(0.7)
    assert rna.uns["twas"]["summary"]["n_genes"].tolist() == [1, 1], "genes with weights"
    pd.testing.assert_frame_equal(
        ol.get.table(mdata, "twas", table="weights", mod="rna"),
        rna.uns["twas"]["weights"].reset_index(drop=True),
    )
    kept = ol.tl.twas(mdata, weights=rdat, model="blup", ambiguous="keep", copy=True)
    np.testing.assert_allclose(
        kept["rna"].layers["twas_blup"][:, 0], wanted - 0.3 * z[:, 2], atol=1e-5
    )


def test_tables_and_data_bases(tmp_path):
    mdata, D = cohort(split=False)
    rows = [("GENE1.7", "rs1", "chr22_1001_G_A_b38", "G", "A", 0.5),
            ("GENE1.7", "rs9", "chr22_1401_A_G_b38", "A", "G", -1.0),
            ("GENE1.7", "rs6", "chr22_1501_A_C_b38", "A", "C", 2.0),
            ("GENE1.7", "rs8", "chr22_9999_A_C_b38", "A", "C", 2.0)]  # fmt: skip
    names = ["gene", "rsid", "varID", "ref_allele", "eff_allele", "weight"]
    frame = pd.DataFrame(rows, columns=names)
    frame.to_csv(tmp_path / "w.tsv.gz", sep="\t", index=False)
    connection = sqlite3.connect(tmp_path / "w.db")
    frame.to_sql("weights", connection, index=False)
    extra = pd.DataFrame({"gene": ["GENE1.7"], "genename": ["G"], "pred.perf.R2": [0.1]})
    extra.to_sql("extra", connection, index=False)
    connection.close()
    by_table = ol.io.read_twas_weights(tmp_path / "w.tsv.gz")
    by_base = ol.io.read_twas_weights(tmp_path / "w.db")
    assert by_base["cv_r2"].tolist() == [0.1] * 4 and by_table["cv_r2"].isna().all()
    columns = ["gene", "variant", "chrom", "pos", "effect_allele", "weight"]
    pd.testing.assert_frame_equal(by_table[columns], by_base[columns])
    odd = (tmp_path / "w.db").rename(tmp_path / "50% #1?.db")
    pd.testing.assert_frame_equal(ol.io.read_twas_weights(odd), by_base)
    mdata["rna"].var_names = ["GENE1.12", "other"]
    ol.tl.twas(mdata, weights=odd, key_added="predixcan")
    rna = mdata["rna"]
    wanted = 0.5 * D[:, 0] - D[:, 4]
    found = rna.layers["predixcan_enet"][:, 0]
    np.testing.assert_allclose(found, wanted - wanted.mean(), atol=1e-5)
    # Without a split everybody is compared: nobody here was trained on.
    r = np.corrcoef(wanted, rna.X[:, 0])[0, 1]
    assert rna.var["predixcan_enet_pearson"].iloc[0] == pytest.approx(r, abs=1e-5)
    table = rna.uns["predixcan"]["weights"].iloc[0]
    assert (table["n_used"], table["n_missing"], table["n_mismatch"]) == (2, 1, 1)


def test_bad_weights(tmp_path):
    mdata, _ = cohort()
    untouched = mdata["rna"].copy()
    good = pd.DataFrame({"gene": ["GENE1"], "variant": ["rs1"], "effect_allele": ["A"],
                         "other_allele": ["G"], "weight": [1.0]})  # fmt: skip
    with pytest.raises(KeyError, match="'effect_allele' is not in the columns of weights"):
        ol.tl.twas(mdata, weights=good.drop(columns="effect_allele"))
    with pytest.raises(ValueError, match="weights are of 1 genes .'X'., none of them in rna"):
        ol.tl.twas(mdata, weights=good.assign(gene="X"))
    with pytest.raises(ValueError, match="none of the 1 published variants.*1 absent"):
        ol.tl.twas(mdata, weights=good.assign(variant="rs0"))
    with pytest.raises(ValueError, match="model must be one of"):
        ol.tl.twas(mdata, weights=good, model="blup")
    with pytest.raises(ValueError, match="window= has no effect with weights="):
        ol.tl.twas(mdata, weights=good, window=1000)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ol.tl.twas(mdata, weights=good.assign(weight=np.nan))
    with pytest.raises(FileNotFoundError, match="There is no file"):
        ol.tl.twas(mdata, weights=tmp_path / "none.db")
    (tmp_path / "a.csv").write_text("gene,rsid,weight\nG,rs1,1\n")
    with pytest.raises(
        KeyError, match="'effect_allele' is not in the columns of a.csv.*'eff_allele'"
    ):
        ol.io.read_twas_weights(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("gene,rsid,eff_allele,ref_allele,weight\nG,rs1,A,G,oops\n")
    with pytest.raises(ValueError, match="1 weights that are no numbers"):
        ol.io.read_twas_weights(tmp_path / "b.csv")
    for words, flags in (("no", [False]), ("TRUE", [True]), ("0", [False]), ("yes", [True])):
        good.assign(standardized=words).to_csv(tmp_path / "c.csv", index=False)
        assert ol.io.read_twas_weights(tmp_path / "c.csv")["standardized"].tolist() == flags
    good.assign(standardized="often").to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(ValueError, match="standardized must be true or false.*'often'"):
        ol.io.read_twas_weights(tmp_path / "c.csv")
    same_object(mdata["rna"], untouched)


@installed("rdata")
def test_damaged_r_data(tmp_path):
    path = tmp_path / "a.wgt.RDat"
    path.write_bytes(base64.b64decode(RDAT)[:100])
    with pytest.raises(ValueError, match="could not be read as R data"):
        ol.io.read_twas_weights(path)


BY_PLACE = pd.DataFrame({
    "gene": "GENE1", "chrom": "22", "pos": [1001, 1101], "effect_allele": list("AC"),
    "other_allele": list("GT"), "weight": [1.0, -0.5],
})  # fmt: skip
#: The same weights as tables bring them.
CLOTHES = {
    "as they are": lambda t: t,
    "fractions": lambda t: t.astype({"chrom": float, "pos": float}),
    "whole numbers": lambda t: t.astype({"chrom": int}),
    "text": lambda t: t.astype(str),
    "categories": lambda t: t.astype({"gene": "category", "chrom": "category"}),
    "flags as text": lambda t: t.assign(standardized="False"),
    "a row without a place": lambda t: pd.concat([
        t, t.iloc[:1].assign(chrom=None, pos=np.nan, weight=9.0)
    ]),
    "numbers of rows twice": lambda t: t.set_axis([0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("clothes", CLOTHES)
def test_tables_of_weights_in_other_clothes(clothes):
    mdata, D = cohort()
    table = CLOTHES[clothes](BY_PLACE)
    before = table.copy(deep=True)
    ol.tl.twas(mdata, weights=table)
    pd.testing.assert_frame_equal(table, before)
    wanted = D[:, 0] - 0.5 * D[:, 1]
    got = mdata["rna"].layers["twas_enet"][:, 0]
    np.testing.assert_allclose(got, wanted - wanted.mean(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pos": [1001.5, 1101]}, ValueError, "Positions must be whole numbers in weights"),
        ({"weight": ["1", "x"]}, ValueError, "weights hold values that are NaN"),
        ({"standardized": "perhaps"}, ValueError, "standardized must be true or false"),
        (None, TypeError, "weights must be a DataFrame or a path, not list"),
    ],
)
def test_tables_of_weights_that_cannot_be(change, error, message):
    mdata, _ = cohort()
    weights = ["a"] if change is None else BY_PLACE.assign(**change)
    with pytest.raises(error, match=message):
        ol.tl.twas(mdata, weights=weights)
