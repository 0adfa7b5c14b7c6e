"""`stats.calibration` against scikit-learn and worked examples."""

from __future__ import annotations

import numpy as np
import pytest

import omicllm as ol
from omicllm.stats.calibration import balanced_accuracy, calibration, macro_f1


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
