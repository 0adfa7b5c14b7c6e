"""Square patches of an image around points, cut and resampled block by block."""

from __future__ import annotations

from typing import Any

import numpy as np


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
