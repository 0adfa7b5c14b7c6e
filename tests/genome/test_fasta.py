"""FASTA files: plain, gzip, bgzip, with and without index, damaged."""

import gzip
import pickle

import numpy as np
import pytest
from made_genome import installed, write_fasta

import omicllm as ol
from omicllm.genome import tokens

BASES = {"chr1": "ACGTacgtNNRYACGTTTGGCCAA" * 3, "chr2": "TTTTCCCC", "chrM": "A" * 40}


def fetch_all(genome):
    for name, bases in BASES.items():
        for start, end in ((0, 1), (0, len(bases)), (3, 8), (len(bases) - 1, len(bases))):
            assert genome.fetch(name, start, end) == bases[start:end].upper()


def test_plain_file_without_index(tmp_path):
    path = write_fasta(tmp_path / "a.fa", BASES)
    genome = ol.io.Genome(path)
    fetch_all(genome)
    assert genome.lengths == {k: len(v) for k, v in BASES.items()}
    assert genome.contigs == list(BASES) and "chr2" in genome and "2" not in genome
    assert list(tmp_path.iterdir()) == [path], "nothing is written"
    fetch_all(pickle.loads(pickle.dumps(genome)))


def test_windows_line_ends_and_one_line(tmp_path):
    path = write_fasta(tmp_path / "a.fa", BASES)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    fetch_all(ol.io.Genome(path))
    fetch_all(ol.io.Genome(write_fasta(tmp_path / "b.fa", BASES, width=1000)))


def test_gzip(tmp_path):
    path = tmp_path / "a.fa.gz"
    path.write_bytes(gzip.compress(write_fasta(tmp_path / "a.fa", BASES).read_bytes()))
    fetch_all(ol.io.Genome(path))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="truncated"):
        ol.io.Genome(path)


@installed("pysam")
def test_bgzip_and_index_agree_with_samtools(tmp_path):
    import pysam

    rng = np.random.default_rng(0)
    bases = {"x": "".join(rng.choice(list("ACGT"), 200_000)), "y": "ACGT" * 30}
    path = write_fasta(tmp_path / "a.fa", bases, width=61)
    packed = tmp_path / "a.fa.gz"
    pysam.tabix_compress(str(path), str(packed))
    plain = ol.io.Genome(path)
    genome = ol.io.Genome(packed)
    pysam.faidx(str(path))
    indexed = ol.io.Genome(path)
    assert plain._contigs == indexed._contigs == genome._contigs
    with pysam.FastaFile(str(path)) as oracle:
        for start in (0, 65_279, 65_280, 130_000, 199_990):
            wanted = oracle.fetch("x", start, start + 10)
            for one in (plain, indexed, genome):
                assert one.fetch("x", start, start + 10) == wanted
        assert genome.fetch("x", 10, 190_000) == oracle.fetch("x", 10, 190_000)
    assert genome.fetch("y", 100, 120) == bases["y"][100:120]
    whole = packed.read_bytes()
    for cut in (len(whole) - 28, len(whole) // 2):
        packed.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="truncated"):
            ol.io.Genome(packed)


def test_strand_and_tokens(tmp_path):
    genome = ol.io.Genome(write_fasta(tmp_path / "a.fa", BASES))
    assert genome.fetch("chr1", 8, 14) == "NNRYAC"
    assert genome.fetch("chr1", 8, 14, strand="-") == "GTRYNN"
    np.testing.assert_array_equal(genome.tokens("chr1", 8, 14), [4, 4, 4, 4, 0, 1])
    np.testing.assert_array_equal(genome.tokens("chr1", 8, 14, strand="-"), [2, 3, 4, 4, 4, 4])
    assert genome.tokens("chr1", 0, 5).dtype == np.int8


def test_tokens_stand_for_sets_of_bases():
    text = tokens.ALPHABET
    everything = np.arange(len(text), dtype=np.int8)
    assert tokens.decode(everything) == text
    complement = tokens.decode(tokens.reverse_complement(everything))[::-1]
    assert complement == "TGCANYRSWMKVHDB"
    np.testing.assert_array_equal(tokens.TOKEN_OF_BITS[tokens.base_sets(text)], everything)
    padded = np.array([0, 1, -1], dtype=np.int8)
    np.testing.assert_array_equal(tokens.reverse_complement(padded), [-1, 2, 3])
    assert tokens.decode(padded) == "AC"


def test_errors(tmp_path):
    path = write_fasta(tmp_path / "a.fa", BASES)
    genome = ol.io.Genome(path)
    with pytest.raises(KeyError, match="'2' is not in the contigs of a.fa .*mean 'chr2'"):
        genome.fetch("2", 0, 1)
    with pytest.raises(KeyError, match="Did you mean 'chrM'"):
        genome.fetch("MT", 0, 1)
    for start, end in ((0, 9), (-1, 3), (4, 4), (5, 4)):
        with pytest.raises(ValueError, match="does not lie inside chr2, which has 8 bases"):
            genome.fetch("chr2", start, end)
    with pytest.raises(FileNotFoundError, match="no FASTA file"):
        ol.io.Genome(tmp_path / "b.fa")
    for name, text, message in (
        ("empty.fa", "", "holds no FASTA"),
        ("text.fa", "ACGT\n", "does not begin with"),
        ("ragged.fa", ">a\nACGT\nAC\nACGT\n", "differ in length"),
        ("twice.fa", ">a\nA\n>a\nA\n", "twice"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            ol.io.Genome(tmp_path / name)


def test_index_that_does_not_fit(tmp_path):
    path = write_fasta(tmp_path / "a.fa", BASES)
    contigs = ol.io.Genome(path)._contigs
    index = tmp_path / "a.fa.fai"
    index.write_text("".join("\t".join(map(str, (n, *c))) + "\n" for n, c in contigs.items()))
    fetch_all(ol.io.Genome(path))
    text = path.read_text()
    path.write_text(text[:-30])
    with pytest.raises(ValueError, match="truncated: a.fa.fai places the end of contig 'chrM'"):
        ol.io.Genome(path)
    path.write_text(text.replace("chr1", "chromosome1"))
    with pytest.raises(ValueError, match="does not fit"):
        ol.io.Genome(path)
    index.write_text("nothing\n")
    with pytest.raises(ValueError, match="no FASTA index"):
        ol.io.Genome(path)
