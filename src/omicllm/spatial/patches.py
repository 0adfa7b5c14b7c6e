"""Square patches of an image around points, cut and resampled block by block."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_rgb(image: Any, *, where: str = "the image") -> Any:
    """An image as (H, W, 3) uint8, without a copy where it is one already.

    Parameters
    ----------
    image
        (H, W), (H, W, 1), (H, W, 3) or (H, W, 4, the alpha channel is dropped); channels first
        with 3 or 4 channels is turned. Whole numbers up to 255 (65,535: divided by 257), or
        floats in [0, 1].
    where
        Name used in messages.

    Raises
    ------
    ValueError
        Another shape, or values outside these ranges.
    """
    if getattr(image, "dtype", None) == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and min(array.shape[1:]) > 4:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        msg = f"{where} must be (height, width, 3), not of shape {np.shape(image)}."
        raise ValueError(msg)
    array = array[..., :3]
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(_as_bytes(array, where))


def _as_bytes(array: np.ndarray, where: str) -> np.ndarray:
    """Colour values as uint8."""
    if array.dtype == np.uint8:
        return array
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if array.dtype == np.uint16 and high > 255:
        return (array // 257).astype(np.uint8)
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(array * 255).astype(np.uint8)
    if array.dtype.kind in "iuf" and low >= 0 and high <= 255:
        return np.rint(array).astype(np.uint8)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    msg = f"{where} holds values from {low:g} to {high:g}: use uint8, or floats from 0 to 1."
    raise ValueError(msg)


def resampling(side: int, out: int) -> np.ndarray:
    """Weights (out, side) that average pixels when shrinking and interpolate when enlarging."""
    edges = np.linspace(0, side, out + 1)
    if out <= side:  # overlap of each output pixel with each input pixel
        low = np.maximum(edges[:-1, None], np.arange(side)[None])
        high = np.minimum(edges[1:, None], np.arange(side)[None] + 1)
        weights = np.maximum(high - low, 0)
    else:
        at = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, side - 1)
        weights = np.maximum(1 - np.abs(at[:, None] - np.arange(side)[None]), 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def inside(centres: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether points (n, 2; x, y) lie in an image of `shape` (H, W, ...)."""
    x, y = centres[:, 0], centres[:, 1]
    return (x >= 0) & (y >= 0) & (x <= shape[1]) & (y <= shape[0])


def crop(image: Any, centres: np.ndarray, side: float, out: int) -> np.ndarray:
    """Patches around points.

    Parameters
    ----------
    image
        (H, W, 3) uint8; anything that can be sliced (array, memory map, zarr).
    centres
        (n, 2) x (column) and y (row) in pixels of the image.
    side
        Side of the square in pixels of the image, rounded to whole pixels.
    out
        Side of the result in pixels.

    Returns
    -------
    uint8 (n, out, out, 3). What lies outside the image is mirrored at its edge.
    """
    width = max(1, round(side))
    weights = None if width == out else resampling(width, out)
    patches = np.empty((len(centres), out, out, 3), dtype=np.uint8)
    corner = np.rint(np.asarray(centres, dtype=np.float64) - width / 2).astype(np.int64)
    steps = np.arange(width)
    for i, (x, y) in enumerate(corner):
        rows, columns = _mirrored(y + steps, image.shape[0]), _mirrored(x + steps, image.shape[1])
        top, left = rows.min(), columns.min()
        window = np.asarray(image[top : rows.max() + 1, left : columns.max() + 1])
        if window.shape[:2] != (width, width):
            window = window[np.ix_(rows - top, columns - left)]
        if weights is None:
            patches[i] = window
        else:
            shrunk = np.tensordot(weights, window.astype(np.float32), (1, 0))
            shrunk = np.tensordot(shrunk, weights, (1, 1))  # (out, 3, out)
            patches[i] = np.rint(shrunk).clip(0, 255).transpose(0, 2, 1)
    return patches


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Pixel numbers folded back into 0 .. n-1 at both ends."""
    folded = np.mod(index, 2 * n)
    return np.where(folded < n, folded, 2 * n - 1 - folded)
