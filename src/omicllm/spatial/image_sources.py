"""Where the image of a section is, where its spots lie on it, and how large a pixel is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.spatial.elements import (
    Frame,
    chosen_frame,
    frames_of,
    image_element,
    is_spatialdata,
    largest_scale,
)
from omicllm.spatial.image_files import from_pillow, read_image
from omicllm.spatial.patches import inside
from omicllm.spatial.positions import coordinates, section_columns, warn_of_overlaid
from omicllm.spatial.rgb import as_rgb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

#: Pixel of the morphology image of Xenium, um; its aligned images are registered to that grid.
XENIUM_MPP = 0.2125
#: Entry of uns that holds images, in the layout of squidpy.
_IMAGES = "spatial"


@dataclass(frozen=True)
class SectionImage:
    """The image of one section and its spots.

    Attributes
    ----------
    name
        Name of the section.
    rows
        Positions of its observations.
    image
        (H, W, 3) uint8.
    centres
        (n, 2) x and y of the observations, in pixels of `image`.
    mpp
        Micrometres per pixel of `image`; None where unknown.
    spot
        Diameter of a spot in pixels; None where unknown.
    """

    name: str
    rows: np.ndarray
    image: Any = field(repr=False)
    centres: np.ndarray = field(repr=False)
    mpp: float | None
    spot: float | None

    @property
    def inside(self) -> np.ndarray:
        """Bool (n,): the observation lies on the image."""
        return inside(self.centres, self.image.shape)


def affine(alignment: Any) -> tuple[np.ndarray, float | None]:
    """Matrix (3, 3) from spot coordinates to image pixels, and the um per pixel that it implies.

    Parameters
    ----------
    alignment
        A 3 x 3 (or 2 x 3) matrix that maps spot coordinates (x, y, 1) to pixels of the image; or
        the path of the CSV that Xenium Explorer exports. That file maps pixels of the aligned
        image to pixels of the morphology image (0.2125 um), so it is inverted and coordinates
        are taken as micrometres.

    Raises
    ------
    ValueError
        No such matrix, or one that cannot be inverted.
    """
    if not isinstance(alignment, (str, Path)):
        return _checked(alignment, "alignment"), None
    path = Path(alignment)
    if not path.is_file():
        msg = f"There is no file {path} (alignment=)."
        raise FileNotFoundError(msg)
    try:
        read = np.genfromtxt(path, delimiter=",", dtype=np.float64)
    except ValueError as error:
        msg = f"{path.name} is no 3 x 3 matrix of numbers: {error}"
        raise ValueError(msg) from error
    exported = _checked(read, path.name)
    matrix = np.linalg.inv(exported) @ np.diag([1 / XENIUM_MPP, 1 / XENIUM_MPP, 1.0])
    return matrix, 1.0 / float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def _checked(matrix: Any, name: str) -> np.ndarray:
    """A matrix (3, 3) that can be inverted."""
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape == (2, 3):
        values = np.vstack([values, [0.0, 0.0, 1.0]])
    if values.shape != (3, 3) or not np.isfinite(values).all():
        msg = f"{name} must be a 3 x 3 matrix of numbers, not of shape {values.shape}."
        raise ValueError(msg)
    if not np.allclose(values[2], [0, 0, 1]) or abs(np.linalg.det(values)) < 1e-12:
        msg = f"{name} is no invertible affine matrix: its last row must be 0, 0, 1."
        raise ValueError(msg)
    return values


def aligned(coords: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Coordinates (n, 2) through an affine matrix (3, 3)."""
    return coords @ matrix[:2, :2].T + matrix[:2, 2]


def section_images(
    adata: AnnData,
    *,
    image: Any = None,
    img_key: str | None = None,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    alignment: Any = None,
    mpp: float | Mapping[str, float] | None = None,
    spot_um: float | None = None,
) -> list[SectionImage]:
    """Images of the sections of an object. Parameters are those of ``pp.image_features``.

    Raises
    ------
    KeyError
        No image, no scale factor, no coordinates, or a section without an image.
    ValueError
        Several images and no column that says which spot belongs to which.
    """
    coords = coordinates(adata, spatial_key)
    if mpp is not None and not hasattr(mpp, "items"):
        mpp = number(mpp, "mpp", unit="micrometres")
    if spot_um is not None:
        spot_um = number(spot_um, "spot_um", unit="micrometres")
    given = {} if image is None else {"": image}
    if isinstance(image, dict):
        given = {str(name): value for name, value in image.items()}
    for key, value in given.items():  # a folder may hold a SpatialData
        if isinstance(value, (str, Path)) and Path(value).is_dir():
            given = given | {key: read_image(value)}
    libraries: Mapping[str, Any] = {} if given else _libraries(adata)
    regions = _regions(adata)
    several = regions is not None and len(np.unique(regions[1])) > 1
    if batch_key is None and several and len(given) == 1 and is_spatialdata(*given.values()):
        assert regions is not None
        batch_key = regions[0]
    codes, names = _membership(adata, list(given or libraries), batch_key)
    if batch_key is None and len(names) == 1:
        warn_of_overlaid(adata, coords)
    _refuse_other_names(mpp, names)
    out = []
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        key = name if name in (given or libraries) else next(iter(given or libraries))
        where = f"the image of section {name!r}"
        xy = coords[rows]
        if given:
            mine = None if regions is None else np.unique(regions[1][rows])
            array, frames = opened(
                given[key], str(mine[0]) if mine is not None and len(mine) == 1 else None
            )
            matrix, implied = _placement(alignment, frames, where)
            unit = 1.0 if matrix is None else float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
            spot, known = _beside(adata, name, unit, alone=len(names) == 1)
            if matrix is None:
                _warn_of_crop(adata, name)
        else:
            array, unit, spot, known = _stored(libraries[key], key, img_key)
            matrix, implied = (None, None) if alignment is None else affine(alignment)
        centres = xy * unit if matrix is None else np.round(aligned(xy, matrix), 6)
        scale = of_section(mpp, name)
        if spot_um is not None:
            scale, spot = _by_spot(scale, spot_um, spot, name)
        found = scale or implied or known
        pixels = as_rgb(array, where=where)
        out.append(SectionImage(name, rows, pixels, centres, found and float(found), spot))
    return out


def _regions(adata: AnnData) -> tuple[str, np.ndarray] | None:
    """Column of obs that names the regions of a table of SpatialData, and what it holds."""
    entry = adata.uns.get("spatialdata_attrs")
    key = entry.get("region_key") if hasattr(entry, "get") else None
    if key is None or str(key) not in adata.obs:
        return None
    return str(key), np.asarray(adata.obs[str(key)]).astype(str)


def _placement(
    alignment: Any, frames: dict[str, Frame], where: str
) -> tuple[np.ndarray | None, float | None]:
    """Matrix from coordinates to pixels of an image, None where they are the same, and um a pixel.

    `alignment` goes before what an element of SpatialData says of itself; it may name one of its
    coordinate systems.
    """
    name = alignment if isinstance(alignment, str) and alignment in frames else None
    if alignment is not None and name is None:
        return affine(alignment)
    frame = chosen_frame(frames, name, where)
    if frame is None:
        return None, None
    same = np.array_equal(frame.matrix, np.eye(3))
    if not same:
        logger.info("%s is placed by the transformation of its element", where)
    return (None if same else frame.matrix), frame.mpp


def _warn_of_crop(adata: AnnData, name: str) -> None:
    """Say so where coordinates are said to be those of a part of the full image."""
    libraries = adata.uns.get(_IMAGES, {})
    library: Any = libraries.get(name) if hasattr(libraries, "get") else None
    if library is None and hasattr(libraries, "values") and len(libraries) == 1:
        library = next(iter(libraries.values()))
    metadata: Any = library.get("metadata") if hasattr(library, "get") else None
    offset = metadata.get("crop_offset_fullres_xy") if hasattr(metadata, "get") else None
    if offset is None or not np.any(offset):
        return
    x, y = np.asarray(offset, dtype=np.float64).ravel()[:2].tolist()
    logger.warning(
        "coordinates are taken as pixels of the image that is given, but the metadata of "
        "adata.uns['spatial'] say that they begin at (%.6g, %.6g) of the full image: where image= "
        "is that one, pass alignment=[[1, 0, %.6g], [0, 1, %.6g], [0, 0, 1]], and look at "
        "ol.pl.image_alignment.", x, y, x, y,
    )  # fmt: skip


def _beside(
    adata: AnnData, name: str, unit: float, *, alone: bool
) -> tuple[float | None, float | None]:
    """Spot diameter in pixels and um per pixel of an image given beside the scale factors in uns.

    `unit` is the number of pixels of the image per unit of the coordinates.
    """
    entry = adata.uns.get(_IMAGES, {})
    libraries = {str(k): v for k, v in entry.items() if hasattr(v, "get")}
    if name not in libraries and not (alone and len(libraries) == 1):
        return None, None
    key = name if name in libraries else next(iter(libraries))
    diameter, full = _sizes(libraries[key], key)
    return (None if diameter is None else diameter * unit, None if full is None else full / unit)


def _by_spot(
    scale: float | None, spot_um: float, spot: float | None, name: str
) -> tuple[float, float]:
    """Um per pixel, and spot diameter in pixels, where the diameter in um is given."""
    if spot is None and scale is None:
        msg = (
            f"spot_um={spot_um:g} says how large a pixel of the image of section {name!r} is only "
            "where the diameter of a spot in pixels is known, and adata.uns['spatial'][library]"
            "['scalefactors']['spot_diameter_fullres'] is not there: pass mpp= (um per pixel)."
        )
        raise ValueError(msg)
    if spot is None:
        assert scale is not None
        return scale, spot_um / scale
    if scale is not None and abs(scale * spot / spot_um - 1) > 0.05:
        msg = (
            f"mpp={scale:g} and spot_um={spot_um:g} do not agree for section {name!r}: a spot of "
            f"{spot:.4g} pixels is {scale * spot:.4g} um wide by the first. Give one of them."
        )
        raise ValueError(msg)
    return scale or spot_um / spot, spot


def of_section(mpp: float | Mapping[str, float] | None, *names: str) -> float | None:
    """Micrometres per pixel of a section, from one number or a dict by name."""
    if mpp is None:
        return None
    if not hasattr(mpp, "items"):
        return number(mpp, "mpp", unit="micrometres")
    by_name: dict[str, Any] = {str(k): v for k, v in mpp.items()}  # type: ignore[union-attr]
    given = next((by_name[n] for n in names if n in by_name), None)
    return None if given is None else number(given, "mpp", unit="micrometres")


def _refuse_other_names(mpp: Any, names: Sequence[str]) -> None:
    """Say so where a dict of micrometres per pixel holds none of the sections."""
    if hasattr(mpp, "items") and not {str(k) for k in mpp} & set(names):
        msg = (
            f"mpp= is given for {checks.listed(mpp)}, and the sections are "
            f"{checks.listed(names)}: use their names, or pass one number."
        )
        raise ValueError(msg)


def number(value: Any, where: str, *, unit: str = "") -> float:
    """A positive number, also as an array of length one (as R writes) or as text.

    Raises
    ------
    ValueError
        Anything else.
    """
    found = np.asarray(value).ravel()
    try:
        (single,) = found.tolist()
        if isinstance(single, (bool, type(None))):
            raise TypeError
        if isinstance(single, bytes):
            single = single.decode()
        out = float(single)
    except (TypeError, ValueError):
        out = float("nan")
    if not np.isfinite(out) or out <= 0:
        of = f" of {unit}" if unit else ""
        msg = f"{where} must be a positive number{of}, not {value!r}."
        raise ValueError(msg)
    return out


def _libraries(adata: AnnData) -> Mapping[str, Any]:
    """Entries of uns["spatial"] that hold images."""
    found = adata.uns.get(_IMAGES, {})
    entries = dict(found.items()) if hasattr(found, "items") else {}
    libraries = {str(k): v for k, v in entries.items() if hasattr(v, "get") and v.get("images")}
    if libraries:
        return libraries
    hint = (
        "An image is looked for in adata.uns['spatial'][library]['images'] (as squidpy keeps "
        "it). Or pass image=, patches= or patch_map=."
    )
    if _IMAGES in adata.uns:
        msg = (
            f"adata.uns['spatial'] holds no image: the 'images' of {checks.listed(entries)} are "
            f"empty or not there. {hint}"
        )
        raise checks.ReadableKeyError(msg)
    raise checks.missing(_IMAGES, "adata.uns", adata.uns, hint=hint)


def _membership(
    adata: AnnData, images: list[str], batch_key: str | None
) -> tuple[np.ndarray, list[str]]:
    """Section number of each observation, and names of the sections."""
    if batch_key is None and len(images) > 1:
        columns = section_columns(adata)
        columns += [c for c in adata.obs.columns if c not in columns]
        for column in columns:
            if set(np.asarray(adata.obs[column]).astype(str)) <= set(images):
                batch_key = column
                logger.info("sections of the images are taken from adata.obs[%r]", column)
                break
        else:
            msg = (
                f"There are {len(images)} images ({checks.listed(images)}): say which spot belongs "
                "to which with batch_key=, a column of adata.obs that holds these names."
            )
            raise ValueError(msg)
    codes, names = inputs.sections(adata, batch_key)
    if batch_key is None:
        return codes, [images[0] or "section"]
    absent = [n for n in names if n not in images]
    if absent and not (len(images) == 1 and (images[0] == "" or len(names) == 1)):
        raise checks.missing(
            absent[0], "the images", images, hint=f"It is a section of adata.obs[{batch_key!r}]."
        )
    return codes, names


def opened(image: Any, region: str | None = None) -> tuple[Any, dict[str, Frame]]:
    """What :func:`as_rgb` reads of an image, and where the image lies, by coordinate system.

    Parameters
    ----------
    image
        Array, file, folder of zarr, SpatialData, or an image element of it.
    region
        Element of the SpatialData that the observations are of.
    """
    if isinstance(image, (str, Path)):
        image = read_image(image)
    elif hasattr(image, "getbands") and hasattr(image, "convert"):  # an image of Pillow
        image = from_pillow(image)
    sdata = image if is_spatialdata(image) else None
    image = largest_scale(image) if sdata is None else image_element(image, region)
    return image, frames_of(image, sdata, region)


def _stored(
    library: Mapping[str, Any], name: str, img_key: str | None
) -> tuple[Any, float, float | None, float | None]:
    """Image, pixels per coordinate unit, spot diameter in pixels, um per pixel of a library."""
    images = library["images"]
    where = f"adata.uns['spatial'][{name!r}]['images']"
    if img_key is None:
        img_key = next((k for k in ("fullres", "hires", "lowres") if k in images), None)
        img_key = img_key or str(next(iter(images)))
    if img_key not in images:
        raise checks.missing(img_key, where, images, hint="Name one with img_key=.")
    factors = library.get("scalefactors", {}) or {}
    factor = f"tissue_{img_key}_scalef"
    if factor not in factors and img_key != "fullres":
        raise checks.missing(
            factor,
            f"adata.uns['spatial'][{name!r}]['scalefactors']",
            factors,
            hint="It is the number of pixels of the image per unit of the coordinates; without it "
            "spots cannot be placed. Set it, or pass image= with alignment=.",
        )
    path = f"adata.uns['spatial'][{name!r}]"
    scale = number(factors.get(factor, 1.0), f"{path}['scalefactors'][{factor!r}]")
    diameter, full = _sizes(library, name)
    metadata = library.get("metadata", {}) or {}
    known = None if full is None else full / scale
    if metadata.get(f"um_per_{img_key}_px") is not None:
        entry = f"um_per_{img_key}_px"
        known = number(metadata[entry], f"{path}['metadata'][{entry!r}]")
    return images[img_key], scale, None if diameter is None else diameter * scale, known


def _sizes(library: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    """Spot diameter in pixels of the full resolution, and micrometres per such pixel."""
    path = f"adata.uns['spatial'][{name!r}]"
    factors, metadata = (library.get(k, {}) or {} for k in ("scalefactors", "metadata"))
    found = []
    for where, entry, key in (
        ("scalefactors", factors, "spot_diameter_fullres"),
        ("metadata", metadata, "um_per_fullres_px"),
        ("scalefactors", factors, "microns_per_pixel"),
    ):
        value = entry.get(key)
        found.append(None if value is None else number(value, f"{path}[{where!r}][{key!r}]"))
    diameter, stated, measured = found
    return diameter, stated if stated is not None else measured


def patch_side(
    section: SectionImage, size_um: float | None, *, smallest: float = 4.0
) -> tuple[float, float | None]:
    """Side of a patch in pixels, and in micrometres where known.

    Without `size_um` it is two spot diameters.

    Raises
    ------
    ValueError
        The size of a pixel is not known; a patch of under `smallest` pixels or beyond the image.
    """
    if size_um is None:
        if not section.spot:
            msg = (
                f"How large is a patch of section {section.name!r}? Its spot diameter is not "
                "known (scalefactors['spot_diameter_fullres']): pass size_um= and mpp=."
            )
            raise ValueError(msg)
        side = 2 * section.spot
        return side, side * section.mpp if section.mpp else None
    size_um = number(size_um, "size_um", unit="micrometres")
    if not section.mpp:
        msg = (
            f"size_um={size_um:g} needs the size of a pixel of the image of section "
            f"{section.name!r}: pass mpp= (um per pixel of that image) or spot_um= (diameter of a "
            "spot), or leave size_um out for patches of two spot diameters."
        )
        raise ValueError(msg)
    side = size_um / section.mpp
    shorter = min(section.image.shape[:2])
    if side < smallest or side > shorter:
        msg = (
            f"A patch of {size_um:g} um is {side:.4g} pixels of the image of section "
            f"{section.name!r} ({section.mpp:.4g} um per pixel, {section.image.shape[1]} x "
            f"{section.image.shape[0]} pixels). Check size_um= and mpp=."
        )
        raise ValueError(msg)
    return side, float(size_um)
