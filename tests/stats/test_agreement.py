"""`metrics.gene_pearson` and `metrics.ssim`."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

import omicllm as ol


def test_pearson_equals_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 300)).astype(np.float32)
    a[:, 3] = 1
    got = ol.metrics.gene_pearson(a, b)
    wanted = [np.corrcoef(a[:, g], b[:, g])[0, 1] for g in (0, 299)]
    np.testing.assert_allclose(got[[0, 299]], wanted, rtol=1e-5)
    assert got[3] == 0 and got.shape == (300,)
    with pytest.raises(ValueError, match="differ in shape"):
        ol.metrics.gene_pearson(a, b[:, :2])


def test_ssim_equals_scikit_image():
    rng = np.random.default_rng(0)
    a = rng.random((3, 20, 18))
    b = a + 0.3 * rng.normal(size=a.shape)
    got = ol.metrics.ssim(a, b)
    # scikit-image's own mean leaves the border out; the map is compared instead.
    full = structural_similarity(a[1], b[1], data_range=np.ptp(a[1]), full=True)[1]
    assert got[1] == pytest.approx(full.mean())
    np.testing.assert_allclose(ol.metrics.ssim(a, a), 1.0)
    assert (got < 1).all()


def test_ssim_over_tissue_only():
    rng = np.random.default_rng(0)
    a = rng.random((2, 20, 20))
    occupied = np.zeros((20, 20), dtype=bool)
    occupied[:, :10] = True
    b = a.copy()
    b[:, :, 10:] = 5.0
    np.testing.assert_allclose(ol.metrics.ssim(a, b, occupied), 1.0)
    a[1] = 2.0
    assert np.isnan(ol.metrics.ssim(a, b, occupied)[1])
    assert np.isnan(ol.metrics.ssim(a[:, :2], a[:, :2])).all()
    assert ol.metrics.ssim(a[:, :4, :4], a[:, :4, :4])[0] == pytest.approx(1.0)
