"""`ol.pp.haplotypes`, from files."""

import numpy as np
import pandas as pd
import pytest
from helpers import same_object
from made_genome import installed, write_fasta, write_vcf

import omicllm as ol
from omicllm.genome.tokens import decode

pytestmark = installed("cyvcf2")
BASES = "AAAACCCCGGGGTTTTACGTACGT"
RECORDS = [
    ("c", 8, "C", "T", ["0|1", "1|1"]),
    ("c", 10, "GGG", "G", ["0|1", "0|0"]),
    ("d", 2, "A", "G", ["1|1", "0|0"]),
]


@pytest.fixture
def files(tmp_path):
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": BASES, "d": "AAAA", "e": "CC"}))
    return genome, ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", RECORDS, ["p", "q"], ("c", "d")))


def windows(*rows):
    frame = pd.DataFrame(rows, columns=["name", "chrom", "start", "end", "strand"])
    return frame.set_index("name")


ALL = windows(("x", "c", 6, 20, "+"), ("y", "c", 6, 20, "-"), ("z", "d", 0, 4, "+"))


def test_windows_by_number_and_name(files):
    genome, geno = files
    before = geno.copy()
    found = ol.pp.haplotypes(geno, genome=genome, windows=ALL)
    assert len(found) == 3 and found.people == ["p", "q"] and found.names == ["x", "y", "z"]
    text = [[decode(found["x"].tokens[i]) for i in pair] for pair in found[0].index]
    assert text == [["CCGGGGTTTTACGT", "CTGGTTTTACGT"], ["CTGGGGTTTTACGT"] * 2]
    tokens, index = found["y"]
    assert decode(tokens[index[0, 1]]) == "ACGTAAAACCAG"
    forward = ol.pp.haplotypes(geno, genome=genome, windows=ALL, reverse_complement=False)
    np.testing.assert_array_equal(forward["y"].tokens, found["x"].tokens)
    tokens, index = found["z"]
    assert [decode(tokens[i]) for i in index[:, 0]] == ["AGAA", "AAAA"]
    assert len(list(found)) == 3
    with pytest.raises(KeyError, match="'w' is not in the windows"):
        found["w"]
    same_object(geno, before)


def test_subset_dense_and_file(files, tmp_path):
    genome, geno = files
    wanted = ol.pp.haplotypes(geno, genome=genome, windows=ALL)["x"]
    one = ol.pp.haplotypes(geno[["q"]], genome=genome.path, windows=ALL)["x"]
    assert len(one.index) == 1 and decode(one.tokens[one.index[0, 0]]) == "CTGGGGTTTTACGT"
    dense = geno.copy()
    for name in ("hap1", "hap2"):
        dense.layers[name] = dense.layers[name].toarray()
    geno.write_h5ad(tmp_path / "geno.h5ad")
    import anndata as ad

    for other in (dense, ad.read_h5ad(tmp_path / "geno.h5ad"), geno[:, ::-1].copy()):
        again = ol.pp.haplotypes(other, genome=genome, windows=ALL)["x"]
        np.testing.assert_array_equal(again.tokens[again.index], wanted.tokens[wanted.index])


def test_genes_without_a_window_are_left_out_of_a_table(files):
    genome, geno = files
    more = pd.concat([windows(("none", "", -1, -1, "+")), ALL])
    found = ol.pp.haplotypes(geno, genome=genome, windows=more)
    assert found.names == list(ALL.index)


def test_mudata_and_windows_of_genes(files):
    import anndata as ad
    import mudata as md

    genome, geno = files
    rna = ad.AnnData(np.zeros((2, 2), dtype=np.float32), var=pd.DataFrame(
        {"chrom": ["c", "c"], "tss": [14, 14], "strand": ["+", "-"]}, index=["a", "b"]
    ))  # fmt: skip
    rna.obs_names = geno.obs_names
    ol.pp.gene_windows(rna, length=14)
    found = ol.pp.haplotypes(
        md.MuData({"rna": rna, "geno": geno}), genome=genome, windows=rna, mod="geno"
    )
    wanted = ol.pp.haplotypes(geno, genome=genome, windows=ALL)
    np.testing.assert_array_equal(found["a"].tokens, wanted["x"].tokens)
    np.testing.assert_array_equal(found["b"].tokens, wanted["y"].tokens)
    np.testing.assert_array_equal(ol.get.table(rna, "window")["start"], [6, 6])


def test_contigs_that_differ(files):
    genome, geno = files
    with pytest.raises(KeyError, match="'chrc' is not in the contigs of g.fa.*mean 'c'"):
        ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "chrc", 0, 3, "+")))
    other = geno.copy()
    other.var["chrom"] = "chr" + other.var["chrom"].astype(str)
    with pytest.raises(KeyError, match="'chrc' is not in the contigs of g.fa.*mean 'c'"):
        ol.pp.haplotypes(other, genome=genome, windows=ALL)
    # a contig that the VCF lacks altogether simply has no variants
    both = pd.concat([ALL, windows(("w", "e", 0, 2, "+"))])
    assert decode(ol.pp.haplotypes(geno, genome=genome, windows=both)["w"].tokens[0]) == "CC"


def test_window_past_the_end(files):
    genome, geno = files
    with pytest.raises(ValueError, match="c:6-25 .*does not lie inside c, which has 24 bases"):
        ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "c", 6, 25, "+")))
    with pytest.raises(KeyError, match="'end' is not in the columns of windows"):
        ol.pp.haplotypes(geno, genome=genome, windows=ALL.drop(columns="end"))
    with pytest.raises(ValueError, match="is no window"):
        ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "c", 6, 5, "+")))


def test_reference_that_does_not_match_is_counted(files):
    genome, geno = files
    shifted = geno.copy()
    shifted.var["pos"] = shifted.var["pos"] + 2
    with pytest.raises(ValueError, match=r"2 of 2 variants .* REF allele .*g.fa.*genome builds"):
        ol.pp.haplotypes(shifted, genome=genome, windows=ALL[:2])


def test_unphased_is_counted_and_refused(files, tmp_path):
    genome, _ = files
    records = [("c", 8, "C", "T", ["0/1", "1/1"]), ("c", 10, "GGG", "G", ["0|1", "0|0"])]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "u.vcf", records, ["p", "q"]))
    with pytest.raises(ValueError, match="1 genotypes of 1 variants .*unphased='iupac'"):
        ol.pp.haplotypes(geno, genome=genome, windows=ALL)
    ol.pp.haplotypes(geno, genome=genome, windows=windows(("w", "c", 9, 20, "+")))
    tokens, index = ol.pp.haplotypes(geno, genome=genome, windows=ALL, unphased="iupac")["x"]
    text = [[decode(tokens[i]) for i in pair] for pair in index]
    assert text == [["CYGGGGTTTTACGT", "CYGGTTTTACGT"], ["CTGGGGTTTTACGT"] * 2]


def test_other_errors(files):
    genome, geno = files
    bare = geno.copy()
    del bare.layers["hap2"]
    with pytest.raises(KeyError, match="'hap2' is not in geno.layers.*read_vcf"):
        ol.pp.haplotypes(bare, genome=genome, windows=ALL)
    with pytest.raises(ValueError, match="unphased must be one of"):
        ol.pp.haplotypes(geno, genome=genome, windows=ALL, unphased="guess")
    with pytest.raises(ValueError, match="length must be a whole number"):
        ol.pp.haplotypes(geno, genome=genome, windows=ALL, length=0)


def test_unique_haplotypes_of_the_real_locus(data_dir):
    folder = data_dir / "genome" / "comt"
    geno = ol.io.read_vcf(folder / "comt.vcf.gz")
    start = 4868 - 1 - 4096
    window = windows(("COMT", "COMT_locus", start, start + 8192, "+"))
    found = ol.pp.haplotypes(geno, genome=folder / "comt_hg19.fa", windows=window)
    tokens, index = found["COMT"]
    assert len(tokens) == 62 and index.shape == (433, 2)


def test_no_base_in_the_reference(tmp_path, caplog):
    """Such variants are left out and counted; others of the window are applied."""
    bases = "AANCCCRGGNNTTTT"
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": bases}))
    records = [
        ("c", 3, "A", "G", ["1|1"]),  # N
        ("c", 5, "C", "T", ["1|1"]),
        ("c", 7, "A", "G,T", ["1|2"]),  # R
        ("c", 9, "GAA", "G", ["1|1"]),  # the deleted bases are N
        ("c", 13, "T", "C", ["0|1"]),
    ]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", records, ["p"]))
    found = ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "c", 0, 15, "+")))
    text = [decode(found["x"].tokens[i]) for i in found["x"].index[0]]
    assert text == ["AANCTCNGGNNTTTT", "AANCTCNGGNNTCTT"]
    assert "3 of 5 variants in the windows are left out: g.fa has N" in caplog.text
    assert found.left_out().tolist() == [0, 2, 3]
    wrong = [*records, ("c", 14, "G", "C", ["0|1"])]
    geno = ol.io.read_vcf(write_vcf(tmp_path / "b.vcf", wrong, ["p"]))
    with pytest.raises(ValueError, match="1 of 6 variants .*'c:14:G:C'.*different genome builds"):
        ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "c", 0, 15, "+")))


@pytest.mark.parametrize("strand", ["+", "-"])
def test_windows_past_the_end_are_padded_when_asked(files, tmp_path, strand):
    """As the haplotype of the whole contig with N on either side."""
    genome, geno = files
    frame = windows(("x", "c", -3, 28, strand))
    with pytest.raises(ValueError, match="outside='pad'"):
        ol.pp.haplotypes(geno, genome=genome, windows=frame)
    padded = ol.io.Genome(genome.path, outside="pad")
    found = ol.pp.haplotypes(geno, genome=padded, windows=frame)["x"]
    whole = ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "c", 0, 24, strand)))["x"]
    for one, other in zip(found.index.ravel(), whole.index.ravel(), strict=True):
        ends = ("NNN", "NNNN") if strand == "+" else ("NNNN", "NNN")
        assert decode(found.tokens[one]) == ends[0] + decode(whole.tokens[other]) + ends[1]


@pytest.mark.parametrize("unphased", [False, True])
def test_allele_numbers_over_127(tmp_path, unphased):
    """An STR record of 200 alternates; alleles are insertions of so many T."""
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": BASES}))
    alts = ",".join("A" + "T" * i for i in range(1, 201))
    call = "3/190" if unphased else "150|190"
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", [("c", 2, "A", alts, [call])], ["p"]))
    found = ol.pp.haplotypes(
        geno, genome=genome, windows=windows(("x", "c", 0, 4, "+")), unphased="iupac"
    )["x"]
    text = [decode(found.tokens[i]) for i in found.index[0]]
    sizes = (190, 190) if unphased else (150, 190)
    assert text == ["AA" + "T" * n + "AA" for n in sizes]
    geno.layers["hap2"] = geno.layers["hap2"] * 2
    with pytest.raises(ValueError, match="allele 380 of the variant at 2, which has 200 alternate"):
        ol.pp.haplotypes(geno, genome=genome, windows=windows(("x", "c", 0, 4, "+")))
