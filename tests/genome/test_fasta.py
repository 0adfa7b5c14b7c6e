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


STRANDS = {
    "+": ("+", "plus", 1, 1.0, "1", "Forward", np.int8(1)),
    "-": ("-", "minus", -1, -1.0, "-1", "REVERSE", np.int64(-1)),
}


@pytest.mark.parametrize("reader", ["fetch", "tokens"])
def test_words_for_strands(tmp_path, reader):
    genome = ol.io.Genome(write_fasta(tmp_path / "a.fa", {"a": "AACGTTTG"}))
    read = getattr(genome, reader)
    for strand, text in (("+", "AACG"), ("-", "CGTT")):
        for word in STRANDS[strand]:
            found = read("a", 0, 4, strand=word)
            assert (found if reader == "fetch" else tokens.decode(found)) == text, word
    for word in (".", None, "", "x", "+-", True, 2, 0, float("nan"), b"-"):
        with pytest.raises(ValueError, match="Strands must be"):
            read("a", 0, 4, strand=word)


def test_positions_are_whole(tmp_path):
    genome = ol.io.Genome(write_fasta(tmp_path / "a.fa", {"a": "AACGTTTG"}))
    assert genome.fetch("a", 1.0, np.int32(4)) == "ACG"
    for start, end in ((0.7, 4.9), (0, 4.5), ("x", 4), (0, None), (0, float("nan")), (True, 4)):
        with pytest.raises(ValueError, match="must be a whole number of bases"):
            genome.fetch("a", start, end)


ODD = {"blank": " ", "digit": "7", "NUL": "\0", "tab": "\t", "dot": ".", "latin": "\xe9"}


@pytest.mark.parametrize("packed", ["plain", "gzip"])
@pytest.mark.parametrize("kind", ODD)
def test_lines_of_anything_but_letters(tmp_path, kind, packed):
    """Named by line without an index, and by place with one; other windows are read."""
    text = f">a\nACGT\nAC{ODD[kind]}T\nAC\n".encode("latin-1")
    path = tmp_path / ("a.fa" if packed == "plain" else "a.fa.gz")
    path.write_bytes(text if packed == "plain" else gzip.compress(text))
    with pytest.raises(ValueError, match=f"{path.name}, line 3: holds "):
        ol.io.Genome(path)
    (tmp_path / f"{path.name}.fai").write_text("a\t10\t3\t4\t5\n")
    genome = ol.io.Genome(path)
    assert genome.fetch("a", 0, 4) == "ACGT" and genome.fetch("a", 8, 10) == "AC"
    for read in (genome.fetch, genome.tokens):
        with pytest.raises(ValueError, match=f"{path.name} holds .* at a:6"):
            read("a", 4, 8)


def write_index(path):
    """The index that fits a file, written beside it."""
    contigs = ol.io.Genome(path)._contigs
    index = path.with_name(path.name + ".fai")
    index.write_text("".join("\t".join(map(str, (n, *c))) + "\n" for n, c in contigs.items()))
    return index


STALE = {
    "a base more": (">a\nAACGTACGT\nACG\n>b\nTTTT\n", True),
    "a base less": (">a\nCGTACGT\nACG\n>b\nTTTT\n", True),
    "other lines": (">a\nACGTACG\nTACG\n>b\nTTTT\n", True),
    "other names": (">c\nACGTACGT\nACG\n>b\nTTTT\n", True),
    "exchanged names": (">b\nACGTACGT\nACG\n>a\nTTTT\n", True),
    "more at the end": (">a\nACGTACGT\nACG\n>b\nTTTTT\n", True),
    "less at the end": (">a\nACGTACGT\nACG\n>b\nTTT\n", True),
    "a contig more": (">a\nACGTACGT\nACG\n>b\nTTTT\n>c\nA\n", False),
    "other bases": (">a\nTTTTACGT\nACG\n>b\nCCCC\n", None),
}


@pytest.mark.parametrize("newer", ["fasta", "index"])
@pytest.mark.parametrize("kind", STALE)
def test_stale_index(tmp_path, kind, newer):
    import os

    path = tmp_path / "a.fa"
    path.write_text(">a\nACGTACGT\nACG\n>b\nTTTT\n")
    index = write_index(path)
    text, always = STALE[kind]
    path.write_text(text)
    now = path.stat().st_mtime
    os.utime(index, (now - 9, now - 9) if newer == "fasta" else (now + 9, now + 9))
    if always or (always is False and newer == "fasta"):
        with pytest.raises(ValueError, match="a.fa.fai does not fit a.fa|truncated: a.fa.fai"):
            ol.io.Genome(path)
    else:
        assert ol.io.Genome(path).fetch("a", 0, 4) == text[3:7]


def test_bom_empty_contigs_and_blank_lines(tmp_path, caplog):
    path = tmp_path / "a.fa"
    path.write_bytes(b"\xef\xbb\xbf>a\nACGT\nAC\n>b\nTT\n")
    assert ol.io.Genome(path).fetch("a", 2, 6) == "GTAC"
    index = write_index(path)
    index.write_text(index.read_text() + "\n\n")
    genome = ol.io.Genome(path)
    assert genome.fetch("b", 0, 2) == "TT" and genome.contigs == ["a", "b"]
    index.unlink()
    for end in ("", "\n"):
        path.write_text(">a\nACGT\n>b" + end)
        caplog.clear()
        genome = ol.io.Genome(path)
        assert genome.lengths == {"a": 4, "b": 0} and genome.fetch("a", 0, 4) == "ACGT"
        assert "1 contigs have a header and no bases ('b')" in caplog.text
        with pytest.raises(ValueError, match="b, which has 0 bases"):
            genome.fetch("b", 0, 1)


@pytest.mark.parametrize(
    "line",
    [
        "a\t-4\t3\t4\t5",
        "a\t4\t-3\t4\t5",
        "a\t4\t3\t0\t5",
        "a\t4\t3\t4\t3",
        "a\t4\t0\t4\t5",
        "a\t4\t3\t-4\t5",
        "a\t4\t3",
        "a\tx\t3\t4\t5",
        "a\t4.5\t3\t4\t5",
    ],
)
def test_indices_with_impossible_numbers(tmp_path, line):
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n")
    (tmp_path / "a.fa.fai").write_text(line + "\n")
    with pytest.raises(ValueError, match="a.fa.fai is no FASTA index: 'a"):
        ol.io.Genome(path)
    (tmp_path / "a.fa.fai").write_text("\n")
    with pytest.raises(ValueError, match="a.fa.fai names no contig"):
        ol.io.Genome(path)
    (tmp_path / "a.fa.fai").write_text("a\t4\t3\t4\t5\n" * 2)
    with pytest.raises(ValueError, match="no FASTA index"):
        ol.io.Genome(path)


DAMAGE = {  # bytes of a bgzip block, from its beginning or (below 0) from its end
    "CRC": (-8, b"\1\2\3\4"),
    "ISIZE": (-4, b"\1\0\0\0"),
    "huge ISIZE": (-4, b"\xff\xff\xff\x7f"),
    "BSIZE 0": (16, b"\0\0"),
    "BSIZE 1": (16, b"\1\0"),
    "data": (30, b"\xff\xff\xff\xff"),
    "magic": (0, b"\x1f\x8b\x08\x00"),
}


@installed("pysam")
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_bgzip(tmp_path, kind, indexed):
    import pysam

    rng = np.random.default_rng(0)
    bases = "".join(rng.choice(list("ACGT"), 150_000))
    plain = write_fasta(tmp_path / "a.fa", {"x": bases}, width=61)
    path = tmp_path / "a.fa.gz"
    pysam.tabix_compress(str(plain), str(path))
    if indexed:
        write_index(path)
    whole = bytearray(path.read_bytes())
    first = int.from_bytes(whole[16:18], "little") + 1
    second = first + int.from_bytes(whole[first + 16 : first + 18], "little") + 1
    at, new = DAMAGE[kind]
    at = second + at if at < 0 else first + at
    whole[at : at + len(new)] = new
    path.write_bytes(whole)
    if indexed:  # as old as the index: it is not read for comparison
        index = tmp_path / "a.fa.gz.fai"
        index.touch()
    with pytest.raises(ValueError, match="a.fa.gz is (damaged|truncated)|a.fa.gz.fai") as error:
        ol.io.Genome(path).fetch("x", 70_000, 120_000)
    assert "etch it again" in str(error.value) or "ndex it again" in str(error.value)


def test_gzip_bombs_are_not_unpacked(tmp_path, monkeypatch):
    from omicllm.genome import fasta

    monkeypatch.setattr(fasta, "_LEAST_LIMIT", 1 << 16)
    path = tmp_path / "a.fa.gz"
    path.write_bytes(gzip.compress(b">a\n" + b"N" * 40_000_000))
    assert path.stat().st_size * 100 < 40_000_000
    with pytest.raises(ValueError, match="a.fa.gz unpacks to more than 100 times .* bgzip"):
        ol.io.Genome(path)
    path.write_bytes(gzip.compress(b">a\n" + b"N" * 50_000))
    assert ol.io.Genome(path).lengths == {"a": 50_000}


@pytest.mark.parametrize("strand", ["+", "-"])
def test_windows_past_the_ends_are_padded_when_asked(tmp_path, strand):
    path = write_fasta(tmp_path / "a.fa", {"a": "ACGTACGTAC"}, width=4)
    genome = ol.io.Genome(path, outside="pad")
    whole = "NNNNN" + "ACGTACGTAC" + "NNNNN"
    complement = str.maketrans("ACGT", "TGCA")
    for start in range(-5, 10):
        for end in range(max(start, 0) + 1, 15):
            wanted = whole[start + 5 : end + 5]
            wanted = wanted if strand == "+" else wanted.translate(complement)[::-1]
            assert genome.fetch("a", start, end, strand=strand) == wanted
            assert tokens.decode(genome.tokens("a", start, end, strand=strand)) == wanted
    for start, end in ((-5, 0), (10, 12), (4, 4)):
        with pytest.raises(ValueError, match="does not reach into a, which has 10 bases"):
            genome.fetch("a", start, end)
    with pytest.raises(ValueError, match="does not lie inside a.*outside='pad'"):
        ol.io.Genome(path).fetch("a", -1, 4)
    with pytest.raises(ValueError, match="outside must be one of"):
        ol.io.Genome(path, outside="N")
