"""Plots of synthetic rows: beside the real ones, and their quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm.get._table import table as table_of
from omicllm.pl._panels import finish, panels
from omicllm.stats.fidelity import log_normalised

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

#: Column of the table -> title of its panel.
_FIGURES = {
    "ks": "distance of marginals",
    "variance_ratio": "variance / real",
    "correlation": "agreement of correlations",
    "separation": "separation of classes",
    "near_copies": "share of near copies",
    "accuracy": "accuracy, trained on it",
}
#: Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


@docs.fill()
def augment_quality(
    adata: AnnData | MuData,
    *,
    key: str = "augment_quality",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the table of :func:`omicllm.tl.augment_quality`, a panel for each figure.

    Grey lines mark the value of the real rows; in the panel of variances, 1.

    Parameters
    ----------
    {adata}
    key
        Root of the results, as given with ``key_added=``.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No such results.
    """
    table = table_of(adata, key, mod=mod).set_index("sampler")
    real, rows = table.loc["real"], table.drop(index="real")
    height = 0.26 * max(len(rows), 2) + 1.0
    figure, axes = panels(len(_FIGURES), ncols=3, height=height, width=3.1)
    place = np.arange(len(rows))[::-1]
    for i, (name, title) in enumerate(_FIGURES.items()):
        ax, values = axes[i], rows[name].to_numpy(dtype=float)
        line = 1.0 if name == "variance_ratio" else float(real[name])
        if np.isfinite(line):
            ax.axvline(line, color="0.6", lw=1.2, zorder=0)
        ax.plot(values, place, "o", color=_COLOURS[0], ms=5)
        ax.set_title(title, fontsize=9)
        ax.set_yticks(place, rows.index if i % 3 == 0 else [], fontsize=8)
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.tick_params(axis="x", labelsize=8)
        ax.grid(axis="y", color="0.92", lw=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        if name in ("near_copies", "accuracy"):
            ax.set_xlim(-0.04, 1.04)
        if not np.isfinite(values).any():
            ax.text(0.5, 0.5, "no test rows", transform=ax.transAxes, ha="center", color="0.4")
    return finish(figure, show=show)


@docs.fill()
def augment(
    adata: AnnData | MuData,
    *,
    labels_key: str,
    n_genes: int = 500,
    layer: str | None = None,
    split_key: str = "split",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw real training rows and synthetic rows on two principal axes of the real ones.

    Parameters
    ----------
    {adata}
        Made by :func:`omicllm.pp.augment`. Counts are scaled to equal depth and logged.
    labels_key
        Column of `obs` with classes, shown by colour.
    n_genes
        Most variable genes of the real training rows, that the axes are made of.
    {layer}
    split_key
        Column of `obs` with the split; all real rows are used where there is none.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        No such column, or no synthetic rows.
    ValueError
        Fewer than three labelled real rows.
    """
    source = inputs.resolve(adata, mod)
    column = "synthetic"
    if column not in source.obs:
        raise checks.missing(
            column, "adata.obs", source.obs, hint="Make the object with ol.pp.augment(...)."
        )
    label = np.asarray(inputs.obs_column(source, labels_key, argument="labels_key")).astype(object)
    named = pd.notna(label)
    fake = np.asarray(source.obs["synthetic"], dtype=bool) & named
    real = ~np.asarray(source.obs["synthetic"], dtype=bool) & named
    if split_key in source.obs:
        real &= np.asarray(source.obs[split_key]).astype(str) == "train"
    if real.sum() < 3:
        msg = f"{int(real.sum())} labelled real training rows are too few to draw axes from."
        raise ValueError(msg)
    rows = np.flatnonzero(real | fake)
    values = _log_values(inputs.matrix(source, layer), rows, real[rows])
    own = values[real[rows]]
    genes = np.argsort(-own.var(axis=0), kind="stable")[:n_genes]
    sd = own[:, genes].std(axis=0)
    z = (values[:, genes] - own[:, genes].mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    _, _, axes = np.linalg.svd(z[real[rows]], full_matrices=False)
    place = z @ axes[:2].T
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
    for i, name in enumerate(sorted({str(v) for v in label[rows]})):
        colour = _COLOURS[i % len(_COLOURS)]
        mine = np.array([str(v) == name for v in label[rows]])
        new, old = mine & fake[rows], mine & real[rows]
        ax.plot(*place[new].T, ".", color=colour, ms=5, alpha=0.5, mew=0)
        ax.plot(*place[old].T, "o", color=colour, ms=6, mec="k", mew=0.6, label=name)
    ax.plot([], [], ".", color="0.5", ms=5, label="synthetic")
    ax.plot([], [], "o", color="w", ms=6, mec="k", mew=0.6, label="real")
    ax.set_xlabel("PC 1 of real rows")
    ax.set_ylabel("PC 2 of real rows")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return finish(ax, show=show)


def _log_values(X: Any, rows: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Rows as an array; counts at the depth of the real ones, logged."""
    parts = []
    for start, block in inputs.row_blocks(X):
        own = rows[(rows >= start) & (rows < start + block.shape[0])] - start
        part = block[own]
        parts.append(part.toarray() if hasattr(part, "toarray") else part)
    values = np.concatenate(parts).astype(np.float64)
    own = values[real]
    if (own < 0).any() or (own != np.rint(own)).any():
        return values
    depth = values.sum(axis=1)
    return log_normalised(values, depth, float(np.median(depth[real])))
