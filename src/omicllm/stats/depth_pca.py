r"""Principal components of square-rooted counts, each spot weighted by how well it was measured.

The square root makes the variance of counts alike at all levels; after division by the depth
:math:`s_i` it is proportional to :math:`1 / s_i`, so spots count by :math:`w_i = \min(1, s_i / t)`
with the median depth :math:`t`.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

_LEAST_WEIGHT = 1e-4


def depth_weights(depth: np.ndarray) -> np.ndarray:
    """Weights (n,) between 1e-4 and 1: depth over the median depth of spots with counts."""
    typical = np.median(depth[depth > 0])
    return np.clip(depth / typical, _LEAST_WEIGHT, 1.0)


def square_root(
    counts: sparse.spmatrix, depth: np.ndarray, *, floor: float = 0.2
) -> sparse.csc_matrix:
    r"""Return :math:`\sqrt{t\,x / \max(s, \text{floor}\cdot t)}`, sparse (n, p).

    Parameters
    ----------
    counts
        (n, p).
    depth
        (n,) all counts of each spot, s; t is their median.
    floor
        Spots with less than this share of the median are scaled as if they had it.
    """
    typical = np.median(depth[depth > 0])
    Y = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    scale = typical / np.maximum(depth, floor * typical)
    Y.data *= np.repeat(scale, np.diff(Y.indptr))
    np.sqrt(Y.data, out=Y.data)
    return Y.tocsc()


def weighted_scores(
    Y: sparse.spmatrix, k: int, weights: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Scores (n, k) on the principal axes of the weighted covariance within groups.

    Parameters
    ----------
    Y
        (n, p) sparse values; they are not centred in memory.
    k
        Components (at most p and n - 1).
    weights
        (n,) weights of the rows.
    groups
        (n,) group of each row; each group is centred by its own weighted mean.

    Returns
    -------
    float64 (n, k).
    """
    Y = sparse.csr_matrix(Y)
    n, p = Y.shape
    k = min(k, p, n - 1)
    member = sparse.csr_matrix((weights, (groups, np.arange(n))))
    size = np.asarray(member.sum(axis=1)).ravel()
    mean = (member @ Y).toarray() / size[:, None]
    C = (Y.T @ sparse.diags(weights) @ Y).toarray() - (mean.T * size) @ mean
    _, V = eigh(C / size.sum(), subset_by_index=[p - k, p - 1])
    V = V[:, ::-1]
    # The sign of an axis is arbitrary: the largest loading is positive.
    V = V * np.sign(V[np.abs(V).argmax(axis=0), np.arange(k)])
    return Y @ V - (mean @ V)[groups]
