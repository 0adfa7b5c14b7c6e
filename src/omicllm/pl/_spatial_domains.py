"""`omicllm.pl.spatial_domains`: domains on the tissue, drawn by squidpy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm._core.lazy import quiet_import
from omicllm.pl._panels import finish
from omicllm.spatial.positions import coordinates, has_coordinates

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def spatial_domains(
    adata: AnnData | MuData,
    *,
    key: str = "spatial_domain",
    confidence: bool = False,
    section: str | None = None,
    spatial_key: str | None = None,
    size: float | None = None,
    palette: str | None = None,
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    **kwargs: Any,
) -> Figure | Axes:
    """Draw spatial domains, a panel for each section, with :func:`squidpy.pl.spatial_scatter`.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.tl.spatial_domains`.
    confidence
        Add panels of the confidence of each spot.
    section
        Section to draw; all by default.
    spatial_key
        Entry of `obsm` with coordinates; by default that of the results.
    size
        Area of a spot in points squared; by default spots about touch.
    palette
        Colour map of the domains; ``<key>_colors`` in `uns` are used where they are there.
    {mod}
    {ax}
        One panel only: one section without `confidence`.
    {show}
    kwargs
        Further arguments of :func:`squidpy.pl.spatial_scatter`.

    Returns
    -------
    The Figure, or `ax` when it was given.

    Raises
    ------
    KeyError
        No such results, section or coordinates.
    ValueError
        Several panels for one `ax`.
    """
    source = inputs.resolve(adata, mod)
    hint = "Make domains with ol.tl.spatial_domains(adata, n_domains=...)."
    if key not in source.obs:
        raise checks.missing(
            key,
            "adata.obs",
            source.obs,
            hint=hint,
        )
    params = inputs.uns_entry(source, key, "params", hint=hint)["params"]
    where = spatial_key or str(params.get("spatial_key", "spatial"))
    if not has_coordinates(source, where):
        raise checks.missing(
            where, "adata.obsm", source.obsm, hint="Name coordinates with spatial_key=."
        )
    codes, names = inputs.sections(source, params.get("batch_key"))
    shown = names if section is None else [names[inputs.section_number(names, section)]]
    columns = [key, f"{key}_confidence"] if confidence else [key]
    if ax is not None and len(shown) * len(columns) != 1:
        msg = (
            f"ax= takes one panel, and {len(shown) * len(columns)} are asked for: name a section "
            "with section=, and leave out confidence=."
        )
        raise ValueError(msg)
    figure: Any = None
    axes = np.array([[ax]])
    if ax is None:
        # Sections side by side; the two panels of a single section as well.
        one = len(shown) == 1
        nrows, ncols = (1, len(columns)) if one else (len(columns), len(shown))
        figure, axes = plt.subplots(
            nrows, ncols, figsize=(4.4 * ncols, 3.6 * nrows), squeeze=False, layout="constrained"
        )
        axes = axes.T if one else axes
    for j, name in enumerate(shown):
        rows = np.flatnonzero(codes == names.index(name))
        title = name if len(names) > 1 else "spatial domains"
        for i, column in enumerate(columns):
            _panel(
                source, rows, where, column, axes[i, j], size=size, palette=palette,
                title=title if i == 0 else "confidence", **kwargs,
            )  # fmt: skip
    return finish(ax if figure is None else figure, show=show)


def _panel(
    adata: AnnData,
    rows: np.ndarray,
    spatial_key: str,
    column: str,
    ax: Axes,
    *,
    size: float | None,
    palette: str | None,
    title: str,
    **kwargs: Any,
) -> None:
    """One section and one column, from an object of its own: squidpy writes colours into `uns`."""
    import pandas as pd
    import scanpy as sc

    sq = quiet_import("squidpy")
    values = pd.Series(np.asarray(adata.obs[column])[rows], index=[str(i) for i in rows])
    coords = coordinates(adata, spatial_key, plane=False)[rows, :2]
    if adata.obs[column].dtype == "category":
        categories = [str(c) for c in adata.obs[column].cat.categories]
        values = values.astype(str).astype(pd.CategoricalDtype(categories))
    lent = sc.AnnData(obs=pd.DataFrame({column: values}), obsm={"spatial": coords})
    if f"{column}_colors" in adata.uns and palette is None:
        lent.uns[f"{column}_colors"] = list(adata.uns[f"{column}_colors"])
    elif column in adata.obs and isinstance(values.dtype, pd.CategoricalDtype):
        lent.uns[f"{column}_colors"] = _colors(len(values.cat.categories), palette)
    options: dict[str, Any] = {
        "shape": None, "size": _spot_area(coords, ax) if size is None else size,
        "frameon": False, "cmap": "viridis", **kwargs,
    }  # fmt: skip
    if column.endswith("_confidence"):
        options |= {"vmin": 0.0, "vmax": 1.0}
    with warnings.catch_warnings(), sc.settings.verbosity.override("error"):
        warnings.simplefilter("ignore")
        # squidpy asks for a library, which is for objects with an image.
        sq.pl.spatial_scatter(lent, color=column, ax=ax, title=title, **options)
    ax.set_aspect("equal")


def _colors(n: int, palette: str | None) -> list[str]:
    """Colours as hex text: scanpy's list of 20 or 102 by default, or samples of a colour map."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex
    from scanpy.plotting import palettes

    if palette is not None:
        return [to_hex(c) for c in colormaps[palette](np.linspace(0, 1, n))]
    known = palettes.default_20 if n <= 20 else palettes.default_102
    return [known[i % len(known)] for i in range(n)]


def _spot_area(coords: np.ndarray, ax: Axes) -> float:
    """Area, in points squared, at which the median spot about touches its nearest neighbour."""
    from scipy.spatial import KDTree

    if len(coords) < 2:
        return 20.0
    gap = float(np.median(KDTree(coords).query(coords, k=2)[0][:, 1]))
    span = np.maximum(np.ptp(coords, axis=0), 1e-12)
    position = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    # Legend and margins take a fifth of the panel.
    scale = 72.0 * 0.8 * min(position.width / span[0], position.height / span[1])
    return max(0.5, (0.95 * scale * gap) ** 2)
