"""Put spots on the pixels of a gene image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Where each spot lies in the image of its section.

    Attributes
    ----------
    position
        int32 (n_obs, 2), row and column.
    shape
        Height and width in pixels.
    method
        ``"hex"``, ``"square"`` or ``"bin"``.
    scale
        Pixels per coordinate unit; 1 for array positions.
    """

    position: np.ndarray
    shape: tuple[int, int]
    method: str
    scale: float

    @property
    def pixel(self) -> np.ndarray:
        """Flat pixel index of each spot, int64 (n_obs,)."""
        return self.position[:, 0].astype(np.int64) * self.shape[1] + self.position[:, 1]

    @property
    def occupancy(self) -> np.ndarray:
        """Bool (height, width): the pixel holds at least one spot."""
        mask = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        mask[self.pixel] = True
        return mask.reshape(self.shape)


def is_hexagonal(array_row: np.ndarray, array_col: np.ndarray) -> bool:
    """Whether array positions are those of a hexagonal array: row + column is always even."""
    return bool(np.all((array_row + array_col) % 2 == 0))


def hex_grid(array_row: np.ndarray, array_col: np.ndarray) -> Grid:
    """Pixels of a hexagonal array (Visium, 2k ST): columns are halved, odd rows lie half a step on.

    Parameters
    ----------
    array_row, array_col
        Integer array positions (n_obs,), column counted in half steps as Space Ranger does.
    """
    row = array_row - array_row.min()
    col = (array_col - array_col.min() + 1) // 2
    return _finish(row, col, "hex", 1.0)


def square_grid(array_row: np.ndarray, array_col: np.ndarray) -> Grid:
    """Pixels of a square array: its integer positions, moved to the origin."""
    return _finish(array_row - array_row.min(), array_col - array_col.min(), "square", 1.0)


def bin_grid(
    coords: np.ndarray, *, pixel_size: float | None = None, n_pixels: int | None = None
) -> Grid:
    """Pixels of irregular coordinates.

    Parameters
    ----------
    coords
        float64 (n_obs, 2), x and y; y runs down the rows, as in an image.
    pixel_size
        Side of a pixel in coordinate units. By default the largest one at which an occupied
        pixel holds 1.3 spots or fewer in the mean.
    n_pixels
        Choose the side so that about this many pixels are occupied instead.
    """
    moved = coords - coords.min(axis=0)
    if pixel_size is None and n_pixels is None:
        lattice = _lattice(moved)
        if lattice is not None:
            return lattice
    if pixel_size is None:
        pixel_size = _side(moved, n_pixels or max(2, round(len(coords) / SPOTS_PER_PIXEL)))
    index = np.floor(moved / pixel_size + 1e-9).astype(np.int64)
    return _finish(index[:, 1], index[:, 0], "bin", 1.0 / pixel_size)


def _lattice(moved: np.ndarray) -> Grid | None:
    """Round coordinates that almost form a square array (older ST) to it, if spots stay apart."""
    from scipy.spatial import KDTree

    if len(moved) < 9:
        return None
    distance = KDTree(moved).query(moved, k=5)[0][:, 1:]
    side = float(np.median(distance[:, 0]))
    if side == 0 or np.percentile(distance[:, 0], 90) > 1.2 * side:
        return None
    # The nearest of four neighbours is too near in the mean; all four are not.
    side = float(distance[distance < 1.3 * side].mean())
    offset = np.zeros(2)
    for _ in range(10):
        index = np.rint((moved - offset) / side)
        centred = index - index.mean(axis=0)
        side = float((moved * centred).sum() / max((centred**2).sum(), 1.0)) or side
        offset = (moved - index * side).mean(axis=0)
    whole = index.astype(np.int64)
    whole -= whole.min(axis=0)
    grid = _finish(whole[:, 1], whole[:, 0], "bin", 1.0 / side)
    return grid if shared_pixels(grid) * 50 <= len(moved) else None


#: Mean number of spots in an occupied pixel that binning aims at.
SPOTS_PER_PIXEL = 1.3


def _side(moved: np.ndarray, occupied: int) -> float:
    """Find the largest pixel side that leaves at least `occupied` pixels occupied (bisection)."""
    distinct = len(np.unique(moved, axis=0))
    occupied = min(occupied, distinct)
    extent = float(moved.max())
    if extent == 0:
        return 1.0
    high = extent * 1.01
    low = extent / (4.0 * np.sqrt(len(moved)) + 4.0)
    while _n_occupied(moved, low) < occupied and low > extent * 1e-6:
        low /= 2
    for _ in range(40):
        middle = np.sqrt(low * high)
        if _n_occupied(moved, middle) >= occupied:
            low = middle
        else:
            high = middle
        if high / low < 1.0005:
            break
    return float(low)


def _n_occupied(moved: np.ndarray, side: float) -> int:
    index = np.floor(moved / side + 1e-9).astype(np.int64)
    return len(np.unique(index[:, 1] * (index[:, 0].max() + 1) + index[:, 0]))


def _finish(row: np.ndarray, col: np.ndarray, method: str, scale: float) -> Grid:
    position = np.stack([row, col], axis=1).astype(np.int32)
    shape = (int(position[:, 0].max()) + 1, int(position[:, 1].max()) + 1)
    return Grid(position, shape, method, scale)


def shared_pixels(grid: Grid) -> int:
    """Number of spots that lie on a pixel another spot already has."""
    return len(grid.position) - len(np.unique(grid.pixel))
