"""Where the image of a section is, where its spots lie on it, and how large a pixel is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.spatial.patches import as_rgb, inside
from omicllm.spatial.positions import coordinates, section_columns, warn_of_overlaid

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        _positive("mpp", mpp)
    if spot_um is not None:
        _positive("spot_um", spot_um)
    matrix, implied = (None, None) if alignment is None else affine(alignment)
    own = {} if image is None else (image if isinstance(image, dict) else {"": image})
    libraries: Mapping[str, Any] = {} if own else _libraries(adata)
    codes, names = _membership(adata, list(own or libraries), batch_key)
    if batch_key is None and len(names) == 1:
        warn_of_overlaid(adata, coords)
    out = []
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        key = name if name in (own or libraries) else next(iter(own or libraries))
        if own:
            array, scale, spot, known = opened(own[key]), 1.0, None, None
        else:
            array, scale, spot, known = _stored(libraries[key], key, img_key)
        centres = coords[rows] * scale if matrix is None else aligned(coords[rows], matrix)
        given = of_section(mpp, name)
        if given is None and spot_um is not None and spot:
            given = spot_um / spot
        found = given or implied or known
        where = f"the image of section {name!r}"
        pixels = as_rgb(array, where=where)
        out.append(SectionImage(name, rows, pixels, centres, found and float(found), spot))
    return out


def of_section(mpp: float | Mapping[str, float] | None, *names: str) -> float | None:
    """Micrometres per pixel of a section, from one number or a dict by name."""
    if mpp is None or isinstance(mpp, (int, float, np.number)):
        return None if mpp is None else float(mpp)
    return next((float(mpp[n]) for n in names if n in mpp), None)


def _positive(name: str, value: Any) -> None:
    if not (isinstance(value, (int, float, np.number)) and np.isfinite(value) and value > 0):
        msg = f"{name} must be a positive number of micrometres, not {value!r}."
        raise ValueError(msg)


def _libraries(adata: AnnData) -> Mapping[str, Any]:
    """Entries of uns["spatial"] that hold images."""
    found = adata.uns.get(_IMAGES, {})
    libraries = {str(k): v for k, v in found.items() if hasattr(v, "get") and v.get("images")}
    if not libraries:
        hint = (
            "An image is looked for in adata.uns['spatial'][library]['images'] (as squidpy keeps "
            "it). Or pass image=, patches= or patch_map=."
        )
        raise checks.missing(_IMAGES, "adata.uns", adata.uns, hint=hint)
    return libraries


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


def opened(image: Any) -> Any:
    """An image given as an array, a file, a SpatialData with one image, or an element of it."""
    images = getattr(image, "images", None)
    if images is not None and hasattr(image, "tables"):
        if len(images) != 1:
            msg = (
                f"The SpatialData holds {len(images)} images ({checks.listed(images)}): pass one "
                "of them, image=sdata.images[name]."
            )
            raise ValueError(msg)
        image = next(iter(images.values()))
    if isinstance(image, (str, Path)):
        from skimage.io import imread

        if not Path(image).is_file():
            msg = f"There is no image file {image}."
            raise FileNotFoundError(msg)
        return imread(image)
    if hasattr(image, "children") and "scale0" in image.children:  # several resolutions
        image = next(iter(image["scale0"].data_vars.values()))
    if {"c", "y", "x"} <= set(getattr(image, "dims", ())):
        return np.asarray(image.transpose("y", "x", "c"))
    return image


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
    scale = float(factors.get(factor, 1.0))
    diameter = factors.get("spot_diameter_fullres")
    spot = float(diameter) * scale if diameter is not None else None
    metadata = library.get("metadata", {}) or {}
    full = metadata.get("um_per_fullres_px", factors.get("microns_per_pixel"))
    known = metadata.get(f"um_per_{img_key}_px", None if full is None else float(full) / scale)
    return images[img_key], scale, spot, None if known is None else float(known)


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
    _positive("size_um", size_um)
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
