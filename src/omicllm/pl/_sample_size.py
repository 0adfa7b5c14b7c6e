"""`omicllm.pl.sample_size`: accuracy against the number of training people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import docs
from omicllm.get._table import table as table_of
from omicllm.pl._panels import finish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def sample_size(
    adata: AnnData | MuData,
    *,
    points: Mapping[str, Mapping[float, float]] | None = None,
    key: str = "sample_size",
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw mean accuracy over held-out people against the number of people trained on.

    Parameters
    ----------
    {adata}
    points
        Other models to put beside, name -> training people -> mean r: a network that was trained
        with some values of ``train_fraction=``, for example.
    key
        Root of the results of :func:`omicllm.tl.sample_size`.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes. Bands are 95 % intervals over test people and draws.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    summary = table_of(adata, key, table="summary", mod=mod)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    for k, (name, block) in enumerate(summary.groupby("model", sort=False)):
        x = block["n_people"].to_numpy()
        ax.fill_between(x, block["low"], block["high"], color=f"C{k}", alpha=0.12, linewidth=0)
        ax.plot(x, block["mean_pearson"], "o-", color=f"C{k}", markersize=4, label=name)
    for k, (name, values) in enumerate((points or {}).items(), summary["model"].nunique()):
        x = np.array(sorted(values))
        y = [values[n] for n in x.tolist()]
        ax.plot(x, y, "s--", color=f"C{k}", markersize=5, label=name)
    ax.axhline(0, color="0.8", linewidth=1, zorder=0)
    ax.set_xlim(left=0)
    ax.set_xlabel("training people")
    ax.set_ylabel("mean r over held-out people")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return finish(ax, show=show)
