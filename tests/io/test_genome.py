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
    assert geno.var["n_missing"].tolist() == [0, 1, 0, 2, 0], "haploid calls are calls"
    np.testing.assert_array_equal(
        geno.layers["haploid"].toarray(), [[0] * 5, [0] * 4 + [1], [0] * 4 + [1]]
    )
    assert geno.var["n_unphased"].tolist() == [0, 0, 1, 1, 0]
    for X in (geno.X, *geno.layers.values()):
        assert X.format == "csc" and X.dtype == np.int8
    round_trip(geno, tmp_path)


CALLS = {
    "autosome": ["0|0", "0|1", "1|1", "1|0", "0|0", "1|1"],
    "X, women and men": ["0|1", "1", "1|1", "0", "0|0", "1"],
    "X, men only": ["1", "0", "1", "1", "0", "1"],
    "X, some missing": ["0|1", ".", "./.", "0", ".|.", "1"],
    "half calls": ["0|1", "1/.", "./1", "0/.", ".|0", "1"],
    "MT": ["0", "0", "1", ".", "1", "0"],
    "nobody": [".", "./.", ".|.", ".", ".", "."],
    "several alternates": ["2", "1|2", "0|2", "1", ".", "2|2"],
}


def counted_by_hand(calls):
    """Alleles that are not the reference, alleles called, people without a whole call."""
    alleles = [c.replace("|", "/").split("/") for c in calls]
    carried = [sum(a not in "0." for a in one) for one in alleles]
    called = sum(a != "." for one in alleles for a in one)
    return carried, called, sum("." in one for one in alleles)


@pytest.mark.parametrize("kind", CALLS)
def test_haploid_calls_are_calls(tmp_path, kind):
    calls = CALLS[kind]
    people = [f"p{i}" for i in range(len(calls))]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", [("c", 5, "A", "G,T", calls)], people))
    carried, called, missing = counted_by_hand(calls)
    np.testing.assert_array_equal(geno.X.toarray().ravel(), carried)
    assert geno.var["n_missing"].tolist() == [missing]
    wanted = sum(carried) / called if called else np.nan
    np.testing.assert_allclose(geno.var["af"], [wanted])
    single = [len(c) == 1 and c != "." for c in calls]
    np.testing.assert_array_equal(geno.layers["haploid"].toarray().ravel(), single)
    assert (geno.layers["hap2"].toarray().ravel()[single] == -1).all()


@installed("pysam")
def test_frequencies_are_those_of_bcftools(tmp_path):
    import pysam.bcftools

    people = [f"p{i}" for i in range(6)]
    records = [
        ("c", 5 + i, "A", "G", [x.replace("2", "1") for x in c])
        for i, c in enumerate(CALLS.values())
    ]
    path = packed(write_vcf(tmp_path / "a.vcf", records, people))
    pysam.tabix_index(str(path), preset="vcf")
    # Choosing samples makes bcftools count alleles.
    text = pysam.bcftools.view("-H", "-s", ",".join(people), str(path))
    info = [
        dict(f.split("=") for f in line.split("\t")[7].split(";")) for line in text.splitlines()
    ]
    wanted = [int(f["AC"]) / int(f["AN"]) if int(f["AN"]) else np.nan for f in info]
    np.testing.assert_allclose(ol.io.read_vcf(path).var["af"], wanted)


def write_fields(path, formats, records, people):
    """A VCF whose records are (pos, ref, alt, names of fields, values)."""
    text = "##fileformat=VCFv4.2\n##contig=<ID=c,length=99999>\n"
    for name, number in formats.items():
        kind = "String" if name == "GT" else "Float"
        text += f'##FORMAT=<ID={name},Number={number},Type={kind},Description="made up">\n'
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t" + "\t".join(people) + "\n"
    for pos, ref, alt, names, values in records:
        text += "\t".join(["c", str(pos), ".", ref, alt, ".", ".", ".", names, *values]) + "\n"
    path.write_text(text)
    return path


FORMATS = {"GT": 1, "DS": "A", "GP": "G", "HDS": "."}
DOSAGES = {
    # field: values of four people, dosages, haploid
    "DS": (["0.25", "1.5", ".", "2"], [0.25, 1.5, np.nan, 2], [0, 0, 0, 0]),
    "GP": (["0.5,0.25,0.25", "0.1,0.9", ".", "0,0,1"], [0.75, 0.9, np.nan, 2], [0, 1, 0, 0]),
    "HDS": (["0.1,0.7", "0.9", ".", "1,1"], [0.8, 0.9, np.nan, 2], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("field", DOSAGES)
def test_dosages(tmp_path, field):
    people = ["a", "b", "c", "d"]
    values, wanted, haploid = DOSAGES[field]
    path = write_fields(tmp_path / "a.vcf", FORMATS, [(5, "A", "G", field, values)], people)
    with pytest.raises(ValueError, match=f"c:5 has no GT field .there: '{field}'.*field='{field}'"):
        ol.io.read_vcf(path)
    geno = ol.io.read_vcf(path, field=field)
    np.testing.assert_allclose(geno.X.toarray().ravel(), wanted, rtol=1e-6)
    assert geno.X.dtype == np.float32 and list(geno.layers) == ["haploid"]
    np.testing.assert_array_equal(geno.layers["haploid"].toarray().ravel(), haploid)
    assert geno.var["n_missing"].tolist() == [1]
    alleles = 2 * 3 - sum(haploid)
    np.testing.assert_allclose(geno.var["af"], np.nansum(wanted) / alleles, rtol=1e-6)
    round_trip(geno, tmp_path)
    some = ol.io.read_vcf(path, field=field, samples=["d", "b"])
    np.testing.assert_allclose(some.X.toarray().ravel(), [wanted[3], wanted[1]], rtol=1e-6)


def test_dosages_of_several_alternates_and_odd_ones(tmp_path):
    people = ["a", "b"]
    several = [
        (5, "A", "G,T", "DS", ["0.5,0.25", "1,1"]),
        # 0/0, 0/1, 1/1, 0/2, 1/2, 2/2: alleles that are not the reference 0, 1, 2, 1, 2, 2
        (6, "A", "G,T", "DS:GP", ["0,0:0.5,0.25,0,0.125,0.0625,0.0625", "0,0:0,0,0,0,1,0"]),
    ]
    path = write_fields(tmp_path / "a.vcf", FORMATS, several, people)
    np.testing.assert_allclose(ol.io.read_vcf(path, field="DS").X.toarray(), [[0.75, 0], [2, 0]])
    with pytest.raises(ValueError, match="c:5 has no GP field .there: 'DS'"):
        ol.io.read_vcf(path, field="GP")
    path = write_fields(tmp_path / "b.vcf", FORMATS, several[1:], people)
    np.testing.assert_allclose(
        ol.io.read_vcf(path, field="GP").X.toarray().ravel(), [0.375 + 2 * 0.125, 2]
    )
    for values, message in (
        (["3", "0"], "a dosage of 3 in DS"),
        (["-1", "0"], "a dosage of -1 in DS"),
        (["1,1", "0"], "a wrong number of values in DS"),
    ):
        odd = write_fields(tmp_path / "c.vcf", FORMATS, [(7, "A", "G", "DS", values)], people)
        with pytest.raises(ValueError, match=f"c:7 has {message}"):
            ol.io.read_vcf(odd, field="DS")
    with pytest.raises(ValueError, match="field must be one of"):
        ol.io.read_vcf(path, field="PL")


def test_records_of_which_some_lack_gt(tmp_path):
    records = [(5, "A", "G", "GT", ["0|1"]), (9, "A", "G", "GP:DS", ["1,0,0:0.5"])]
    path = write_fields(tmp_path / "a.vcf", FORMATS, records, ["a"])
    with pytest.raises(ValueError, match=r"c:9 has no GT field \(there: 'GP', 'DS'\)"):
        ol.io.read_vcf(path)
    bare = write_fields(tmp_path / "b.vcf", FORMATS, [(5, "A", "G", ".", ["."])], ["a"])
    with pytest.raises(ValueError, match=r"c:5 has no GT field \(there: none\)"):
        ol.io.read_vcf(bare)


def test_allele_numbers(tmp_path):
    alts = ",".join("A" + "C" * i for i in range(1, 210))
    path = write_vcf(tmp_path / "a.vcf", [("c", 5, "A", alts, ["0|150", "127|200", ".|."])], PEOPLE)
    geno = ol.io.read_vcf(path)
    np.testing.assert_array_equal(geno.layers["hap1"].toarray().ravel(), [0, 127, -1])
    np.testing.assert_array_equal(geno.layers["hap2"].toarray().ravel(), [150, 200, -1])
    assert geno.var["n_missing"].tolist() == [1]
    np.testing.assert_array_equal(geno.X.toarray().ravel(), [1, 2, 0])
    for alt, call in (("G", "0|7"), (".", "1|0"), ("G,T", "3")):
        odd = write_vcf(tmp_path / "b.vcf", [("c", 5, "A", alt, [call] * 3)], PEOPLE)
        with pytest.raises(ValueError, match=f"c:5 has a genotype with allele {max(call)}, but"):
            ol.io.read_vcf(odd)


def test_records_given_twice_are_named(tmp_path, caplog):
    records = [
        ("c", 5, "A", "G", ["0|1"]),
        ("c", 5, "a", "g", ["1|1"]),
        ("c", 5, "A", "T", ["0|0"]),
    ]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", records, ["p"]))
    assert list(geno.var_names) == ["c:5:A:G", "c:5:A:G-2", "c:5:A:T"]
    assert "1 records are given more than once ('c:5:A:G-2')" in caplog.text


LINES = {
    "text": ("c\tabc\t.\tA\tG\t.\t.\t.\tGT\t0|1\t0|0", "line 6: the position .POS. is 'abc'"),
    "negative": ("c\t-5\t.\tA\tG\t.\t.\t.\tGT\t0|1\t0|0", "line 6: the position .POS. is '-5'"),
    "fraction": ("c\t4.5\t.\tA\tG\t.\t.\t.\tGT\t0|1\t0|0", "line 6: the position .POS. is '4.5'"),
    "columns": ("c\t9\t.\tA\tG\t.\t.\t.\tGT\t0|1", "line 6: it has 10 columns, the header 11"),
    "genotype": ("c\t9\t.\tA\tG\t.\t.\t.\tGT\ta|b\t0|0", "line 6: it could not be read as VCF"),
}


@pytest.mark.parametrize("packed_with", ["nothing", "gzip"])
@pytest.mark.parametrize("kind", LINES)
def test_lines_that_are_no_records(tmp_path, kind, packed_with):
    path = write_vcf(tmp_path / "a.vcf", [("c", 3, "A", "G", ["0|1", "0|0"])], ["p", "q"])
    line, message = LINES[kind]
    text = path.read_text() + line + "\nc\t20\t.\tA\tG\t.\t.\t.\tGT\t0|1\t0|0\n"
    path.write_bytes(text.encode() if packed_with == "nothing" else gzip.compress(text.encode()))
    with pytest.raises(ValueError, match=f"a.vcf, {message}"):
        ol.io.read_vcf(path)
    cut = write_vcf(tmp_path / "cut.vcf", [("c", 3, "A", "G", ["0|1"] * 3)], PEOPLE)
    cut.write_text(cut.read_text()[:-8])
    with pytest.raises(ValueError, match="cut.vcf is truncated"):
        ol.io.read_vcf(cut)


def test_names_of_people_stay_text(tmp_path):
    people = ["007", "7", "P1.batch.1", "NA", "1e5"]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", [("c", 3, "A", "G", ["0|1"] * 5)], people))
    assert list(geno.obs_names) == people
    twice = write_vcf(tmp_path / "b.vcf", [("c", 3, "A", "G", ["0|1"] * 2)], ["p", "p"])
    with pytest.raises(ValueError, match="people twice: 'p'"):
        ol.io.read_vcf(twice)


def test_spelling_of_alleles(tmp_path):
    records = [
        ("c", 3, "a", "g", ["0|1"]),
        ("c", 5, "A", ".", ["0|0"]),
        ("c", 7, "g", "g]chrUn_a:9],<del>,*", ["1|3"]),
    ]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", records, ["p"]))
    assert geno.var["ref"].tolist() == ["A", "A", "G"]
    assert geno.var["alt"].tolist() == ["G", "", "g]chrUn_a:9],<del>,*"]
    np.testing.assert_array_equal(geno.X.toarray(), [[1, 0, 2]])


def test_samples_in_the_order_asked(vcf):
    whole = ol.io.read_vcf(vcf)
    some = ol.io.read_vcf(vcf, samples=["p3", "p1"])
    assert list(some.obs_names) == ["p3", "p1"]
    wanted = whole[["p3", "p1"]].layers["hap2"].toarray()
    np.testing.assert_array_equal(some.layers["hap2"].toarray(), wanted)
    assert list(ol.io.read_vcf(vcf, samples="p2").obs_names) == ["p2"]
    with pytest.raises(ValueError, match="samples= names people twice: 'p1'"):
        ol.io.read_vcf(vcf, samples=["p1", "p2", "p1"])
    with pytest.raises(KeyError, match="1 of 2 people are not in the VCF .*'p9'.*'p1'"):
        ol.io.read_vcf(vcf, samples=["p1", "p9"])


@pytest.mark.parametrize("declared", ["Float", "String", "Integer", None])
def test_dosages_however_the_header_declares_them(tmp_path, declared):
    values, wanted = (["1", ".", "2", "0"], [1, np.nan, 2, 0])
    if declared != "Integer":
        values, wanted = (["0.25", ".", "1e-1", "2"], [0.25, np.nan, 0.1, 2])
    path = write_fields(tmp_path / "a.vcf", FORMATS, [(5, "A", "G", "DS", values)], list("abcd"))
    lines = path.read_text().splitlines(keepends=True)
    if declared is None:
        lines = [x for x in lines if "ID=DS" not in x]
    number = "1" if declared != "Float" else "A"
    lines = [x.replace("ID=DS,Number=A,Type=Float", f"ID=DS,Number={number},Type={declared}")
             for x in lines]  # fmt: skip
    path.write_text("".join(lines))
    geno = ol.io.read_vcf(path, field="DS", samples=list("dcba"))
    np.testing.assert_allclose(geno.X.toarray().ravel(), wanted[::-1], rtol=1e-6)
    assert geno.var["n_missing"].tolist() == [1]


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("GP", "0.1,0.1,0.1", "probabilities in GP that add up to 0.3, not 1"),
        ("GP", "99,0,0", "phred-scaled"),
        ("GP", "-0.5,1,0.5", "a probability of -0.5 in GP; it must lie between 0 and 1"),
        ("HDS", "-1,1", "a dosage of -1 in HDS; it must lie between 0 and 1"),
        ("HDS", "1.7,0.1", "a dosage of 1.7 in HDS; it must lie between 0 and 1"),
        ("DS", "nothing", "no number in DS"),
    ],
)
def test_dosages_that_cannot_be(tmp_path, field, values, message):
    formats = FORMATS
    path = write_fields(tmp_path / "a.vcf", formats, [(5, "A", "G", field, [values])], ["a"])
    if values == "nothing":
        path.write_text(
            path.read_text().replace("ID=DS,Number=A,Type=Float", "ID=DS,Number=1,Type=String")
        )
    with pytest.raises(ValueError, match=message):
        ol.io.read_vcf(path, field=field)


def test_probabilities_that_are_all_zero_are_missing(tmp_path):
    values = ["0,0,0", "0.5,0.25,0.25", "0,0"]
    path = write_fields(tmp_path / "a.vcf", FORMATS, [(5, "A", "G", "GP", values)], list("abc"))
    geno = ol.io.read_vcf(path, field="GP")
    np.testing.assert_allclose(geno.X.toarray().ravel(), [np.nan, 0.75, np.nan])
    assert geno.var["n_missing"].tolist() == [2]


@installed("pysam")
def test_regions_are_those_of_bcftools(tmp_path):
    import pysam
    import pysam.bcftools

    records = [("c", p, "A", "G", ["0|1"] * 3) for p in (100, 200, 300)]
    path = packed(write_vcf(tmp_path / "a.vcf", records, PEOPLE, ("c", "d")))
    pysam.tabix_index(str(path), preset="vcf")
    for region in ("c", "c:200", "c:150", "c:200-", "c:200-299", "c:1-100"):
        wanted = pysam.bcftools.query("-f", "%POS\n", "-r", region, str(path)).split()
        assert ol.io.read_vcf(path, region=region).var["pos"].tolist() == [int(p) for p in wanted]
    with pytest.raises(ValueError, match="names nobody; the VCF holds 3"):
        ol.io.read_vcf(path, samples=[])


@installed("pysam")
def test_region(vcf):
    import pysam

    path = packed(vcf)
    with pytest.raises(ValueError, match="needs an index beside a.vcf.gz: tabix -p vcf"):
        ol.io.read_vcf(path, region="c")
    pysam.tabix_index(str(path), preset="vcf")
    assert ol.io.read_vcf(path, region="c:8-9").var["pos"].tolist() == [7, 9, 9]
    assert ol.io.read_vcf(path, region="d").n_vars == 1
    assert ol.io.read_vcf(path, region="c:1,000-2,000").n_vars == 0
    for region in ("c:9-5", "c:x-y", "c:", "c:0-5", "c:-5", "c:5-9-12"):
        with pytest.raises(ValueError, match="is not chrom or chrom:start-end"):
            ol.io.read_vcf(path, region=region)
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


@installed("pysam")
def test_a_line_that_is_no_record_in_a_region(tmp_path):
    """The line at fault is named, or none: records of a region are not counted from the first."""
    import pysam

    records = [("c", i, "A", "G", ["0|1", "1|1"]) for i in range(1, 60)]
    path = write_vcf(tmp_path / "a.vcf", records, ["p", "q"])
    for old, new, message in (
        (
            "c\t50\trs50\tA\tG\t.\t.\t.\tGT\t0|1",
            "c\t50\trs50\tA\tG\t.\t.\t.\tGT\ta|b",
            "holds a record that could not be read as VCF",
        ),
        ("\t0|1\t1|1\nc\t50\t", "\t0|1\nc\t50\t", "line 53: it has 10 columns, the header 11"),
    ):
        odd = tmp_path / "b.vcf"
        odd.write_text(path.read_text().replace(old, new))
        packed = pysam.tabix_index(str(odd), preset="vcf", force=True, keep_original=True)
        assert ol.io.read_vcf(packed, region="c:1-20").n_vars == 20
        with pytest.raises(ValueError, match=f"b.vcf.gz(, | ){message}"):
            ol.io.read_vcf(packed, region="c:40-55")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_gzip_that_ends_early(tmp_path, share):
    records = [("c", i, "A", "G", ["0|1", "1|1"]) for i in range(1, 900)]
    path = write_vcf(tmp_path / "a.vcf", records, ["p", "q"])
    raw = gzip.compress(path.read_bytes())
    (tmp_path / "a.vcf.gz").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ValueError, match="a.vcf.gz is truncated"):
        ol.io.read_vcf(tmp_path / "a.vcf.gz")


def test_line_ends_of_windows_and_files_without_records(tmp_path):
    path = write_vcf(tmp_path / "a.vcf", [("c", 5, "A", "G", ["0|1", "1"])], ["p", "q"])
    plain = ol.io.read_vcf(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    other = ol.io.read_vcf(path)
    assert list(other.obs_names) == ["p", "q"] and other.var.equals(plain.var)
    for layer in plain.layers:
        assert (other.layers[layer] != plain.layers[layer]).nnz == 0
    path.write_text("".join(x for x in path.read_text().splitlines(keepends=True) if x[0] == "#"))
    for field in ("GT", "DS"):
        assert ol.io.read_vcf(path, field=field).shape == (2, 0)
