"""Genes out of gene clusters: the best-scoring share of each."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def best_of_clusters(
    score: np.ndarray, cluster: np.ndarray, n_genes: int, *, pool: float = 2.0
) -> np.ndarray:
    """Positions of the best genes of every cluster, in ascending order.

    The `pool` x `n_genes` best genes are kept; of each cluster among them the same share, rounded
    up, is taken by score. Every programme of the tissue is so represented, the rare ones too.

    Parameters
    ----------
    score
        (p,) higher is better; NaN is never chosen.
    cluster
        (p,) cluster number; negative means none, and such genes are not chosen.
    n_genes
        Number wanted; rounding can add up to one per cluster.
    pool
        Size of the pool over `n_genes`.

    Returns
    -------
    int64 (m,).
    """
    usable = np.flatnonzero(np.isfinite(score) & (cluster >= 0))
    order = usable[np.argsort(-score[usable], kind="stable")][: int(pool * n_genes)]
    share = min(1.0, n_genes / max(1, len(order)))
    chosen = []
    for c in np.unique(cluster[order]):
        inside = order[cluster[order] == c]
        chosen.append(inside[: int(np.ceil(share * len(inside) - 1e-9))])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def loading_clusters(
    Y: sparse.spmatrix, components: np.ndarray, weights: np.ndarray, k: int, seed: int
) -> np.ndarray:
    """Clusters of genes (p,) by their correlations with spot components (k-means).

    Parameters
    ----------
    Y
        (n, p) sparse values of genes.
    components
        (n, d) values per spot, for example smoothed principal components.
    weights
        (n,) weights of spots.
    k
        Clusters (at most p).
    seed
        Seed of k-means.
    """
    from sklearn.cluster import KMeans

    w = weights / weights.sum()
    F = components - w @ components
    F = F / np.sqrt(np.maximum(w @ F**2, 1e-300))
    Y = sparse.csc_matrix(Y)
    mean = np.asarray(Y.T @ w).ravel()
    variance = np.asarray(Y.multiply(Y).T @ w).ravel() - mean**2
    loading = np.asarray(Y.T @ (F * w[:, None]))
    loading /= np.sqrt(np.maximum(variance, 1e-12))[:, None]
    k = min(k, len(loading))
    return KMeans(k, n_init=3, random_state=seed).fit_predict(loading).astype(np.int64)
