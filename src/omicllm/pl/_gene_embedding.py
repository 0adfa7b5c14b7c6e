"""`omicllm.pl.gene_embedding`: the map of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm._core.names import positions
from omicllm.pl._panels import as_list, finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def gene_embedding(
    adata: AnnData | MuData,
    *,
    key: str = "sigel",
    color: str | None = None,
    labels: str | Sequence[str] | None = None,
    size: float | None = None,
    cmap: str = "viridis",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the UMAP of genes, coloured by gene cluster.

    Parameters
    ----------
    {adata}
    key
        Root of the embedding; its UMAP is in ``varm["X_<key>_umap"]``.
    color
        Column of `var` to colour by; ``"<key>_cluster"`` by default.
    labels
        Genes to name in the plot.
    size
        Area of a point in square points; follows the number of genes by default.
    cmap
        Colour map of a numeric column.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        No UMAP, no such column, or no such gene.
    """
    source = inputs.resolve(adata, mod)
    name = f"X_{key}_umap"
    if name not in source.varm:
        raise checks.missing(
            name, "adata.varm", source.varm, hint=f"Make it with ol.tl.{key}(adata, umap=True)."
        )
    xy = np.asarray(source.varm[name], dtype=float)
    column = color or f"{key}_cluster"
    if column not in source.var:
        raise checks.missing(column, "adata.var", source.var, hint="Name one with color=.")
    marked = positions(as_list(labels or []), source.var_names, argument="labels")
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 5), layout="constrained")
    seen = np.isfinite(xy).all(axis=1)
    empty = f"{key}_empty"
    if empty in source.var:
        seen &= ~source.var[empty].to_numpy(dtype=bool)
    area = size if size is not None else float(np.clip(30000 / max(1, seen.sum()), 2, 40))
    values = source.var[column]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        drawn = ax.scatter(*xy[seen].T, c=values[seen], s=area, cmap=cmap, linewidths=0)
        ax.figure.colorbar(drawn, ax=ax, label=column)
    else:
        codes = pd.Categorical(values[seen]).codes
        # Sixty colours before one is used twice: 1,000 genes make forty clusters by default.
        names = ("tab20", "tab20b", "tab20c")
        palette = np.concatenate([plt.get_cmap(name)(np.arange(20)) for name in names])
        ax.scatter(*xy[seen].T, c=palette[codes % len(palette)], s=area, linewidths=0)
    _label(ax, xy[marked], [str(source.var_names[i]) for i in marked])
    if len(marked):
        ax.scatter(*xy[marked].T, s=area * 2, facecolors="none", edgecolors="black", linewidths=1)
    ax.set_xlabel("UMAP 1")
    ax.set_ylabel("UMAP 2")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(f"{int(seen.sum())} genes by {column}", fontsize=10)
    return finish(ax, show=show)


def _label(ax: Axes, xy: np.ndarray, names: list[str]) -> None:
    """Write names beside points, each on the side that is farthest from labels already there."""
    sides = [(x, y, h, v) for x, h in ((5, "left"), (-5, "right"))
             for y, v in ((5, "bottom"), (-5, "top"), (14, "bottom"), (-14, "top"))]  # fmt: skip
    placed: list[np.ndarray] = []
    for name, at in zip(names, ax.transData.transform(xy), strict=True):
        half = np.array([3.5 * len(name), 6.0])
        best, best_gap = sides[0], -np.inf
        for x, y, h, v in sides:
            centre = at + np.array([x, y]) + half * np.array([1 if x > 0 else -1, np.sign(y)])
            apart = [np.max(np.abs(centre - other) / (2 * half)) for other in placed]
            gap = min([1.0, *apart])
            if gap > best_gap:
                best, best_gap, best_centre = (x, y, h, v), gap, centre
        placed.append(best_centre)
        x, y, h, v = best
        ax.annotate(
            name,
            ax.transData.inverted().transform(at),
            xytext=(x, y),
            textcoords="offset points",
            ha=h,
            va=v,
            fontsize=8,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.7},
        )
