"""Counts of k-mers and their PMI, as verbs."""

from __future__ import annotations

from collections import Counter

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import same_object

import omicllm as ol

SEQUENCES = ["ACGTACGTAA", "NNACGNACGTTTT", "aaaaAA", "TTTTTTTTTTTTTTTTTT"]


@pytest.fixture
def adata():
    obs = pd.DataFrame({"sequence": SEQUENCES, "label": list("abab")}, index=list("wxyz"))
    return ad.AnnData(obs=obs)


def expected(sequence, word):
    k = len(word)
    sequence = sequence.upper()
    return sum(sequence[i : i + k] == word for i in range(len(sequence) - k + 1))


@pytest.mark.parametrize("all_lengths", [False, True])
def test_counts(adata, all_lengths):
    before = adata.copy()
    counts = ol.pp.kmer_counts(adata, k=3, all_lengths=all_lengths)
    same_object(adata, before)
    assert counts.shape == (4, 84 if all_lengths else 64)
    assert list(counts.obs["label"]) == list("abab") and list(counts.obs_names) == list("wxyz")
    assert counts.X.format == "csr" and counts.X.dtype == np.float32
    truth = [[expected(s, w) for w in counts.var_names] for s in SEQUENCES]
    np.testing.assert_array_equal(counts.X.toarray(), truth)
    assert (counts.var["length"] == counts.var_names.str.len()).all()


def test_counts_in_parts(adata, monkeypatch):
    from omicllm.pp import _kmers

    whole = ol.pp.kmer_counts(adata, k=2)
    monkeypatch.setattr(_kmers, "_BASES", 12)
    same_object(ol.pp.kmer_counts(adata, k=2), whole)


def test_counts_of_a_fasta_equal_those_of_its_contigs(adata, tmp_path):
    path = tmp_path / "a.fa"
    named = zip("wxyz", SEQUENCES, strict=True)
    path.write_text("".join(f">{n} x\n{s[:7]}\n{s[7:]}\n" for n, s in named))
    got = ol.pp.kmer_counts(fasta=path, k=3)
    counts = ol.pp.kmer_counts(adata, k=3, all_lengths=True)
    np.testing.assert_array_equal(got.X.toarray(), counts.X.toarray())
    assert list(got.var_names) == list(counts.var_names)
    assert got.X.dtype == np.int64 and list(got.obs_names) == list("wxyz")
    assert got.obs["length"].tolist() == [len(s) for s in SEQUENCES]
    assert got.obs["n_unknown"].tolist() == [0, 3, 0, 0]
    soft = ol.pp.kmer_counts(fasta=path, k=3, lower="unknown")
    assert soft.obs["n_unknown"].tolist() == [0, 3, 4, 0]
    got.write_h5ad(tmp_path / "a.h5ad")
    same_object(ad.read_h5ad(tmp_path / "a.h5ad"), got)


def test_counts_refuse(adata):
    for change, message in (
        (("w", "ACGU"), "'w' holds 'U'.*write T for U"),
        (("x", "AC"), r"1 sequence\(s\) have fewer than 3 bases \(first: 'x' with 2\)"),
        (("y", np.nan), "of 'y' is nan, not a sequence"),
    ):
        bad = adata.copy()
        bad.obs["sequence"] = bad.obs["sequence"].astype(object)
        bad.obs.loc[change[0], "sequence"] = change[1]
        with pytest.raises(ValueError, match=message):
            ol.pp.kmer_counts(bad, k=3)
    with pytest.raises(KeyError, match="'dna' is not in adata.obs.*read_sequences"):
        ol.pp.kmer_counts(adata, sequence_key="dna")
    for kwargs in ({}, {"adata": adata, "fasta": "a.fa"}):
        with pytest.raises(ValueError, match="either adata with sequences, or fasta="):
            ol.pp.kmer_counts(**kwargs)
    with pytest.raises(ValueError, match="k must be a whole number"):
        ol.pp.kmer_counts(adata, k=0)


def random_counts(k=3, n=40, seed=0):
    rng = np.random.default_rng(seed)
    draws = ["".join(rng.choice(list("ACGT"), 200, p=[0.4, 0.1, 0.2, 0.3])) for _ in range(n)]
    obs = pd.DataFrame({"sequence": draws}, index=[f"s{i}" for i in range(n)])
    return ol.pp.kmer_counts(ad.AnnData(obs=obs), k=k)


def test_pmi_goes_by_names_not_by_position():
    counts = random_counts()
    shuffled = counts[:, np.random.default_rng(1).permutation(64)].copy()
    ol.pp.kmer_pmi(counts)
    ol.pp.kmer_pmi(shuffled)
    pd.testing.assert_frame_equal(shuffled.var.loc[counts.var_names], counts.var)
    ranked = counts.var.dropna().sort_values("pmi_rank")
    assert ranked["pmi"].is_monotonic_decreasing
    assert ranked["pmi_rank"].tolist() == list(range(1, len(ranked) + 1))


def test_pmi_of_independent_bases_is_nothing():
    """Bases drawn independently: no word holds together."""
    counts = random_counts(k=2, n=400)
    ol.pp.kmer_pmi(counts)
    assert counts.var["pmi"].abs().max() < 0.05


def test_pmi_uses_the_short_words_that_are_there():
    counts = random_counts()
    both = ad.AnnData(
        np.concatenate([np.full((1, 20), 1e4), counts.X.toarray().sum(0)[None]], axis=1),
        var=pd.DataFrame(index=[*"ATCG", *(a + b for a in "ATCG" for b in "ATCG"),
                                *counts.var_names]),
    )  # fmt: skip
    ol.pp.kmer_pmi(both)
    assert np.isnan(both.var["pmi"][:20]).all()
    ol.pp.kmer_pmi(counts)
    assert np.nanmax(np.abs(both.var["pmi"][20:].to_numpy() - counts.var["pmi"])) > 0.1
    ol.pp.kmer_pmi(both, k=2, key_added="two")
    assert np.isfinite(both.var["two"]).sum() == 16


def test_pmi_of_the_published_counts(data_dir):
    frame = pd.read_csv(data_dir / "dna" / "kmer6_counts_recovered.csv")
    counts = ad.AnnData(frame["count"].to_numpy(float)[None], var=pd.DataFrame(index=frame["kmer"]))
    ol.pp.kmer_pmi(counts, total="reference")
    ranks = ol.io.read_kmer_ranks(data_dir / "dna" / "norm_pmi_score_ranking_6mer.csv.gz")
    theirs = ranks[counts.var_names].to_numpy()
    ours = counts.var["pmi_rank"].to_numpy()
    assert np.corrcoef(ours, theirs)[0, 1] >= 0.9999  # ranks: this is Spearman's
    assert set(np.flatnonzero(ours <= 100)) == set(np.flatnonzero(theirs <= 100))


def test_pmi_refuses(tiny):
    counts = random_counts()
    with pytest.raises(ValueError, match="must be k-mers.*'Gene0'.*kmer_counts"):
        ol.pp.kmer_pmi(tiny)
    for kwargs, message in (
        ({"k": 4}, "holds no 4-mers"),
        ({"total": "x"}, "total must be one of"),
        ({"max_piece": 3}, "max_piece must be"),
        ({"min_count": 10**6}, "No 3-mer occurs 1000000 times.*Lower min_count="),
    ):
        with pytest.raises(ValueError, match=message):
            ol.pp.kmer_pmi(counts, **kwargs)
    counts.X = -counts.X
    with pytest.raises(ValueError, match="must not be negative"):
        ol.pp.kmer_pmi(counts)
    assert not counts.var.columns.str.startswith("pmi").any()


def test_counts_and_words_agree_with_a_counter():
    counts = random_counts(k=2, n=3)
    rng = np.random.default_rng(0)
    for row in range(3):
        sequence = "".join(rng.choice(list("ACGT"), 200, p=[0.4, 0.1, 0.2, 0.3]))
        pairs = Counter(sequence[i : i + 2] for i in range(199))
        got = dict(zip(counts.var_names, counts.X[row].toarray().ravel(), strict=True))
        assert got == {w: pairs[w] for w in counts.var_names}


def test_counts_above_the_whole_numbers_of_float32():
    n = 2**24 + 1
    adata = ad.AnnData(obs=pd.DataFrame({"sequence": ["A" * n + "C"]}, index=["s"]))
    counts = ol.pp.kmer_counts(adata, k=1)
    assert counts.X.toarray().tolist() == [[n, 0, 1, 0]]


@pytest.mark.parametrize("of", ["adata", "fasta"])
def test_arguments_that_would_do_nothing_are_refused(of, tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n")
    adata = ad.AnnData(obs=pd.DataFrame({"sequence": ["ACgT"]}, index=["a"]))
    given = {"adata": adata} if of == "adata" else {"fasta": path}
    idle = {"lower": "refuse"} if of == "adata" else {"sequence_key": "s"}
    with pytest.raises(ValueError, match=next(iter(idle))):
        ol.pp.kmer_counts(**given, k=2, **idle)
