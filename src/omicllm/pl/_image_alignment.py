"""`omicllm.pl.image_alignment`: whether spots lie where the tissue is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm._core.log import logger
from omicllm.pl._panels import finish
from omicllm.spatial.image_sources import section_images
from omicllm.spatial.stains import on_tissue, thumbnail

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData


@docs.fill()
def image_alignment(
    adata: AnnData | MuData,
    *,
    image: Any = None,
    img_key: str | None = None,
    alignment: Any = None,
    section: str | None = None,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    spot_size: float | None = None,
    mod: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Draw the spots over the H&E, coloured by whether they lie on tissue.

    The title gives the share of spots on tissue. A wrong scale, a swapped axis or a flip brings
    it down to about the share of the image that is tissue, which is given beside it.

    Parameters
    ----------
    {adata}
    image, img_key, alignment
        As in :func:`omicllm.pp.image_features`.
    section
        Section to draw, where there are several; by default the first.
    {spatial_key}
    {batch_key}
    spot_size
        Area of a marker, in points squared.
    {mod}
    {ax}
    {show}

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError, ValueError
        As in :func:`omicllm.pp.image_features`; or no such section.
    """
    source = inputs.resolve(adata, mod)
    found = section_images(
        source, image=image, img_key=img_key, spatial_key=spatial_key, batch_key=batch_key,
        alignment=alignment,
    )  # fmt: skip
    names = [s.name for s in found]
    one = found[0 if section is None else inputs.section_number(names, section)]
    small, scale = thumbnail(one.image)
    tissue = on_tissue(one.image, one.centres)
    everywhere = _grid_share(one.image)
    text = (
        f"{one.name}: {int(one.inside.sum())} of {len(tissue)} spots on the image,\n"
        f"{tissue.mean():.0%} on tissue ({everywhere:.0%} of the image is tissue)"
    )
    logger.info("%s", text.replace("\n", " "))
    if ax is None:
        height, width = small.shape[:2]
        size = (5.0, 5.0 * height / width + 0.6)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    at = one.centres * scale
    ax.imshow(small)
    area = (
        checks.positive("spot_size", spot_size)
        if spot_size is not None
        else float(np.clip(4000 / max(len(at), 1), 2.0, 30.0))
    )
    for rows, colour, label in ((tissue, "#0060ff", "on tissue"), (~tissue, "#ff2a00", "not")):
        if rows.any():
            ax.scatter(
                *at[rows].T, s=area, facecolors="none", edgecolors=colour, linewidths=0.8,
                label=f"{label} ({int(rows.sum())})",
            )  # fmt: skip
    ax.legend(loc="upper right", fontsize=8, framealpha=0.8)
    ax.set_title(text, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    return finish(ax, show=show)


def _grid_share(image: np.ndarray) -> float:
    """Share of an even grid of points that lies on tissue."""
    height, width = image.shape[:2]
    y, x = (v.ravel() for v in np.mgrid[0.5:100, 0.5:100])
    return float(on_tissue(image, np.stack([x * width / 100, y * height / 100], axis=1)).mean())
