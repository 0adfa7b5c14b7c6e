"""Normalised PMI against its definition, and against the published ranking."""

from __future__ import annotations

import csv
import gzip
from math import log

import numpy as np
import pytest
from scipy.stats import spearmanr

from omicllm.genome import kmers, pmi


def segmentations(word, most):
    """Every way to cut a word into pieces of at most `most` bases."""
    if not word:
        yield []
    for size in range(1, min(most, len(word)) + 1):
        for rest in segmentations(word[size:], most):
            yield [word[:size], *rest]


@pytest.mark.parametrize("max_piece", [1, 2, None])
@pytest.mark.parametrize("total", ["length", "reference"])
def test_scores_are_the_definition(total, max_piece):
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 3000, p=[0.4, 0.1, 0.2, 0.3]))
    k, counter = 4, kmers.KmerCounter(4)
    counter.add(kmers.base_codes(sequence))
    counts = counter.finish()
    score = pmi.normalised_pmi(counts, total=total, max_piece=max_piece, min_count=5)
    seen = {w: int(c) for j in range(1, k + 1) for w, c in
            zip(kmers.kmer_names(j), counts[j - 1], strict=True)}  # fmt: skip
    whole = {j: int(counts[j - 1].sum()) for j in range(1, k + 1)}

    def p(word):
        return log(seen[word] / (2 * whole[1] if total == "reference" else whole[len(word)]))

    most = max_piece or (k - 1 if total == "length" else 2)
    for word, value in zip(kmers.kmer_names(k), score, strict=True):
        c = seen[word]
        if c < 5:
            assert np.isnan(value)
            continue
        best = max(sum(map(p, s)) for s in segmentations(word, most))
        assert value == pytest.approx((p(word) - best) * log(c) / (log(c) + log(5)), abs=1e-12)


def test_ranks():
    ranks = pmi.descending_ranks(np.array([0.5, np.nan, 2.0, 0.5]))
    np.testing.assert_array_equal(ranks, [2, np.nan, 1, 3])


def test_published_ranking(data_dir):
    names = kmers.kmer_names(6)
    with (data_dir / "dna" / "kmer6_counts_recovered.csv").open() as handle:
        seen = {row["kmer"]: int(row["count"]) for row in csv.DictReader(handle)}
    with gzip.open(data_dir / "dna" / "norm_pmi_score_ranking_6mer.csv.gz", "rt") as handle:
        published = {r["ngram"]: int(r["norm_pmi_rank_rel"]) for r in csv.DictReader(handle)}
    counts = pmi.shorter_counts(np.array([seen[w] for w in names]), 6)
    ranks = pmi.descending_ranks(pmi.normalised_pmi(counts, total="reference"))
    theirs = np.array([published[w] for w in names])
    assert spearmanr(ranks, theirs)[0] >= 0.9999
    assert set(np.flatnonzero(ranks <= 100)) == set(np.flatnonzero(theirs <= 100))


def test_bad_input():
    counts = pmi.shorter_counts(np.ones(64), 3)
    for kwargs, message in (
        ({"total": "x"}, "total must be"),
        ({"max_piece": 3}, "max_piece must be from 1 to k - 1"),
        ({"min_count": 1}, "min_count must be"),
    ):
        with pytest.raises(ValueError, match=message):
            pmi.normalised_pmi(counts, **kwargs)
    with pytest.raises(ValueError, match="at least 2 bases"):
        pmi.normalised_pmi(counts[:1])
