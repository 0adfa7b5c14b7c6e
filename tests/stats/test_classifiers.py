"""`stats.classifiers`: the baselines and the folds."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm.stats.classifiers import BASELINES, baseline_probabilities, folds


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_lack_no_class(name):
    rng = np.random.default_rng(0)
    Z, codes = rng.normal(size=(30, 4)), np.array([0, 2] * 15)
    Z[codes == 2] += 4
    P = baseline_probabilities(name, Z, codes, Z, 3)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (P[:, 1] < 1e-6).all()
    if name != "majority":
        assert (P.argmax(axis=1) == codes).mean() > 0.9


def test_folds_spread_the_classes():
    codes = np.array([0] * 10 + [1] * 5 + [2])
    fold = folds(codes, 5, np.random.default_rng(0))
    assert (np.bincount(fold[codes == 0]) == 2).all() and (np.bincount(fold[codes == 1]) == 1).all()
