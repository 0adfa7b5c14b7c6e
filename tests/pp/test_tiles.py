"""`ol.pp.tiles`: a slide without counts."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import round_trip
from made_histology import make_image

import omicllm as ol


@pytest.fixture(scope="module")
def image():
    full = np.full((300, 420, 3), 244, dtype=np.uint8)
    full[:, :300] = make_image()[0]
    return full


def test_tiles_cover_the_tissue(image, tmp_path):
    tiles = ol.pp.tiles(image, mpp=2.0, size_um=60.0)
    assert tiles.shape == (len(tiles), 0) and tiles.n_obs >= 80
    x, y = tiles.obsm["spatial"].T
    assert x.max() < 300, "the right part is glass"
    assert set(np.round(np.diff(np.unique(x)), 6)) == {30.0}
    assert (tiles.obs["tissue"] >= 0.5).all()
    assert tiles.obs_names.is_unique
    round_trip(tiles, tmp_path)


def test_tiles_can_be_described(image):
    tiles = ol.pp.tiles(image, mpp=2.0, size_um=60.0, name="slide7")
    ol.pp.image_features(tiles, out_px=24)
    assert tiles.obsm["X_classical"].shape == (tiles.n_obs, 84)
    np.testing.assert_allclose(tiles.uns["classical"]["size_um"], 60)
    again = tiles.copy()
    ol.pp.image_features(again, out_px=24, size_um=60.0)
    np.testing.assert_array_equal(again.obsm["X_classical"], tiles.obsm["X_classical"])
    small = ol.pp.tiles(image, mpp=2.0, size_um=60.0, keep_image=False)
    ol.pp.image_features(small, image=image, mpp=2.0, size_um=60.0, out_px=24)
    np.testing.assert_array_equal(small.obsm["X_classical"], tiles.obsm["X_classical"])


def test_overlap_and_mask(image):
    plain = ol.pp.tiles(image, mpp=2.0, size_um=60.0)
    assert ol.pp.tiles(image, mpp=2.0, size_um=60.0, overlap=0.5).n_obs > 3 * plain.n_obs
    mask = np.zeros((30, 42))
    mask[:, 30:] = 1
    only = ol.pp.tiles(image, mpp=2.0, size_um=60.0, mask=mask)
    assert only.obsm["spatial"][:, 0].min() >= 300 and len(only) == 40
    assert len(ol.pp.tiles(image, mpp=2.0, size_um=60.0, min_tissue=1.0)) < len(plain)


def test_bad_input(image):
    with pytest.raises(ValueError, match="0% of tissue"):
        ol.pp.tiles(np.full((200, 200, 3), 250, dtype=np.uint8), mpp=1.0, size_um=50.0)
    for kwargs, message in (
        ({"mpp": 0, "size_um": 5}, "mpp must be"), ({"mpp": 1, "size_um": -5}, "size_um must be"),
        ({"mpp": 1, "size_um": 900}, "Check size_um"), ({"mpp": 1, "size_um": 2}, "Check size_um"),
        ({"mpp": 1, "size_um": 50, "overlap": 1.0}, "overlap"),
        ({"mpp": 1, "size_um": 50, "mask": np.ones(3)}, "mask="),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ol.pp.tiles(image, **kwargs)
    with pytest.raises(FileNotFoundError, match="no image file"):
        ol.pp.tiles("nowhere.png", mpp=1.0, size_um=50.0)


@pytest.mark.parametrize("mpp", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("overlap", [0, 0.1, 0.5])
def test_all_tiles_that_fit_are_cut(mpp, overlap):
    """Rounding of size / mpp does not lose the last row."""
    from fractions import Fraction

    blank = np.full((300, 420, 3), 200, np.uint8)
    for px in (6, 10, 12, 20):
        step = px * (1 - Fraction(str(overlap)))
        wanted = [int((n - px) // step) + 1 for n in (300, 420)]
        out = ol.pp.tiles(
            blank, mpp=mpp, size_um=px * mpp, overlap=overlap, mask=np.ones((30, 42), bool),
            keep_image=False,
        )  # fmt: skip
        assert out.n_obs == np.prod(wanted)


@pytest.mark.parametrize("shape", [(400, 300), (10, 40), (30, 12)], ids=str)
def test_a_mask_of_another_shape_is_refused(shape):
    blank = np.full((300, 400, 3), 200, np.uint8)
    with pytest.raises(ValueError, match="mask= of .* not of the shape of the image"):
        ol.pp.tiles(blank, mpp=1, size_um=30, mask=np.ones(shape, bool))
    for fits in ((300, 400), (30, 40), (23, 30), (7, 10), (600, 800)):
        assert ol.pp.tiles(blank, mpp=1, size_um=30, mask=np.ones(fits, bool)).n_obs == 130
