"""Genes and components that spatial domains are found with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm._core.names import positions
from omicllm.spatial.moran import morans_i
from omicllm.spatial.smoothing import AMOUNTS, cross_validation, laplacian, smooth
from omicllm.stats import depth_pca, gene_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scipy import sparse

#: Clusters of genes, and components they are made from, where the object brings none.
_CLUSTERS, _COMPONENTS = 20, 20
#: Genes scored at once.
_BLOCK = 512


@dataclass(frozen=True)
class Expression:
    """Values of the chosen genes.

    Attributes
    ----------
    Y
        csc float64 (n, p): square roots of scaled counts, or the values given.
    weights
        (n,) weights of spots.
    genes
        (p,) positions in `var`.
    source
        Where clusters and scores came from.
    """

    Y: sparse.csc_matrix
    weights: np.ndarray
    genes: np.ndarray
    source: str


def expression(
    adata: AnnData,
    graph: sparse.csr_matrix,
    groups: np.ndarray,
    *,
    layer: str | None,
    kind: str,
    genes: str | Sequence[str] | None,
    n_genes: int,
    gene_key: str,
    seed: int,
    rng: np.random.Generator,
) -> Expression:
    """Choose genes and transform their counts.

    Raises
    ------
    KeyError
        A gene or a `gene_key` that is not there.
    ValueError
        Values that are not what `kind` says, or fewer than two genes that vary.
    """
    names = inputs.gene_names(adata)
    chosen = None if genes is None else np.unique(positions(genes, names))
    clusters, scores, source = _from_var(adata, gene_key)
    X = inputs.by_gene(adata, layer)
    inputs.check_expression(
        X, names, counts=kind == "counts", layer=layer, source=adata, has_input=True
    )
    n = X.shape[0]
    weights = np.ones(n)
    if kind == "counts":
        depth = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
        if not depth.any():
            msg = "There are no counts: every value is zero."
            raise ValueError(msg)
        weights = depth_pca.depth_weights(depth)
    least = 1 if chosen is not None else max(min(10, n // 4), 0.01 * n)
    candidates = np.arange(X.shape[1]) if chosen is None else chosen
    candidates = candidates[np.diff(X.indptr)[candidates] >= least]
    Y = X[:, candidates]
    Y = depth_pca.square_root(Y, depth) if kind == "counts" else Y.astype(np.float64)
    varies = _variance(Y) > 1e-12
    Y, candidates = Y[:, varies], candidates[varies]
    if len(candidates) < 2:
        msg = (
            f"{len(candidates)} genes vary and were found in at least {int(np.ceil(least))} "
            "observations; domains need two."
        )
        raise ValueError(msg)
    if chosen is not None:
        return Expression(Y, weights, candidates, "genes")
    if len(candidates) <= n_genes:
        return Expression(Y, weights, candidates, "all")
    score = _scores(Y, graph, groups) if scores is None else scores[candidates]
    if clusters is None:
        cluster = _clusters(Y, score, graph, weights, groups, n_genes, seed, rng)
    else:
        cluster = clusters[candidates]
    best = gene_choice.best_of_clusters(score, cluster, n_genes)
    if len(best) < 2:
        msg = f"{len(best)} genes have a cluster and a score under {gene_key!r}; two are needed."
        raise ValueError(msg)
    logger.info("%d of %d genes chosen by %s", len(best), len(candidates), source)
    return Expression(Y[:, best], weights, candidates[best], source)


def _variance(Y: sparse.csc_matrix) -> np.ndarray:
    mean = np.asarray(Y.mean(axis=0)).ravel()
    return np.asarray(Y.multiply(Y).mean(axis=0)).ravel() - mean**2


def _from_var(adata: AnnData, key: str) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Gene clusters and scores of `var`, each None where it is not there, and what was found."""
    cluster, score = f"{key}_cluster", f"{key}_svg_score"
    there = [c for c in (cluster, score) if c in adata.var]
    if not there and key != "sigel":
        raise checks.missing(
            cluster,
            "adata.var",
            adata.var,
            hint="Make clusters with ol.tl.sigel(adata) and scores with "
            "ol.tl.spatially_variable_genes(adata).",
        )
    codes: Any = None
    values: Any = None
    if cluster in there:
        import pandas as pd

        codes = pd.factorize(np.asarray(adata.var[cluster], dtype=object))[0].astype(np.int64)
    if score in there:
        values = np.asarray(adata.var[score], dtype=np.float64)
    return codes, values, " and ".join(there) or "builtin"


def _scores(Y: sparse.csc_matrix, graph: sparse.csr_matrix, groups: np.ndarray) -> np.ndarray:
    """Moran's I of genes."""
    slices = (slice(i, min(i + _BLOCK, Y.shape[1])) for i in range(0, Y.shape[1], _BLOCK))
    blocks = ((genes, Y[:, genes]) for genes in slices)
    return morans_i(blocks, Y.shape[1], graph, sections=groups, p_values=False)[0]


def _clusters(
    Y: sparse.csc_matrix,
    score: np.ndarray,
    graph: sparse.csr_matrix,
    weights: np.ndarray,
    groups: np.ndarray,
    n_genes: int,
    seed: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Gene clusters by correlation with smoothed components of the best genes."""
    best = np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")
    P = depth_pca.weighted_scores(Y[:, best[:n_genes]], _COMPONENTS, weights, groups)
    L = laplacian(graph)
    amount = AMOUNTS[cross_validation(P, L, rng, weights=weights).sum(axis=1).argmin()]
    P = smooth(P, L, float(amount), weights=weights)
    pool = best[: 2 * n_genes]
    cluster = np.full(Y.shape[1], -1, dtype=np.int64)
    cluster[pool] = gene_choice.loading_clusters(Y[:, pool], P, weights, _CLUSTERS, seed)
    return cluster
