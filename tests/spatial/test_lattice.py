"""Lattices are found in coordinates, however turned, scaled, shaken and thinned; cells are not."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from omicllm.spatial import grid
from omicllm.spatial.lattice import find_lattice


def hexagonal(height=30, width=22):
    """Array row and column, and places, of a hexagonal array of pitch 1."""
    row, col = (a.ravel() for a in np.indices((height, 2 * width)))
    keep = (row + col) % 2 == 0
    row, col = row[keep], col[keep]
    return row, col, np.stack([col / 2, row * np.sqrt(3) / 2], axis=1)


def turned(xy, degrees):
    t = np.radians(degrees)
    return xy @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])


def up_to_flips(found, wanted):
    return any(
        np.array_equal(found - found.min(), s * wanted - (s * wanted).min()) for s in (1, -1)
    )


@pytest.mark.parametrize("degrees", [0, 7, 25, 60, 90, 181])
@pytest.mark.parametrize("scale", [137.3, 0.1, 1e-4])
def test_a_hexagonal_array(degrees, scale):
    rng = np.random.default_rng(degrees)
    row, col, xy = hexagonal()
    keep = rng.random(len(row)) < 0.75
    xy = turned(xy + rng.normal(0, 0.04, xy.shape), degrees) * scale + [1e3 * scale, -7.0]
    found = find_lattice(xy[keep])
    assert found is not None and found.staggered
    assert ((found.row + found.col) % 2 == 0).all()
    assert up_to_flips(found.row, row[keep]) and up_to_flips(found.col, col[keep])
    assert found.step == pytest.approx(scale, rel=0.01)
    made = grid.lattice_grid(xy[keep])
    assert made.method == "hex" and grid.shared_pixels(made) == 0


@pytest.mark.parametrize("degrees", [0, 8, 45, 80])
def test_a_square_array(degrees):
    rng = np.random.default_rng(1)
    y, x = (a.ravel() for a in np.indices((21, 17)))
    xy = turned(np.stack([x, y], axis=1) + rng.normal(0, 0.04, (len(x), 2)), degrees) * 55.0
    keep = rng.random(len(x)) < 0.8
    found = find_lattice(xy[keep])
    made = grid.lattice_grid(xy[keep])
    assert grid.shared_pixels(made) == 0
    # Neighbours stay neighbours: the distance of all pairs follows from rows and columns.
    place = np.stack([found.row, found.col], axis=1).astype(float)
    unit = np.sqrt(0.5) if found.staggered else 1.0
    true = np.stack([x, y], axis=1)[keep].astype(float)
    got, want = (np.linalg.norm(p - p[0], axis=1) for p in (place * unit, true))
    assert np.allclose(got, want)


def test_units_of_the_axes_may_differ():
    row, col, _ = hexagonal()
    made = grid.lattice_grid(np.stack([col, row], axis=1).astype(float))  # half steps, as stored
    assert np.array_equal(made.position, grid.hex_grid(row, col).position)


@pytest.mark.parametrize("n", [16, 20, 60, 400])
def test_places_strewn_at_random_are_none(n):
    found = [find_lattice(np.random.default_rng(s).random((n, 2)) * 900) for s in range(25)]
    assert found == [None] * 25


def test_cells_are_none_whatever_their_packing_and_units():
    from scipy.spatial import KDTree

    rng = np.random.default_rng(0)
    some = rng.random((2500, 2)) * 40
    tree, alive, kept = KDTree(some), np.ones(len(some), dtype=bool), []
    for i in range(len(some)):  # as near as they get, but no nearer than 0.85
        if alive[i]:
            kept.append(i)
            alive[tree.query_ball_point(some[i], 0.85)] = False
    assert find_lattice(some[kept]) is None
    pixels = np.unique(rng.integers(0, 90, (700, 2)), axis=0).astype(float)  # whole numbers
    assert find_lattice(pixels) is None


def test_a_stray_spot_does_not_turn_the_lattice():
    row, col, xy = hexagonal()
    xy = xy * 100.0
    xy[5] = [4e6, 3e6]
    found = find_lattice(xy)
    others = np.arange(len(xy)) != 5
    assert up_to_flips(found.row[others], row[others])


def test_spots_at_one_place_share_its_site():
    row, col, xy = hexagonal(12, 9)
    made = grid.lattice_grid(np.repeat(xy, 2, axis=0))
    assert np.array_equal(made.position, np.repeat(grid.hex_grid(row, col).position, 2, axis=0))


@pytest.mark.parametrize("section", ["NP", "CP"])
def test_visium_prostate(data_dir, section):
    adata = ad.read_h5ad(data_dir / "tissue" / "visium_prostate_normal_cancer.h5ad")
    part = adata[adata.obs["sample"] == section]
    found = find_lattice(np.asarray(part.obsm["spatial"], dtype=float))
    assert up_to_flips(found.row, part.obs["array_row"].to_numpy())
    assert up_to_flips(found.col, part.obs["array_col"].to_numpy())


@pytest.mark.parametrize("name", ["dlpfc_151510_500genes", "visium_mouse_embryo", "st_hippo1"])
def test_real_arrays_come_out_of_their_coordinates(data_dir, name):
    adata = ad.read_h5ad(data_dir / "tissue" / f"{name}.h5ad")
    made = grid.lattice_grid(np.asarray(adata.obsm["spatial"], dtype=float))
    array = (adata.obs[k].to_numpy().astype(int) for k in ("array_row", "array_col"))
    assert np.array_equal(made.position, grid.hex_grid(*array).position)
