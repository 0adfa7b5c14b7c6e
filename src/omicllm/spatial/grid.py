"""Put spots on the pixels of a gene image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from omicllm.spatial.lattice import find_lattice


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
    transform
        float64 (2, 3): maps x, y (array column and row) and 1 to row and column, from which
        :func:`lies_on` tells whether a spot still belongs on its pixel.
    """

    position: np.ndarray
    shape: tuple[int, int]
    method: str
    scale: float
    transform: np.ndarray

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
    col = array_col - array_col.min()
    transform = np.array([[0, 1, -array_row.min()], [1, 0, -array_col.min()]], dtype=np.float64)
    return _finish(row, (col + 1) // 2, "hex", 1.0, transform)


def square_grid(array_row: np.ndarray, array_col: np.ndarray) -> Grid:
    """Pixels of a square array: its integer positions, moved to the origin."""
    top, left = array_row.min(), array_col.min()
    transform = np.array([[0, 1, 0.5 - top], [1, 0, 0.5 - left]])
    return _finish(array_row - top, array_col - left, "square", 1.0, transform)


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
        pixel holds 1.3 of the distinct places or fewer in the mean.
    n_pixels
        Choose the side so that about this many pixels are occupied instead.
    """
    if pixel_size is None and n_pixels is None:
        lattice = _square_lattice(coords)
        if lattice is not None:
            return lattice
    low = coords.min(axis=0)
    moved = coords - low
    if pixel_size is None:
        distinct = len(np.unique(moved, axis=0))
        pixel_size = _side(moved, min(pixels_wanted(distinct, n_pixels), distinct))
    index = np.floor(moved / pixel_size + 1e-9)
    transform = np.array([[0, 1, -low[1]], [1, 0, -low[0]]]) / pixel_size
    return _finish(index[:, 1], index[:, 0], "bin", 1.0 / pixel_size, transform)


def lattice_grid(coords: np.ndarray) -> Grid | None:
    """Pixels of coordinates that lie on a lattice, one for each site; None where they do not.

    Staggered rows (hexagonal arrays, square arrays on their corner) give a ``"hex"`` grid, as
    their array positions would; square ones a ``"bin"`` grid.
    """
    if coords.shape[1] != 2:
        return None
    square = _square_lattice(coords)
    if square is not None:
        return square
    lattice = find_lattice(coords)
    if lattice is None:
        return None
    scale, moved = 1.0 / lattice.step, lattice.transform.copy()
    if lattice.staggered:
        moved[:, 2] -= [lattice.row.min(), lattice.col.min()]
        made = hex_grid(lattice.row, lattice.col)
        return replace(made, scale=scale, transform=moved)
    row, col = lattice.row - lattice.row.min(), lattice.col - lattice.col.min()
    moved[:, 2] += [0.5 - lattice.row.min(), 0.5 - lattice.col.min()]
    return _finish(row, col, "bin", scale, moved)


def lies_on(
    position: np.ndarray, xy: np.ndarray, method: str, transform: np.ndarray, *, exact: bool
) -> np.ndarray:
    """Whether each spot lies on the pixel that a grid gave it, bool (n,).

    Parameters
    ----------
    position
        Row and column (n, 2) of the grid.
    xy
        Where the spots are now (n, 2): coordinates, or array column and row.
    method, transform
        Of the grid.
    exact
        Array positions, which are whole numbers.
    """
    found = xy @ transform[:, :2].T + transform[:, 2]
    target, reach = position + 0.5, np.array([0.5, 0.5])
    if method == "hex":  # a pixel of a hexagonal grid spans two half steps
        target = np.stack([position[:, 0], 2.0 * position[:, 1] - 0.5], axis=1)
        reach = np.array([0.5, 0.5 if exact else 1.5])
    slack = 1e-3 + 1e-9 * np.abs(found)
    return (np.abs(found - target) <= reach + slack).all(axis=1)


def _square_lattice(coords: np.ndarray) -> Grid | None:
    """Round coordinates that almost form a square array (older ST) to it, if spots stay apart."""
    from scipy.spatial import KDTree

    low = coords.min(axis=0)
    moved = coords - low
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
        used = side, offset
        centred = index - index.mean(axis=0)
        side = float((moved * centred).sum() / max((centred**2).sum(), 1.0)) or side
        offset = (moved - index * side).mean(axis=0)
    whole = index.astype(np.int64)
    first = whole.min(axis=0)
    whole -= first
    start = 0.5 - (low + used[1]) / used[0] - first
    transform = np.array([[0, 1 / used[0], start[1]], [1 / used[0], 0, start[0]]])
    grid = _finish(whole[:, 1], whole[:, 0], "bin", 1.0 / side, transform)
    return grid if shared_pixels(grid) * 50 <= len(moved) else None


#: Mean number of spots in an occupied pixel that binning aims at.
SPOTS_PER_PIXEL = 1.3


def pixels_wanted(n_distinct: int, n_pixels: int | None) -> int:
    """Pixels that should be occupied, where the caller did not say."""
    return max(2, round(n_distinct / SPOTS_PER_PIXEL)) if n_pixels is None else n_pixels


def _side(moved: np.ndarray, occupied: int) -> float:
    """Find the largest pixel side that leaves at least `occupied` pixels occupied (bisection)."""
    extent = float(moved.max())
    if extent == 0:
        return 1.0
    high = extent * 1.01
    low = extent / (4.0 * np.sqrt(len(moved)) + 4.0)
    # One spot far from all others must not merge them; the image has at most 2**30 rows.
    while _n_occupied(moved, low) < occupied and low > extent * 2.0**-29:
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


def _finish(
    row: np.ndarray, col: np.ndarray, method: str, scale: float, transform: np.ndarray
) -> Grid:
    shape = (int(row.max()) + 1, int(col.max()) + 1)
    if max(shape) >= 2**31:
        msg = (
            f"An image of {shape[0]} x {shape[1]} pixels is too large: a few positions lie far "
            "from all others, or pixel_size= is too small."
        )
        raise ValueError(msg)
    position = np.stack([row, col], axis=1).astype(np.int32)
    return Grid(position, shape, method, scale, transform)


def shared_pixels(grid: Grid) -> int:
    """Number of spots that lie on a pixel another spot already has."""
    return len(grid.position) - len(np.unique(grid.pixel))
