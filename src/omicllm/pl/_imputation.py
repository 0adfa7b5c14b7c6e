"""`omicllm.pl.imputation`: how well hidden genes were imputed, and maps of some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm._core.gene_pair import read_columns
from omicllm._core.names import positions
from omicllm.pl._panels import as_list, finish
from omicllm.spatial.positions import coordinates, has_coordinates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def imputation(
    adata: AnnData | MuData,
    *,
    genes: str | Sequence[str] | None = None,
    n_genes: int = 3,
    key: str = "sigel_imputed",
    section: str | None = None,
    spot_size: float | None = None,
    cmap: str = "magma",
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw how hidden genes agree with their measurements, and maps of some genes.

    Left: Pearson correlation of each shared gene while it was hidden, against that of the kNN
    baseline in the same folds; points above the diagonal were imputed better than by kNN. Right:
    a row for each gene with its measured map and the one imputed while it was hidden, on one
    colour scale. A gene that was not measured has its imputed map and the width of its interval.

    Parameters
    ----------
    {adata}
    genes
        Genes to map, shared or imputed ones; by default shared genes from the best to the median.
    n_genes
        Number of genes mapped when `genes` is not given.
    key
        Root of the results of :func:`omicllm.tl.impute_genes`.
    section
        Section to map, where ``batch_key=`` was given; the first by default.
    spot_size
        Area of a spot in points squared; by default it follows the number of spots.
    cmap
        Colour map.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No such results, gene or section.
    """
    source = inputs.resolve(adata, mod)
    heldout = f"{key}_heldout"
    if key not in source.uns or heldout not in source.obsm:
        raise checks.missing(
            heldout, "adata.obsm", source.obsm,
            hint="Make it with ol.tl.impute_genes(adata, reference=...).",
        )  # fmt: skip
    entry = inputs.uns_entry(
        source, key, "params", "scores", "genes",
        hint="Make it with ol.tl.impute_genes(adata, reference=...).",
    )  # fmt: skip
    params, scores = entry["params"], pd.DataFrame(entry["scores"]).reset_index(drop=True)
    shared = [str(g) for g in scores["gene"]]
    new = [str(g) for g in np.asarray(entry["genes"]).ravel()]
    if genes is None:
        order = scores["pearson"].sort_values(ascending=False, kind="stable").index
        steps = np.linspace(0, len(order) // 2, min(n_genes, len(order))).round().astype(int)
        genes = [shared[order[i]] for i in steps]
    chosen = as_list(genes)
    positions(chosen, [*shared, *new], where="the shared and imputed genes")
    spatial = str(params.get("spatial_key", "spatial"))
    coords, rows = _section(source, spatial, params.get("batch_key"), section)
    n = len(chosen) if coords is not None else 0
    figure = plt.figure(figsize=(4.2 + (5.6 if n else 0), max(3.8, 2.5 * n)), layout="constrained")
    ratios = [4.2, 2.8, 2.8] if n else [1]
    layout = figure.add_gridspec(max(n, 1), len(ratios), width_ratios=ratios)
    _agreement(figure.add_subplot(layout[:, 0]), scores, chosen)
    size = (
        checks.positive("spot_size", spot_size)
        if spot_size is not None
        else float(np.clip(9000 / max(len(rows), 1), 1.0, 40.0))
    )
    for i, gene in enumerate(chosen[:n]):
        if gene in shared:
            maps = _hidden_maps(source, key, gene, shared.index(gene), params, scores, rows)
        else:
            maps = _new_maps(source, key, gene, new.index(gene), rows)
        for j, (title, value, low, high) in enumerate(maps):
            ax = figure.add_subplot(layout[i, j + 1])
            drawn = _map(ax, np.asarray(coords)[rows], value, title, (low, high), size, cmap)
            figure.colorbar(drawn, ax=ax, shrink=0.7)
    return finish(figure, show=show)


def _section(
    source: AnnData, spatial_key: str, batch_key: Any, section: str | None
) -> tuple[np.ndarray | None, np.ndarray]:
    """Coordinates, and the rows to map."""
    rows = np.arange(source.n_obs)
    if batch_key is not None:
        codes, names = inputs.sections(source, str(batch_key))
        wanted = names[0] if section is None else section
        if wanted not in names:
            raise checks.missing(wanted, "the sections", names, hint="Name another with section=.")
        rows = np.flatnonzero(codes == names.index(wanted))
    if not has_coordinates(source, spatial_key):
        return None, rows
    coords = coordinates(source, spatial_key, plane=False)
    return (coords[:, :2] if coords.ndim == 2 and coords.shape[1] > 1 else None), rows


def _hidden_maps(
    source: AnnData, key: str, gene: str, column: int, params: Any, scores: pd.DataFrame,
    rows: np.ndarray,
) -> list[tuple[str, np.ndarray, float, float]]:  # fmt: skip
    """Measured and hidden-imputed values of a shared gene, and the colour limits of both."""
    X = inputs.matrix(source, params.get("layer"))
    own = positions(gene, source.var_names)
    measured = read_columns(X, own, np.array([gene]), "adata", rows).ravel()
    hidden = np.asarray(source.obsm[f"{key}_heldout"][:, column])[rows]
    # A few strong cells would leave the rest dark.
    high = float(np.quantile(measured, 0.98)) or float(measured.max()) or 1.0
    low = min(0.0, float(measured.min()))
    title = f"imputed while hidden, r = {scores['pearson'][column]:.2f}"
    return [(f"{gene}, measured", measured, low, high), (title, hidden, low, high)]


def _new_maps(
    source: AnnData, key: str, gene: str, column: int, rows: np.ndarray
) -> list[tuple[str, np.ndarray, float, float]]:
    """Values of an imputed gene, and the width of their intervals."""
    value, lower, upper = (
        np.asarray(source.obsm[f"{key}{part}"][:, column])[rows]
        for part in ("", "_lower", "_upper")
    )
    return [
        (title, v, min(0.0, float(v.min())), float(v.max()) or 1.0)
        for title, v in ((f"{gene}, imputed", value), ("width of its interval", upper - lower))
    ]


def _agreement(ax: Axes, scores: pd.DataFrame, named: list[str]) -> None:
    """Correlation of hidden genes, against kNN's."""
    x, y = scores["pearson_knn"].to_numpy(), scores["pearson"].to_numpy()
    low = min(0.0, float(min(x.min(), y.min()))) - 0.03
    high = float(max(x.max(), y.max())) + 0.08
    ax.plot([low, high], [low, high], color="0.7", linewidth=1, zorder=0)
    ax.scatter(x, y, s=18, color="#3b4cc0", alpha=0.7, linewidths=0)
    for gene, a, b in zip(scores["gene"], x, y, strict=True):
        if gene in named:
            ax.scatter([a], [b], s=30, color="#b40426", linewidths=0)
            ax.annotate(str(gene), (a, b), xytext=(4, 4), textcoords="offset points", fontsize=8)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_box_aspect(1)
    ax.set_xlabel("Pearson correlation, kNN")
    ax.set_ylabel("Pearson correlation, imputed")
    ax.set_title(
        f"{len(scores)} genes while hidden: mean {y.mean():.2f}, kNN {x.mean():.2f}", fontsize=9
    )


def _map(
    ax: Axes, coords: np.ndarray, value: np.ndarray, title: str, limits: tuple[float, float],
    size: float, cmap: str,
) -> Any:  # fmt: skip
    """Spots coloured by a value, strong ones on top."""
    order = np.argsort(np.nan_to_num(value), kind="stable")
    drawn = ax.scatter(
        *coords[order].T, c=value[order], s=size, cmap=cmap, vmin=limits[0], vmax=limits[1],
        linewidths=0, rasterized=True,
    )  # fmt: skip
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    return drawn
