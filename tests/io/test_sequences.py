"""Sequences and rankings from files."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

import omicllm as ol


def test_fasta(tmp_path):
    text = ">a first one\nACGT\nacgn\n\n>b\nTT\n>a\nGG\n"
    (tmp_path / "s.fa").write_text(text)
    (tmp_path / "s.fasta.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("s.fa", "s.fasta.gz"):
        adata = ol.io.read_sequences(tmp_path / name)
        assert adata.obs["sequence"].tolist() == ["ACGTACGN", "TT", "GG"]
        assert list(adata.obs_names) == ["a", "b", "a-2"]
        assert adata.obs["description"].tolist() == ["first one", "", ""]
        assert adata.shape == (3, 0)
    assert ol.io.read_sequences(tmp_path / "s.fa", lower="unknown").obs["sequence"].iloc[0] == (
        "ACGTNNNN"
    )
    with pytest.raises(ValueError, match="Sequence 'a' holds 'a' at position 4"):
        ol.io.read_sequences(tmp_path / "s.fa", lower="refuse")


def test_table(tmp_path):
    path = tmp_path / "s.tsv"
    path.write_text("split\tsequence\tlabel\ntrain\tACGT\t1\ntest\tacg\t0\n")
    adata = ol.io.read_sequences(path)
    assert adata.obs["sequence"].tolist() == ["ACGT", "ACG"]
    assert adata.obs["label"].tolist() == [1, 0] and adata.obs["label"].dtype == np.int64
    assert adata.obs["split"].tolist() == ["train", "test"]
    adata.write_h5ad(tmp_path / "s.h5ad")
    path = tmp_path / "s.csv"
    path.write_text("dna,class\nACGT,x\nACG,\n")
    adata = ol.io.read_sequences(path, sequence_column="dna", label_column="class")
    assert adata.obs["label"].tolist()[0] == "x" and pd.isna(adata.obs["label"].iloc[1])


def test_dnabert_table(tmp_path):
    path = tmp_path / "dev.tsv"
    path.write_text("sequence\tlabel\nACGTAC CGTACC GTACCA\t1\nAAAAAA AAAAAT\t0\n")
    adata = ol.io.read_sequences(path)
    assert adata.obs["sequence"].tolist() == ["ACGTACCA", "AAAAAAT"]
    path.write_text("sequence\tlabel\nACGTAC TTTTTT\t1\n")
    with pytest.raises(ValueError, match="Row 0: 'TTTTTT' does not follow 'ACGTAC'"):
        ol.io.read_sequences(path)


def test_bed(tmp_path):
    (tmp_path / "g.fa").write_text(">c1\nAACCGGTTAC\n>c2\nGATTACA\n")
    bed = tmp_path / "s.bed"
    bed.write_text("#comment\nc1\t0\t4\tone\t0\t+\nc2\t0\t7\ttwo\t0\t-\n")
    genome = ol.io.Genome(tmp_path / "g.fa")
    for source in (genome, tmp_path / "g.fa"):
        adata = ol.io.read_sequences(bed, genome=source)
        assert adata.obs["sequence"].tolist() == ["AACC", "TGTAATC"]
        assert list(adata.obs_names) == ["one", "two"]
        assert adata.obs["start"].tolist() == [0, 0] and adata.obs["end"].tolist() == [4, 7]
    bed.write_text("c1\t2\t4\n")
    assert ol.io.read_sequences(bed, genome=genome).obs["sequence"].tolist() == ["CC"]
    with pytest.raises(ValueError, match="BED needs genome="):
        ol.io.read_sequences(bed)
    bed.write_text("c9\t2\t4\n")
    with pytest.raises(KeyError, match="'c9' is not in"):
        ol.io.read_sequences(bed, genome=genome)
    bed.write_text("c1 2 4\n")
    with pytest.raises(ValueError, match="line 1: chrom, start and end"):
        ol.io.read_sequences(bed, genome=genome)


def test_bad_files(tmp_path):
    path = tmp_path / "s.xyz"
    path.write_text(">a\nACGT\n")
    with pytest.raises(ValueError, match="does not tell the format"):
        ol.io.read_sequences(path)
    assert ol.io.read_sequences(path, format="fasta").n_obs == 1
    with pytest.raises(ValueError, match="format must be one of"):
        ol.io.read_sequences(path, format="bam")
    with pytest.raises(FileNotFoundError, match="no file"):
        ol.io.read_sequences(tmp_path / "none.fa")
    for name, text, message in (
        ("a.fa", "ACGT\n", "is no FASTA"),
        ("b.fa", "", "holds no sequence"),
        ("c.fa", ">a\nACGR\n", "'R' at position 3 .*other='unknown'"),
        ("d.tsv", "sequence\tlabel\n\t1\n", "lacks a sequence in 1 rows"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            ol.io.read_sequences(tmp_path / name)
    (tmp_path / "e.tsv").write_text("dna\tlabel\nACGT\t1\n")
    with pytest.raises(KeyError, match="sequence_column="):
        ol.io.read_sequences(tmp_path / "e.tsv")
    with pytest.raises(ValueError, match="genome= goes with a BED"):
        ol.io.read_sequences(tmp_path / "c.fa", genome=tmp_path / "c.fa")


def test_ranks_round_trip(tmp_path):
    ranks = pd.Series({"AC": 2, "GT": 1, "TT": 3})
    ol.io.write_kmer_ranks(ranks, tmp_path / "r.csv")
    got = ol.io.read_kmer_ranks(tmp_path / "r.csv")
    assert got.to_dict() == ranks.to_dict() and got.dtype == np.int64
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ol.io.write_kmer_ranks(ranks, tmp_path / "r.csv", overwrite=False)
    masked = ol.genome.mask_tokens(np.arange(5, 21), ranks=got, k=2, rng=0)
    assert masked[0].shape == (16,)


def test_published_ranks(data_dir, tmp_path):
    path = data_dir / "dna" / "norm_pmi_score_ranking_6mer.csv.gz"
    ranks = ol.io.read_kmer_ranks(path)
    assert len(ranks) == 4096 and ranks["CCTCCC"] == 1 and ranks["TCGCGA"] == 4096


def test_bad_ranks(tmp_path):
    path = tmp_path / "r.csv"
    for text, message in (
        ("ngram,norm_pmi_rank_rel\nAC,1\nACG,2\n", "k-mers of one length, each once"),
        ("ngram,norm_pmi_rank_rel\nAX,1\n", "'AX'"),
        ("ngram,rank\nAC,1.5\n", "whole numbers from 1"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ol.io.read_kmer_ranks(path)
    path.write_text("word,rank\nAC,1\n")
    with pytest.raises(KeyError, match="'ngram' is not in the columns"):
        ol.io.read_kmer_ranks(path)
