"""Rasterising: every storage draws the same image as a loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from omicllm.spatial import images


def naive(X, pixel, shape, agg):
    out = np.zeros((X.shape[1], shape[0] * shape[1]))
    n = np.zeros(shape[0] * shape[1])
    for i, p in enumerate(pixel):
        out[:, p] += X[i]
        n[p] += 1
    if agg == "mean":
        out /= np.maximum(n, 1)
    return out.reshape(-1, *shape)


@pytest.mark.parametrize("agg", ["sum", "mean"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("make", [np.asarray, sparse.csc_matrix, sparse.csr_matrix])
def test_rasterise(make, shared, agg):
    rng = np.random.default_rng(0)
    X = rng.poisson(0.7, (20, 6)).astype(np.float32)
    pixel = rng.integers(0, 12, 20) if shared else rng.permutation(24)[:20]
    shape = (3, 4) if shared else (4, 6)
    out = images.rasterise(make(X), pixel, shape, agg=agg)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, naive(X, pixel, shape, agg), rtol=1e-6)


def test_tissue_pixels_are_the_images_without_background():
    rng = np.random.default_rng(1)
    X = rng.poisson(0.7, (20, 6)).astype(np.float32)
    pixel = rng.integers(0, 30, 20)
    for agg in ("sum", "mean"):
        joined, occupied = images.tissue_pixels(sparse.csc_matrix(X), pixel, agg=agg)
        image = images.rasterise(X, pixel, (5, 6), agg=agg).reshape(6, -1)
        np.testing.assert_allclose(joined.toarray().T, image[:, occupied], rtol=1e-6)
        assert image.sum() == pytest.approx(image[:, occupied].sum())
