"""`omicllm.get.gene_images`: genes as images of the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omicllm._core import checks, docs, inputs, memory
from omicllm._core.names import positions
from omicllm.spatial.images import rasterise
from omicllm.spatial.sections import stored_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from omicllm.spatial.sections import SectionGrid


@docs.fill()
def gene_images(
    adata: AnnData | MuData,
    genes: str | Sequence[str] | None = None,
    *,
    layer: str | None = None,
    section: str | None = None,
    key: str = "spatial_grid",
    mod: str | None = None,
) -> np.ndarray:
    """Draw genes as images.

    Parameters
    ----------
    {adata}
    genes
        Gene names, in the order wanted; all genes in var order by default.
    {layer}
    section
        Which section, where the grid holds several.
    key
        Grid to use, as written by :func:`omicllm.pp.spatial_grid`.
    {mod}

    Returns
    -------
    float32 (n_genes, height, width). Pixels without a spot are 0; values are those of ``X`` or
    `layer`, spots on one pixel summed or averaged as the grid says.

    Raises
    ------
    KeyError
        No grid, no such gene, layer or section.
    ValueError
        The grid does not fit the object, or its images are too large for the spots there are.
    MemoryError
        The images do not fit into memory.
    """
    adata = inputs.resolve(adata, mod)
    grids = stored_grid(adata, key)
    if section is not None:
        grids = [grids[inputs.section_number([g.name for g in grids], section)]]
    if len(grids) > 1:
        names = checks.listed(g.name for g in grids)
        msg = f"The grid holds several sections: name one with section= ({names})."
        raise ValueError(msg)
    return images_on(adata, grids[0], genes, layer)


def images_on(
    adata: AnnData, grid: SectionGrid, genes: str | Sequence[str] | None, layer: str | None
) -> np.ndarray:
    """Genes as images of one section, float32 (n_genes, height, width)."""
    grid.check_size()
    X = inputs.matrix(adata, layer)
    columns = None if genes is None else positions(genes, adata.var_names)
    n_genes = adata.n_vars if columns is None else len(columns)
    memory.check(
        "Drawing gene images",
        {"images": ((n_genes, *grid.shape), "float32")},
        instead="Draw some genes at a time with genes=.",
    )
    if inputs.storage(X) in ("dense", "csc", "csr"):
        block = X if columns is None else X[:, columns]
        block = block if len(grid.rows) == adata.n_obs else block[grid.rows]
    else:
        chosen_rows = inputs.by_gene(adata, layer) if columns is None else _columns(X, columns)
        block = chosen_rows[grid.rows]
    inputs.refuse_large(block.data if hasattr(block, "indptr") else block, inputs.place(layer))
    return rasterise(block, grid.pixel, grid.shape, agg=grid.agg)


def _columns(X: Any, columns: np.ndarray) -> Any:
    """Some genes of a backed or dask matrix, read in blocks of rows."""
    from scipy import sparse

    parts = [sparse.csr_matrix(block[:, columns]) for _, block in inputs.row_blocks(X)]
    return sparse.csc_matrix(sparse.vstack(parts))
