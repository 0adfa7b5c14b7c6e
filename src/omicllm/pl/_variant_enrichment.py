"""`omicllm.pl.variant_enrichment`: enrichment of strong variants in regions, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import docs
from omicllm.get._table import table as table_of
from omicllm.pl._panels import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def variant_enrichment(
    adata: AnnData | MuData,
    *,
    key: str = "variant_enrichment",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw how many times more often selected variants lie in regions than matched ones.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.tl.variant_enrichment`.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes. Bars are 95 % intervals; the line at 1 is no enrichment.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    table = table_of(adata, key, mod=mod)
    regions = list(dict.fromkeys(table["regions"]))
    effects = list(dict.fromkeys(table["effects"]))
    if ax is None:
        size = (5.0, 1.1 + 0.3 * len(table))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    for k, name in enumerate(effects):
        block = table[table["effects"] == name]
        at = np.array([regions.index(r) for r in block["regions"]], dtype=float)
        at += (k - (len(effects) - 1) / 2) * 0.7 / len(effects)
        ax.hlines(at, block["low"], block["high"], color=f"C{k}", linewidth=1.5)
        ax.plot(block["enrichment"], at, "o", color=f"C{k}", markersize=5, label=name)
    ax.axvline(1, color="0.7", linewidth=1, zorder=0)
    ax.set_yticks(range(len(regions)), regions)
    ax.set_ylim(len(regions) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("observed over expected share inside")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return finish(ax, show=show)
