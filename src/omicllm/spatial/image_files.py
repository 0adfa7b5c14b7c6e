"""Image files and folders as arrays whose channels are grey, or red, green and blue (and alpha)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from omicllm._core import checks
from omicllm.spatial.rgb import RGBView, as_rgb, limits, named_channels

#: The limit of Pillow is one for the process: it is lifted for one file at a time.
_LIMIT = threading.Lock()
#: Compressions of TIFF whose decoders turn YCbCr into red, green and blue.
_DECODED = {6, 7, 33003, 33005, 34712, 34892, 34933, 34934}
#: XYZ (D50) to linear sRGB, adapted by Bradford's matrix, so that white stays white.
_FROM_D50 = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
     [0.0719453, -0.2289914, 1.4052427]]
)  # fmt: skip
_D50 = np.array([0.9642, 1.0, 0.8249])


def read_image(path: str | Path) -> Any:
    """Read an image file or a zarr folder as (H, W, 3) uint8 by its colour model.

    Parameters
    ----------
    path
        PNG, JPEG, TIFF and what else Pillow or scikit-image read; or a folder of zarr (an array,
        or the largest image of an OME-Zarr), which is read piece by piece. A SpatialData folder
        is opened as such.

    Raises
    ------
    FileNotFoundError
        Nothing there.
    ValueError
        Not an image, or one whose channels are no colours.
    """
    path = Path(path)
    if path.is_dir():
        return _read_zarr(path)
    if not path.is_file():
        msg = f"There is no image file {path}."
        raise FileNotFoundError(msg)
    with path.open("rb") as handle:
        start = handle.read(32)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff(path)
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24] == 16 and start[25] != 0:
        deep = _deep_png(path)
        if deep is not None:
            return deep
    from PIL import Image, UnidentifiedImageError

    with _LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(path) as image:
                image.load()
                values = from_pillow(image)
        except UnidentifiedImageError:
            values = None
        except OSError as error:
            msg = f"The image file {path} is damaged or cut short: {error}"
            raise ValueError(msg) from error
        finally:
            Image.MAX_IMAGE_PIXELS = before
    return as_rgb(_by_scikit_image(path) if values is None else values, where=path.name)


def _by_scikit_image(path: Path) -> Any:
    """What Pillow does not know."""
    from skimage.io import imread

    try:
        return imread(path)
    except Exception as error:
        msg = f"{path} is no image file that can be read: {error}"
        raise ValueError(msg) from error


def from_pillow(image: Any) -> np.ndarray:
    """Values of an image of Pillow, grey or in red, green and blue, by its mode."""
    if image.mode == "LAB":
        return _tiff_lab(np.asarray(image), 8, "the image")
    keyed = image.mode == "L" and "transparency" in image.info
    if image.mode.split(";")[0] in ("1", "L", "F", "I") and not keyed:
        return np.asarray(image)
    clear = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if clear else "RGB"))


def _deep_png(path: Path) -> Any:
    """A colour PNG of 16 bits, of which Pillow would keep the upper 8; None without a decoder."""
    try:
        import imagecodecs
    except ImportError:
        return None
    values = imagecodecs.png_decode(path.read_bytes())
    if values.ndim == 3 and values.shape[2] == 2:  # grey and alpha
        values = values[..., [0, 0, 0, 1]]
    return as_rgb(values, where=path.name)


def _read_zarr(path: Path) -> Any:
    """An array of zarr, the largest image of an OME-Zarr, or a SpatialData."""
    import zarr

    try:
        found: Any = zarr.open(path, mode="r")
    except Exception as error:
        msg = f"{path} is a folder without zarr: pass an image file, or a folder of zarr."
        raise ValueError(msg) from error
    if not hasattr(found, "attrs") or hasattr(found, "shape"):
        return found
    attributes: dict[str, Any] = dict(found.attrs)
    if "spatialdata_attrs" in attributes and "images" in found:
        import spatialdata

        return spatialdata.read_zarr(path)
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        there = checks.listed(found.keys())
        msg = f"{path} holds no OME-Zarr image (there: {there}): pass one of its arrays."
        raise ValueError(msg)
    array = found[scales[0]["datasets"][0]["path"]]
    names = [str(a.get("name", a) if hasattr(a, "get") else a) for a in scales[0].get("axes", "")]
    names = names or list("tczyx")[-array.ndim :]
    omero = attributes.get("ome", attributes).get("omero", {}).get("channels") or []
    labels = [c.get("label") for c in omero]
    return _of_axes(array, names, [v for v in labels if v] or None, path.name)


def _of_axes(array: Any, names: list[str], labels: list[str] | None, where: str) -> RGBView:
    """A view of an array with named axes, of which all but y, x and c have one plane."""
    import xarray

    long = [n for n, k in zip(names, array.shape, strict=True) if n not in "cyx" and k > 1]
    if long or not {"y", "x"} <= set(names):
        msg = f"{where} has the axes {checks.listed(names)} of {array.shape}: choose one plane."
        raise ValueError(msg)
    n = array.shape[names.index("c")] if "c" in names else 1
    coords = {"c": labels} if labels is not None and len(labels) == n else {}
    if "c" not in names:
        coords = {}
    if array.ndim > 2 + ("c" in names):
        import dask.array

        array = dask.array.from_zarr(array)
        keep = tuple(0 if n not in "cyx" else slice(None) for n in names)
        array, names = array[keep], [n for n in names if n in "cyx"]
    if not coords and "c" not in names:
        return as_rgb(xarray.DataArray(array, dims=names), where=where)
    channels = named_channels(coords.get("c"), n, where)
    axes = (names.index("y"), names.index("x"), names.index("c"))
    return RGBView(array, axes, channels, *limits(array, axes, channels, where))


# -- TIFF ---------------------------------------------------------------------------------------


def _read_tiff(path: Path) -> Any:
    """The first image of a TIFF at full resolution, by its photometric tag."""
    import tifffile

    where = path.name
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            page = series.keyframe
            values, axes = series.asarray(), series.axes
            kind = int(page.photometric)
            extra = tuple(int(v) for v in page.extrasamples or ())
            tags = {t.code: t.value for t in page.tags}
            labels = _ome_labels(file)
    except (tifffile.TiffFileError, ValueError, OSError, NotImplementedError, KeyError) as error:
        msg = f"{path} could not be read as TIFF: {error}"
        raise ValueError(msg) from error
    values, axes = _one_plane(values, axes, where)
    if "S" not in axes and len(axes) == 3:
        other = next(a for a in axes if a not in "YX")
        axes = axes.replace(other, "C")
    if "S" in axes or "C" in axes:
        channel = axes.index("S" if "S" in axes else "C")
        values = np.moveaxis(values, channel, -1)
    else:
        values = values[..., None]
    depth = int(np.max(page.bitspersample))
    white = float(2**depth - 1) if depth in (10, 12, 14) else None
    if kind == 3:  # palette
        table = np.asarray(page.colormap)
        return np.rint(table[:, values[..., 0]] / 257).astype(np.uint8).transpose(1, 2, 0)
    if kind == 5:
        return _cmyk_to_rgb(as_bytes(values, white, where), extra, where)
    if kind == 6 and int(page.compression) not in _DECODED:
        return _ycbcr_to_rgb(values, tags, where)
    if kind in (8, 9, 10):
        return _tiff_lab(values, kind, where)
    if kind == 0 and values.dtype.kind in "bu":  # white is zero
        top = 1 if values.dtype.kind == "b" else int(white or np.iinfo(values.dtype).max)
        values = ~values if values.dtype.kind == "b" else (top - values).astype(values.dtype)
    elif kind not in (0, 1, 2, 6):
        msg = f"{where} has the colour model {kind} (tag 262), which is not read: save it as RGB."
        raise ValueError(msg)
    return _samples(values, kind, extra, labels, white, where)


def as_bytes(values: np.ndarray, white: float | None, where: str) -> np.ndarray:
    """Values of each channel as uint8."""
    planes = [as_rgb(values[..., i], where=where, white=white)[..., 0]
              for i in range(values.shape[2])]  # fmt: skip
    return np.stack(planes, axis=-1)


def _one_plane(values: np.ndarray, axes: str, where: str) -> tuple[np.ndarray, str]:
    """Values without axes of length one, other than y and x."""
    keep = [i for i, a in enumerate(axes) if a in "YX" or values.shape[i] > 1 or a == "S"]
    index = tuple(slice(None) if i in keep else 0 for i in range(len(axes)))
    values, axes = values[index], "".join(axes[i] for i in keep)
    if len(axes) > 3 or not {"Y", "X"} <= set(axes):
        msg = f"{where} holds {values.shape} with the axes {axes}: save one plane of it."
        raise ValueError(msg)
    return values, axes


def _ome_labels(file: Any) -> list[str] | None:
    """Names of the channels of an OME-TIFF, where all have one."""
    import re

    if not file.is_ome or not file.ome_metadata:
        return None
    found = re.findall(r"<Channel\b[^>]*>", file.ome_metadata)
    names = [re.search(r'\bName="([^"]*)"', c) for c in found]
    return [m.group(1) for m in names if m] if found and all(names) else None


def _samples(
    values: np.ndarray, kind: int, extra: tuple[int, ...], labels: list[str] | None,
    white: float | None, where: str,
) -> np.ndarray:  # fmt: skip
    """Grey or red-green-blue samples, with alpha where the file says so."""
    n = values.shape[2]
    colours = 3 if kind in (2, 6) else 1
    if colours == 1 and n == 3:  # three planes of grey are the colours of one image
        order = (0, 1, 2) if labels is None else named_channels(labels, n, where)
        return as_rgb(values[..., list(order[:3])], where=where, white=white)
    if n == colours:
        return as_rgb(values if n == 3 else values[..., 0], where=where, white=white)
    if labels is not None and len(labels) == n and n > 1:
        order = named_channels(labels, n, where)
        return as_rgb(values[..., list(order)], where=where, white=white)
    if n == colours + 1 and extra in ((1,), (2,)):
        out = as_rgb(values[..., [0, 0, 0, 1]] if n == 2 else values, where=where, white=white)
        if extra == (1,):  # colours were multiplied by alpha before
            colour, alpha = (as_bytes(v, white, where).astype(np.int64)
                             for v in (values[..., :colours], values[..., colours:]))  # fmt: skip
            out = np.clip(colour + 255 - alpha, 0, 255).astype(np.uint8)
            out = np.repeat(out, 3, axis=2) if n == 2 else out
        return out
    msg = (
        f"{where} has {n} channels, and does not say that they are red, green and blue (and alpha)"
        ": pass the three channels of H&E as an array, image=values[..., :3]."
    )
    raise ValueError(msg)


def _cmyk_to_rgb(inks: np.ndarray, extra: tuple[int, ...], where: str) -> np.ndarray:
    """Red, green and blue of amounts of cyan, magenta, yellow and black (n, m, 4) of uint8."""
    if inks.shape[2] - len(extra) != 4:
        msg = f"{where} has {inks.shape[2]} inks, not cyan, magenta, yellow and black."
        raise ValueError(msg)
    left = 255.0 - inks[..., :4].astype(np.float32)
    return np.rint(left[..., :3] * left[..., 3:] / 255).astype(np.uint8)


def _ycbcr_to_rgb(values: np.ndarray, tags: dict[int, Any], where: str) -> np.ndarray:
    """Red, green and blue of luma and two differences of colour, by the tags of TIFF 6.0."""
    if values.shape[2] != 3 or values.dtype != np.uint8:
        msg = f"{where} is YCbCr of {values.shape[2]} samples of {values.dtype}: save it as RGB."
        raise ValueError(msg)

    def numbers(code: int, usual: list[float]) -> np.ndarray:
        given = np.asarray(tags.get(code, usual), dtype=np.float64).ravel()
        return given[::2] / given[1::2] if len(given) == 2 * len(usual) else given

    red, green, blue = numbers(529, [0.299, 0.587, 0.114])
    levels = numbers(532, [0, 255, 128, 255, 128, 255])
    v = values.astype(np.float64)
    luma = (v[..., 0] - levels[0]) * 255 / (levels[1] - levels[0])
    cb = (v[..., 1] - levels[2]) * 127 / (levels[3] - levels[2])
    cr = (v[..., 2] - levels[4]) * 127 / (levels[5] - levels[4])
    r = luma + cr * (2 - 2 * red)
    b = luma + cb * (2 - 2 * blue)
    g = (luma - blue * b - red * r) / green
    return np.rint(np.stack([r, g, b], axis=-1)).clip(0, 255).astype(np.uint8)


def _tiff_lab(values: np.ndarray, kind: int, where: str) -> np.ndarray:
    """Red, green and blue of CIE L*a*b* as TIFF keeps it."""
    if values.shape[2] != 3 or values.dtype.itemsize != 1 or kind == 10:
        msg = f"{where} is L*a*b* of {values.shape[2]} samples of {values.dtype}: save it as RGB."
        raise ValueError(msg)
    light = values[..., 0].astype(np.uint8) * (100 / 255)
    ab = values[..., 1:]
    ab = (
        np.ascontiguousarray(ab).view(np.int8).astype(np.float64)
        if kind == 8
        else ab.astype(np.float64) - 128
    )
    return _lab_to_rgb(light, ab)


def _lab_to_rgb(light: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """Red, green and blue (sRGB) of CIE L*a*b* under D50, the light of prints and profiles."""
    f = np.empty((*light.shape, 3))
    f[..., 1] = (light + 16) / 116
    f[..., 0], f[..., 2] = f[..., 1] + ab[..., 0] / 500, f[..., 1] - ab[..., 1] / 200
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    linear = np.clip(xyz @ _FROM_D50.T, 0, 1)
    bent = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(bent * 255).clip(0, 255).astype(np.uint8)
