"""`omicllm.pl.expression_agreement`: correlation per gene, against the ridge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs
from omicllm.get._table import table as table_of
from omicllm.pl._panels import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def expression_agreement(
    adata: AnnData | MuData,
    *,
    method: str | None = None,
    baseline: str = "ridge",
    score: str = "pearson",
    n_labels: int = 5,
    key: str = "evaluate_expression",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw each gene's score on held-out sections against that of the ridge.

    Points above the line are genes that the prediction gets better than the ridge does.

    Parameters
    ----------
    {adata}
    method
        Method on the vertical axis; by default ``"prediction"``, or ``"knn"`` of baselines.
    baseline
        Method on the horizontal axis.
    score
        ``"pearson"``, ``"spearman"``, ``"mse"``, ``"mae"`` or ``"rvd"``.
    n_labels
        Genes of the best score that are named.
    key
        Root of :func:`omicllm.tl.evaluate_expression` or :func:`omicllm.tl.histology_baselines`.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        No such results or method.
    ValueError
        No gene has both scores.
    """
    checks.one_of("score", score, ("pearson", "spearman", "mse", "mae", "rvd"))
    table = table_of(adata, key, "gene_table", mod=mod)
    methods = list(dict.fromkeys(table["method"]))
    if method is None:
        method = "prediction" if "prediction" in methods else "knn"
    for name in (method, baseline):
        if name not in methods:
            raise checks.missing(name, "the methods", methods, hint="See method= and baseline=.")
    wide = table.pivot(index="gene", columns="method", values=score)
    wide = wide[np.isfinite(wide[[method, baseline]]).all(axis=1)]
    if wide.empty:
        msg = (
            f"No gene has a score of both {method!r} and {baseline!r}. Where no ridge stands "
            "beside a prediction, pass reference= or split_key= to ol.tl.evaluate_expression."
        )
        raise ValueError(msg)
    x, y = wide[baseline].to_numpy(dtype=float), wide[method].to_numpy(dtype=float)
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 4.8), layout="constrained")
    signed = score in ("pearson", "spearman")
    low = float(min(x.min(), y.min(), 0.0))
    high = float(max(x.max(), y.max()))
    margin = 0.06 * (high - low)
    limits = (low - margin if signed else 0.0, high + margin)
    ax.plot(limits, limits, color="0.6", linewidth=1, zorder=0)
    if signed:
        ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.scatter(x, y, s=14, color="#3b4cc0", alpha=0.6, linewidths=0)
    best = np.argsort(-y if signed else y)[:n_labels]
    # Names stand in the corner beside the best genes, where no point lies, in the order of height.
    corner = (0.05, 0.95, -0.055) if signed else (0.62, 0.06, 0.055)
    for place, i in enumerate(best):
        ax.annotate(
            str(wide.index[i]), (x[i], y[i]), xytext=(corner[0], corner[1] + place * corner[2]),
            textcoords="axes fraction", va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": 2},
        )  # fmt: skip
    name = {"pearson": "Pearson correlation", "spearman": "Spearman correlation", "mse": "MSE",
            "mae": "MAE", "rvd": "relative variance distance"}[score]  # fmt: skip
    better = int((y > x).sum() if signed else (y < x).sum())
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    ax.set_box_aspect(1)
    ax.set_xlabel(f"{name}, {baseline}")
    ax.set_ylabel(f"{name}, {method}")
    ax.set_title(
        f"{len(x)} genes: mean {y.mean():.3f}, {baseline} {x.mean():.3f}\nbetter in {better} genes",
        fontsize=9,
    )
    return finish(ax, show=show)
