"""Elements of SpatialData: which image belongs to a region, and where its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from omicllm._core import checks

#: Names of coordinate systems whose unit is one micrometre.
_MICROMETRES = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers",
                "micrometres"}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """Where the pixels of an image lie in a coordinate system.

    Attributes
    ----------
    matrix
        (3, 3) from coordinates of observations (x, y, 1) to pixels of the image.
    mpp
        Micrometres per pixel, where the unit of the system is known to be one.
    """

    matrix: np.ndarray
    mpp: float | None


def is_spatialdata(image: Any) -> bool:
    """Whether an object is a SpatialData."""
    return hasattr(image, "images") and hasattr(image, "tables")


def largest_scale(element: Any) -> Any:
    """The array of an image element, of several resolutions the largest."""
    if hasattr(element, "children") and "scale0" in element.children:
        element = element["scale0"]
    if hasattr(element, "data_vars") and len(element.data_vars) == 1:
        element = next(iter(element.data_vars.values()))
    return element


def image_element(sdata: Any, region: str | None) -> Any:
    """The image of a SpatialData; of several, the one of a region by its name.

    Raises
    ------
    ValueError
        None, or several and no region that tells.
    """
    images = dict(sdata.images.items())
    found = list(images)
    if region is not None and len(found) > 1:
        found = [n for n in images if n == region] or [
            n for n in images if _named_after(n, region) or _named_after(region, n)
        ]
    if not found or (len(found) > 1 and region is None):
        of = f" and none is named after region {region!r}" if region is not None else ""
        msg = (
            f"The SpatialData holds {len(images)} images ({checks.listed(images)}){of}: pass one "
            "of them, image=sdata.images[name], or a dict of these by section."
        )
        raise ValueError(msg)
    arrays = [largest_scale(images[n]) for n in found]
    return max(arrays, key=lambda a: int(np.prod(a.shape)))


def _named_after(name: str, other: str) -> bool:
    """Whether a name is another and more; 'S10_hires' is not 'S1' and more."""
    return name.startswith(other) and not (name[len(other) :][:1] + "_")[0].isalnum()


def frames_of(image: Any, sdata: Any, region: str | None) -> dict[str, Frame]:
    """Where an image element lies, by coordinate system; nothing of what is no element.

    Coordinates of observations are those of the region's element where it is known, else those
    of the coordinate system itself.

    Raises
    ------
    ValueError
        A transformation that is not affine in x and y; image and region share no system.
    """
    mine = _matrices(image)
    theirs: dict[str, np.ndarray] = {}
    for kind in ("shapes", "points", "labels"):
        group = getattr(sdata, kind, None) or {}
        if region is not None and region in group:
            theirs = _matrices(largest_scale(group[region]))
    if theirs and mine and not set(theirs) & set(mine):
        msg = (
            f"Region {region!r} and its image share no coordinate system "
            f"({checks.listed(theirs)}; {checks.listed(mine)})."
        )
        raise ValueError(msg)
    out = {}
    for name, matrix in mine.items():
        if theirs and name not in theirs:
            continue
        to_pixels = np.linalg.inv(matrix) @ theirs.get(name, np.eye(3))
        unit = name.strip().lower() in _MICROMETRES
        mpp = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))) if unit else None
        out[name] = Frame(to_pixels, mpp)
    return out


def chosen_frame(frames: dict[str, Frame], name: str | None, where: str) -> Frame | None:
    """The frame of a coordinate system, or the one that all agree on.

    Raises
    ------
    ValueError
        Several that differ and none named.
    """
    if name is not None:
        return frames[name]
    if not frames:
        return None
    every = list(frames.values())
    if any(not np.allclose(f.matrix, every[0].matrix, rtol=1e-9, atol=1e-9) for f in every):
        msg = (
            f"{where} lies differently in {len(frames)} coordinate systems "
            f"({checks.listed(frames)}): name that of the coordinates, alignment="
            f"{next(iter(frames))!r}."
        )
        raise ValueError(msg)
    return next((f for f in every if f.mpp), every[0])


def _matrices(element: Any) -> dict[str, np.ndarray]:
    """Matrices (3, 3) from places on an element (x, y, 1) to its coordinate systems."""
    known = getattr(element, "attrs", {}).get("transform") or {}
    out = {}
    for name, transformation in dict(known).items():
        try:
            matrix = np.asarray(transformation.to_affine_matrix(("x", "y"), ("x", "y")), float)
        except Exception as error:
            msg = (
                f"The transformation to the coordinate system {name!r} "
                f"({type(transformation).__name__}) is not affine in x and y: {error}"
            )
            raise ValueError(msg) from error
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
            msg = f"The transformation to the coordinate system {name!r} cannot be inverted."
            raise ValueError(msg)
        out[str(name)] = matrix
    return out
