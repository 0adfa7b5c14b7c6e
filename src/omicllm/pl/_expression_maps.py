"""`omicllm.pl.expression_maps`: predicted beside measured expression, on the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm._core.names import positions
from omicllm.pl._panels import as_list, finish, panels
from omicllm.spatial.image_sources import number
from omicllm.spatial.positions import coordinates
from omicllm.spatial.rgb import as_rgb
from omicllm.stats.agreement import gene_pearson
from omicllm.stats.depth import log_normalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def expression_maps(
    adata: AnnData | MuData,
    genes: str | Sequence[str],
    *,
    key: str = "spam",
    layer: str | None = None,
    section: str | None = None,
    section_key: str | None = None,
    spatial_key: str = "spatial",
    image: bool = True,
    cmap: str = "magma",
    point_size: float | None = None,
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw measured and predicted expression of genes side by side, over the image.

    Each row is a gene. Both maps show log(1 + 10,000 x share); the scale of a map is that of its
    own values, since predictions vary less than noisy measurements do. The title of the predicted
    map gives the correlation.

    Parameters
    ----------
    {adata}
    genes
        One gene or several.
    key
        Layer with predictions (:func:`omicllm.tl.spam`, :func:`omicllm.tl.predict_expression`).
    layer
        Layer with measured counts; ``X`` by default. Without counts, predictions are drawn alone.
    section, section_key
        Section to draw, and the column of `obs` that names sections, where there are several.
    spatial_key
        Entry of `obsm` with coordinates.
    image
        Draw the image of ``uns["spatial"]`` under the points, where there is one.
    cmap, point_size
        Colour map, and area of a point in square points.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No predictions, coordinates or genes of that name.
    ValueError
        Several sections and none named; a gene that was not predicted.
    """
    source = inputs.resolve(adata, mod)
    names = as_list(genes)
    if key not in source.layers:
        raise checks.missing(
            key, "adata.layers", source.layers, hint="Make it with ol.tl.predict_expression(adata)."
        )
    place = positions(names, source.var_names)
    rows, name = _rows(source, section, section_key)
    guess = inputs.readable(source.layers[key])[:, place]
    guess = np.asarray(guess.toarray() if hasattr(guess, "toarray") else guess)[rows]
    predicted = np.isfinite(guess).all(axis=1) | np.isnan(guess).all(axis=0).any()
    rows, guess = rows[predicted], guess[predicted]
    if np.isnan(guess).all(axis=0).any():
        none = [g for g, bad in zip(names, np.isnan(guess).all(axis=0), strict=True) if bad]
        msg = f"{checks.listed(none, most=3)} was not predicted: its column of {key!r} is NaN."
        raise ValueError(msg)
    truth = _measured(source, layer, rows, place)
    xy = coordinates(source, spatial_key, plane=False)[rows, :2]
    picture, scale = _picture(source, name) if image else (None, 1.0)
    xy = xy * scale
    shown = [("predicted", guess)] if truth is None else [("measured", truth), ("predicted", guess)]
    extent = np.ptp(xy, axis=0)
    width = 3.4
    height = width * float(np.clip(extent[1] / max(extent[0], 1e-9), 0.5, 1.8)) + 0.3
    figure, axes = panels(len(names) * len(shown), ncols=len(shown), height=height, width=width)
    size = (
        checks.positive("point_size", point_size)
        if point_size is not None
        else float(np.clip(9000 / len(rows), 1.0, 60.0))
    )
    r = None if truth is None else gene_pearson(truth, guess)
    for i, gene in enumerate(names):
        for j, (what, values) in enumerate(shown):
            ax = axes[i * len(shown) + j]
            if picture is not None:
                ax.imshow(picture, alpha=0.6)
            v = values[:, i]
            low, high = np.quantile(v, [0.01, 0.99])
            dots = ax.scatter(
                *xy.T, c=v, s=size, cmap=cmap, vmin=low, vmax=max(high, low + 1e-6), linewidths=0
            )
            note = f" (r = {r[i]:.2f})" if r is not None and what == "predicted" else ""
            ax.set_title(f"{gene}, {what}{note}", fontsize=9)
            margin = 0.05 * extent.max()
            ax.set_xlim(xy[:, 0].min() - margin, xy[:, 0].max() + margin)
            ax.set_ylim(xy[:, 1].max() + margin, xy[:, 1].min() - margin)
            ax.set_aspect("equal")
            ax.set_xticks([])
            ax.set_yticks([])
            figure.colorbar(dots, ax=ax, shrink=0.7)
    return finish(figure, show=show)


def _rows(source: Any, section: str | None, section_key: str | None) -> tuple[np.ndarray, str]:
    """Observations to draw, and the name of their section."""
    usual = next((k for k in ("section", "library_id", "sample") if k in source.obs), None)
    column = section_key or usual
    if column is None:
        return np.arange(source.n_obs), ""
    codes, names = inputs.sections(source, column)
    if section is None:
        if len(names) > 1:
            msg = f"There are several sections ({checks.listed(names)}): name one with section=."
            raise ValueError(msg)
        section = names[0]
    number = inputs.section_number(names, section, where=f"adata.obs[{column!r}]")
    return np.flatnonzero(codes == number), names[number]


def _measured(
    source: Any, layer: str | None, rows: np.ndarray, place: np.ndarray
) -> np.ndarray | None:
    """Measured log-normalised values (m, g), or None where there are no counts."""
    if layer is None and source.X is None:
        return None
    X = inputs.by_gene(source, layer).tocsr()[rows]
    total = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    return log_normalised(X[:, place].toarray(), total) if total.any() else None


def _picture(source: Any, section: str) -> tuple[np.ndarray | None, float]:
    """Image of a section and pixels per coordinate unit."""
    libraries = source.uns.get("spatial", {})
    if not hasattr(libraries, "items") or not libraries:
        return None, 1.0
    if section not in libraries and len(libraries) > 1:
        return None, 1.0
    entry = libraries[section] if section in libraries else next(iter(libraries.values()))
    images, factors = entry.get("images", {}), entry.get("scalefactors", {})
    for name in ("hires", "lowres"):
        if name in images and f"tissue_{name}_scalef" in factors:
            factor = f"tissue_{name}_scalef"
            return np.asarray(as_rgb(images[name])), number(factors[factor], factor)
    return None, 1.0
