"""Neighbours and their scores, against sklearn and by hand."""

from __future__ import annotations

import numpy as np
import pytest

import omicllm as ol
from omicllm.stats.neighbors import cosine_neighbors, pulled, unit_rows


def test_cosine_neighbors_are_those_of_sklearn():
    from sklearn.neighbors import NearestNeighbors

    Z = np.random.default_rng(0).normal(size=(70, 5))
    index, distance = cosine_neighbors(Z, 6, block=16)
    wanted = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(Z)
    d, i = wanted.kneighbors(Z)
    assert np.array_equal(index, i[:, 1:])
    np.testing.assert_allclose(distance, d[:, 1:], atol=1e-6)


def test_among():
    Z = np.random.default_rng(0).normal(size=(30, 4))
    among = np.arange(30) % 2 == 0
    index, _ = cosine_neighbors(Z, 3, among=among)
    assert among[index].all() and not (index == np.arange(30)[:, None]).any()


def test_zero_rows_are_no_nan():
    Z = np.zeros((4, 3))
    Z[0] = 1
    assert np.isfinite(unit_rows(Z)).all()


def test_overlap():
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(300, 8)), rng.normal(size=(300, 8))
    assert ol.metrics.neighbor_overlap(A, 2 * A) == 1.0
    chance = np.mean([ol.metrics.neighbor_overlap(A, rng.normal(size=(300, 8)))])
    assert chance == pytest.approx(20 / 299, abs=0.02)
    assert ol.metrics.neighbor_overlap(A[:5], B[:5], k=20) == 1.0
    with pytest.raises(ValueError, match="300 and 4 rows"):
        ol.metrics.neighbor_overlap(A, B[:4])


def test_recall():
    Z = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    assert ol.metrics.neighbor_recall(Z, ["a", "a", "b", "b"], k=1) == 1.0
    rows = np.array([True, False, False, False])
    recall = ol.metrics.neighbor_recall(Z, ["a", "a", "b", "b"], k=3, rows=rows)
    assert recall == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="labels"):
        ol.metrics.neighbor_recall(Z, ["a"])


def test_partitions():
    assert ol.metrics.ari([0, 0, 1, 1], [1, 1, 0, 0]) == 1.0
    assert ol.metrics.nmi([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0, abs=1e-9)


def test_pulled_against_a_loop():
    rng = np.random.default_rng(0)
    Z, memory = unit_rows(rng.normal(size=(9, 4))), unit_rows(rng.normal(size=(12, 4)))
    own = np.array([0, 1, 2, -1, -1, 5, 6, 11, 3])
    out = pulled(Z, memory, own, k=3, weight=0.7, block=4)
    for i in range(9):
        cosine = memory @ Z[i]
        if own[i] >= 0:
            cosine[own[i]] = -np.inf
        nearest = np.argsort(-cosine)[:3]
        wanted = Z[i] + 0.7 / 3 * sum(max(0.0, cosine[j]) * memory[j] for j in nearest)
        np.testing.assert_allclose(out[i], wanted / np.linalg.norm(wanted), rtol=1e-4, atol=1e-6)


def test_pulled_draws_neighbours_together_and_leaves_zero_rows():
    rng = np.random.default_rng(1)
    centre = rng.normal(size=6)
    Z = unit_rows(centre + 0.4 * rng.normal(size=(30, 6)))
    Z[4] = 0
    own = np.arange(30)
    out = pulled(Z, Z, own, k=5, weight=1.0)
    seen = np.arange(30) != 4
    assert not out[4].any()
    np.testing.assert_allclose(np.linalg.norm(out[seen], axis=1), 1.0, rtol=1e-5)
    assert (out[seen] @ out[seen].T).mean() > (Z[seen] @ Z[seen].T).mean() + 0.02
    assert np.array_equal(pulled(Z, Z, own, k=5, weight=0.0), unit_rows(Z))
    assert np.array_equal(pulled(Z[:1], Z[:1], own[:1], k=5, weight=1.0), unit_rows(Z[:1]))
    few = pulled(Z, Z[:3], np.full(30, -1), k=20, weight=1.0)
    assert np.isfinite(few).all()
