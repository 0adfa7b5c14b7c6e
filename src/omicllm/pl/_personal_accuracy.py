"""`omicllm.pl.personal_accuracy`: predicted expression over held-out people, beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
def personal_accuracy(
    adata: AnnData | MuData,
    *,
    x: str | None = None,
    y: str | None = None,
    key: str = "evaluate_personal",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw accuracy over held-out people: one prediction against another, or all side by side.

    Parameters
    ----------
    {adata}
    x, y
        Layers with predictions (for example ``"twas_enet"`` and ``"personal_pair_regression"``):
        one dot per gene. Without them, the distribution over genes of every prediction, with its
        mean.
    key
        Root of the results of :func:`omicllm.tl.evaluate_personal`.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes. A constant prediction counts as 0.

    Raises
    ------
    KeyError
        When there are no such results, or no such prediction.
    ValueError
        When one of `x` and `y` is missing.
    """
    table = table_of(adata, key, mod=mod)
    wide = table.pivot_table(
        index=["gene", "gene_class"], columns="prediction", values="pearson", aggfunc="first",
        dropna=False, observed=True, sort=False,
    ).dropna(how="all").fillna(0.0)  # fmt: skip
    names = [n for n in dict.fromkeys(table["prediction"]) if n in wide]
    if (x is None) != (y is None):
        msg = "Give both x= and y=, or neither."
        raise ValueError(msg)
    for name in (x, y):
        if name is not None and name not in names:
            raise checks.missing(name, "the evaluated predictions", names)
    if ax is None:
        size = (4.2, 4.2) if x else (1.6 + 1.0 * len(names), 3.8)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    classes = wide.index.get_level_values("gene_class").astype(str)
    if x is not None and y is not None:
        _scatter(ax, wide, classes, x, y)
    else:
        _side_by_side(ax, wide, classes, names)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return finish(ax, show=show)


def _scatter(ax: Axes, wide: Any, classes: Any, x: str, y: str) -> None:
    low = float(min(wide[[x, y]].min().min(), 0)) - 0.05
    high = float(max(wide[[x, y]].max().max(), 0)) + 0.05
    ax.plot([low, high], [low, high], color="0.8", linewidth=1, zorder=0)
    for name in dict.fromkeys(classes):
        block = wide[classes == name]
        label = f"{name} ({len(block)}): {block[y].mean():.2f} against {block[x].mean():.2f}"
        ax.scatter(block[x], block[y], s=14, alpha=0.8, linewidths=0, label=label)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_aspect("equal")
    ax.set_xlabel(f"{x}, r over held-out people")
    ax.set_ylabel(f"{y}, r over held-out people")
    ax.legend(frameon=False, fontsize=8, title="genes: mean y against x", title_fontsize=8)


def _side_by_side(ax: Axes, wide: Any, classes: Any, names: list[str]) -> None:
    jitter = np.random.default_rng(0).uniform(-1, 1, len(wide))
    groups = list(dict.fromkeys(classes))
    width = 0.8 / len(groups)
    for k, name in enumerate(groups):
        inside = np.asarray(classes == name)
        for i, prediction in enumerate(names):
            r = wide[prediction].to_numpy()[inside]
            at = i + (k - (len(groups) - 1) / 2) * width
            spread = at + 0.3 * width * jitter[inside]
            ax.scatter(spread, r, s=8, alpha=0.5, linewidths=0, color=f"C{k}")
            label = f"{name} ({int(inside.sum())} genes), mean" if i == 0 else None
            ax.plot([at - 0.4 * width, at + 0.4 * width], [r.mean()] * 2, color=f"C{k}",
                    linewidth=2.5, label=label)  # fmt: skip
    ax.axhline(0, color="0.8", linewidth=1, zorder=0)
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
    ax.set_ylabel("r over held-out people")
    ax.legend(frameon=False, fontsize=8)
