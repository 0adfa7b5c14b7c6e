"""Images as a few rounded cosine coefficients per patch, in the manner of JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np


def coefficients(
    image: Any, *, patch_size: int = 8, max_coefficients: int = 3, precision: int = 1
) -> np.ndarray:
    """Low-frequency cosine coefficients of the patches of an image.

    The image is stretched to multiples of `patch_size` (linear interpolation; integer dtypes are
    scaled to [0, 1] as scikit-image does), cut into square patches, and each is transformed by the
    unnormalised type-II DCT. The `max_coefficients` x `max_coefficients` coefficients of lowest
    frequency are rounded and kept as float16.

    Parameters
    ----------
    image
        (H, W) or (H, W, C).
    patch_size
        Side of a patch in pixels.
    max_coefficients
        Side of the corner of coefficients that is kept.
    precision
        Decimals kept.

    Returns
    -------
    float16 (n_patches, C * max_coefficients^2): patches column by column, channels one after the
    other.

    Raises
    ------
    ValueError
        When the array is no image, or holds NaN or infinite values.
    """
    from scipy.fft import dctn
    from skimage.transform import resize

    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        msg = f"An image is (H, W) or (H, W, C), not {image.shape}."
        raise ValueError(msg)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        msg = "The image holds NaN or infinite values. Fill them first."
        raise ValueError(msg)
    channels = image[:, :, None] if image.ndim == 2 else image
    p, m = patch_size, max_coefficients
    rows, columns = (-(-s // p) for s in channels.shape[:2])
    out = []
    for c in range(channels.shape[2]):
        stretched = resize(channels[:, :, c], (rows * p, columns * p), order=1)
        patches = stretched.reshape(rows, p, columns, p).transpose(2, 0, 1, 3)
        low = dctn(patches, type=2, axes=(2, 3)).round(precision)[:, :, :m, :m]
        out.append(low.reshape(rows * columns, m * m))
    with np.errstate(over="ignore"):
        return np.concatenate(out, axis=1).astype(np.float16)


def pixels(
    coefficients: Any,
    shape: tuple[int, ...],
    *,
    patch_size: int = 8,
    max_coefficients: int = 3,
    rescale: bool = True,
    constant: float = 0.0,
) -> np.ndarray:
    """Image of given shape from its kept coefficients, float64.

    Parameters
    ----------
    coefficients
        As :func:`coefficients` gives them.
    shape
        (H, W) or (H, W, C) of the original.
    patch_size, max_coefficients
        As for :func:`coefficients`.
    rescale
        Shift and scale to [0, 1] over all channels together, as the published code does: absolute
        brightness is lost. False keeps the scale of the coefficients.
    constant
        What a rescaled image without contrast becomes.
    """
    from scipy.fft import idctn
    from skimage.transform import resize

    p, m = patch_size, max_coefficients
    rows, columns = (-(-s // p) for s in shape[:2])
    n_channels = 1 if len(shape) == 2 else shape[2]
    coefficients = np.asarray(coefficients, dtype=np.float64)
    if coefficients.shape != (rows * columns, n_channels * m * m):
        msg = (
            f"An image of shape {tuple(shape)} has {rows * columns} patches of "
            f"{n_channels * m * m} coefficients; there are {coefficients.shape}."
        )
        raise ValueError(msg)
    coefficients = coefficients.reshape(columns, rows, n_channels, m, m)
    full = np.zeros((columns, rows, n_channels, p, p))
    full[..., :m, :m] = coefficients
    patches = idctn(full, type=2, axes=(3, 4))
    stretched = patches.transpose(1, 3, 0, 4, 2).reshape(rows * p, columns * p, n_channels)
    channels = [
        resize(stretched[:, :, c], tuple(shape[:2]), order=1, preserve_range=True)
        for c in range(n_channels)
    ]
    out = np.stack(channels, axis=2).reshape(shape)
    if not rescale:
        return out
    out = out - out.min()
    largest = out.max()
    return out / largest if largest > 0 else np.full_like(out, constant)


def psnr(image: Any, decoded: Any) -> float:
    """Peak signal-to-noise ratio in dB of two images, each divided by its maximum; 100 if equal."""
    a, b = np.asarray(image), np.asarray(decoded)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = float(np.sqrt(np.mean((a / a.max() - b / b.max()) ** 2)))
        return 100.0 if error == 0 else float(-20 * np.log10(error))
