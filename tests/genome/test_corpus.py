"""The corpus: streaming, pieces and shards."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest

import omicllm as ol
from omicllm.genome import kmers


@pytest.fixture
def fasta(tmp_path):
    """Two contigs with runs of N and soft-masked bases, and an empty one."""
    rng = np.random.default_rng(0)
    one = "".join(rng.choice(list("ACGTacgt"), 9000))
    one = "N" * 50 + one[:4000] + "N" * 70 + one[4000:]
    two = "".join(rng.choice(list("ACGT"), 3000))
    lines = [">one first", *(one[i : i + 60] for i in range(0, len(one), 60)), ">none", ">two", two]
    path = tmp_path / "a.fa"
    path.write_text("\n".join(lines) + "\n")
    return path, {"one": one.upper(), "none": "", "two": two}


def joined(blocks):
    out = {}
    for block in blocks:
        before = out.setdefault(block.contig, np.empty(0, np.uint8))
        assert block.start == len(before)
        out[block.contig] = np.concatenate([before, block.codes])
    return out


@pytest.mark.parametrize("size", [1 << 22, 1000, 61, 7])
def test_stream_gives_the_sequence_whatever_the_blocks(fasta, size):
    path, truth = fasta
    got = joined(ol.genome.stream_fasta(path, block_bytes=size))
    assert list(got) == list(truth)
    for name, sequence in truth.items():
        np.testing.assert_array_equal(got[name], kmers.base_codes(sequence))


def test_stream_reads_gzip_and_windows_line_ends(fasta, tmp_path):
    path, truth = fasta
    text = path.read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "a.fa.gz").write_bytes(gzip.compress(text))
    got = joined(ol.genome.stream_fasta(tmp_path / "a.fa.gz"))
    np.testing.assert_array_equal(got["one"], kmers.base_codes(truth["one"]))


@pytest.mark.parametrize("policy", ["split", "delete"])
def test_pieces_are_of_the_sequence(fasta, policy, monkeypatch):
    path, truth = fasta
    if policy == "delete":
        truth = {name: s.replace("N", "") for name, s in truth.items()}
    pieces = list(ol.genome.sample_corpus(path, n_policy=policy))
    last = {}
    for contig, start, codes in pieces:
        assert 6 <= len(codes) <= 511 and codes.max() < kmers.UNKNOWN
        piece = truth[contig][start : start + len(codes)]
        np.testing.assert_array_equal(codes, kmers.base_codes(piece))
        assert start >= last.get(contig, 0), "no overlap"
        last[contig] = start + len(codes)
    assert set(last) == {"one", "two"}
    assert sum(len(p.codes) for p in pieces) > 9000, "little is lost beyond the offsets"
    assert 0.25 < np.mean([len(p.codes) == 511 for p in pieces]) < 0.8
    from omicllm.genome import corpus

    blocks = corpus.stream_fasta
    monkeypatch.setattr(corpus, "stream_fasta", lambda p, **kw: blocks(p, block_bytes=997, **kw))
    again = list(ol.genome.sample_corpus(path, n_policy=policy))
    assert [(p.contig, p.start, len(p.codes)) for p in again] == [
        (p.contig, p.start, len(p.codes)) for p in pieces
    ]


def test_shards_are_disjoint_and_complete(fasta):
    path, _ = fasta
    whole = [p[:2] for p in ol.genome.sample_corpus(path, rng=3)]
    parts = [
        [p[:2] for p in ol.genome.sample_corpus(
            path, rng=3, worker=w, n_workers=3, rank=r, world_size=2)]
        for r in range(2) for w in range(3)
    ]  # fmt: skip
    assert sorted(p for part in parts for p in part) == sorted(whole)
    assert all(parts)
    assert [p[:2] for p in ol.genome.sample_corpus(path, rng=4)] != whole


def test_bad_input(fasta, tmp_path):
    path, _ = fasta
    bad = tmp_path / "bad.fa"
    for text, message in (
        ("ACGT\n", "does not start with '>'"),
        ("", "holds no sequence"),
        (">a\nAC\n>a\nGT\n", "'a' occurs twice"),
        (">a\nACGT\nACRT\n", "Contig 'a' holds 'R' at position 6"),
        (">\nACGT\n", "a contig has no name"),
    ):
        bad.write_text(text)
        with pytest.raises(ValueError, match=message):
            list(ol.genome.stream_fasta(bad))
    with pytest.raises(ValueError, match="'[acgt]' at position .*lower='upper'"):
        list(ol.genome.stream_fasta(path, lower="refuse"))
    for kwargs, message in (
        ({"min_bases": 600}, "min_bases must be"),
        ({"n_policy": "join"}, "n_policy must be"),
        ({"full_share": 2}, "full_share must lie"),
        ({"worker": 2, "n_workers": 2}, "no worker 2 of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            next(ol.genome.sample_corpus(path, **kwargs))


BASES = {"c1": "ACGTTGCA" * 40, "c2": "GGGTA"}
#: A FASTA of `BASES` as other programs and editors write it.
CLOTHES = {
    "variants in headers": (">c1 NM_1:c.35A>G p.K12>R >c3\n{c1}\n>c2 x->y\n{c2}\n", ""),
    "byte order mark": ("\ufeff>c1\n{c1}\n>c2\n{c2}\n", ""),
    "tabs after names": (">c1\tlen=9\n{c1}\n>c2\tlen=5\n{c2}", ""),
    "carriage returns": (">c1 a>b\r\n{c1}\r\n\r\n>c2\r\n{c2}\r\n", ""),
    "packed": (">c1 a>b\n{c1}\n>c2\n{c2}\n", ".gz"),
}


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("size", [1 << 22, 64, 5])
def test_every_reader_of_fasta_finds_the_same_contigs(clothes, size, tmp_path):
    text, packed = CLOTHES[clothes]
    raw = text.format(**BASES).encode()
    path = tmp_path / f"a.fa{packed}"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    got = joined(ol.genome.stream_fasta(path, block_bytes=size))
    assert list(got) == list(BASES)
    for name, sequence in BASES.items():
        np.testing.assert_array_equal(got[name], kmers.base_codes(sequence))
    assert ol.io.Genome(path).lengths == {n: len(s) for n, s in BASES.items()}
    assert ol.io.read_sequences(path).obs["sequence"].to_dict() == BASES
    assert ol.pp.kmer_counts(fasta=path, k=2).obs_names.tolist() == list(BASES)


def bgzf_block(text):
    """A block as bgzip writes it (SAM specification, section 4.1)."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(text) + packer.flush()
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00"
    return (
        head + struct.pack("<H", len(body) + 25) + body
        + struct.pack("<II", zlib.crc32(text), len(text))
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["cut", "last block", "old Mac", "absent", "folder"])
def test_damaged_corpora_are_named(damage, tmp_path):
    path = tmp_path / "a.fa"
    raw = b">c1\n" + np.random.default_rng(0).choice(list(b"ACGT"), 200_000).astype("u1").tobytes()
    error, words = ValueError, "a.fa is truncated or damaged"
    if damage == "cut":
        path.write_bytes(gzip.compress(raw)[:-200])
    elif damage == "last block":  # gzip alone does not see it
        path.write_bytes(
            b"".join(bgzf_block(raw[i : i + 60_000]) for i in range(0, len(raw), 60_000))
        )
    elif damage == "old Mac":
        path.write_bytes(b">c1\rACGT\r>c2\rAC\r")
        words = "carriage return alone"
    elif damage == "folder":
        path.mkdir()
        error, words = IsADirectoryError, "is a folder"
    else:
        error, words = FileNotFoundError, "There is no FASTA file"
    with pytest.raises(error, match=words):
        ol.pp.kmer_counts(fasta=path, k=2)
    if damage == "old Mac":
        with pytest.raises(error, match=words):
            ol.io.Genome(path)
