"""Motif search: what is planted is found, what is not there is not."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm.genome import kmers, motifs

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def planted(n=300, k=120, length=80, motif="TGACTCAGC", seed=0, both=True):
    """`n` positives, `k` of which hold the motif, and `n` negatives."""
    rng = np.random.default_rng(seed)
    sequences = ["".join(rng.choice(list("ACGT"), length)) for _ in range(2 * n)]
    for i in range(k):
        at = rng.integers(0, length - len(motif))
        word = motif[::-1].translate(COMPLEMENT) if both and rng.random() < 0.5 else motif
        sequences[i] = sequences[i][:at] + word + sequences[i][at + len(motif) :]
    return sequences, np.arange(2 * n) < n


def searched(sequences, label, seed=0, **kwargs):
    codes = motifs.padded(sequences)
    held = motifs.halves(codes, label, np.random.default_rng(seed))
    return motifs.find_motifs(codes, label, held, n_motifs=2, **kwargs), codes, held


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_motif_is_found_on_the_held_out_half(seed):
    found, _, held = searched(*planted(seed=seed))
    best = found[0]
    assert best.consensus in ("TGACTCAGC", "GCTGAGTCA")
    assert best.pval < 1e-10 and best.found[2] >= 50
    assert held.sum() == 300
    np.testing.assert_allclose(best.matrix.sum(axis=1), 1, atol=1e-6)


def test_shuffled_labels_give_nothing():
    sequences, label = planted()
    for seed in range(4):
        shuffled = np.random.default_rng(seed).permutation(label)
        found, *_ = searched(sequences, shuffled, seed)
        assert all(m.pval > 0.025 for m in found)


def test_null_p_values_are_honest():
    """Whatever the search dredges up in one half, the other half does not confirm it."""
    p = []
    for seed in range(12):
        sequences, label = planted(n=100, k=0, length=40, seed=seed)
        found, *_ = searched(sequences, label, seed_pval=1e9, n_seeds=1, n_steps=3)
        p += [m.pval for m in found]
    assert len(p) >= 20
    assert np.mean(np.array(p) < 0.1) < 0.3 and np.mean(p) > 0.35


def test_one_strand():
    sequences, label = planted(both=False)
    found, codes, _ = searched(sequences, label, both_strands=False)
    assert found[0].consensus == "TGACTCAGC"
    sites = motifs.best_sites(codes, found[0].log_odds, both_strands=False)
    assert sites.forward.all()
    hit = np.flatnonzero((sites.score >= found[0].threshold) & label)
    words = {sequences[i][sites.start[i] : sites.start[i] + 9] for i in hit}
    assert "TGACTCAGC" in words


def test_identical_sequences_stay_together():
    sequences, label = planted(n=40, k=0)
    sequences[10:20] = sequences[:10]
    held = motifs.halves(motifs.padded(sequences), label, np.random.default_rng(0))
    np.testing.assert_array_equal(held[10:20], held[:10])
    assert 0.4 < held.mean() < 0.6


def test_scores_are_sums_of_log_odds():
    rng = np.random.default_rng(0)
    codes = motifs.padded(["ACGTTGCAAC", "ACGNTG", "TT"])
    log_odds = rng.normal(size=(3, 4))
    sites = motifs.best_sites(codes, log_odds)
    row = codes[0]
    forward = [sum(log_odds[t, row[s + t]] for t in range(3)) for s in range(8)]
    other = kmers.reverse_complement(row)
    back = [sum(log_odds[t, other[7 - s + t]] for t in range(3)) for s in range(8)]
    assert sites.score[0] == pytest.approx(max(forward + back), abs=1e-5)
    own = (forward if sites.forward[0] else back)[sites.start[0]]
    assert sites.score[0] == pytest.approx(own, abs=1e-5)
    assert sites.score[2] < -1e3, "no room for a site"


def test_consensus():
    matrix = np.array([[0.97, 0.01, 0.01, 0.01], [0.5, 0.02, 0.46, 0.02], [0.25] * 4])
    assert motifs.consensus(matrix) == "ARN"


def test_shuffling_keeps_pairs():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        codes = kmers.base_codes(
            "".join(rng.choice(list("ACGTN"), 200, p=[0.3, 0.3, 0.2, 0.15, 0.05]))
        )
        out = motifs.dinucleotide_shuffle(codes, rng)
        pairs = [np.bincount(c[:-1].astype(int) * 5 + c[1:], minlength=25) for c in (codes, out)]
        np.testing.assert_array_equal(*pairs)
        assert (codes != out).mean() > 0.4
    for short in ("", "A", "AC", "AAAA"):
        codes = kmers.base_codes(short)
        np.testing.assert_array_equal(motifs.dinucleotide_shuffle(codes, rng), codes)
