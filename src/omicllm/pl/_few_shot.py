"""`omicllm.pl.few_shot`: learning curves of models and baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm.get._table import table as table_of
from omicllm.pl._panels import finish

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

_NAMES = {"accuracy": "accuracy", "auc": "AUC", "f1_macro": "macro F1", "mcc": "MCC"}


@docs.fill()
def few_shot(
    adata: AnnData | MuData,
    *,
    score: Literal["accuracy", "auc", "f1_macro", "mcc"] = "accuracy",
    key: str = "few_shot",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw a score against the number of examples per class; baselines are dashed.

    Bars are the intervals of the mean over draws, of the coverage that the verb was called with.

    Parameters
    ----------
    {adata}
    score
        ``"accuracy"``, ``"auc"``, ``"f1_macro"`` or ``"mcc"``.
    key
        Root of the results of :func:`omicllm.tl.few_shot`.
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
    checks.one_of("score", score, _NAMES)
    table = table_of(source, key, table="summary")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    greys = iter(["0.25", "0.6", "0.45"])
    for model, block in table.groupby("model", sort=False):
        block = block.sort_values("shots")
        plain = bool(block["baseline"].iloc[0])
        half = np.nan_to_num((block[f"{score}_high"] - block[f"{score}_low"]).to_numpy() / 2)
        look = {"color": next(greys), "linestyle": "--"} if plain else {}
        ax.errorbar(
            block["shots"], block[score], yerr=half, marker="o", markersize=4, capsize=2,
            label=f"{model} (baseline)" if plain else str(model), **look,
        )  # fmt: skip
    ticks = sorted(table["shots"].unique())
    ax.set_xscale("log")
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("training sequences per class")
    ax.set_ylabel(_NAMES[score])
    # Beside the axes: curves of several models leave no corner free.
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return finish(ax, show=show)
