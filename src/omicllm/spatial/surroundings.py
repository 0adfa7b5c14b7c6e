"""Where an observation lies in its section, and the weighted graph of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

#: Radii, in spacings, at which the tissue around is described; no distance of a square array.
_RADII = (1.6, 3.1, 6.2)
#: Columns of :func:`position_features`.
N_POSITION = 2 * len(_RADII) + 3
#: An empty place of the section is at least this far from any observation, in spacings.
_EMPTY = 1.3
#: Further neighbours that are looked at, among which ties are broken.
_TIES = 8
#: Most empty places that are looked for along an axis.
_MAX_GRID = 400


def spacing(coords: np.ndarray) -> float:
    """Median distance to the nearest other observation; 1 where there is none."""
    if len(coords) < 2:
        return 1.0
    distance, _ = cKDTree(coords).query(coords, 2)
    found = float(np.median(distance[:, 1]))
    return found if found > 0 else float(distance[:, 1].max()) or 1.0


def position_features(coords: np.ndarray) -> np.ndarray:
    """Describe the place of each observation by what does not depend on rotation or scale.

    At three radii the number of observations and how far off-centre they lie; the distance to the
    nearest place without tissue, its square root, and the distance to the centre of the section.

    Parameters
    ----------
    coords
        (n, 2) of one section.

    Returns
    -------
    float64 (n, 9), lengths in spacings of the array.
    """
    xy = np.asarray(coords, dtype=np.float64) / spacing(coords)
    xy = xy - xy.mean(axis=0)
    tree = cKDTree(xy)
    out = []
    for radius in _RADII:
        pairs = tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix")
        around = sparse.csr_matrix(
            (np.ones(len(pairs.row)), (pairs.row, pairs.col)), shape=(len(xy), len(xy))
        )
        count = np.asarray(around.sum(axis=1)).ravel()
        offset = (around @ xy) / count[:, None] - xy
        out += [count, np.linalg.norm(offset, axis=1)]
    low, high = xy.min(axis=0) - 1.5, xy.max(axis=0) + 1.5
    step = max(0.5, float((high - low).max()) / _MAX_GRID)
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b + step, step) for a, b in zip(low, high, strict=True))), -1
    ).reshape(-1, 2)
    away, _ = tree.query(grid)
    edge, _ = cKDTree(grid[away > _EMPTY]).query(xy)
    out += [edge, np.sqrt(edge), np.linalg.norm(xy, axis=1)]
    return np.stack(out, axis=1)


@dataclass(frozen=True)
class Neighbors:
    """The `k` nearest other observations of the same section.

    Attributes
    ----------
    index
        int64 (n, k); an observation with fewer neighbours fills up with itself.
    weight
        float32 (n, k): exp(-d^2 / (2 s^2)), s the median distance to the k-th neighbour of the
        section; 0 where the row is filled up.
    """

    index: np.ndarray
    weight: np.ndarray

    def average(self, values: np.ndarray, *, itself: bool = True) -> np.ndarray:
        """Weighted mean over neighbours (and the observation itself, weight 1), float64 (n, d)."""
        return self.matrix(itself=itself) @ np.asarray(values, dtype=np.float64)

    def matrix(self, *, itself: bool = True) -> sparse.csr_matrix:
        """Row-normalised sparse matrix (n, n); a row without any neighbour keeps itself."""
        n, k = self.index.shape
        row = np.repeat(np.arange(n), k)
        A = sparse.csr_matrix(
            (self.weight.ravel().astype(np.float64), (row, self.index.ravel())), shape=(n, n)
        )
        total = np.asarray(A.sum(axis=1)).ravel()
        own = np.ones(n) if itself else (total <= 0).astype(np.float64)
        A = A + sparse.diags(own)
        return sparse.diags(1.0 / (total + own)) @ A


def neighbors(coords: np.ndarray, sections: np.ndarray, k: int = 12) -> Neighbors:
    """Nearest neighbours within sections.

    Parameters
    ----------
    coords
        (n, 2).
    sections
        (n,) section of each observation; no edge crosses sections.
    k
        Neighbours; a section of fewer observations has what there is.
    """
    n = len(coords)
    index = np.repeat(np.arange(n)[:, None], k, axis=1)
    weight = np.zeros((n, k), dtype=np.float32)
    for section in np.unique(sections):
        rows = np.flatnonzero(sections == section)
        here = min(k, len(rows) - 1)
        if here < 1:
            continue
        xy = np.asarray(coords[rows], dtype=np.float64)
        asked = min(here + 1 + _TIES, len(rows))
        distance, near = cKDTree(xy).query(xy, asked)
        # In a regular array many are equally far: the choice follows places, not the order of rows.
        distance = np.where(near == np.arange(len(rows))[:, None], -1.0, distance)
        order = np.lexsort((xy[near, 1], xy[near, 0], np.round(distance, 6)), axis=1)
        # The observation itself comes first; where many share its place it may be missing.
        order = order[:, 1 : here + 1]
        near, distance = (np.take_along_axis(v, order, axis=1) for v in (near, distance))
        distance = np.maximum(distance, 0.0)
        scale = max(float(np.median(distance[:, -1])), 1e-6)
        index[rows, :here] = rows[near]
        weight[rows, :here] = np.exp(-0.5 * (distance / scale) ** 2)
    return Neighbors(index, weight)
