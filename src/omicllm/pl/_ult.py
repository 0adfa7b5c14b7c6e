"""`omicllm.pl.ult_table`, `ult_quality`, `ult_distances`: plots of the text codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm.get._table import table as table_of
from omicllm.get._ult import lut_df
from omicllm.pl._panels import finish, panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

_COLOUR = "#3b6ea5"


@docs.fill()
def ult_table(
    adata: AnnData | MuData,
    *,
    key: str = "ult",
    modality: str | None = None,
    n_labels: int = 20,
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw how a lookup table is used: counts by rank, and by value.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.tl.ult`.
    modality
        Which table of a MuData that was encoded as a whole.
    n_labels
        Of a table of texts: tokens named on the axis.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        When there is no table.
    """
    table = lut_df(adata, key=key, modality=modality, mod=mod)
    figure, (left, right) = panels(2, ncols=2, height=3.0, width=3.8)
    rank = np.arange(1, len(table) + 1)
    left.plot(rank, table["share"], color=_COLOUR, drawstyle="steps-mid")
    left.fill_between(rank, table["share"], step="mid", color=_COLOUR, alpha=0.25, linewidth=0)
    left.set(xscale="log", yscale="log", xlabel="rank", ylabel="share of values")
    left.set_title(f"{len(table)} values, {int(table['count'].sum()):,} counted", fontsize=9)
    if pd.api.types.is_numeric_dtype(table["level"]):
        ordered = table.sort_values("level")
        right.plot(ordered["level"], ordered["share"], color=_COLOUR, linewidth=0.8)
        right.fill_between(ordered["level"], ordered["share"], color=_COLOUR, alpha=0.25)
        right.set(yscale="log", ylabel="share of values")
        right.set_xlabel("level" if "value" in table else "coefficient")
        if "value" in table:
            largest = float(np.abs(table["value"]).max())
            right.set_title(f"values up to {largest:.4g} in absolute value", fontsize=9)
    else:
        top = table.head(n_labels)
        right.bar(np.arange(len(top)), top["share"], color=_COLOUR)
        right.set_xticks(np.arange(len(top)), [_shown(v) for v in top["level"]], rotation=90)
        right.tick_params(axis="x", labelsize=7)
        right.set(ylabel="share of values", xlabel="token (count and character)")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return finish(figure, show=show)


def _shown(token: str) -> str:
    """A token with its invisible characters written out."""
    return repr(token)[1:-1].replace(" ", "\u2423")


@docs.fill()
def ult_quality(
    adata: AnnData | MuData,
    *,
    key: str = "ult",
    groupby: str | None = None,
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the quality of each encoded observation against its share of saturated values.

    Saturation usually decides the quality: a larger `max_value` is the remedy.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.tl.ult_quality`.
    groupby
        Column of `obs` to colour by.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        No such results or column.
    """
    source = inputs.resolve(adata, mod)
    for column in (f"{key}_psnr", f"{key}_saturated"):
        if column not in source.obs:
            hint = "Make it with ol.tl.ult_quality(adata)."
            raise checks.missing(column, "adata.obs", source.obs, hint=hint)
    psnr = np.asarray(source.obs[f"{key}_psnr"], dtype=float)
    saturated = 100 * np.asarray(source.obs[f"{key}_saturated"], dtype=float)
    if ax is None:
        _, ax = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
    size = float(np.clip(2000 / max(1, len(psnr)), 3, 25))
    if groupby is None:
        ax.scatter(saturated, psnr, s=size, color=_COLOUR, alpha=0.6, linewidth=0)
    else:
        labels = inputs.obs_column(source, groupby, argument="groupby").astype(str)
        for name in sorted(set(labels)):
            member = labels == name
            ax.scatter(saturated[member], psnr[member], s=size, alpha=0.7, linewidth=0, label=name)
        ax.legend(title=groupby, fontsize=7, title_fontsize=8, frameon=False, markerscale=1.5)
    ax.set(xlabel="saturated values (%)", ylabel="PSNR (dB)")
    ax.set_title(f"median {np.nanmedian(psnr):.1f} dB, {len(psnr):,} observations", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return finish(ax, show=show)


@docs.fill()
def ult_distances(
    adata: AnnData | MuData,
    *,
    key: str = "ult_distances",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw distances between strings against distances between profiles, a panel per metric.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.tl.ult_distances`.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        When there are no such results, or only those of the published formula.
    """
    table = table_of(adata, key, mod=mod)
    entry = inputs.resolve(adata, mod).uns[key]
    if "pairs" not in entry:
        hint, needed = "Run ol.tl.ult_distances(adata) with formula='mantel'.", "pairs"
        raise checks.missing(needed, f"adata.uns[{key!r}]", entry, hint=hint)
    pairs = entry["pairs"]
    figure, axes = panels(len(table), ncols=3, height=3.0, width=3.0)
    for ax, (_, line) in zip(axes, table.iterrows(), strict=True):
        metric = str(line["metric"])
        ax.scatter(
            pairs["profile"], pairs[metric], s=4, color=_COLOUR, alpha=0.35, linewidth=0,
            rasterized=True,
        )  # fmt: skip
        ax.set(xlabel="Euclidean distance of profiles", ylabel=f"{metric} distance of strings")
        ax.set_title(
            f"r = {line['pearson']:.2f} (p = {line['pearson_pval']:.2g}), "
            f"rho = {line['spearman']:.2f}",
            fontsize=8,
        )
        ax.spines[["top", "right"]].set_visible(False)
    return finish(figure, show=show)
