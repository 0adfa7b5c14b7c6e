"""`omicllm.pl.gene_heatmap`: the mean image of each gene cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm.pl._panels import draw_image, finish, image_height, panels
from omicllm.spatial.images import rasterise
from omicllm.spatial.sections import stored_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def gene_heatmap(
    adata: AnnData | MuData,
    *,
    key: str = "sigel",
    groupby: str | None = None,
    groups: Sequence[str] | None = None,
    n_groups: int = 12,
    layer: str | None = None,
    section: str | None = None,
    cmap: str = "magma",
    ncols: int = 4,
    grid_key: str = "spatial_grid",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the mean image of each gene cluster.

    Every gene counts the same: its counts are divided by their sum first, so that a cluster is
    not drawn by its strongest gene. Pixels are divided by their total over all genes, so that
    the depth of a spot does not show as a pattern.

    Parameters
    ----------
    {adata}
    key
        Root of the embedding whose clusters are drawn.
    groupby
        Column of `var` with the clusters; ``"<key>_cluster"`` by default.
    groups
        Clusters to draw; by default the `n_groups` largest.
    n_groups
        Number of clusters drawn when `groups` is not given.
    {layer}
    section
        Section to draw, where the grid holds several.
    cmap, ncols
        Colour map, and panels per row.
    grid_key
        Grid to use.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No clusters or no grid, or no such cluster.
    """
    source = inputs.resolve(adata, mod)
    column = groupby or f"{key}_cluster"
    if column not in source.var:
        raise checks.missing(
            column, "adata.var", source.var, hint=f"Make it with ol.tl.{key}(adata)."
        )
    found = stored_grid(source, grid_key)
    if section is not None:
        found = [found[inputs.section_number([g.name for g in found], section)]]
    if len(found) != 1:
        msg = f"Name one section with section= ({checks.listed(g.name for g in found)})."
        raise ValueError(msg)
    grid = found[0]
    grid.check_size()
    labels = pd.Categorical(source.var[column].astype(str).where(source.var[column].notna()))
    sizes = pd.Series(labels).value_counts()
    names = [str(g) for g in groups] if groups is not None else list(sizes.index[:n_groups])
    for name in names:
        if name not in labels.categories:
            raise checks.missing(name, f"adata.var[{column!r}]", labels.categories)
    X = inputs.by_gene(source, layer)[grid.rows]
    depth = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()
    weight = np.where(total > 0, 1.0 / np.maximum(total, 1e-12), 0.0)
    occupied = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
    occupied[grid.pixel] = True
    occupied = occupied.reshape(grid.shape)
    means = []
    for name in names:
        member = weight * (np.asarray(labels) == name)
        means.append((X @ member) / max(1, sizes[name]) / np.maximum(depth, 1e-12) * depth.mean())
    images = rasterise(np.stack(means, axis=1), grid.pixel, grid.shape, agg="mean")
    hexagonal = grid.method == "hex"
    height = image_height(grid.shape, 2.2, hexagonal=hexagonal)
    figure, axes = panels(len(names), ncols=ncols, height=height, width=2.2)
    for ax, name, image in zip(axes, names, images, strict=True):
        title = f"{name} ({sizes[name]} genes)"
        # Two percent at each end are cut: one spot of a rare gene would set the scale.
        low, high = np.percentile(image[occupied], [2, 98])
        draw_image(
            ax, np.clip(image, low, high), occupied, title=title, cmap=cmap, hexagonal=hexagonal
        )
    figure.suptitle(f"Mean images of {column}", fontsize=10)
    return finish(figure, show=show)
