"""Pearson residuals against scanpy's."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

from omicllm.stats.residuals import pearson_residuals


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.uniform(0.05, 6, (1, 25)) * rng.uniform(0.5, 2, (60, 1)))


@pytest.mark.parametrize("clip", [None, 2.0, np.inf])
@pytest.mark.parametrize("theta", [100.0, 3.0])
def test_are_those_of_scanpy(counts, theta, clip):
    adata = ad.AnnData(counts.astype(np.float32))
    sc.experimental.pp.normalize_pearson_residuals(adata, theta=theta, clip=clip)
    share = counts.sum(axis=1) / counts.sum()
    ours = pearson_residuals(counts.T.astype(np.float32), share, theta=theta, clip=clip)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours.T, adata.X, rtol=1e-4, atol=1e-5)


def test_genes_and_pixels_without_counts_are_zero(counts):
    counts = counts.T.astype(np.float32)
    counts[3] = 0
    counts[:, 5] = 0
    before = counts.copy()
    out = pearson_residuals(counts, counts.sum(axis=0) / counts.sum())
    assert np.isfinite(out).all()
    assert not out[3].any() and not out[:, 5].any()
    assert out[4].any()
    assert np.array_equal(counts, before)
