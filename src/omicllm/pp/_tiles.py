"""`omicllm.pp.tiles`: a slide without counts, cut into tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm.spatial.image_sources import number, opened
from omicllm.spatial.rgb import as_rgb
from omicllm.spatial.stains import thumbnail, tissue_mask

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def tiles(
    image: np.ndarray | str | Path,
    *,
    mpp: float,
    size_um: float,
    overlap: float = 0.0,
    min_tissue: float = 0.5,
    mask: np.ndarray | None = None,
    name: str = "slide",
    keep_image: bool = True,
) -> AnnData:
    """Cut a slide that has H&E alone into tiles, to be described and predicted like spots.

    Parameters
    ----------
    image
        Array, a file, a folder of zarr, a SpatialData with one image, or an image element of it,
        as in :func:`omicllm.pp.image_features`.
    mpp
        Micrometres per pixel of the image.
    size_um
        Side of a tile, micrometres.
    overlap
        Share of the side that neighbouring tiles have in common, 0 to below 1.
    min_tissue
        Smallest share of tissue in a tile that is kept.
    mask
        Bool (h, w) of any resolution: where the tissue is. By default it is what is
        denser than glass on the smoothed image, small pieces and holes dropped.
    name
        Name of the slide: its library in ``uns["spatial"]`` and ``obs["section"]``.
    keep_image
        Keep the whole image in the object. False keeps an overview of 1,000 pixels: then pass the
        image again to :func:`omicllm.pp.image_features`.

    Returns
    -------
    AnnData, tiles x 0 genes, with

    ``obsm["spatial"]`` : float64 (n, 2)
        Centres, x and y in pixels of the image.
    ``obs``
        ``section``, ``array_row``, ``array_col`` (place in the grid of tiles) and ``tissue``
        (share of tissue).
    ``uns["spatial"][name]``
        Image, scale factors and micrometres per pixel in the layout of squidpy. The spot diameter
        is half a tile, so that the default patch of :func:`omicllm.pp.image_features` is the tile.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; sizes that are not positive; a tile of under 4 pixels or beyond the image;
        no tissue.
    """
    import anndata
    import pandas as pd

    mpp, size_um = (
        number(v, n, unit="micrometres") for n, v in (("mpp", mpp), ("size_um", size_um))
    )
    checks.share("overlap", overlap, high=0.95)
    checks.share("min_tissue", min_tissue)
    pixels = as_rgb(opened(image)[0])
    height, width = pixels.shape[:2]
    side = size_um / mpp
    if side < 4 or side > min(height, width):
        msg = (
            f"A tile of {size_um:g} um is {side:.4g} pixels of an image of {width} x {height} "
            "pixels. Check size_um= and mpp=."
        )
        raise ValueError(msg)
    small, scale = thumbnail(pixels)
    tissue = tissue_mask(small) if mask is None else np.asarray(mask).astype(bool)
    if tissue.ndim != 2:
        msg = f"mask= must be (height, width), not of shape {tissue.shape}."
        raise ValueError(msg)
    if not _same_view(tissue.shape, (height, width)):
        msg = (
            f"mask= of {tissue.shape[1]} x {tissue.shape[0]} pixels is not of the shape of the "
            f"image ({width} x {height}): it must show all of it, in any resolution."
        )
        raise ValueError(msg)
    step = side * (1 - overlap)
    # A tile that fits but for rounding fits: 3 um of 0.1 um are 30 pixels.
    n_rows, n_columns = (int((n - side) / step + 1e-9) + 1 for n in (height, width))
    row, column = (v.ravel() for v in np.mgrid[:n_rows, :n_columns])
    corner = np.stack([column, row], axis=1) * step
    share = _tissue_share(tissue, corner, side, (height, width))
    kept = share >= max(min_tissue, 1e-9)
    if not kept.any():
        msg = (
            f"None of {len(kept)} tiles holds {min_tissue:.0%} of tissue (most: {share.max():.0%})."
            " Lower min_tissue=, or say where the tissue is with mask=."
        )
        raise ValueError(msg)
    logger.info("%d of %d tiles hold tissue", int(kept.sum()), len(kept))
    obs = pd.DataFrame(
        {
            "section": pd.Categorical([name] * int(kept.sum())),
            "array_row": row[kept], "array_col": column[kept],
            "tissue": share[kept],
        },
        index=[f"{r}x{c}" for r, c in zip(row[kept], column[kept], strict=True)],
    )  # fmt: skip
    out = anndata.AnnData(np.zeros((len(obs), 0), dtype=np.float32), obs=obs)
    out.obsm["spatial"] = corner[kept] + side / 2
    images: dict[str, Any] = {"hires": np.asarray(pixels)} if keep_image else {"lowres": small}
    factors = {"tissue_hires_scalef": 1.0} if keep_image else {"tissue_lowres_scalef": scale}
    out.uns["spatial"] = {
        name: {
            "images": images,
            "scalefactors": factors | {"spot_diameter_fullres": side / 2},
            "metadata": {"um_per_fullres_px": float(mpp)},
        }
    }
    return out


def _same_view(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether a mask may be the image at a lower resolution, up to a pixel of it or two."""
    scale = min(m / n for m, n in zip(mask, image, strict=True))
    return all(abs(m - n * scale) <= 2 for m, n in zip(mask, image, strict=True))


def _tissue_share(
    mask: np.ndarray, corner: np.ndarray, side: float, shape: tuple[int, int]
) -> np.ndarray:
    """Share of tissue in squares, by sums over rectangles of the mask."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    scale = np.array([mask.shape[1] / shape[1], mask.shape[0] / shape[0]])
    low = np.floor(np.round(corner * scale, 6)).astype(np.int64)
    high = np.maximum(np.ceil(np.round((corner + side) * scale, 6)).astype(np.int64), low + 1)
    limit = np.array([mask.shape[1], mask.shape[0]])
    low, high = np.minimum(low, limit - 1), np.minimum(high, limit)
    inside = (
        total[high[:, 1], high[:, 0]] - total[low[:, 1], high[:, 0]]
        - total[high[:, 1], low[:, 0]] + total[low[:, 1], low[:, 0]]
    )  # fmt: skip
    return inside / np.prod(high - low, axis=1)
