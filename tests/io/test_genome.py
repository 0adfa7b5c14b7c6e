"""`ol.io.read_vcf`."""

import gzip

import numpy as np
import pytest
from helpers import round_trip
from made_genome import installed, write_vcf

import omicllm as ol

pytestmark = installed("cyvcf2")
PEOPLE = ["p1", "p2", "p3"]
RECORDS = [
    ("c", 5, "A", "G", ["0|0", "0|1", "1|1"]),
    ("c", 7, "AT", "A,ATT", ["1|2", "2|0", ".|."]),
    ("c", 9, "G", "T", ["0/1", "1/1", "0/0"]),
    ("c", 9, "G", "T", ["0|0", ".|1", "./1"]),
    ("d", 2, "C", "<DEL>", ["0|1", "1", "0"]),
]


@pytest.fixture
def vcf(tmp_path):
    return write_vcf(tmp_path / "a.vcf", RECORDS, PEOPLE, ("c", "d"))


def packed(path):
    import pysam

    out = path.with_suffix(".vcf.gz")
    pysam.tabix_compress(str(path), str(out), force=True)
    return out


def test_values(vcf, tmp_path):
    geno = ol.io.read_vcf(vcf)
    assert list(geno.obs_names) == PEOPLE
    assert list(geno.var_names) == [
        "c:5:A:G", "c:7:AT:A,ATT", "c:9:G:T", "c:9:G:T-2", "d:2:C:<DEL>",
    ]  # fmt: skip
    np.testing.assert_array_equal(
        geno.layers["hap1"].toarray(), [[0, 1, 0, 0, 0], [0, 2, 1, -1, 1], [1, -1, 0, -1, 0]]
    )
    np.testing.assert_array_equal(
        geno.layers["hap2"].toarray(), [[0, 2, 1, 0, 1], [1, 0, 1, 1, -1], [1, -1, 0, 1, -1]]
    )
    np.testing.assert_array_equal(
        geno.X.toarray(), [[0, 2, 1, 0, 1], [1, 1, 2, 1, 1], [2, 0, 0, 1, 0]]
    )
    np.testing.assert_array_equal(
        geno.layers["unphased"].toarray(), [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    )
    assert geno.var["pos"].tolist() == [5, 7, 9, 9, 2]
    assert geno.var["chrom"].tolist() == ["c"] * 4 + ["d"]
    assert geno.var["id"].tolist() == ["rs5", "rs7", "rs9", "rs9", "rs2"]
    np.testing.assert_allclose(geno.var["af"], [3 / 6, 3 / 4, 3 / 6, 2 / 4, 2 / 4])
    assert geno.var["n_missing"].tolist() == [0, 1, 0, 2, 2]
    assert geno.var["n_unphased"].tolist() == [0, 0, 1, 1, 0]
    for X in (geno.X, *geno.layers.values()):
        assert X.format == "csc" and X.dtype == np.int8
    round_trip(geno, tmp_path)


def test_samples_in_the_order_asked(vcf):
    whole = ol.io.read_vcf(vcf)
    some = ol.io.read_vcf(vcf, samples=["p3", "p1"])
    assert list(some.obs_names) == ["p3", "p1"]
    wanted = whole[["p3", "p1"]].layers["hap2"].toarray()
    np.testing.assert_array_equal(some.layers["hap2"].toarray(), wanted)
    with pytest.raises(KeyError, match="1 of 2 people are not in the VCF .*'p9'.*'p1'"):
        ol.io.read_vcf(vcf, samples=["p1", "p9"])


@installed("pysam")
def test_region(vcf):
    import pysam

    path = packed(vcf)
    with pytest.raises(ValueError, match="needs an index beside a.vcf.gz: tabix -p vcf"):
        ol.io.read_vcf(path, region="c")
    pysam.tabix_index(str(path), preset="vcf")
    assert ol.io.read_vcf(path, region="c:8-9").var["pos"].tolist() == [7, 9, 9]
    assert ol.io.read_vcf(path, region="d").n_vars == 1
    with pytest.raises(KeyError, match="'chrc' is not in .*Did you mean 'c'"):
        ol.io.read_vcf(path, region="chrc:1-10")


@installed("pysam")
def test_damaged_files(vcf, tmp_path):
    path = packed(vcf)
    whole = path.read_bytes()
    path.write_bytes(whole[:-28])
    with pytest.raises(ValueError, match="truncated"):
        ol.io.read_vcf(path)
    with pytest.raises(FileNotFoundError, match="no VCF file"):
        ol.io.read_vcf(tmp_path / "none.vcf")
    (tmp_path / "text.vcf").write_text("hello\n")
    with pytest.raises(ValueError, match="could not be read as VCF"):
        ol.io.read_vcf(tmp_path / "text.vcf")
    plain = tmp_path / "plain.vcf.gz"
    plain.write_bytes(gzip.compress(vcf.read_bytes()))
    with pytest.raises(ValueError, match="packed with bgzip, not gzip"):
        ol.io.read_vcf(plain, region="c")


def test_more_than_two_alleles_per_person(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", [("c", 5, "A", "G", ["0|0|1"])], ["p"])
    with pytest.raises(ValueError, match="c:5 has 3 alleles per person"):
        ol.io.read_vcf(path)


def test_real_locus(data_dir):
    geno = ol.io.read_vcf(data_dir / "genome" / "comt" / "comt.vcf.gz")
    assert geno.shape == (433, 479)
    assert geno.var["n_unphased"].sum() == geno.var["n_missing"].sum() == 0
    assert (geno.var["alt"].str.contains(",")).sum() == 6
    dosage = (geno.layers["hap1"].toarray() > 0) + (geno.layers["hap2"].toarray() > 0).astype(int)
    np.testing.assert_array_equal(geno.X.toarray(), dosage)


def test_sites_without_people(data_dir):
    sites = ol.io.read_vcf(data_dir / "genome" / "chr20_1Mb.sites.vcf.gz")
    assert sites.shape == (0, 28998)
