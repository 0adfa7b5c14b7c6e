"""Averages over the nearest cells of the tissue, as sparse matrices."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree


def neighbor_average(
    coords: np.ndarray, k: int, sections: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Matrix that averages each cell's `k` nearest other cells of its section.

    Parameters
    ----------
    coords
        Coordinates (n, d).
    k
        Number of neighbours; fewer in smaller sections.
    sections
        Section number of each cell; one section by default.

    Returns
    -------
    float32 (n, n); rows sum to 1, or to 0 for a cell that is alone in its section.
    """
    n = len(coords)
    sections = np.zeros(n, dtype=np.int64) if sections is None else sections
    row, column, weight = [], [], []
    for section in np.unique(sections):
        members = np.flatnonzero(sections == section)
        here = min(k, len(members) - 1)
        if here < 1:
            continue
        # Cells that share a place may hide a cell from its own list, so one more is looked up.
        _, nearest = cKDTree(coords[members]).query(coords[members], here + 1)
        own = nearest == np.arange(len(members))[:, None]
        own[~own.any(axis=1), -1] = True
        row.append(np.repeat(members, here))
        column.append(members[nearest[~own]])
        weight.append(np.full(len(members) * here, 1.0 / here, dtype=np.float32))
    if not row:
        return sparse.csr_matrix((n, n), dtype=np.float32)
    places = (np.concatenate(row), np.concatenate(column))
    return sparse.csr_matrix((np.concatenate(weight), places), shape=(n, n))
