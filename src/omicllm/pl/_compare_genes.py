"""`omicllm.pl.compare_genes`: changed genes side by side in the conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm._core.names import positions
from omicllm.pl._panels import as_list, draw_image, finish
from omicllm.spatial.images import rasterise
from omicllm.spatial.sections import make_grid, section_grids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def compare_genes(
    adata: AnnData | MuData,
    *,
    genes: str | Sequence[str] | None = None,
    n_genes: int = 4,
    sections: Sequence[str] | None = None,
    key: str = "compare",
    layer: str | None = None,
    log1p: bool = True,
    cmap: str = "magma",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw genes whose pattern changed, a row each, with the sections of the conditions in columns.

    Values of a gene are scaled to the depth of its section and drawn on one colour scale.

    Parameters
    ----------
    {adata}
    genes
        Genes to draw; by default the `n_genes` that changed most.
    n_genes
        Number of genes drawn when `genes` is not given.
    sections
        Sections to draw; by default one of each condition.
    key
        Root of the results of :func:`omicllm.tl.compare_genes`.
    {layer}
    log1p
        Draw log(1 + value).
    cmap
        Colour map.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No such results, gene or section.
    """
    source = inputs.resolve(adata, mod)
    column = f"{key}_score"
    if column not in source.var or key not in source.uns:
        raise checks.missing(
            column,
            "adata.var",
            source.var,
            hint="Make it with ol.tl.compare_genes(adata, batch_key=..., condition_key=...).",
        )
    entry = source.uns[key]
    names = [str(s) for s in np.asarray(entry["sections"]).ravel()]
    conditions = [str(c) for c in np.asarray(entry["conditions"]).ravel()]
    if genes is None:
        genes = list(source.var[column].dropna().nlargest(n_genes).index)
    genes = as_list(genes)
    chosen = positions(genes, source.var_names)
    if sections is None:
        sections = [names[conditions.index(c)] for c in sorted(set(conditions))]
    for name in sections:
        if name not in names:
            raise checks.missing(name, "the sections", names, hint="Name others with sections=.")
    params = entry["params"]
    made = make_grid(
        source, batch_key=str(params["batch_key"]), spatial_key=str(params["spatial_key"])
    )
    grids = {g.name: g for g in section_grids(source, *made)}
    X = inputs.by_gene(source, layer)
    depth = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    scale = float(np.mean(depth))
    block = X[:, chosen].toarray()
    figure, axes = plt.subplots(
        len(genes),
        len(sections),
        figsize=(2.6 * len(sections), 2.4 * len(genes)),
        squeeze=False,
        layout="constrained",
    )
    drawings, masks = [], []
    for name in sections:
        grid = grids[name]
        grid.check_size()
        factor = scale / max(float(depth[grid.rows].mean()), 1e-12)
        images = rasterise(block[grid.rows] * factor, grid.pixel, grid.shape, agg=grid.agg)
        drawings.append(np.log1p(images) if log1p else images)
        occupied = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
        occupied[grid.pixel] = True
        masks.append(occupied.reshape(grid.shape))
    for i, gene in enumerate(genes):
        high = max(float(d[i].max()) for d in drawings) or 1.0
        for j, name in enumerate(sections):
            title = f"{gene}\n{conditions[names.index(name)]} ({name})"
            drawn = draw_image(
                axes[i, j],
                drawings[j][i],
                masks[j],
                title=title,
                cmap=cmap,
                hexagonal=grids[name].method == "hex",
            )
            drawn.set_clim(0.0, high)
        figure.colorbar(drawn, ax=list(axes[i]), shrink=0.7)
    return finish(figure, show=show)
