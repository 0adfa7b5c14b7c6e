"""Gene images out of an expression matrix, in blocks of genes, never the whole stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence


def rasterise(
    X: np.ndarray | sparse.csc_matrix,
    pixel: np.ndarray,
    shape: Sequence[int],
    *,
    agg: str = "sum",
) -> np.ndarray:
    """Draw genes as images.

    Parameters
    ----------
    X
        Expression (n_obs, n_genes), dense or csc.
    pixel
        Flat pixel index of each spot (n_obs,).
    shape
        Height and width of the image.
    agg
        How spots on one pixel are joined: ``"sum"`` or ``"mean"``.

    Returns
    -------
    float32 (n_genes, height, width); pixels without a spot are 0.
    """
    height, width = shape
    n_genes, n_pixels = X.shape[1], height * width
    images = np.zeros((n_genes, n_pixels), dtype=np.float32)
    count = np.bincount(pixel, minlength=n_pixels)
    alone = count.max(initial=0) <= 1
    if sparse.issparse(X):
        X = inputs.columns(X)
        # int32 halves the index traffic; a block of images of 2**31 pixels would be 8 GiB.
        dtype: Any = np.int32 if images.size < 2**31 else np.int64
        flat = np.repeat(np.arange(n_genes, dtype=dtype) * dtype(n_pixels), np.diff(X.indptr))
        flat += pixel.astype(dtype, copy=False)[X.indices]
        if alone:
            images.reshape(-1)[flat] = X.data
        else:
            np.add.at(images.reshape(-1), flat, X.data.astype(np.float32, copy=False))
    elif alone:
        images[:, pixel] = np.asarray(X).T
    else:
        joined = join_spots(len(pixel), pixel, n_pixels)
        images[:] = np.asarray(joined @ np.asarray(X, dtype=np.float32)).T
    if agg == "mean" and not alone:
        images /= np.maximum(count, 1).astype(np.float32)
    return images.reshape(n_genes, height, width)


def join_spots(n_obs: int, pixel: np.ndarray, n_pixels: int) -> sparse.csr_matrix:
    """Sparse 0/1 matrix (n_pixels, n_obs) that sums the spots of each pixel."""
    ones = np.ones(n_obs, dtype=np.float32)
    return sparse.csr_matrix((ones, (pixel, np.arange(n_obs))), shape=(n_pixels, n_obs))


def tissue_pixels(
    X: sparse.csc_matrix, pixel: np.ndarray, *, agg: str = "sum"
) -> tuple[sparse.csc_matrix, np.ndarray]:
    """Expression per occupied pixel: what a gene image holds, without the background.

    Returns
    -------
    csc (n_occupied, n_genes), and the flat index of each occupied pixel, ascending.
    """
    occupied, inverse, count = np.unique(pixel, return_inverse=True, return_counts=True)
    joined = join_spots(len(pixel), inverse, len(occupied))
    if agg == "mean":
        joined = sparse.diags_array((1.0 / count).astype(np.float32)) @ joined
    out = sparse.csc_matrix(joined @ X)
    out.sort_indices()
    return out, occupied
