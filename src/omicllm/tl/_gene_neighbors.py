"""`omicllm.tl.gene_neighbors`: which genes lie next to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from omicllm._core import checks, docs, inputs, results
from omicllm.stats.neighbors import cosine_neighbors

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def gene_neighbors(
    adata: AnnData | MuData,
    *,
    key: str = "sigel",
    n_neighbors: int = 15,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compute the graph of nearest genes of an embedding.

    Neighbours are exact, by cosine distance, found in blocks of genes. Connectivities are the
    fuzzy memberships of UMAP (McInnes et al. 2018), as in :func:`scanpy.pp.neighbors`. Genes that
    are zero everywhere have no neighbours and are nobody's.

    Parameters
    ----------
    {adata}
    key
        Root of the embedding: ``varm["X_<key>"]``.
    n_neighbors
        Neighbours per gene.
    {mod}
    {key_added}
        By default the root of the embedding.
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.varp["sigel_distances"]`` : csr float32 (n_vars, n_vars)
        Cosine distance to each neighbour.
    ``adata.varp["sigel_connectivities"]`` : csr float32 (n_vars, n_vars)
        Symmetric weights in [0, 1].
    ``adata.uns["sigel_neighbors"]``
        Parameters.

    Raises
    ------
    KeyError
        When there is no such embedding.
    ValueError
        When there are no more genes than `n_neighbors`.
    """
    source = inputs.resolve(adata, mod)
    name = f"X_{key}"
    if name not in source.varm:
        raise checks.missing(
            name, "adata.varm", source.varm, hint=f"Make it with ol.tl.{key}(adata)."
        )
    n_neighbors = checks.whole_number("n_neighbors", n_neighbors)
    Z = inputs.vectors(source.varm[name], f"adata.varm[{name!r}]").astype(np.float32)
    expressed = np.abs(Z).sum(axis=1) > 0
    n_expressed = int(expressed.sum())
    if n_expressed <= n_neighbors:
        msg = (
            f"n_neighbors={n_neighbors} needs more than {n_neighbors} genes with an embedding; "
            f"there are {n_expressed}."
        )
        raise ValueError(msg)
    distances, connectivities = gene_graph(Z, expressed, n_neighbors)
    result = results.Result(
        "tl.gene_neighbors",
        {"varp:{root}_distances": distances, "varp:{root}_connectivities": connectivities},
        {"key": key, "n_neighbors": n_neighbors, "metric": "cosine"},
        key_added=key_added or key,
    )
    return results.write(adata, result, mod=mod, copy=copy)


def gene_graph(
    Z: np.ndarray, expressed: np.ndarray, k: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Distances and connectivities over all genes, with empty rows for genes not `expressed`."""
    from umap.umap_ import fuzzy_simplicial_set

    rows = np.flatnonzero(expressed)
    index, distance = cosine_neighbors(Z[rows], k)
    n = len(rows)
    itself = np.arange(n)[:, None]
    graph, _, _ = fuzzy_simplicial_set(
        np.zeros((n, 1), dtype=np.float32),
        k + 1,
        np.random.RandomState(0),  # unused: the neighbours are given
        "cosine",
        knn_indices=np.hstack([itself, index]),
        knn_dists=np.hstack([np.zeros((n, 1), dtype=np.float32), distance]),
    )
    shape = (len(Z), len(Z))
    pairs = (rows.repeat(k), rows[index].ravel())
    distances = sparse.csr_matrix((distance.ravel(), pairs), shape=shape)
    graph = graph.tocoo()
    connectivities = sparse.csr_matrix(
        (graph.data.astype(np.float32), (rows[graph.row], rows[graph.col])), shape=shape
    )
    for matrix in (distances, connectivities):
        matrix.sort_indices()
    return distances, connectivities
