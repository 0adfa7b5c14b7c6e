"""Plots of `tl.classify_omics` and `tl.explain_omics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs
from omicllm.get._table import table as table_of
from omicllm.pl._panels import finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def confusion(
    adata: AnnData | MuData,
    *,
    key: str = "omiclm",
    normalize: bool = True,
    cmap: str = "Blues",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw true against predicted classes of the held-out rows.

    Parameters
    ----------
    adata
        Object with results of :func:`omicllm.tl.classify_omics`.
    key
        Root of the results.
    normalize
        Colour by the share of each true class; the numbers are counts of rows.
    cmap
        Colour map.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    table = table_of(adata, key, table="confusion", mod=mod)
    counts = table.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if normalize else counts
    if ax is None:
        side = 1.6 + 0.55 * len(table)
        _, ax = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
    drawn = ax.imshow(share, cmap=cmap, vmin=0, vmax=1 if normalize else None)
    middle = (share.max() if not normalize else 1) / 2
    for i, j in np.ndindex(*counts.shape):
        colour = "white" if share[i, j] > middle else "black"
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=9)
    ax.set_xticks(range(len(table)), table.index, rotation=45, ha="right")
    ax.set_yticks(range(len(table)), table.index)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    label = "share of the true class" if normalize else "rows"
    ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.8)
    return finish(ax, show=show)


@docs.fill()
def reliability(
    adata: AnnData | MuData,
    *,
    key: str = "omiclm",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the accuracy of held-out rows against the confidence of the model.

    On the diagonal, a class that is given 80 % is right in 80 % of the rows. The area of a point
    follows the number of rows.

    Parameters
    ----------
    adata
        Object with results of :func:`omicllm.tl.classify_omics`.
    key
        Root of the results.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    table = table_of(adata, key, table="calibration", mod=mod)
    scores = table_of(adata, key, mod=mod).set_index("classifier")
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4), layout="constrained")
    ax.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    size = 20 + 380 * table["count"] / table["count"].max()
    ax.plot(table["confidence"], table["accuracy"], color="C0", linewidth=1)
    ax.scatter(table["confidence"], table["accuracy"], s=size, alpha=0.6, color="C0")
    for x, y, n in table[["confidence", "accuracy", "count"]].to_numpy():
        ax.annotate(str(int(n)), (x, y), ha="center", va="center", fontsize=7)
    ax.set_xlim(0, 1.05)
    ax.set_ylim(-0.05, 1.08)
    ax.set_aspect("equal")
    ax.set_xlabel("confidence (probability of the predicted class)")
    ax.set_ylabel("accuracy")
    ax.set_title(f"calibration error {scores.loc['omiclm', 'ece']:.3f}", fontsize=10)
    return finish(ax, show=show)


@docs.fill()
def gene_attributions(
    adata: AnnData | MuData,
    *,
    key: str = "explain_omics",
    n_genes: int = 12,
    classes: Sequence[str] | None = None,
    ncols: int = 4,
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the genes that speak most for and against each class.

    Parameters
    ----------
    adata
        Object with results of :func:`omicllm.tl.explain_omics`.
    key
        Root of the results.
    n_genes
        Genes of each class, by the size of their attribution.
    classes
        Classes to draw; all by default.
    ncols
        Panels per row.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        When there are no such results, or no such class.
    """
    table = table_of(adata, key, mod=mod)
    known = sorted(table["class"].unique())
    chosen = known if classes is None else list(classes)
    for name in chosen:
        if name not in known:
            raise checks.missing(name, "the explained classes", known, hint="Name classes=.")
    figure, axes = panels(len(chosen), ncols=ncols, height=0.6 + 0.21 * n_genes, width=2.6)
    several = table["modality"].nunique() > 1
    for ax, name in zip(axes, chosen, strict=True):
        own = table[table["class"] == name].head(n_genes).sort_values("attribution")
        value = own["attribution"].to_numpy()
        names = own["gene"].astype(str)
        if several:
            names = names + " (" + own["modality"].astype(str) + ")"
        place = np.arange(len(own))
        ax.barh(place, value, color=np.where(value > 0, "C3", "C0"))
        ax.set_yticks(place, names, fontsize=8)
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.set_title(str(name), fontsize=10)
        ax.set_xlabel("change of the logit", fontsize=8)
        ax.tick_params(axis="x", labelsize=8)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return finish(figure, show=show)
