"""Baselines and divisions of rows on made numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from omicllm.stats import histology as h


@pytest.fixture
def linked():
    rng = np.random.default_rng(0)
    sections = np.repeat(["a", "b", "c"], 80)
    X = rng.normal(size=(240, 6)) + np.repeat(rng.normal(size=(3, 6)) * 5, 80, axis=0)
    Y = (X - X.mean(axis=0)) @ rng.normal(size=(6, 8)) + rng.normal(size=(240, 8))
    return X, Y, sections


def test_every_baseline(linked):
    X, Y, sections = linked
    train = sections != "c"
    found, alphas = h.Baselines(n_neighbors=10).predict(
        X[train], Y[train], sections[train], sections[train], X[~train], sections[~train], [0, 1, 2]
    )
    assert list(found) == list(h.METHODS)
    assert set(alphas) == {"ridge", "rgb"}
    from omicllm.stats.ridge import mean_correlation

    r = {m: mean_correlation(p, Y[~train], sections[~train]) for m, p in found.items()}
    assert r["ridge"] > 0.8 and r["ridge"] > r["rgb"] > 0 and r["knn"] > 0.5
    assert abs(r["mean"]) < 1e-9
    mean = np.mean([Y[sections == s].mean(axis=0) for s in "ab"], axis=0)
    np.testing.assert_allclose(found["mean"], np.tile(mean, (80, 1)))
    without, _ = h.Baselines().predict(
        X[train], Y[train], sections[train], sections[train], X[~train], sections[~train]
    )
    assert "rgb" not in without


def test_variable_genes_by_section():
    rng = np.random.default_rng(0)
    sections = np.repeat([0, 1], 50)
    values = rng.normal(size=(100, 5)) * [1, 3, 2, 0.1, 0.1]
    values[:, 3] += sections * 100  # differs between sections, not within
    np.testing.assert_array_equal(h.variable_genes(values, sections, 3), [0, 1, 2])
    found = h.variable_genes(sparse.csr_matrix(values), sections, 3)
    np.testing.assert_array_equal(found, [0, 1, 2])


def test_leave_group_out():
    folds = h.leave_group_out(np.array(["b", "a", "b", "c"]))
    assert [f.name for f in folds] == ["a", "b", "c"]
    np.testing.assert_array_equal(folds[1].test, [0, 2])
    np.testing.assert_array_equal(folds[1].train, [1, 3])


def test_leave_block_out_keeps_a_margin():
    y, x = (v.ravel().astype(float) for v in np.mgrid[:10, :10])
    coords, sections = np.stack([x, y], axis=1), np.zeros(100)
    blocks = (x >= 5).astype(int)
    for fold in h.leave_block_out(coords, sections, blocks, buffer=2.01):
        gap = np.abs(x[fold.train][:, None] - x[fold.test][None]).min()
        assert gap == 3
        assert len(fold.test) == 50 and len(fold.train) == 30
    assert h.neighbor_distance(coords, sections) == 1
    assert h.neighbor_distance(coords[:1], sections[:1]) == 0
