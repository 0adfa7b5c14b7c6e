"""`omicllm.pl.expression_calibration`: whether predictions and their intervals hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm.pl._panels import finish, panels
from omicllm.stats.depth import log_normalised

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def expression_calibration(
    adata: AnnData | MuData,
    *,
    key: str = "spam",
    layer: str | None = None,
    level: float = 0.9,
    n_bins: int = 20,
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw how measured values compare with predictions, and how many lie in the intervals.

    Left: mean measured value of entries of about the same prediction, with the middle half of
    them. Right: share of observations inside the interval, gene by gene.

    Parameters
    ----------
    {adata}
        With counts, so best a section that was held out.
    key
        Root of the predictions (:func:`omicllm.tl.predict_expression`).
    layer
        Layer with measured counts; ``X`` by default.
    level
        Share of values that intervals are meant to hold.
    n_bins
        Bins of predictions, of equal size.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No predictions, or no intervals.
    """
    source = inputs.resolve(adata, mod)
    for name in (key, f"{key}_lower", f"{key}_upper"):
        if name not in source.layers:
            raise checks.missing(
                name, "adata.layers", source.layers,
                hint="Make it with ol.tl.predict_expression(adata, intervals=True).",
            )  # fmt: skip
    checks.whole_number("n_bins", n_bins, at_least=2)
    guess, low, high = (np.asarray(source.layers[n]) for n in (key, f"{key}_lower", f"{key}_upper"))
    rows = np.isfinite(guess).any(axis=1)
    columns = np.isfinite(guess[rows]).all(axis=0)
    X = inputs.by_gene(source, layer).tocsr()[np.flatnonzero(rows)]
    total = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    truth = log_normalised(X[:, np.flatnonzero(columns)].toarray(), total)
    guess, low, high = (v[np.ix_(rows, columns)] for v in (guess, low, high))
    inside = ((truth >= low) & (truth <= high)).mean(axis=0)
    figure, (left, right) = panels(2, ncols=2, height=3.4, width=3.8)
    order = np.argsort(guess, axis=None, kind="stable")
    parts = [p for p in np.array_split(order, n_bins) if len(p)]
    at = np.array([guess.ravel()[p].mean() for p in parts])
    mean = np.array([truth.ravel()[p].mean() for p in parts])
    q = np.array([np.quantile(truth.ravel()[p], [0.25, 0.75]) for p in parts])
    left.fill_between(at, q[:, 0], q[:, 1], alpha=0.25, linewidth=0, label="middle half")
    left.plot(at, mean, marker="o", markersize=3, label="mean")
    ends = [0.0, float(max(at.max(), mean.max()))]
    left.plot(ends, ends, color="0.5", linewidth=0.8, linestyle="--", label="predicted = measured")
    left.set_xlabel("predicted log(1 + 10,000 share)")
    left.set_ylabel("measured")
    left.legend(frameon=False, fontsize=8)
    right.hist(inside, bins=np.linspace(min(0.5, float(inside.min())), 1, 26), color="0.6")
    right.axvline(level, color="C3", linewidth=1, linestyle="--", label=f"meant: {level:.2f}")
    right.axvline(inside.mean(), color="C0", linewidth=1.2, label=f"all genes: {inside.mean():.3f}")
    right.set_xlabel("share of observations in the interval")
    right.set_ylabel("genes")
    right.legend(frameon=False, fontsize=8)
    return finish(figure, show=show)
