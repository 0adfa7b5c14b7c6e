"""`omicllm.pl.kmer_pmi`: the ranking of k-mers by PMI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm.pl._panels import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def kmer_pmi(
    adata: AnnData | MuData,
    *,
    key: str = "pmi",
    n_words: int = 10,
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the PMI of k-mers against their rank, words with CpG apart, and name both ends.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.pp.kmer_pmi`.
    n_words
        Words named at either end.
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
    source = inputs.resolve(adata, mod)
    checks.whole_number("n_words", n_words, at_least=0)
    column = f"{key}_rank"
    if column not in source.var:
        raise checks.missing(
            column, "adata.var", source.var, hint="Make it with ol.pp.kmer_pmi(adata)."
        )
    rank = np.asarray(source.var[column], dtype=np.float64)
    score = np.asarray(source.var[key], dtype=np.float64)
    names = np.asarray(source.var_names, dtype=object)
    kept = np.flatnonzero(np.isfinite(rank))
    kept = kept[np.argsort(rank[kept], kind="stable")]
    rank, score, names = rank[kept], score[kept], names[kept]
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    cpg = np.array(["CG" in n for n in names], dtype=bool)
    for chosen, label, colour in ((~cpg, "without CpG", "#4477aa"), (cpg, "with CpG", "#cc6677")):
        ax.scatter(
            rank[chosen], score[chosen], s=7, color=colour, linewidths=0, alpha=0.7,
            label=f"{label} ({int(chosen.sum())})",
        )  # fmt: skip
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    n_words = min(n_words, len(names) // 2)
    if n_words:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        style = {
            "fontsize": 7, "family": "monospace", "transform": ax.transAxes, "bbox": ground,
        }  # fmt: skip
        ax.text(0.05, 0.42, "\n".join(["first:", *names[:n_words]]), va="top", **style)
        ax.text(0.78, 0.95, "\n".join(["last:", *names[-n_words:]]), va="top", **style)
    ax.set_xlabel("rank")
    ax.set_ylabel("normalised PMI")
    ax.legend(loc="lower center", frameon=False, fontsize=8, markerscale=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return finish(ax, show=show)
