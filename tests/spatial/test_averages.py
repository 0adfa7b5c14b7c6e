"""`spatial.averages`: neighbours within a section."""

from __future__ import annotations

import numpy as np

from omicllm.spatial.averages import neighbor_average


def test_nearest_others_of_the_section():
    rng = np.random.default_rng(0)
    coords = rng.random((60, 3))
    sections = np.repeat([0, 1, 2], [40, 19, 1])
    A = neighbor_average(coords, 6, sections).toarray()
    for i in (0, 17, 45):
        distance = np.linalg.norm(coords - coords[i], axis=1)
        distance[sections != sections[i]] = np.inf
        distance[i] = np.inf
        assert set(np.flatnonzero(A[i])) == set(np.argsort(distance)[:6])
    np.testing.assert_allclose(A.sum(axis=1), [*np.ones(59), 0], rtol=1e-6)
    assert not A.diagonal().any()


def test_cells_at_one_place_and_small_sections():
    A = neighbor_average(np.zeros((9, 2)), 3).toarray()
    np.testing.assert_allclose(A.sum(axis=1), 1, rtol=1e-6)
    assert not A.diagonal().any()
    B = neighbor_average(np.arange(4.0)[:, None], 10).toarray()
    np.testing.assert_allclose(B, (1 - np.eye(4)) / 3, rtol=1e-6)
    assert neighbor_average(np.zeros((1, 2)), 3).nnz == 0
