"""`omicllm.pl.svg`: the top spatially variable genes as images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm.get._gene_images import images_on
from omicllm.get._svg import svg_df
from omicllm.pl._panels import draw_image, finish, image_height, panels
from omicllm.spatial.sections import GRID_KEY, make_grid, section_grids, stored_grid

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def svg(
    adata: AnnData | MuData,
    *,
    n_genes: int = 12,
    key: str = "sigel",
    layer: str | None = None,
    section: str | None = None,
    log1p: bool | None = None,
    cmap: str = "magma",
    ncols: int = 4,
    grid_key: str = "spatial_grid",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the top genes of :func:`omicllm.tl.spatially_variable_genes` with score and q value.

    Parameters
    ----------
    {adata}
    n_genes
        Number of genes.
    key
        Root of the results.
    {layer}
        By default the one that was scored.
    section
        Section to draw, where there are several; the first by default.
    log1p
        Draw log(1 + value). By default where counts were scored.
    cmap, ncols
        Colour map, and panels per row.
    grid_key
        Grid to use (:func:`omicllm.pp.spatial_grid`); one is made in memory where there is none.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No results, layer, coordinates or section.
    """
    source = inputs.resolve(adata, mod)
    checks.whole_number("n_genes", n_genes)
    top = svg_df(source, key=key).dropna(subset=["score"]).head(n_genes)
    if top.empty:
        msg = f"No gene has a score in adata.var['{key}_svg_score']."
        raise ValueError(msg)
    params = source.uns.get(f"{key}_svg", {}).get("params", {})
    layer = params.get("layer") if layer is None else layer
    if log1p is None:
        log1p = params.get("method") == "sigel" and params.get("input") == "counts"
    if grid_key == GRID_KEY and not (grid_key in source.obsm and grid_key in source.uns):
        made = make_grid(
            source, spatial_key=params.get("spatial_key", "spatial"),
            batch_key=params.get("batch_key"),
        )  # fmt: skip
        grids = section_grids(source, *made)
    else:
        grids = stored_grid(source, grid_key)
    place = 0 if section is None else inputs.section_number([g.name for g in grids], section)
    grid = grids[place]
    images = images_on(source, grid, list(top.index), layer)
    if log1p:
        images = np.log1p(np.maximum(images, 0))
    occupied = np.zeros(grid.shape, dtype=bool)
    occupied.reshape(-1)[grid.pixel] = True
    hexagonal = grid.method == "hex"
    height = image_height(grid.shape, 1.8, hexagonal=hexagonal) + 0.15
    figure, axes = panels(len(top), ncols=ncols, height=height, width=2.4)
    rows = zip(axes, images, top.itertuples(), strict=True)
    for ax, image, row in rows:
        title = f"{row.Index}\nscore {row.score:.3g}, q {row.qval:.1e}"
        drawn = draw_image(ax, image, occupied, title=title, cmap=cmap, hexagonal=hexagonal)
        figure.colorbar(drawn, ax=ax, shrink=0.9, label="log(1 + count)" if log1p else None)
    if len(grids) > 1:
        figure.suptitle(str(grid.name), fontsize=10)
    return finish(figure, show=show)
