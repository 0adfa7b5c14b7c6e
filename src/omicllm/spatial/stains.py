"""Haematoxylin and eosin out of colours, and where an image holds tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Optical densities of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001), rows of unit
#: length; the third catches what the first two leave.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_UNMIX = np.linalg.inv(STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)).astype(np.float32)
#: Optical density of every byte.
_DENSITY = (-np.log10((np.arange(256) + 1.0) / 256.0)).astype(np.float32)


def unmix(rgb: np.ndarray) -> np.ndarray:
    """Amounts of haematoxylin, eosin and rest: float32, in the shape of `rgb` (..., 3) uint8.

    The optical density of a pixel is the sum of its stains' (Beer-Lambert), so amounts follow by
    the inverse of the matrix of stains.

    References
    ----------
    Ruifrok and Johnston 2001, Anal. Quant. Cytol. Histol. 23:291.
    """
    return _DENSITY[rgb] @ _UNMIX


def density(rgb: np.ndarray) -> np.ndarray:
    """Mean optical density over the channels, float32 (...)."""
    return _DENSITY[rgb].mean(axis=-1)


def otsu(values: np.ndarray, *, bins: int = 256) -> float:
    """Threshold that best separates values into two groups (largest variance between them)."""
    from skimage.filters import threshold_otsu

    low, high = float(values.min()), float(values.max())
    if high <= low:
        return high
    count, edges = np.histogram(values, bins=bins, range=(low, high))
    # The number of the last bin below: its centre, skimage's threshold, would cut that bin in two.
    last = threshold_otsu(hist=(count, np.arange(bins)))
    return float(edges[1 + last])


@dataclass(frozen=True)
class StainRange:
    """How strongly a section is stained, from a sample of its pixels.

    Attributes
    ----------
    low, high
        1st and 99th percentile of haematoxylin.
    nuclei
        Haematoxylin above which a pixel counts as nucleus (Otsu, among tissue pixels).
    tissue
        Optical density above which a pixel counts as tissue.
    """

    low: float
    high: float
    nuclei: float
    tissue: float

    @classmethod
    def of(cls, rgb: np.ndarray) -> StainRange:
        """Read from pixels (..., 3) uint8."""
        pixels = rgb.reshape(-1, 3)
        dense = density(pixels)
        tissue = tissue_threshold(dense)
        kept = dense > tissue
        h = unmix(pixels[kept] if kept.any() else pixels)[:, 0]
        low, high = np.quantile(h, [0.01, 0.99])
        return cls(float(low), max(float(high), float(low) + 1e-3), otsu(h), tissue)


#: Optical density of glass is below the first and that of stained tissue above the second, in
#: brightfield images whose white is near 255.
_GLASS, _STAINED = 0.02, 0.12


def tissue_threshold(dense: np.ndarray) -> float:
    """Optical density between glass and tissue: Otsu's, held to what glass and stains look like.

    Without the bounds, an image full of tissue would be cut between stroma and nuclei.
    """
    return float(np.clip(otsu(dense), _GLASS, _STAINED))


#: Pale tissue is this much denser than the glass beside it.
_PALE = 0.03


def glass_limit(dense: np.ndarray) -> float:
    """Optical density that glass stays below: its commonest value and a margin.

    Otsu's threshold would count pale tissue as glass; the peak of the values below it is glass,
    where there is any. An image full of tissue has that peak far above what glass can be.
    """
    below = dense[dense <= otsu(dense)]
    count, edges = np.histogram(below, bins=60)
    peak = int(count.argmax())
    return float(np.clip((edges[peak] + edges[peak + 1]) / 2 + _PALE, _GLASS, _STAINED))


#: Optical density that no stain has: nothing was scanned there, or the image was padded.
_BLACK = 2.0


def tissue_mask(image: np.ndarray, *, smooth: float = 2.0, smallest: float = 1e-3) -> np.ndarray:
    """Where an image holds tissue.

    Parameters
    ----------
    image
        (H, W, 3) uint8, best of about 1,000 pixels a side.
    smooth
        Standard deviation of the smoothing, in pixels.
    smallest
        Pieces and holes below this share of the image are dropped and filled.

    Returns
    -------
    Bool (H, W).
    """
    from scipy import ndimage

    dense = ndimage.gaussian_filter(density(image), smooth)
    mask = (dense > glass_limit(dense)) & (dense < _BLACK)
    least = smallest * mask.size
    for value in (True, False):
        label, n = ndimage.label(mask == value)
        size = np.bincount(label.ravel(), minlength=n + 1)
        small = size < least
        small[0] = False
        mask[small[label]] = not value
    return mask


def thumbnail(image: np.ndarray, longest: int = 1000) -> tuple[np.ndarray, float]:
    """An image of at most `longest` pixels a side, and its pixels per pixel of the original.

    Blocks of whole pixels are averaged.
    """
    step = max(1, -(-max(image.shape[:2]) // longest))
    if step == 1:
        return np.asarray(image), 1.0
    height, width = (n // step for n in image.shape[:2])
    out = np.empty((height, width, 3), dtype=np.uint8)
    for row in range(height):  # a row of blocks at a time: large images may lie on disk
        strip = np.asarray(image[row * step : (row + 1) * step, : width * step])
        mean = strip.reshape(step, width, step, 3).mean(axis=(0, 2))
        out[row] = np.rint(mean)
    return out, 1.0 / step


def on_tissue(image: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Whether points (n, 2; x and y in pixels) lie on tissue; those outside do not.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    centres
        (n, 2).

    Returns
    -------
    Bool (n,).
    """
    small, scale = thumbnail(image)
    mask = tissue_mask(small)
    at = np.floor(centres * scale).astype(np.int64)
    held = (at >= 0).all(axis=1) & (at[:, 0] < mask.shape[1]) & (at[:, 1] < mask.shape[0])
    out = np.zeros(len(centres), dtype=bool)
    out[held] = mask[at[held, 1], at[held, 0]]
    return out
