"""Hand-made features: against skimage and plain numpy, and what moves them."""

from __future__ import annotations

import numpy as np
import pytest
from made_histology import make_image
from skimage.feature import graycomatrix, graycoprops

from omicllm.spatial import image_features as f
from omicllm.spatial.stains import StainRange, unmix


@pytest.fixture(scope="module")
def patches():
    image, _ = make_image()
    return np.stack([image[y : y + 48, x : x + 48] for y, x in ((30, 30), (100, 150), (200, 60))])


@pytest.fixture(scope="module")
def stain(patches):
    return StainRange.of(patches)


def column(values, name):
    return values[:, list(f.UNITS).index(name)]


def test_columns_are_what_their_names_say(patches, stain):
    values = f.features(patches, stain)
    assert values.shape == (3, len(f.UNITS)) and values.dtype == np.float32
    assert np.isfinite(values).all()
    colour = patches.reshape(3, -1, 3) / 255
    np.testing.assert_allclose(column(values, "green_mean"), colour[..., 1].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(column(values, "blue_sd"), colour[..., 2].std(axis=1), rtol=1e-4)
    h = unmix(patches)[..., 0].reshape(3, -1)
    np.testing.assert_allclose(
        column(values, "hematoxylin_q90"), np.quantile(h, 0.9, axis=1), rtol=1e-4
    )
    from scipy.stats import skew

    np.testing.assert_allclose(column(values, "hematoxylin_skewness"), skew(h, axis=1), rtol=1e-3)


def test_texture_is_haralicks(patches, stain):
    values = f.features(patches, stain)
    h = unmix(patches)[0, ..., 0]
    grey = ((h - stain.low) / (stain.high - stain.low) * 16).clip(0, 15).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counts = graycomatrix(grey, [3], angles, 16, symmetric=True, normed=True)
    wanted = graycoprops(counts, "contrast").mean()
    np.testing.assert_allclose(column(values, "glcm_contrast_3")[0], wanted, rtol=1e-5)


def test_more_nuclei_more_density(stain):
    plain = np.full((64, 64, 3), (224, 160, 190), dtype=np.uint8)
    few, many = plain.copy(), plain.copy()
    for image, step in ((few, 32), (many, 12)):
        for y in range(6, 60, step):
            for x in range(6, 60, step):
                image[y : y + 4, x : x + 4] = (88, 60, 140)
    values = f.features(np.stack([plain, few, many]), stain)
    density = column(values, "nuclei_density")
    assert density[0] == 0 and 0 < density[1] < density[2]
    np.testing.assert_allclose(density[1], 1e3 * 4 / 64**2, rtol=1e-5)
    assert column(values, "nuclei_share")[2] > column(values, "nuclei_share")[1]


def test_stripes_have_a_direction(stain):
    stripes = np.full((64, 64, 3), (224, 160, 190), dtype=np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = (88, 60, 140)
    noise = make_image()[0][100:164, 100:164]
    values = column(f.features(np.stack([stripes, noise]), stain), "coherence")
    assert values[0] > 0.95 > values[1]


def test_a_patch_does_not_depend_on_its_company(patches, stain):
    together = f.features(patches, stain)
    np.testing.assert_array_equal(f.features(patches[1:2], stain)[0], together[1])


def test_glass_alone(stain):
    values = f.features(np.full((1, 32, 32, 3), 250, dtype=np.uint8), stain)
    assert np.isfinite(values).all() and column(values, "glass_share")[0] == 1


def test_centring_and_spread():
    rng = np.random.default_rng(0)
    values = rng.normal([5, 0, 3], [2, 1, 0], (400, 3)).astype(np.float32)
    values[0, 0] = np.nan
    spread = f.robust_spread(values)
    np.testing.assert_allclose(spread[:2], [2, 1], rtol=0.15)
    assert np.isinf(spread[2])
    out = f.centered(values, spread)
    assert np.isnan(out[0, 0]) and (out[:, 2] == 0).all()
    np.testing.assert_allclose(np.nanmedian(out, axis=0), 0, atol=1e-6)
    assert f.centered(np.array([[0.0], [0.0], [99.0]]), np.ones(1)).max() == 8
