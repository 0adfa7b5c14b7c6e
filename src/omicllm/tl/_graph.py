"""The spatial graph a verb works on: as stored, or squidpy's, made in memory."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import checks, inputs
from omicllm._core.lazy import quiet_import
from omicllm._core.log import logger
from omicllm.spatial.positions import section_coordinates
from omicllm.spatial.sections import staggered_sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData


def spatial_graph(
    adata: AnnData,
    connectivity_key: str,
    *,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    n_neighbors: int = 6,
) -> sparse.csr_matrix:
    """Return ``obsp[connectivity_key]``, or six-neighbour connectivities by squidpy.

    With `batch_key` edges between sections are left out.

    Raises
    ------
    KeyError
        When a key other than the default is not there, or there are no coordinates.
    ValueError
        When there are no more observations than neighbours.
    """
    if connectivity_key in adata.obsp:
        graph = inputs.rows_sparse(adata.obsp[connectivity_key])
    elif connectivity_key != "spatial_connectivities":
        raise checks.missing(
            connectivity_key,
            "adata.obsp",
            adata.obsp,
            hint="Make a graph with squidpy.gr.spatial_neighbors(adata).",
        )
    else:
        graph = _by_squidpy(adata, spatial_key, batch_key, n_neighbors)
    if batch_key is not None:
        codes = inputs.sections(adata, batch_key)[0]
        edges = graph.tocoo()
        keep = codes[edges.row] == codes[edges.col]
        graph = sparse.csr_matrix(
            (edges.data[keep], (edges.row[keep], edges.col[keep])), shape=graph.shape
        )
    return graph


def _by_squidpy(
    adata: AnnData, spatial_key: str, batch_key: str | None, n_neighbors: int
) -> sparse.csr_matrix:
    import anndata
    import pandas as pd

    coords = section_coordinates(adata, spatial_key, batch_key, plane=False)
    if adata.n_obs <= n_neighbors:
        msg = (
            f"A spatial graph needs more than {n_neighbors} observations; there are {adata.n_obs}."
        )
        raise ValueError(msg)
    codes, names = inputs.sections(adata, batch_key)
    hexagonal = staggered_sections(adata, coords, codes, names, spatial_key)[codes]
    parts, order = [], []
    for kind in (True, False):
        rows = np.flatnonzero(hexagonal == kind)
        if not len(rows):
            continue
        lent = anndata.AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(rows))]))
        lent.obsm["spatial"] = coords[rows]
        options: dict[str, Any] = {"coord_type": "generic", "n_neighs": n_neighbors}
        if kind:
            options = {"coord_type": "grid", "n_neighs": 6}
        if batch_key is not None:
            lent.obs["section"] = pd.Categorical(codes[rows].astype(str))
            options["library_key"] = "section"
        logger.info("spatial graph by squidpy: %s", options)
        squidpy = quiet_import("squidpy")
        with _quiet():
            squidpy.gr.spatial_neighbors(lent, **options)
        parts.append(sparse.csr_matrix(lent.obsp["spatial_connectivities"]))
        order.append(rows)
    if len(parts) == 1:
        return parts[0]
    back = np.argsort(np.concatenate(order))
    return sparse.csr_matrix(sparse.block_diag(parts, format="csr")[back][:, back])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what squidpy says of a graph that the caller did not ask it for."""
    told = logging.getLogger("spatialdata._logging")  # squidpy writes to it
    level = told.level
    told.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # squidpy 1.9 splits spatial_neighbors; every supported version has it.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        told.setLevel(level)
