"""`omicllm.pl.gene_image`: genes as images of the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import docs, inputs
from omicllm.get._gene_images import gene_images
from omicllm.pl._panels import as_list, draw_image, finish, image_height, panels
from omicllm.spatial.sections import stored_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def gene_image(
    adata: AnnData | MuData,
    genes: str | Sequence[str],
    *,
    layer: str | None = None,
    section: str | None = None,
    log1p: bool = True,
    cmap: str = "magma",
    ncols: int = 4,
    key: str = "spatial_grid",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Figure | Axes:
    """Draw genes as the images that embeddings are made of.

    Parameters
    ----------
    {adata}
    genes
        One gene or several.
    {layer}
    section
        Section to draw, where the grid holds several.
    log1p
        Draw log(1 + value), which shows the pattern of skewed counts.
    cmap, ncols
        Colour map, and panels per row.
    key
        Grid to use (:func:`omicllm.pp.spatial_grid`).
    {mod}
    {ax}
        One gene only.
    {show}

    Returns
    -------
    The Figure, or `ax` when it was given.

    Raises
    ------
    KeyError
        No grid, or no such gene.
    ValueError
        Several genes for one `ax`, or several sections and none named.
    """
    source = inputs.resolve(adata, mod)
    genes = as_list(genes)
    if ax is not None and len(genes) != 1:
        msg = f"ax= takes one gene, not {len(genes)}."
        raise ValueError(msg)
    images = gene_images(source, genes, layer=layer, section=section, key=key)
    grids = stored_grid(source, key)
    place = 0 if section is None else inputs.section_number([g.name for g in grids], section)
    grid = grids[place]
    occupied = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
    occupied[grid.pixel] = True
    occupied = occupied.reshape(grid.shape)
    hexagonal = grid.method == "hex"
    if log1p:
        images = np.log1p(np.maximum(images, 0))
    if ax is not None:
        draw_image(ax, images[0], occupied, title=genes[0], cmap=cmap, hexagonal=hexagonal)
        return finish(ax, show=show)
    # The colour bar takes a quarter of the width of a panel.
    height = image_height(grid.shape, 1.8, hexagonal=hexagonal)
    figure, axes = panels(len(genes), ncols=ncols, height=height, width=2.4)
    for one, gene, image in zip(axes, genes, images, strict=True):
        drawn = draw_image(one, image, occupied, title=gene, cmap=cmap, hexagonal=hexagonal)
        figure.colorbar(drawn, ax=one, shrink=0.9, label="log(1 + count)" if log1p else None)
    return finish(figure, show=show)
