"""Places and neighbours."""

from __future__ import annotations

import numpy as np

from omicllm.spatial.measured_nearby import nearby_mean
from omicllm.spatial.surroundings import neighbors, position_features, spacing

RNG = np.random.default_rng(0)


def grid(side=7):
    return np.stack(np.divmod(np.arange(side**2), side), axis=1).astype(float)


def test_places_do_not_change_with_rotation_scale_or_place():
    xy = grid()
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b = position_features(xy), position_features(37 * xy @ turn + 5)
    # The grid of empty places turns with the axes, so distances to the edge may differ a little.
    np.testing.assert_allclose(a[:, :6], b[:, :6], atol=1e-6)
    assert np.abs(a[:, 6] - b[:, 6]).max() < 0.6


def test_the_middle_is_far_from_the_edge():
    place = position_features(grid())
    assert place[:, 6].argmax() == 24
    assert place[24, 0] == 9
    assert place[0, 0] == 4
    assert spacing(grid() * 3) == 3


def test_single_and_coinciding_observations():
    assert np.isfinite(position_features(np.zeros((1, 2)))).all()
    assert np.isfinite(position_features(np.zeros((4, 2)))).all()


def test_no_edge_crosses_sections_and_small_sections_have_what_there_is():
    xy = np.vstack([grid(4), grid(4), [[0.5, 0.5]]])
    sections = np.repeat([0, 1, 2], [16, 16, 1])
    found = neighbors(xy, sections, k=20)
    real = found.weight > 0
    assert (sections[found.index] == sections[:, None])[real].all()
    assert (real.sum(1) == [15] * 32 + [0]).all()
    assert not (found.index == np.arange(33)[:, None])[real].any()
    np.testing.assert_allclose(found.average(np.ones((33, 1))), 1)
    np.testing.assert_allclose(np.asarray(found.matrix(itself=False).sum(1)), 1)


def test_weights_are_gaussian_in_the_distance():
    found = neighbors(np.array([[0.0, 0], [1, 0], [3, 0]]), np.zeros(3), k=2)
    scale = 3.0  # median distance to the second neighbour: 3, 2, 3
    np.testing.assert_allclose(
        found.weight[0], np.exp(-0.5 * (np.array([1, 3]) / scale) ** 2), 1e-5
    )


def test_nearby_mean_leaves_out_the_own_value():
    xy = grid(5)
    values = RNG.normal(size=(25, 3))
    measured = np.ones(25, dtype=bool)
    out, known = nearby_mean(values, measured, xy, np.zeros(25, dtype=int))
    changed = values.copy()
    changed[7] += 100
    again, _ = nearby_mean(changed, measured, xy, np.zeros(25, dtype=int))
    assert known.all()
    np.testing.assert_array_equal(out[7], again[7])
    assert (out[6] != again[6]).all()


def test_nearby_mean_reads_measured_rows_of_the_section_alone():
    xy, sections = np.vstack([grid(3), grid(3)]), np.repeat([0, 1], 9)
    values = np.full((18, 2), np.nan)
    values[4] = 3.0
    measured = np.arange(18) == 4
    out, known = nearby_mean(values, measured, xy, sections)
    assert known.tolist() == [i != 4 and i < 9 for i in range(18)]
    assert (out[known] == 3).all()
