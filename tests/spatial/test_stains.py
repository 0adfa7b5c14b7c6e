"""Colour deconvolution against skimage, Otsu against skimage, tissue of a made image."""

from __future__ import annotations

import numpy as np
import pytest
from made_histology import make_image
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from omicllm.spatial import stains


def test_stains_are_those_of_skimage_up_to_scale():
    image, _ = make_image()
    ours = stains.unmix(image).reshape(-1, 3)
    theirs = rgb2hed(image).reshape(-1, 3)
    for i in range(2):
        assert np.corrcoef(ours[:, i], theirs[:, i])[0, 1] > 0.98


def test_a_pure_stain_is_found():
    amount = 0.7
    direction = stains.STAINS[0] / np.linalg.norm(stains.STAINS[0])
    pixel = 256 * 10 ** (-amount * direction) - 1
    found = stains.unmix(np.rint(pixel).astype(np.uint8)[None])[0]
    np.testing.assert_allclose(found, [amount, 0, 0], atol=0.02)


@pytest.mark.parametrize("kind", ["two", "one", "skewed", "bytes"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_otsu_is_the_edge_that_separates_best(kind, dtype):
    rng = np.random.default_rng(0)
    values = {
        "two": np.concatenate([rng.normal(0, 1, 500), rng.normal(6, 1, 300)]),
        "one": rng.normal(size=700),
        "skewed": rng.exponential(size=900),
        "bytes": rng.integers(0, 40, 800),
    }[kind].astype(dtype)
    edges = np.histogram_bin_edges(values, bins=64, range=(values.min(), values.max()))
    bins = np.histogram(values, edges)[0]
    number = np.repeat(np.arange(64), bins)

    def between(cut):
        low, high = number[number < cut], number[number >= cut]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(range(1, 64), key=between)  # the first of equal ones
    assert stains.otsu(values, bins=64) == pytest.approx(edges[best], rel=1e-6)
    assert abs(stains.otsu(values) - threshold_otsu(values)) < 0.03 * np.ptp(values)


def test_otsu_of_one_value_is_that_value():
    assert stains.otsu(np.full(5, 2.0)) == 2.0


def test_tissue_mask_of_a_made_image():
    image, _ = make_image()
    mask = stains.tissue_mask(image)
    assert mask[20:-20, 20:-20].mean() > 0.99
    assert mask[:8].mean() < 0.01 and mask[:, -8:].mean() < 0.01


def test_an_image_full_of_tissue_is_not_cut_at_its_nuclei():
    image, _ = make_image()
    assert stains.tissue_mask(image[30:-30, 30:-30]).all()


def test_points_on_tissue():
    image = make_image()[0].repeat(8, axis=0).repeat(8, axis=1)
    points = np.array([[1200.0, 1200.0], [3.0, 1200.0], [-5.0, 10.0], [1200.0, 9000.0]])
    assert stains.on_tissue(image, points).tolist() == [True, False, False, False]
    small, scale = stains.thumbnail(image)
    assert max(small.shape) <= 1000 and scale == 1 / 3
    wanted = image[300:303, 600:603].mean(axis=(0, 1))
    np.testing.assert_allclose(small[100, 200], wanted, atol=0.6)
