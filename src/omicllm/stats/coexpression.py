"""Plain co-expression: what embeddings of genes are shown beside."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def log_normalized(X: sparse.csc_matrix) -> sparse.csc_matrix:
    """Scale each observation to the median total, then log(1 + x); sparse in, sparse out."""
    depth = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    factor = (target / np.maximum(depth, 1e-12)).astype(np.float32)
    data = np.log1p(X.data * factor[X.indices])
    return sparse.csc_matrix((data, X.indices, X.indptr), shape=X.shape)


def unit_images(
    X: sparse.csc_matrix, genes: np.ndarray, section: np.ndarray | None = None
) -> np.ndarray:
    """Centred expression of some genes at unit length: products of rows are correlations.

    Parameters
    ----------
    X
        csc (n_obs, n_genes), on a log scale.
    genes
        Gene numbers.
    section
        Section of each observation; genes are then centred within each, so that correlation does
        not come from the level of sections.

    Returns
    -------
    float32 (n, n_obs); constant genes are zero rows.
    """
    rows = X[:, genes].toarray().T.astype(np.float32, copy=False)
    if section is None:
        rows -= rows.mean(axis=1, keepdims=True)
    else:
        for s in np.unique(section):
            inside = section == s
            rows[:, inside] -= rows[:, inside].mean(axis=1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 1e-6, norm, 1.0)


def level_bins(total: np.ndarray, n_bins: int) -> np.ndarray:
    """Cut genes into bins of equal size by their totals: int64 (n,), 0 the lowest."""
    n = len(total)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(total, kind="stable")] = np.arange(n)
    return rank * min(n_bins, n) // max(n, 1)
