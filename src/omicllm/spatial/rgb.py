"""Any image as red, green and blue of eight bits: storage, channels, depth, alpha."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger

#: Largest values of 10, 12, 14 and 16 bits, which whole numbers above 255 are taken for.
_DEPTHS = (1023, 4095, 16383, 65535)
#: Pixels that are read at once where an image is looked at as a whole.
_STRIP = 1 << 24
#: What channels are called.
_NAMES = {"red": "r", "green": "g", "blue": "b", "alpha": "a"}
_GREY = ("grey", "gray", "l", "luminance")
#: What the axis of channels is called beside c: by tifffile, squidpy, rasterio.
_AXES = {"s": "c", "channel": "c", "channels": "c", "band": "c"}


#: Bytes of chunks that are kept in memory.
_KEPT = 1 << 28


@dataclass
class _Chunked:
    """A dask array read by its chunks, of which the last ones are kept: patches lie close by."""

    source: Any = field(repr=False)
    kept: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.shape, self.dtype = tuple(self.source.shape), np.dtype(self.source.dtype)
        self.ndim = len(self.shape)
        self.edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in self.source.chunks]

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        spans = [s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True)]
        out = np.empty([max(0, stop - start) for start, stop in spans], dtype=self.dtype)
        blocks = [
            range(
                int(np.searchsorted(edges, start, "right")) - 1,
                int(np.searchsorted(edges, stop, "left")),
            )
            for edges, (start, stop) in zip(self.edges, spans, strict=True)
        ]
        for block in itertools.product(*blocks):
            into, of = [], []
            for b, edges, (start, stop) in zip(block, self.edges, spans, strict=True):
                low, high = max(start, int(edges[b])), min(stop, int(edges[b + 1]))
                into.append(slice(low - start, high - start))
                of.append(slice(low - int(edges[b]), high - int(edges[b])))
            out[tuple(into)] = self._chunk(block)[tuple(of)]
        return out

    def _chunk(self, block: tuple[int, ...]) -> np.ndarray:
        if block not in self.kept:
            self.kept[block] = np.asarray(self.source.blocks[block])
            while len(self.kept) > 1 and sum(v.nbytes for v in self.kept.values()) > _KEPT:
                del self.kept[next(iter(self.kept))]
        return self.kept[block]


@dataclass
class RGBView:
    """An image (H, W, 3) of uint8 that is read and converted piece by piece.

    Parameters
    ----------
    source
        (H, W), or three-dimensional: an array, or anything that can be sliced.
    axes
        Where y, x and channels stand in `source`; -1 for no channels.
    channels
        Numbers of red, green and blue, and of alpha where there is one.
    white, opaque
        Values of white, and of an alpha that lets nothing through.
    """

    source: Any = field(repr=False)
    axes: tuple[int, int, int]
    channels: tuple[int, ...]
    white: float
    opaque: float = 255.0

    dtype = np.dtype(np.uint8)
    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and 3."""
        return (self.source.shape[self.axes[0]], self.source.shape[self.axes[1]], 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | tuple[slice, ...]) -> np.ndarray:
        """Bytes of a window: slices of rows, columns and channels."""
        rows, columns, colours = (*(index if isinstance(index, tuple) else (index,)),
                                  slice(None), slice(None))[:3]  # fmt: skip
        return self._bytes(self._values(rows, columns))[..., colours]

    def __array__(self, dtype: Any = None, **_: Any) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def _values(self, rows: slice, columns: slice) -> np.ndarray:
        """Values (h, w, c) of a window as they are stored."""
        index: list[Any] = [slice(None)] * len(self.source.shape)
        index[self.axes[0]], index[self.axes[1]] = rows, columns
        window = np.asarray(self.source[tuple(index)])
        if self.axes[2] < 0:
            return window.transpose(self.axes[:2])[..., None]
        return window.transpose(self.axes)

    def _bytes(self, values: np.ndarray) -> np.ndarray:
        """Colours as bytes, on white where they are transparent or missing."""
        colour = values[..., list(self.channels[:3])]
        alpha = None
        if len(self.channels) > 3:
            alpha = values[..., self.channels[3]].astype(np.float32) / np.float32(self.opaque)
            alpha = np.clip(alpha, 0, 1)[..., None]
        opaque = alpha is None or bool((alpha == 1).all())
        if colour.dtype == np.uint8 and self.white == 255 and opaque:
            return np.ascontiguousarray(colour)
        scaled = colour.astype(np.float32 if colour.dtype.itemsize < 4 else np.float64)
        scaled = np.multiply(scaled, 255.0 / self.white)
        missing = np.isnan(scaled)
        if missing.any():
            scaled = np.where(missing.any(axis=-1, keepdims=True), 255.0, scaled)
        if alpha is not None:
            scaled = np.nan_to_num(scaled) * alpha + 255.0 * (1 - alpha)
        return np.rint(scaled).clip(0, 255).astype(np.uint8)


def as_rgb(image: Any, *, where: str = "the image", white: float | None = None) -> Any:
    """An image as (H, W, 3) uint8, without a copy where it is one already.

    Parameters
    ----------
    image
        (H, W) or (H, W, 1): grey. (H, W, 3): red, green and blue. (H, W, 4): with alpha, laid on
        white. Channels first with 1, 3 or 4 channels is turned. A labelled array (xarray) is read
        by the names of its channels. Whole numbers up to 255; up to 65,535: taken as the least of
        10, 12, 14 and 16 bits that holds the largest value of the whole image; floats in [0, 1]
        or up to 255, where NaN is white.
    where
        Name used in messages.
    white
        Value of white, where it is known.

    Returns
    -------
    Array; or an :class:`RGBView`, which reads piece by piece what is not in memory.

    Raises
    ------
    ValueError
        Other channels, or values outside these ranges.
    """
    if isinstance(image, RGBView):
        return image
    if hasattr(image, "dims") and hasattr(image, "coords"):
        source, axes, channels = _labelled(image, where)
    else:
        source = image
        if not isinstance(getattr(image, "dtype", None), np.dtype):  # a list, a tensor of torch
            source = np.asarray(image)
        axes, channels = _places(tuple(source.shape), where)
    if np.ma.isMaskedArray(source) and np.ma.is_masked(source):
        msg = f"{where} is a masked array: say what is there, such as white, with .filled(255)."
        raise ValueError(msg)
    if hasattr(source, "dask") and hasattr(source, "blocks"):  # zarr has blocks too
        source = _Chunked(source)
    kept = isinstance(source, np.ndarray) and not isinstance(source, np.memmap)
    plain = source.dtype == np.uint8 and axes == (0, 1, 2) and channels == (0, 1, 2)
    if plain and source.shape[2] == 3 and not isinstance(source, _Chunked):
        return source
    opaque = 255.0
    if white is None:
        white, opaque = limits(source, axes, channels, where)
    elif len(channels) > 3:
        opaque = white
    view = RGBView(source, axes, channels, white, opaque)
    return view[:, :] if kept else view


def _places(shape: tuple[int, ...], where: str) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Axes of y, x and channels of an array without labels, and its channels."""
    if len(shape) == 2:
        return (0, 1, -1), (0, 0, 0)
    if len(shape) == 3:
        axes = (0, 1, 2)
        if shape[0] in (1, 3, 4) and min(shape[1:]) > 4:
            axes = (1, 2, 0)
        n = shape[axes[2]]
        if n in (1, 3, 4):
            return axes, (0, 0, 0) if n == 1 else tuple(range(n))
    msg = (
        f"{where} must be (height, width, 3), not of shape {shape}: grey, red-green-blue, or these "
        "and alpha. Choose the three colour channels first."
    )
    raise ValueError(msg)


def _labelled(image: Any, where: str) -> tuple[Any, tuple[int, int, int], tuple[int, ...]]:
    """Source, axes and channels of a labelled array (xarray), by the names of its channels."""
    usual = {d: _AXES.get(str(d).lower(), str(d).lower()) for d in image.dims}
    if len(set(usual.values())) == len(usual):
        image = image.rename({d: name for d, name in usual.items() if d != name})
    dims = [str(d) for d in image.dims]
    for dim in dims:
        if dim not in ("c", "y", "x") and {"y", "x"} <= set(dims) and image.sizes[dim] == 1:
            image = image.isel({dim: 0})
    dims = [str(d) for d in image.dims]
    if not {"y", "x"} <= set(dims):
        return (image.data, *_places(tuple(image.shape), where))
    if set(dims) - {"c", "y", "x"}:
        msg = f"{where} has the axes {checks.listed(dims)}: choose one plane of y, x and c first."
        raise ValueError(msg)
    if "c" not in dims:
        return image.data, (dims.index("y"), dims.index("x"), -1), (0, 0, 0)
    axes = (dims.index("y"), dims.index("x"), dims.index("c"))
    given = list(np.asarray(image.coords["c"].values)) if "c" in image.coords else None
    return image.data, axes, named_channels(given, image.sizes["c"], where)


def named_channels(names: list[Any] | None, n: int, where: str) -> tuple[int, ...]:
    """Numbers of red, green, blue (and alpha) among channels, by their names.

    Channels that are only numbered are red, green and blue where there are three, grey where
    there is one.

    Raises
    ------
    ValueError
        Other channels.
    """
    known = [str(v).strip().lower() for v in (range(n) if names is None else names)]
    known = [_NAMES.get(v, v) for v in known]
    numbered = known in ([str(i) for i in range(n)], [str(i + 1) for i in range(n)])
    if numbered and n == 3:
        return (0, 1, 2)
    if n == 1 and (numbered or known[0] in _GREY):
        return (0, 0, 0)
    wanted = ["r", "g", "b", *(["a"] if "a" in known else [])]
    if sorted(known) == sorted(wanted):
        return tuple(known.index(v) for v in wanted)
    shown = checks.listed(range(n) if names is None else names)
    msg = (
        f"{where} has {n} channels ({shown}), which are not red, green and blue (and alpha) by "
        "name: choose the three of H&E, such as image.sel(c=['r', 'g', 'b']), or name them."
    )
    raise ValueError(msg)


def white_level(image: Any, *, where: str = "the image") -> float:
    """Value of white of an image, or of many patches together, from all of its values."""
    low, high = _extremes(image, (0,), None)
    return _white(np.dtype(image.dtype), low, high, where)


def _extremes(
    source: Any, axes: tuple[int, ...], channels: tuple[int, tuple[int, ...]] | None
) -> tuple[float, float]:
    """Smallest and largest value without NaN, read in strips along the first of the axes."""
    shape = tuple(source.shape)
    if not all(shape) or np.dtype(source.dtype).kind not in "biuf":
        return 0.0, 0.0
    n, along = shape[axes[0]], axes[0]
    step = max(1, int(_STRIP * n / np.prod(shape, dtype=np.float64)))
    low, high = np.inf, -np.inf
    for start in range(0, n, step):
        index: list[Any] = [slice(None)] * len(shape)
        index[along] = slice(start, start + step)
        part = np.asarray(source[tuple(index)])
        if channels is not None:
            part = np.take(part, channels[1], axis=channels[0])
        if part.dtype.kind == "f":
            part = part[~np.isnan(part)]
        if part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    return (low, high) if high >= low else (0.0, 0.0)


def limits(
    source: Any, axes: tuple[int, int, int], channels: tuple[int, ...], where: str
) -> tuple[float, float]:
    """Values of white and of full alpha."""
    dtype = np.dtype(source.dtype)
    if dtype == np.uint8:
        return 255.0, 255.0
    colours = None if axes[2] < 0 else (axes[2], tuple(sorted(set(channels[:3]))))
    low, high = _extremes(source, axes, colours)
    white = _white(dtype, low, high, where)
    if len(channels) < 4:
        return white, white
    low, high = _extremes(source, axes, (axes[2], channels[3:]))
    opaque = _white(dtype, low, high, f"alpha of {where}", tell=False)
    return white, opaque if dtype.kind == "f" else max(opaque, white)


def _white(dtype: np.dtype, low: float, high: float, where: str, *, tell: bool = True) -> float:
    """Value of white of values of a type, between these extremes."""
    if dtype == np.uint8:
        return 255.0
    if dtype.kind == "b":
        return 1.0
    if dtype.kind == "f":
        if low >= -1e-4 and high <= 1 + 1e-4:
            return 1.0
        if low >= -0.05 and high <= 255.05:
            return 255.0
    elif dtype.kind in "iu" and low >= 0 and high <= _DEPTHS[-1]:
        if high <= 255:
            return 255.0
        depths = (*_DEPTHS[:-1], 32767) if dtype == np.int16 else _DEPTHS
        white = next(d for d in depths if high <= d)
        if tell and white < _DEPTHS[-1]:
            logger.warning(
                "the largest value of %s is %d: it is taken as of %d bits (white is %d).",
                where, int(high), white.bit_length(), white,
            )  # fmt: skip
        return float(white)
    msg = (
        f"{where} holds values of {dtype} from {low:g} to {high:g}: use whole numbers from 0 to "
        "255 (or of 10, 12, 14 or 16 bits), or floats from 0 to 1."
    )
    raise ValueError(msg)
