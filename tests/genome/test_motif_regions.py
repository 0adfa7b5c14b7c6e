"""Motifs from regions of high scores."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm.genome import motif_regions as regions
from omicllm.genome import motifs

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def planted(motif="TGACTCAGC", n=120, share=0.6, length=60, seed=0, both=True):
    """Sequences, classes, halves, and the bases of the motif in `share` of the positives."""
    rng = np.random.default_rng(seed)
    sequences = ["".join(rng.choice(list("ACGT"), length)) for _ in range(2 * n)]
    high = np.zeros((2 * n, length), dtype=bool)
    for i in range(int(n * share)):
        at = rng.integers(0, length - len(motif))
        word = motif[::-1].translate(COMPLEMENT) if both and rng.random() < 0.5 else motif
        sequences[i] = sequences[i][:at] + word + sequences[i][at + len(word) :]
        high[i, max(at - 2, 0) : at + len(word) + 2] = True
    codes, positive = motifs.padded(sequences), np.arange(2 * n) < n
    return codes, positive, motifs.halves(codes, positive, rng), high


def test_runs_of_high_bases():
    score = np.array([0, 0, 5, 5, 5, 5, 5, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0.0])
    got = regions.high_regions([score, score[:3], np.full(4, np.nan)], 22)
    assert np.flatnonzero(got[0]).tolist() == [2, 3, 4, 5, 6], "a run of two is too short"
    assert not got[1:].any()
    got = regions.high_regions([score], 22, cutoff=6.0)
    assert not got.any()
    got = regions.high_regions([score], 22, shortest=2)
    assert got[0].sum() == 7


@pytest.mark.parametrize("both", [True, False])
def test_words_of_regions_become_the_motif(both):
    codes, positive, held, high = planted(both=both)
    found = regions.motifs_of_regions(codes, positive, held, high, both_strands=both)
    assert found[0].consensus in ("TGACTCAGC", "GCTGAGTCA")[: 1 + both]
    assert found[0].pval < 1e-6
    assert found[0].found[0] + found[0].found[2] >= 65 and found[0].found[3] <= 4
    assert all(m.pval > 0.01 for m in found[1:])


def test_only_words_of_regions_count():
    codes, positive, held, high = planted()
    assert regions.motifs_of_regions(codes, positive, held, np.zeros_like(high)) == []
    high[~held] = False
    assert regions.motifs_of_regions(codes, positive, held, high) == [], (
        "held-out rows are not read"
    )


def test_shuffled_labels_give_nothing():
    codes, positive, held, _ = planted()
    rng = np.random.default_rng(0)
    p = []
    for _ in range(3):
        label = rng.permutation(positive)
        found = regions.motifs_of_regions(
            codes, label, motifs.halves(codes, label, rng), np.ones(codes.shape, dtype=bool)
        )
        p += [m.pval for m in found]
    assert all(q > 0.01 for q in p)


def test_two_motifs():
    codes, positive, held, high = planted()
    other = motifs.padded(["CCGGAAGTA"])[0]
    codes[np.arange(30, 110), 3:12] = other
    high[30:110, 3:12] = True
    found = regions.motifs_of_regions(codes, positive, held, high)
    names = {m.consensus for m in found if m.pval < 1e-6}
    assert names & {"CCGGAAGTA", "TACTTCCGG"} and names & {"TGACTCAGC", "GCTGAGTCA"}


def test_matrices_of_another_program():
    codes, positive, held, _ = planted()
    matrix = np.array([[b == c for c in "ACGT"] for b in "TGACTCAGC"], dtype=float)
    long = np.full((80, 4), 0.25)
    found = regions.motifs_of_matrices(codes, positive, held, [matrix, long])
    assert len(found) == 1, "one that is longer than the sequences is left out"
    assert found[0].consensus == "TGACTCAGC" and found[0].pval < 1e-6
    np.testing.assert_allclose(found[0].matrix, matrix, atol=0.02)
