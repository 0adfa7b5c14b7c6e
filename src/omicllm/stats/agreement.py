"""How well predicted expression agrees with measured expression, gene by gene."""

from __future__ import annotations

import numpy as np


def gene_pearson(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson correlation of each gene over observations.

    Parameters
    ----------
    measured, predicted
        Expression (n_obs, n_genes).

    Returns
    -------
    float64 (n_genes,); 0 where either is constant.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    _check_same_shape(measured, predicted)
    out = np.zeros(measured.shape[1])
    for start in range(0, measured.shape[1], 256):
        block = slice(start, start + 256)
        a, b = (np.asarray(X[:, block], dtype=np.float64) for X in (measured, predicted))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
        np.divide((a * b).sum(axis=0), norm, out=out[block], where=norm > 1e-12)
    return out


def ssim(
    measured: np.ndarray, predicted: np.ndarray, occupied: np.ndarray | None = None
) -> np.ndarray:
    """Structural similarity of gene images, over tissue.

    The index of Wang et al. (IEEE Trans. Image Process. 13:600, 2004) in windows of seven pixels
    (fewer in small images), by scikit-image, averaged over the pixels with tissue. The dynamic
    range of a gene is that of its measured image.

    Parameters
    ----------
    measured, predicted
        Images (n_genes, height, width), on one scale.
    occupied
        Bool (height, width): pixels with tissue; all by default.

    Returns
    -------
    float64 (n_genes,); NaN where the measured image is constant, or under three pixels wide.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    from skimage.metrics import structural_similarity

    _check_same_shape(measured, predicted)
    n_genes, *shape = measured.shape
    mask = np.ones(shape, dtype=bool) if occupied is None else occupied
    window = min(7, min(shape) - (min(shape) + 1) % 2)
    out = np.full(n_genes, np.nan)
    if window < 3:
        return out
    for g in range(n_genes):
        # Background is nothing that could agree: it is the same in both images.
        a, b = (np.where(mask, X[g], 0).astype(np.float64) for X in (measured, predicted))
        spread = float(np.ptp(a[mask]))
        if spread > 0:
            whole = structural_similarity(a, b, win_size=window, data_range=spread, full=True)[1]
            out[g] = whole[mask].mean()
    return out


def _check_same_shape(measured: np.ndarray, predicted: np.ndarray) -> None:
    if np.shape(measured) != np.shape(predicted):
        msg = f"measured {np.shape(measured)} and predicted {np.shape(predicted)} differ in shape."
        raise ValueError(msg)
