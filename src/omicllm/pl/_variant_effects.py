"""`omicllm.pl.variant_effects`, `ism_logo`: which variants and bases a trained model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from omicllm._core import checks, docs
from omicllm._core.optional import require
from omicllm.get._variants import ism_df, variant_effects_df
from omicllm.pl._panels import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def variant_effects(
    adata: AnnData | MuData,
    *,
    gene: str | None = None,
    n_labels: int = 5,
    key: str = "variant_effects",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the effects of a gene's variants over their distance from its start.

    Parameters
    ----------
    {adata}
    gene
        Gene; the first when None.
    n_labels
        Strongest variants that are named.
    key
        Root of the results of :func:`omicllm.tl.variant_effects`.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        When there are no such results, or none of the gene.
    """
    checks.whole_number("n_labels", n_labels, at_least=0)
    table = variant_effects_df(adata, key=key, mod=mod)
    gene = str(table["gene"].iloc[0]) if gene is None and len(table) else gene
    if gene not in set(table["gene"]):
        raise checks.missing(str(gene), "the genes with effects", dict.fromkeys(table["gene"]))
    table = table[table["gene"] == gene]
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
    x, y = table["distance"].to_numpy() / 1000, table["effect"].to_numpy()
    ax.vlines(x, 0, y, color="0.7", linewidth=0.8)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.axvline(0, color="0.8", linewidth=0.8, linestyle=":")
    dots = ax.scatter(
        x, y, c=table["af"], vmin=0, vmax=1, s=16, cmap="viridis", zorder=3, linewidths=0
    )
    ax.figure.colorbar(dots, ax=ax, label="alternate allele frequency", shrink=0.85)
    for line in table.head(n_labels).itertuples():
        up = line.effect >= 0
        ax.annotate(
            line.variant, (line.distance / 1000, line.effect), fontsize=7,
            xytext=(0, 4 if up else -4), textcoords="offset points", ha="center",
            va="bottom" if up else "top", annotation_clip=True,
        )  # fmt: skip
    ax.margins(y=0.18)
    ax.set_xlabel(f"distance from the start of {gene} (kb, in its direction)")
    ax.set_ylabel("effect on a haplotype")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return finish(ax, show=show)


@docs.fill()
def ism_logo(
    adata: AnnData | MuData,
    *,
    gene: str | None = None,
    start: int | None = None,
    end: int | None = None,
    key: str = "saturation_ism",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the reference as a logo: a letter as high as the prediction depends on it.

    The height is minus the mean score of the three other bases, so that letters point up where
    any change lowers the prediction. Works on :func:`omicllm.tl.saturation_ism` and, with
    ``key="input_gradients"``, on gradients (the height is then the gradient of the base there
    minus the mean of the others).

    Parameters
    ----------
    {adata}
    gene
        Gene; the first when None.
    start, end
        Distances from the start site between which to draw; all by default.
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
        When there are no such results, or none of the gene.
    ValueError
        When nothing lies between `start` and `end`.
    ImportError
        Without logomaker (extra ``motif``).
    """
    logomaker = require("logomaker", extra="motif", why="A sequence logo")
    frame = ism_df(adata, gene=gene, key=key, mod=mod)
    low = frame.index.min() if start is None else start
    high = frame.index.max() + 1 if end is None else end
    frame = frame[(frame.index >= low) & (frame.index < high)]
    if not len(frame):
        msg = f"No scored base lies between start={start} and end={end}."
        raise ValueError(msg)
    scores = frame[list("ACGT")].to_numpy(dtype=np.float64)
    there = np.stack([frame["reference"].to_numpy() == base for base in "ACGT"], axis=1)
    own = (scores * there).sum(axis=1)
    height = own - (scores.sum(axis=1) - own) / 3
    heights = np.where(there, height[:, None], 0)
    letters = pd.DataFrame(heights, index=frame.index, columns=list("ACGT"))
    if ax is None:
        _, ax = plt.subplots(figsize=(max(4.0, 0.09 * len(frame)), 2.2), layout="constrained")
    logomaker.Logo(letters, ax=ax)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xlabel("distance from the start site (bases, in the direction of the gene)")
    ax.set_ylabel("importance")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return finish(ax, show=show)
