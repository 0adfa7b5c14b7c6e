"""Patches: exact crops, resampling, mirrored edges, colours."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm.spatial.patch_sources import resized
from omicllm.spatial.patches import crop, inside, resampling
from omicllm.spatial.rgb import as_rgb


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)


def test_a_crop_of_the_same_size_is_a_slice(image):
    patch = crop(image, np.array([[20.0, 15.0]]), side=8, out=8)[0]
    np.testing.assert_array_equal(patch, image[11:19, 16:24])


def test_beyond_the_edge_pixels_are_mirrored(image):
    patch = crop(image, np.array([[0.0, 0.0]]), side=8, out=8)[0]
    padded = np.pad(image, ((4, 0), (4, 0), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(patch, padded[:8, :8])


def test_shrinking_averages_blocks(image):
    patch = crop(image, np.array([[20.0, 20.0]]), side=16, out=4)[0]
    blocks = image[12:28, 12:28].reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(patch, np.rint(blocks).astype(np.uint8))
    np.testing.assert_array_equal(resized(image[12:28, 12:28], 4), patch)


@pytest.mark.parametrize("side,out", [(7, 7), (30, 7), (7, 30), (33, 32), (1, 4)])
def test_resampling_keeps_the_mean_of_a_constant_and_the_direction(side, out):
    weights = resampling(side, out)
    assert weights.shape == (out, side)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    ramp = weights @ np.arange(side)
    assert (np.diff(ramp) >= -1e-6).all()
    assert abs(ramp.mean() - (side - 1) / 2) < 0.51


def test_anything_that_slices_serves_as_an_image(image):
    class Lazy:
        shape, read = image.shape, 0

        def __getitem__(self, key):
            Lazy.read += 1
            return image[key]

    centres = np.array([[10.0, 10.0], [30.0, 20.0]])
    np.testing.assert_array_equal(crop(Lazy(), centres, 9, 6), crop(image, centres, 9, 6))
    assert Lazy.read == 2


def test_inside():
    points = np.array([[0, 0], [50, 40], [50.5, 4], [4, -0.1]])
    assert inside(points, (40, 50, 3)).tolist() == [True, True, False, False]


def test_colours_of_every_kind(image):
    assert as_rgb(image) is image
    np.testing.assert_array_equal(as_rgb(image / 255.0), image)
    np.testing.assert_array_equal(as_rgb(image.astype(np.uint16) * 257), image)
    alpha = np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
    np.testing.assert_array_equal(as_rgb(alpha), image)
    np.testing.assert_array_equal(as_rgb(np.moveaxis(image, 2, 0)), image)
    np.testing.assert_array_equal(as_rgb(image[..., 0])[..., 2], image[..., 0])


@pytest.mark.parametrize(
    "bad,message",
    [(np.zeros(5), "must be"), (np.zeros((4, 4, 2)), "must be"), (np.full((4, 4, 3), 300.0), "300"),
     (np.full((4, 4, 3), -1.0), "-1")],
)  # fmt: skip
def test_other_arrays_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        as_rgb(bad)
