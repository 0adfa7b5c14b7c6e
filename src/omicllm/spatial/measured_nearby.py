"""What the measured observations around each observation express."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def nearby_mean(
    values: np.ndarray, measured: np.ndarray, coords: np.ndarray, sections: np.ndarray, k: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Average the nearest measured other observations of the same section.

    An observation's own values never enter its average.

    Parameters
    ----------
    values
        (n, g); rows that are not measured are not read.
    measured
        (n,) bool.
    coords, sections
        (n, 2) and (n,).
    k
        Measured observations that are averaged, weighted by exp(-d / scale), where the scale is
        the median distance to the k-th one.

    Returns
    -------
    float32 (n, g), zero where nothing is known, and bool (n,): whether something is.
    """
    out = np.zeros((len(coords), values.shape[1]), dtype=np.float32)
    known = np.zeros(len(coords), dtype=bool)
    for section in np.unique(sections):
        rows = np.flatnonzero(sections == section)
        source = rows[measured[rows]]
        if not len(source):
            continue
        here = min(k + 1, len(source))
        distance, near = cKDTree(coords[source]).query(coords[rows], here)
        distance, near = distance.reshape(len(rows), here), near.reshape(len(rows), here)
        itself = source[near] == rows[:, None]
        scale = max(float(np.median(distance[:, -1])), 1e-9)
        weight = np.where(itself, 0.0, np.exp(-distance / scale))
        if here == k + 1:  # a row that is not measured itself has one neighbour too many
            weight[~itself.any(axis=1), -1] = 0.0
        total = weight.sum(axis=1)
        found = total > 0
        weight = weight[found] / total[found, None]
        out[rows[found]] = np.einsum("nk,nkg->ng", weight, values[source[near[found]]])
        known[rows[found]] = True
    return out, known
