"""Hand-made features of H&E patches: colour, stains, texture, edges, nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm.spatial.stains import StainRange, unmix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from omicllm.spatial.patch_sources import PatchSource

    Watch = Callable[[Iterable[int]], Iterable[int]]

#: Features of a patch, and a usual standard deviation of each within a section of H&E, to one
#: digit. These units make features comparable without taking from a section how varied it is.
UNITS = {
    "red_mean": 0.08, "green_mean": 0.07, "blue_mean": 0.05,
    "red_sd": 0.03, "green_sd": 0.03, "blue_sd": 0.03,
    "hematoxylin_mean": 0.1, "hematoxylin_sd": 0.07, "hematoxylin_q10": 0.05,
    "hematoxylin_q50": 0.1, "hematoxylin_q90": 0.2, "hematoxylin_skewness": 0.6,
    "eosin_mean": 0.02, "eosin_sd": 0.01, "eosin_q10": 0.04,
    "eosin_q50": 0.02, "eosin_q90": 0.02, "eosin_skewness": 0.9,
    "rest_mean": 0.01, "rest_sd": 0.01, "glass_share": 0.2,
    "hematoxylin_edge_mean": 0.04, "hematoxylin_edge_sd": 0.02,
    "eosin_edge_mean": 0.007, "eosin_edge_sd": 0.004,
    "coherence": 0.08, "band_1": 0.8, "band_2": 0.8, "band_4": 0.7,
    "glcm_contrast_1": 2.0, "glcm_contrast_3": 5.0,
    "glcm_homogeneity_1": 0.1, "glcm_homogeneity_3": 0.2,
    "glcm_energy_1": 0.2, "glcm_energy_3": 0.2,
    "glcm_correlation_1": 0.04, "glcm_correlation_3": 0.09,
    "nuclei_density": 1.0, "nuclei_share": 0.1, "nuclei_area": 0.6, "nuclei_area_sd": 0.4,
    "nuclei_stain": 0.07,
}  # fmt: skip
#: Grey levels of the co-occurrence matrix, and its distances in pixels.
_LEVELS, _DISTANCES = 16, (1, 3)
_PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
_QUANTILES = (0.1, 0.5, 0.9)
#: Standard deviations (pixels) of the band-pass filters.
_BANDS = (1.0, 2.0, 4.0)


def features(patches: np.ndarray, stain: StainRange) -> np.ndarray:
    """Features of patches.

    Parameters
    ----------
    patches
        uint8 (n, p, p, 3).
    stain
        How strongly the section is stained: grey levels of the texture and the threshold of
        nuclei follow it.

    Returns
    -------
    float32 (n, k), columns as in :data:`UNITS`: means and standard deviations of colours; moments
    and quantiles of haematoxylin, eosin and rest; share of glass; gradients; coherence of the
    structure tensor; energy of three bands of difference of Gaussians; co-occurrence (Haralick)
    at two distances, mean of four directions; number, size and stain of dark haematoxylin blobs.
    """
    n = len(patches)
    amounts = unmix(patches)
    h, e, rest = (np.ascontiguousarray(amounts[..., i]) for i in range(3))
    colour = patches.reshape(n, -1, 3).astype(np.float32) / 255
    columns = [colour.mean(axis=1), colour.std(axis=1)]
    columns += [_moments(h.reshape(n, -1)), _moments(e.reshape(n, -1))]
    flat = rest.reshape(n, -1)
    glass = (h + e + rest).reshape(n, -1) / np.float32(np.sqrt(3)) < stain.tissue
    columns.append(np.stack([flat.mean(axis=1), flat.std(axis=1), glass.mean(axis=1)], axis=1))
    columns += [_edges(h, e), _bands(h), _cooccurrence(h, stain), _nuclei(h, stain)]
    return np.concatenate(columns, axis=1, dtype=np.float32)


def classical_names(*, context: bool) -> list[str]:
    """Names of the columns of :func:`classical`."""
    scales = ("patch", "context") if context else ("patch",)
    return [f"{scale}_{name}" for scale in scales for name in UNITS]


def classical(
    source: PatchSource, *, sample: np.ndarray, context: float, size: int, watch: Watch
) -> np.ndarray:
    """Features of the observations of a section, at two scales.

    Parameters
    ----------
    source
        Patches of a section. Memory is that of one block of them.
    sample
        Observations that tell how strongly the section is stained.
    context
        Width of the second scale over that of the first. The second is left out where patches
        were cut before.
    size
        Patches of a block.
    watch
        Called on the list of blocks; draws the progress bar.

    Returns
    -------
    float32 (n, k), columns as in :func:`classical_names`; NaN where there is no patch.
    """
    wide = source.wide and context > 0
    usable = np.flatnonzero(source.usable)
    stain = StainRange.of(source.cut(sample))
    out = np.full((len(source.rows), len(classical_names(context=wide))), np.nan, dtype=np.float32)
    for start in watch(range(0, len(usable), size)):
        rows = usable[start : start + size]
        parts = [features(source.cut(rows), stain)]
        if wide:
            parts.append(features(source.cut(rows, context), stain))
        out[rows] = np.concatenate(parts, axis=1)
    return out


def _moments(values: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, quantiles and skewness of rows."""
    mean, sd = values.mean(axis=1), values.std(axis=1)
    low, middle, high = np.quantile(values, _QUANTILES, axis=1)
    centred = values - mean[:, None]
    skew = (centred * centred * centred).mean(axis=1) / np.maximum(sd, 1e-3) ** 3
    return np.stack([mean, sd, low, middle, high, skew], axis=1)


def _edges(h: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Gradient of haematoxylin and eosin, and how much the first keeps to one direction."""
    out = []
    for channel in (h, e):
        y, x = np.gradient(channel, axis=(1, 2))
        size = np.hypot(x, y).reshape(len(h), -1)
        out += [size.mean(axis=1), size.std(axis=1)]
        if channel is h:
            xx, yy, xy = ((a * b).mean(axis=(1, 2)) for a, b in ((x, x), (y, y), (x, y)))
            coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-12)
    return np.stack([*out, coherence], axis=1)


def _bands(h: np.ndarray) -> np.ndarray:
    """Log energy of differences of Gaussians: how coarse the texture is."""
    from scipy.ndimage import gaussian_filter

    smoothed, out = h, []
    for sigma in _BANDS:
        after = gaussian_filter(h, (0, sigma, sigma))
        out.append(np.log(((smoothed - after) ** 2).mean(axis=(1, 2)) + 1e-8))
        smoothed = after
    return np.stack(out, axis=1)


def _cooccurrence(h: np.ndarray, stain: StainRange) -> np.ndarray:
    """Haralick's properties of haematoxylin in 16 levels."""
    from skimage.feature import graycomatrix, graycoprops

    scaled = (h - stain.low) / (stain.high - stain.low) * _LEVELS
    grey = scaled.clip(0, _LEVELS - 1).astype(np.uint8)
    angles = np.arange(4) * np.pi / 4
    distances = [min(d, h.shape[1] - 1) for d in _DISTANCES]
    out = np.empty((len(h), len(_PROPERTIES) * len(_DISTANCES)), dtype=np.float32)
    for i, image in enumerate(grey):
        counts = graycomatrix(image, distances, angles, _LEVELS, symmetric=True, normed=True)
        found = [graycoprops(counts, prop).mean(axis=1) for prop in _PROPERTIES]
        out[i] = np.concatenate(found)
    return out


def _nuclei(h: np.ndarray, stain: StainRange) -> np.ndarray:
    """Dark haematoxylin blobs: number per 1,000 pixels, share, log area, its spread, stain."""
    from scipy.ndimage import gaussian_filter, label

    dark = gaussian_filter(h, (0, 0.7, 0.7)) > stain.nuclei
    out = np.zeros((len(h), 5), dtype=np.float32)
    pixels = h[0].size
    for i, mask in enumerate(dark):
        labels, n = label(mask)
        area = np.bincount(labels.ravel(), minlength=n + 1)[1:]
        area = area[area > 3]
        if len(area):
            log = np.log(area)
            out[i] = [1e3 * len(area) / pixels, mask.mean(), log.mean(), log.std(), 0]
            out[i, 4] = h[i][mask].mean() - stain.nuclei
    return out


#: Values beyond this many units are drawn in: blots and folds would rule a regression.
_LIMIT = 8.0


def centered(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Columns less their median, in given units (k,), held to +-8: float32 (n, k). NaN stays."""
    middle = np.nanmedian(values, axis=0)
    return ((values - middle) / units).clip(-_LIMIT, _LIMIT).astype(np.float32)


def robust_spread(values: np.ndarray) -> np.ndarray:
    """Spread (k,) of columns: the median absolute deviation times 1.4826.

    That is the standard deviation of a normal variable. Where half of a column is one value, its
    standard deviation is taken; a constant column has an infinite spread, so that it becomes zero
    when divided by it. NaN is skipped.
    """
    middle = np.nanmedian(values, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(values - middle), axis=0)
    sd = np.nanstd(values, axis=0, dtype=np.float64)
    spread = np.where(spread > 1e-6 * np.maximum(sd, 1e-12), spread, sd)
    return np.where(spread > 1e-6 * np.maximum(np.abs(middle), 1e-6), spread, np.inf)
