"""Any image as red, green and blue: colour models, depth, alpha, channels, files, laziness."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
import xarray
import zarr
from made_histology import make_image
from PIL import Image, ImageCms

from omicllm.spatial.image_files import read_image
from omicllm.spatial.image_sources import opened
from omicllm.spatial.rgb import RGBView, as_rgb

RGB = make_image(3, 64)[0]
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
ALPHA = np.full((64, 64), 255, np.uint8)
ALPHA[:20], ALPHA[20:30] = 0, 128
SHARE = (ALPHA / 255.0)[..., None]
ON_WHITE = RGB * SHARE + 255 * (1 - SHARE)
RGBA = np.dstack([RGB, ALPHA])


def off(found, wanted, mean, most=255.0):
    found = np.asarray(found)
    assert found.dtype == np.uint8 and found.shape == (64, 64, 3)
    error = np.abs(found.astype(float) - wanted)
    assert error.mean() <= mean and error.max() <= most, (error.mean(), error.max())


def lab():
    profiles = [ImageCms.createProfile(n) for n in ("sRGB", "LAB")]
    turn = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    return ImageCms.applyTransform(Image.fromarray(RGB), turn)


def write(path, kind):
    """A file of a kind, and the colours that it holds."""
    image, grey = Image.fromarray(RGB), np.repeat(GREY[..., None], 3, 2)
    if kind.startswith("cmyk"):
        image.convert("CMYK").save(path, **({"quality": 98} if kind == "cmyk.jpg" else {}))
    elif kind == "ycbcr.tif":
        tifffile.imwrite(path, np.asarray(image.convert("YCbCr")), photometric="ycbcr")
    elif kind == "ycbcr_jpeg.tif":
        image.save(path, compression="jpeg", quality=95)
    elif kind == "lab.tif":
        lab().save(path)
    elif kind == "icclab.tif":
        values = np.asarray(lab()).copy()
        values[..., 1:] += 128
        tifffile.imwrite(path, values, photometric="icclab")
    elif kind.startswith("palette"):
        image = image.quantize(64)
        image.save(path)
        return np.asarray(image.convert("RGB"))
    elif kind in ("grey.png", "grey.tif"):
        Image.fromarray(GREY).save(path)
        return grey
    elif kind == "white_is_zero.tif":
        tifffile.imwrite(path, 255 - GREY, photometric="miniswhite")
        return grey
    elif kind.startswith("bits"):
        Image.fromarray(GREY > 128).save(path)
        return np.repeat((GREY > 128)[..., None], 3, 2) * 255
    elif kind == "rgba.png":
        Image.fromarray(RGBA).save(path)
        return ON_WHITE
    elif kind == "rgba.tif":
        tifffile.imwrite(path, RGBA, photometric="rgb", extrasamples=["unassalpha"])
        return ON_WHITE
    elif kind == "premultiplied.tif":
        values = np.dstack([np.rint(RGB * SHARE).astype(np.uint8), ALPHA])
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=["assocalpha"])
        return ON_WHITE
    elif kind == "grey_alpha.png":
        Image.fromarray(np.dstack([GREY, ALPHA])).save(path)
        return grey * SHARE + 255 * (1 - SHARE)
    elif kind == "planar.tif":
        channels = np.moveaxis(RGB, 2, 0)
        tifffile.imwrite(path, channels, photometric="rgb", planarconfig="separate")
    elif kind == "planes.tif":
        tifffile.imwrite(path, np.moveaxis(RGB, 2, 0), photometric="minisblack")
    elif kind == "bgr.ome.tif":
        named = {"axes": "CYX", "Channel": {"Name": ["b", "g", "r"]}}
        values = np.moveaxis(RGB[..., ::-1], 2, 0)
        tifffile.imwrite(path, values, photometric="minisblack", metadata=named)
    elif kind == "big_endian.tif":
        tifffile.imwrite(path, RGB.astype("uint16") * 257, photometric="rgb", byteorder=">")
    elif kind == "twelve.png":
        if find_spec("imagecodecs") is None:
            pytest.skip("PNG of 16 bits in colour needs imagecodecs")
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode((RGB.astype("uint16") * 257) >> 4))
    return RGB


@pytest.mark.parametrize(
    ("kind", "mean"),
    [("cmyk.tif", 0), ("cmyk.jpg", 1), ("ycbcr.tif", 1.5), ("ycbcr_jpeg.tif", 1.5),
     ("lab.tif", 0.5), ("icclab.tif", 0.5), ("palette.png", 0), ("palette.tif", 1), ("grey.png", 0),
     ("grey.tif", 0), ("white_is_zero.tif", 0), ("bits.png", 0), ("bits.tif", 0), ("rgba.png", 0.1),
     ("rgba.tif", 0.1), ("premultiplied.tif", 0.1), ("grey_alpha.png", 0.1), ("planar.tif", 0),
     ("planes.tif", 0), ("bgr.ome.tif", 0), ("big_endian.tif", 0), ("twelve.png", 0)],
)  # fmt: skip
def test_files_by_their_colour_model(tmp_path, kind, mean):
    path = tmp_path / kind
    wanted = write(path, kind)
    off(read_image(path), wanted, mean)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "uint32"])
def test_depth_is_that_of_the_whole_image(bits, dtype, caplog):
    deep = ((RGB.astype("uint16") * 257) >> (16 - bits)).astype(dtype)
    before = deep.copy()
    for source in (deep, np.moveaxis(deep, 2, 0)):
        off(as_rgb(source), RGB, 0)
    np.testing.assert_array_equal(deep, before)
    assert (f"as of {bits} bits" in caplog.text) == (bits < 16)
    # A view reads pieces on the scale of the whole: the dark corner stays dark.
    deep[:8, :8] = deep[:8, :8] // 16
    view = as_rgb(Lazy(deep))
    assert isinstance(view, RGBView)
    np.testing.assert_array_equal(view[:8, :8], as_rgb(deep)[:8, :8])
    assert view[:8, :8].max() < 20


class Lazy:
    """Something that can only be sliced, and counts what is read."""

    def __init__(self, values):
        self.values, self.most = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, index):
        out = self.values[index]
        self.most = max(self.most, out.size)
        return out


@pytest.mark.parametrize(
    "values",
    [RGB / 255.0, RGB.astype("float32") / np.float32(255), RGB.astype(float), RGB.astype("int16"),
     (RGB / 255.0).astype(">f4"), RGB / 255.0 + 1e-7],
    ids=["one", "float32", "255", "int16", "big-endian", "rounding"],
)  # fmt: skip
def test_numbers(values):
    off(as_rgb(values), RGB, 0)


def test_what_is_missing_or_clear_is_white():
    values = RGB / 255.0
    values[:5] = np.nan
    wanted = RGB.copy()
    wanted[:5] = 255
    off(as_rgb(values), wanted, 0)
    for clear in (RGBA, RGBA / 255.0, RGBA.astype("uint16") * 257, np.moveaxis(RGBA, 2, 0)):
        off(as_rgb(clear), ON_WHITE, 0.1, 0.51)
    black = RGBA.copy()
    black[:20] = 0  # as slide readers fill what was not scanned
    off(as_rgb(black), ON_WHITE, 0.1, 0.51)


@pytest.mark.parametrize(
    "values",
    [np.zeros((50, 50, 2), "uint8"), np.zeros((50, 50, 5), "uint8"), np.zeros((5, 50, 50), "uint8"),
     np.full((9, 9, 3), 70000), np.full((9, 9, 3), -1), np.full((9, 9, 3), np.inf),
     np.full((9, 9, 3), 300.5), np.zeros((9, 9, 3), complex), np.zeros(9)],
    ids=lambda v: f"{v.dtype}{v.shape}",
)  # fmt: skip
def test_what_is_no_picture_is_refused(values):
    with pytest.raises(ValueError, match="slide 7 (must be|holds values)"):
        as_rgb(values, where="slide 7")


@pytest.mark.parametrize("names", ["rgb", "bgr", "gbr", "RGB", ["Blue", "red", "GREEN"], [0, 1, 2]])
@pytest.mark.parametrize("first", [True, False])
def test_channels_by_name(names, first):
    names = list(names)
    at = [v if isinstance(v, int) else "rgb".index(str(v)[0].lower()) for v in names]
    image = xarray.DataArray(RGB[..., at], dims=("y", "x", "c"), coords={"c": names})
    image = image.transpose("c", "y", "x") if first else image
    found = as_rgb(image)
    off(found, RGB, 0)
    image = image.chunk({"y": 16}) if hasattr(image, "chunk") else image
    lazy = as_rgb(image)
    assert isinstance(lazy, RGBView) or not first
    np.testing.assert_array_equal(np.asarray(lazy[3:9, 7:20]), RGB[3:9, 7:20])


@pytest.mark.parametrize(
    "names",
    [
        ["r", "g", "b", "DAPI"],
        ["DAPI", "CD45", "18S"],
        ["DAPI"],
        ["a", "b"],
        list("rgbax"),
        range(4),
    ],
    ids=str,
)
def test_other_channels_are_refused_by_name(names):
    values = np.zeros((20, 20, len(names)), np.uint8)
    image = xarray.DataArray(values, dims=("y", "x", "c"), coords={"c": list(names)})
    with pytest.raises(ValueError, match="not red, green and blue .* by name"):
        as_rgb(image)


@pytest.mark.parametrize("n", [4, 5])
def test_a_tiff_of_other_channels_is_refused(tmp_path, n):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((n, 32, 32), "uint8"), photometric="minisblack")
    with pytest.raises(ValueError, match=f"x.tif has {n} channels"):
        read_image(tmp_path / "x.tif")


def test_damaged_and_very_large_files(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:400])
    (tmp_path / "text.png").write_bytes(b"no image")
    tifffile.imwrite(tmp_path / "whole.tif", RGB, photometric="rgb")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:400])
    for name, message in (("cut.png", "damaged"), ("text.png", "no image"), ("cut.tif", "TIFF")):
        with pytest.raises(ValueError, match=message) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # beyond it Pillow refuses to open
    off(read_image(tmp_path / "whole.png"), RGB, 0)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_folders_of_zarr(tmp_path):
    for name, values, options in (
        ("plain.zarr", RGB, {}), ("first.zarr", np.moveaxis(RGB, 2, 0), {}),
    ):  # fmt: skip
        array = zarr.open(tmp_path / name, mode="w", shape=values.shape, dtype="uint8", **options)
        array[:] = values
        found = as_rgb(read_image(tmp_path / name))
        assert not isinstance(found, np.ndarray)
        off(found[:, :], RGB, 0)
    group = zarr.open_group(tmp_path / "ome.zarr", mode="w")
    values = np.moveaxis(RGB, 2, 0)[None, :, None]
    group.create_array("0", shape=values.shape, dtype="uint8")[:] = values
    axes = [{"name": n} for n in "tczyx"]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    off(read_image(tmp_path / "ome.zarr")[:, :], RGB, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is a folder without zarr"):
        read_image(tmp_path / "empty")


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("values", [RGB, RGBA, RGB.astype("u2") * 257], ids=["rgb", "rgba", "u2"])
def test_zarr_of_several_chunks(tmp_path, values, folder):
    """Arrays of zarr have chunks and blocks too, but are no arrays of dask."""
    array = zarr.open(
        tmp_path / "z", mode="w", shape=values.shape, dtype=values.dtype, chunks=(20, 24, 2)
    )
    array[:] = values
    view = as_rgb(read_image(tmp_path / "z") if folder else array)
    wanted = ON_WHITE if values.shape[2] == 4 else RGB
    np.testing.assert_allclose(view[31:64, 10:50], wanted[31:64, 10:50], atol=0.51)
    off(view[:, :], wanted, 0.1, 0.51)


@pytest.mark.parametrize("names", ["yxc", "YXS", "y x channels", "y x z channels", "band y x"])
def test_axes_by_any_usual_name(names):
    """Channels are read by name whatever their axis is called."""
    names = names.split() if " " in names else list(names)
    last = names[-1] if names[0] in "yY" else names[0]
    coords = {} if last == "channels" else {last: ["b", "g", "r"]}
    image = RGB if last == "channels" else RGB[..., ::-1]
    image = np.expand_dims(image, 2) if "z" in names else image
    image = np.moveaxis(image, -1, 0) if names[0] == last else image
    off(as_rgb(xarray.DataArray(image, dims=names, coords=coords))[:, :], RGB, 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L"])
def test_images_of_pillow_by_their_mode(mode):
    image = Image.fromarray(RGBA) if mode == "RGBA" else Image.fromarray(RGB).convert(mode)
    wanted = ON_WHITE if mode == "RGBA" else np.asarray(image.convert("RGB"))
    off(as_rgb(opened(image)[0]), wanted, 0.3, 1.0)


@pytest.mark.parametrize("first", [True, False])
def test_tensors_of_torch(first):
    import torch

    values = torch.from_numpy(np.moveaxis(RGB, 2, 0).copy() if first else RGB)
    off(as_rgb(values), RGB, 0)
    off(as_rgb(values.float() / 255), RGB, 0)


def test_a_masked_array_is_refused():
    off(as_rgb(np.ma.masked_array(RGB, mask=False)), RGB, 0)
    with pytest.raises(ValueError, match="masked array"):
        as_rgb(np.ma.masked_array(RGB, mask=RGB > 200))


@pytest.mark.parametrize("chunks", [(16, 16, 3), (64, 10, 1), (25, 64, 2)])
def test_chunks_of_dask_are_made_once(chunks):
    import dask.array

    made = []

    def count(block, block_info=None):
        made.append(block_info[0]["chunk-location"])
        return block

    lazy = dask.array.from_array(RGBA, chunks=chunks).map_blocks(count, dtype="uint8", meta=RGBA)
    view = as_rgb(lazy)
    assert not made
    windows = np.random.default_rng(0).integers(0, 50, (40, 2))
    for y, x in windows:
        found = view[y : y + 9, x : x + 14]
        np.testing.assert_allclose(found, ON_WHITE[y : y + 9, x : x + 14], atol=0.51)
    assert len(made) == len(set(made))
    off(view, ON_WHITE, 0.1, 0.51)


def test_a_view_reads_no_more_than_asked():
    source = Lazy(RGBA)
    view = as_rgb(source)
    source.most = 0
    np.testing.assert_allclose(view[5:9, 3:10], ON_WHITE[5:9, 3:10], atol=0.51)
    assert source.most == 4 * 7 * 4 and view.shape == (64, 64, 3)
