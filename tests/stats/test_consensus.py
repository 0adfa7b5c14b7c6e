"""Votes of labellings."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from omicllm.stats.consensus import adjusted_rand, consensus, matched


def test_names_are_matched():
    a = np.array([0, 0, 0, 1, 1, 2])
    b = np.array([2, 2, 1, 0, 0, 1])
    np.testing.assert_array_equal(matched(a, b, 3), [0, 0, 2, 1, 1, 2])
    np.testing.assert_array_equal(matched(a, np.array([1, 2, 0])[a], 3), a)


def test_agreement_is_the_adjusted_rand_index():
    rng = np.random.default_rng(0)
    a = rng.integers(4, size=200)
    for b in (a, (a + 1) % 4, rng.integers(3, size=200), np.where(rng.random(200) < 0.3, 0, a)):
        np.testing.assert_allclose(adjusted_rand(a, b, 4), adjusted_rand_score(a, b))
    assert adjusted_rand(np.zeros(9, int), np.zeros(9, int), 2) == 1


def test_majority_wins_and_confidence_is_its_share():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 25)
    labelings = []
    for _ in range(9):
        one = truth.copy()
        one[rng.choice(100, 10, replace=False)] = rng.integers(4, size=10)
        labelings.append(rng.permutation(4)[one].astype(np.int16))
    label, confidence = consensus(labelings, 4, rng)
    np.testing.assert_array_equal(matched(truth, label, 4), truth)
    votes = np.mean([matched(label, one, 4) == label for one in labelings], axis=0)
    np.testing.assert_allclose(confidence, votes)
    assert confidence.min() < 1 and confidence.mean() > 0.85


def test_all_classes_stay():
    # Each labelling has its own third class of two items; the vote alone would have none.
    labelings = []
    for i in range(5):
        one = np.repeat([0, 1], 10)
        one[[i, 10 + i]] = 2
        labelings.append(one)
    label, confidence = consensus(labelings, 3, np.random.default_rng(0))
    assert len(np.unique(label)) == 3 and confidence.min() >= 0.2
    poorer = [*labelings, np.repeat([0, 1], 10)]  # has two classes only
    again, _ = consensus(poorer, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(again, label)


def test_fewer_classes_when_none_has_them():
    label, confidence = consensus([np.repeat([0, 2], 5)] * 3, 3, np.random.default_rng(0))
    assert len(np.unique(label)) == 2 and (confidence == 1).all()
