"""`omicllm.pl.training_history`: losses over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm.pl._panels import finish, panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def training_history(
    source: AnnData | MuData | Any,
    *,
    key: str = "sigel",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw the losses of a training, one panel per metric.

    Parameters
    ----------
    source
        A trained model, or annotated data with ``uns[key]["history"]``.
    key
        Root of the results.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        When there is no history.
    """
    curves = getattr(source, "history_", None)
    if curves is None:
        adata = inputs.resolve(source, mod)
        entry = adata.uns.get(key, {})
        if "history" not in entry:
            name, hint = "history", f"Run ol.tl.{key}(adata)."
            raise checks.missing(name, f"adata.uns[{key!r}]", entry, hint=hint)
        curves = entry["history"]
    curves = {k: np.asarray(v, dtype=float).ravel() for k, v in curves.items()}
    curves = {k: v for k, v in curves.items() if len(v)}
    if not curves:
        msg = "The training history is empty: train the model first."
        raise ValueError(msg)
    figure, axes = panels(len(curves), ncols=3, height=2.4, width=3.2)
    for ax, (name, values) in zip(axes, curves.items(), strict=True):
        ax.plot(np.arange(1, len(values) + 1), values, lw=1.2)
        ax.set_title(name.replace("_", " "), fontsize=9)
        ax.set_xlabel("iteration of EM" if name.startswith("mixture") else "epoch")
    return finish(figure, show=show)
