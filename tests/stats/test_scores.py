"""`stats.scores` against their definitions, scikit-learn and worked examples."""

from __future__ import annotations

import numpy as np
import pytest

import omicllm as ol
from omicllm.stats.scores import (
    auroc,
    balanced_accuracy,
    benjamini_hochberg,
    calibration,
    macro_f1,
    upper_tail,
)


def test_scores_against_sklearn():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    codes, P = rng.integers(3, size=60), rng.dirichlet(np.ones(3), size=60)
    guess = P.argmax(axis=1)
    assert balanced_accuracy(codes, guess) == pytest.approx(
        metrics.balanced_accuracy_score(codes, guess)
    )
    assert macro_f1(codes, guess) == pytest.approx(metrics.f1_score(codes, guess, average="macro"))
    told = calibration(P, codes)
    assert told["log_loss"] == pytest.approx(metrics.log_loss(codes, P))
    sure = calibration(np.array([[0.8, 0.2]] * 10), np.array([0] * 8 + [1] * 2))
    assert sure["ece"] == pytest.approx(0) and sure["brier"] == pytest.approx(0.32)
    assert calibration(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 1, 1]))["ece"] == 0.5
    with pytest.raises(ValueError, match="must be"):
        ol.metrics.calibration(P, codes[:5])


@pytest.mark.filterwarnings("error")
def test_scores_of_classes_by_their_definition():
    rng = np.random.default_rng(1)
    for n_true, n_guessed in ((3, 3), (3, 5), (1, 4), (5, 2)):
        codes, guess = rng.integers(n_true, size=40), rng.integers(n_guessed, size=40)
        recall = [(guess[codes == c] == c).mean() for c in np.unique(codes)]
        assert balanced_accuracy(codes, guess) == pytest.approx(np.mean(recall), abs=1e-15)
        f1 = []
        for c in np.union1d(codes, guess):
            hits = ((codes == c) & (guess == c)).sum()
            f1.append(2 * hits / ((codes == c).sum() + (guess == c).sum()))
        assert macro_f1(codes, guess) == pytest.approx(np.mean(f1), abs=1e-15)
    names = np.array(["a", "b", "a"])
    assert balanced_accuracy(names, np.array(["a", "b", "c"])) == 0.75


@pytest.mark.parametrize("shape", [(0,), (1,), (30,), (6, 7)])
def test_false_discovery_rates_by_their_definition(shape):
    rng = np.random.default_rng(2)
    p = rng.random(shape).round(1)  # with ties
    if p.ndim == 2:
        p[1, 2], p[3, 3] = np.nan, 1 + 1e-12
    given = p.copy()
    q = benjamini_hochberg(p)
    assert q.shape == shape and np.array_equal(p, given, equal_nan=True)
    known = p[np.isfinite(p)]
    # The smallest rate at which a test would be called: over all cuts at or above its p.
    wanted = [
        min(min(1.0, cut * len(known) / (known <= cut).sum()) for cut in known[known >= one])
        for one in known
    ]
    np.testing.assert_allclose(q[np.isfinite(p)], wanted, rtol=1e-12)
    assert np.isnan(q[~np.isfinite(p)]).all()


def test_ranks_of_scores():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(3)
    score, positive = rng.integers(0, 9, 50), rng.random(50) < 0.3
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-14)
    null = rng.integers(0, 9, 20)
    wanted = [(1 + (null >= s).sum()) / 21 for s in score]
    np.testing.assert_allclose(upper_tail(score, null), wanted)


def test_partitions_are_scored_as_by_scikit_learn():
    from sklearn import metrics

    a, b = np.random.default_rng(4).integers(0, 4, (2, 60))
    assert ol.metrics.ari(a, b) == metrics.adjusted_rand_score(a, b)
    assert ol.metrics.nmi(a, b) == metrics.normalized_mutual_info_score(a, b)
