"""Grids: hand-made arrays, lattices, bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omicllm.spatial import grid


def test_hexagonal_array():
    row = np.array([4, 4, 5, 5, 6])
    col = np.array([2, 4, 3, 5, 2])
    made = grid.hex_grid(row, col)
    assert made.position.tolist() == [[0, 0], [0, 1], [1, 1], [1, 2], [2, 0]]
    assert made.shape == (3, 3) and made.position.dtype == np.int32
    assert grid.is_hexagonal(row, col) and not grid.is_hexagonal(row, col + row % 2)


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_hexagonal_arrays_never_share_a_pixel(h, w, top, left):
    row, col = (a.ravel() for a in np.meshgrid(np.arange(h), np.arange(2 * w), indexing="ij"))
    keep = (row + top + col + left) % 2 == 0
    made = grid.hex_grid(row[keep] + top, col[keep] + left)
    assert grid.shared_pixels(made) == 0
    assert made.occupancy.sum() == keep.sum()


def test_square_lattice_with_noise_is_recognised():
    rng = np.random.default_rng(0)
    y, x = (a.ravel() for a in np.meshgrid(np.arange(12), np.arange(9), indexing="ij"))
    coords = 200.0 * np.stack([x, y], axis=1) + rng.normal(0, 8, (108, 2))
    made = grid.bin_grid(coords)
    assert made.shape == (12, 9) and grid.shared_pixels(made) == 0
    assert np.array_equal(made.position, np.stack([y, x], axis=1))
    assert made.scale == pytest.approx(1 / 200, rel=0.1)


@pytest.mark.parametrize("n", [2, 50, 3000])
def test_irregular_coordinates(n):
    coords = np.random.default_rng(1).uniform(-500, 700, (n, 2))
    made = grid.bin_grid(coords)
    per_pixel = n / made.occupancy.sum()
    assert 1.0 <= per_pixel <= 1.45
    assert (made.position >= 0).all() and (made.position < made.shape).all()


def test_requested_size():
    coords = np.random.default_rng(1).uniform(0, 100, (2000, 2))
    made = grid.bin_grid(coords, pixel_size=10)
    assert made.shape == (10, 10) and made.scale == pytest.approx(0.1)
    assert abs(int(grid.bin_grid(coords, n_pixels=400).occupancy.sum()) - 400) <= 40


def test_all_spots_in_one_place():
    made = grid.bin_grid(np.ones((5, 2)))
    assert made.shape == (1, 1)
