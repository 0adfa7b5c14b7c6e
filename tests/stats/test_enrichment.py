"""Enrichment within strata, against other ways to compute it."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from omicllm.stats.enrichment import matched_enrichment


def test_one_stratum_is_fishers_test():
    rng = np.random.default_rng(0)
    selected, inside = rng.random(80) < 0.3, rng.random(80) < 0.4
    found = matched_enrichment(
        selected, inside, np.zeros(80, int), np.arange(80), rng=np.random.default_rng(0)
    )
    table = [[(selected & inside).sum(), (selected & ~inside).sum()],
             [(~selected & inside).sum(), (~selected & ~inside).sum()]]  # fmt: skip
    assert found.pval == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    assert found.observed == pytest.approx(inside[selected].mean())
    assert found.expected == pytest.approx(inside[~selected].mean())
    assert found.low < found.ratio < found.high and found.n_unmatched == 0


def test_strata_take_away_what_they_explain():
    """Near things are selected and inside more often, for no other reason."""
    rng = np.random.default_rng(1)
    pvals, crude, ratios, covered = [], [], [], 0
    for _ in range(200):
        near = rng.random(600) < 0.3
        selected = rng.random(600) < np.where(near, 0.3, 0.03)
        inside = rng.random(600) < np.where(near, 0.5, 0.1)
        group = np.repeat(np.arange(60), 10)
        found = matched_enrichment(selected, inside, near.astype(int), group, n_boot=200, rng=rng)
        pvals.append(found.pval)
        ratios.append(found.ratio)
        covered += found.low <= 1 <= found.high
        all_alike = np.zeros(600, int)
        crude.append(matched_enrichment(selected, inside, all_alike, group, n_boot=2, rng=rng).pval)
    assert np.mean(np.array(pvals) < 0.05) < 0.09 and np.mean(np.array(crude) < 0.05) > 0.9
    assert np.mean(ratios) == pytest.approx(1, abs=0.05) and covered > 0.88 * 200


def test_unmatched_and_nothing_inside():
    selected = np.array([True, True, False, False])
    stratum, inside = np.array([0, 1, 0, 0]), np.array([True, True, True, False])
    found = matched_enrichment(selected, inside, stratum, stratum, rng=np.random.default_rng(0))
    assert (found.n_selected, found.n_unmatched, found.n_background) == (1, 1, 2)
    assert found.expected == 0.5 and found.ratio == 2
    none = matched_enrichment(
        selected, np.zeros(4, bool), stratum, stratum, rng=np.random.default_rng(0)
    )
    assert np.isnan(none.ratio) and none.pval == 1
