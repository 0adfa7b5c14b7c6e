"""`omicllm.pl.gene_views`: which view of genes predicts which, and genes on the joint axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm._core.names import positions
from omicllm.get._table import table as table_of
from omicllm.pl._gene_embedding import _label
from omicllm.pl._panels import as_list, finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

#: Canonical axes that are drawn.
_AXES = 8
#: Categories that get a legend.
_NAMED = 12


@docs.fill()
def gene_views(
    adata: AnnData | MuData,
    *,
    key: str = "joint",
    axes: tuple[int, int] = (1, 2),
    color: str | None = None,
    labels: str | Sequence[str] | None = None,
    level: float = 0.05,
    cmap: str = "viridis",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw what :func:`omicllm.tl.gene_views` found, in three panels.

    Left: the share of each view (column) that each other view (row) predicts on held-out genes; a
    star where the false discovery rate is at most `level`. Middle: held-out canonical
    correlations of each pair of views, filled where significant. Right: genes on two joint axes,
    coloured by the neighbours that views agree on.

    Parameters
    ----------
    {adata}
    key
        Root of the results.
    axes
        Joint axes of the right panel, counted from 1.
    color
        Column of `var` to colour genes by; ``"<key>_agreement"`` by default.
    labels
        Genes to name.
    level
        Level of significance.
    cmap
        Colour map of a numeric column.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No such results, column or gene.
    ValueError
        No such joint axis.
    """
    source = inputs.resolve(adata, mod)
    prediction = table_of(source, key)
    canonical = table_of(source, key, table="canonical")
    Z = np.asarray(source.varm[f"X_{key}"])
    for axis in axes:
        if not 1 <= axis <= Z.shape[1]:
            msg = f"There is no joint axis {axis}: they are counted from 1 to {Z.shape[1]}."
            raise ValueError(msg)
    column = color or f"{key}_agreement"
    if column not in source.var:
        raise checks.missing(column, "adata.var", source.var, hint="Name one with color=.")
    marked = positions(as_list(labels or []), source.var_names, argument="labels")
    hint = "Make it with ol.tl.gene_views(adata, views=[...])."
    entry = inputs.uns_entry(source, key, "views", hint=hint)
    names = [str(v) for v in np.asarray(entry["views"]).ravel()]
    side = max(2.4, 0.75 * len(names) + 1.2)
    figure, panels = plt.subplots(
        1, 3, figsize=(side + 8.6, 3.9), layout="constrained",
        gridspec_kw={"width_ratios": [side, 3.8, 4.4]},
    )  # fmt: skip
    _predictions(panels[0], prediction, names, level)
    _canonical(panels[1], canonical, level)
    _genes(panels[2], source, Z[:, [a - 1 for a in axes]], column, cmap)
    for ax, axis in zip((panels[2].xaxis, panels[2].yaxis), axes, strict=True):
        ax.set_label_text(f"joint axis {axis}")
    at = Z[marked][:, [a - 1 for a in axes]]
    _label(panels[2], at, [str(source.var_names[i]) for i in marked])
    if len(marked):
        panels[2].scatter(*at.T, s=40, facecolors="none", edgecolors="black", linewidths=1)
    return finish(figure, show=show)


def _predictions(ax: Axes, table: pd.DataFrame, names: list[str], level: float) -> None:
    """Heat map of R², rows predict columns."""
    values = np.full((len(names), len(names)), np.nan)
    stars = np.zeros(values.shape, dtype=bool)
    for row in table.itertuples():
        at = names.index(str(row.source)), names.index(str(row.target))
        values[at], stars[at] = row.r2, row.qval <= level
    high = max(0.05, float(np.nanmax(values)))
    drawn = ax.imshow(values, cmap="Blues", vmin=0.0, vmax=high)
    for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
        dark = values[i, j] > 0.6 * high
        # Not "-0.00".
        text = f"{round(values[i, j], 2) + 0.0:.2f}" + ("*" if stars[i, j] else "")
        ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black", size=9)
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("view predicted")
    ax.set_ylabel("from view")
    ax.set_title("R² on held-out genes", fontsize=10)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.7)


def _canonical(ax: Axes, table: pd.DataFrame, level: float) -> None:
    """Held-out canonical correlations by axis."""
    ax.axhline(0.0, color="0.7", linewidth=0.8)
    table = table[table["axis"] <= _AXES]
    for i, ((first, second), block) in enumerate(table.groupby(["first", "second"], sort=False)):
        colour = f"C{i % 10}"
        ax.plot(block["axis"], block["correlation"], color=colour, label=f"{first}, {second}")
        sure = (block["pval"] <= level).to_numpy()
        for chosen, face in ((sure, colour), (~sure, "white")):
            ax.scatter(
                block["axis"][chosen], block["correlation"][chosen], s=28, zorder=3,
                facecolors=face, edgecolors=colour,
            )  # fmt: skip
    ax.set_ylim(min(-0.1, float(table["correlation"].min()) - 0.05), 1.0)
    ax.set_xticks(sorted(table["axis"].unique()))
    ax.set_xlabel("canonical axis")
    ax.set_ylabel("held-out correlation")
    ax.set_title(f"shared axes (filled: p ≤ {level:g})", fontsize=10)
    ax.legend(frameon=False, fontsize=8)
    for edge in ("top", "right"):
        ax.spines[edge].set_visible(False)


def _genes(ax: Axes, source: AnnData, xy: np.ndarray, column: str, cmap: str) -> None:
    """Genes that have all views, coloured by a column of `var`."""
    values = source.var[column]
    seen = np.abs(xy).sum(axis=1) > 0
    area = float(np.clip(12000 / max(1, seen.sum()), 3, 30))
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        shade = values.to_numpy(dtype=float)
        without = seen & ~np.isfinite(shade)
        ax.scatter(*xy[without].T, color="0.8", s=area, linewidths=0)
        # The highest values lie on top.
        order = np.flatnonzero(seen & np.isfinite(shade))
        order = order[np.argsort(shade[order], kind="stable")]
        drawn = ax.scatter(*xy[order].T, c=shade[order], s=area, cmap=cmap, linewidths=0)
        label = "neighbours in common" if column.endswith("_agreement") else column
        ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.8)
    else:
        shown = pd.Categorical(values[seen])
        palette = plt.get_cmap("tab20")(np.arange(20))
        shades = np.where(
            shown.codes[:, None] < 0, [[0.85, 0.85, 0.85, 1]], palette[shown.codes % 20]
        )
        ax.scatter(*xy[seen].T, c=shades, s=area, linewidths=0)
        if len(shown.categories) <= _NAMED:
            for i, name in enumerate(shown.categories):
                ax.scatter([], [], color=palette[i % 20], s=20, label=str(name))
            ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_title(f"{int(seen.sum())} genes by {column}", fontsize=10)
    for edge in ("top", "right"):
        ax.spines[edge].set_visible(False)
