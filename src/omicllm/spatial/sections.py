"""The grid of an AnnData: made from array positions or coordinates, or read back from `obsm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger, warn
from omicllm.spatial import grid as grids
from omicllm.spatial import positions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

#: The grid that verbs make where there is none; others are made and named by the user.
GRID_KEY = "spatial_grid"
#: Distance from the middle, in units of that which nine tenths of the spots keep, that is far off.
_FAR = 20.0
_REMAKE = "Make it again with ol.pp.spatial_grid(adata)."


@dataclass(frozen=True)
class SectionGrid:
    """The grid of one section: which observations it has, their pixels, the image size.

    `n_spots` is the number of observations it was made from, which may have been subset since.
    """

    name: str
    rows: np.ndarray
    pixel: np.ndarray
    shape: tuple[int, int]
    agg: str
    method: str = "bin"
    n_spots: int = 0

    def check_size(self) -> None:
        """Raise ValueError when dense images of this section are out of all proportion."""
        n_spots = max(self.n_spots, len(self.rows))
        if positions.too_large(self.shape[0] * self.shape[1], n_spots):
            msg = (
                f"The gene images of section {self.name!r} have {self.shape[0]} x {self.shape[1]} "
                f"pixels for {n_spots} spots, which is too large to draw. Look for spots far from "
                "all others, or for pixel coordinates in obs['array_row'] and obs['array_col']; "
                "then make another grid, for example ol.pp.spatial_grid(adata, method='bin', "
                f"n_pixels={max(2, n_spots)})."
            )
            raise ValueError(msg)


def section_grids(
    adata: AnnData, position: np.ndarray, arrays: Mapping[str, Any]
) -> list[SectionGrid]:
    """Cut a grid (positions and the arrays of its `uns` entry) into sections.

    It may come from an object that was subset since; rows are matched by the section column. That
    it fits is known (:func:`serving_grid`).
    """
    position = np.asarray(position)
    names = _section_names(arrays)
    shapes = np.asarray(arrays["shapes"]).reshape(-1, 2)
    methods = _values(arrays, "methods", [str(arrays["method"])] * len(names))
    n_spots = _values(arrays, "n_spots", [0] * len(names))
    out = []
    for i, (name, rows) in enumerate(_members(adata, arrays)):
        h, w = int(shapes[i, 0]), int(shapes[i, 1])
        pixel = position[rows, 0].astype(np.int64) * w + position[rows, 1]
        out.append(SectionGrid(name, rows, pixel, (h, w), str(arrays["agg"]), str(methods[i]),
                               int(n_spots[i])))  # fmt: skip
    return out


def _values(arrays: Mapping[str, Any], name: str, default: list[Any]) -> np.ndarray:
    """One value per section, from an entry that may be read lazily."""
    return np.asarray(arrays.get(name, default)).ravel()


def _section_names(arrays: Mapping[str, Any]) -> list[str]:
    return [str(n) for n in np.asarray(arrays["sections"]).ravel()]


def _members(adata: AnnData, arrays: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """Name and observations of each section of a grid."""
    names = _section_names(arrays)
    key = str(arrays.get("batch_key", "") or "")
    if not key:
        return [(names[0], np.arange(adata.n_obs))]
    column = inputs.section_text(adata, key)
    return [(n, np.flatnonzero(column == n)) for n in names]


def stored_grid(adata: AnnData, key: str = GRID_KEY) -> list[SectionGrid]:
    """Return the grid that `pp.spatial_grid` wrote, by section.

    Raises
    ------
    KeyError
        When there is none.
    ValueError
        When it does not fit the object.
    """
    if key not in adata.obsm or key not in adata.uns:
        where = "adata.uns" if key in adata.obsm else "adata.obsm"
        raise checks.missing(
            key, where, getattr(adata, where[6:]),
            hint="Make the grid with ol.pp.spatial_grid(adata).",
        )  # fmt: skip
    why = _misfit(adata, key)
    if why:
        msg = f"The grid {key!r} does not fit the object: {why}. {_REMAKE}"
        raise ValueError(msg)
    return section_grids(adata, adata.obsm[key], adata.uns[key])


def serving_grid(
    adata: AnnData,
    *,
    grid_key: str = GRID_KEY,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
) -> tuple[np.ndarray, Mapping[str, Any], bool]:
    """Grid that a verb works on: the stored one where it fits, else one made with the defaults.

    Returns
    -------
    Positions, the arrays of the `uns` entry, and whether it was made now.

    Raises
    ------
    KeyError
        No grid of a name that the user chose; nothing to make one from.
    ValueError
        A grid of a name that the user chose does not fit the object.
    """
    if grid_key not in adata.obsm or grid_key not in adata.uns:
        if grid_key != GRID_KEY:
            raise checks.missing(
                grid_key, "adata.uns", adata.uns, hint="ol.pp.spatial_grid(key_added=) makes it."
            )
        made = make_grid(adata, spatial_key=spatial_key, batch_key=batch_key)
        return (*made, True)
    why = _misfit(adata, grid_key, spatial_key, batch_key or "")
    if not why:
        return np.asarray(adata.obsm[grid_key]), adata.uns[grid_key], False
    if grid_key != GRID_KEY:
        msg = (
            f"The grid {grid_key!r} does not fit: {why}. Make it again with "
            f"ol.pp.spatial_grid(adata, key_added={grid_key!r})."
        )
        raise ValueError(msg)
    made = make_grid(adata, spatial_key=spatial_key, batch_key=batch_key)
    warn(f"The stored grid does not fit: {why}. One made anew with the defaults is used.")
    return (*made, True)


def _misfit(
    adata: AnnData, key: str, spatial_key: str | None = None, batch_key: str | None = None
) -> str:
    """Why a stored grid does not fit an object, its sections or its coordinates; empty if it does.

    Observations may have been left out or put in another order since. Without `spatial_key` the
    coordinates are those that it was made from, without `batch_key` the sections are its own.
    """
    entry, position = adata.uns[key], np.asarray(adata.obsm[key])
    needed = ("sections", "shapes", "method", "agg")
    absent = [n for n in needed if not hasattr(entry, "get") or n not in entry]
    if absent:
        return f"adata.uns[{key!r}] lacks {checks.listed(absent)}, as after joining objects"
    stored_key = str(entry.get("batch_key", "") or "")
    if batch_key is not None and stored_key != batch_key:
        return f"it was made with batch_key={stored_key or None!r}, not {batch_key or None!r}"
    names, shapes = _section_names(entry), np.asarray(entry["shapes"]).reshape(-1, 2)
    if position.ndim != 2 or position.shape[1] != 2 or position.dtype.kind not in "iu":
        return f"adata.obsm[{key!r}] does not hold rows and columns"
    if len(shapes) != len(names) or (not stored_key and len(names) != 1):
        return f"adata.uns[{key!r}] does not say which section has which image"
    if stored_key:
        if stored_key not in adata.obs:
            return f"adata.obs has no column {stored_key!r} now, which told its sections apart"
        there = set(inputs.section_text(adata, stored_key).tolist())
        if new := sorted(there - set(names)):
            return (
                f"sections {checks.listed(new, most=3)} of adata.obs[{stored_key!r}] are not in "
                f"it (there: {checks.listed(names, most=3)})"
            )
    where = _sources(adata, entry, spatial_key)
    methods = _values(entry, "methods", [str(entry["method"])] * len(names))
    for i, (name, rows) in enumerate(_members(adata, entry)):
        of = f" of section {name!r}" if stored_key else ""
        part = position[rows]
        if ((part < 0) | (part >= shapes[i])).any():
            return f"pixels{of} lie outside of its image of {shapes[i, 0]} x {shapes[i, 1]}"
        source, xy = where(i)
        if xy is not None:
            transform = np.asarray(entry["transforms"], dtype=np.float64).reshape(-1, 2, 3)[i]
            fits = grids.lies_on(
                part, xy[rows], str(methods[i]), transform, exact=source == "array"
            )
            if not fits.all():
                first = str(adata.obs_names[rows[np.argmin(fits)]])
                return (
                    f"{int((~fits).sum())} of {len(rows)} spots{of} lie elsewhere now, by "
                    f"{_described(source, entry, spatial_key)} (first: {first!r})"
                )
        if source == "array" and len(np.unique(part, axis=0)) < len(part):
            return f"spots{of} share a pixel of the array, as when sections lie over each other"
    return ""


def _described(source: str, entry: Mapping[str, Any], spatial_key: str | None) -> str:
    if source == "array":
        return "adata.obs['array_row'] and ['array_col']"
    return f"adata.obsm[{spatial_key or str(entry.get('spatial_key', 'spatial'))!r}]"


def _sources(adata: AnnData, entry: Mapping[str, Any], spatial_key: str | None) -> Any:
    """Function that gives what a section was made from, and x and y now where they are there."""
    made_from = _values(entry, "made_from", [])
    read: dict[str, np.ndarray | None] = {}

    def of_section(i: int) -> tuple[str, np.ndarray | None]:
        # A grid that does not say what it was made from is taken as it is.
        if i >= len(made_from):
            return ("array" if str(entry["method"]) != "bin" else ""), None
        source = str(made_from[i])
        if "transforms" not in entry:
            return source, None
        if source not in read:
            if source == "array":
                values = positions.array_values(adata)
                read[source] = None if values is None else values[:, ::-1]
            else:
                stored_key = str(entry.get("spatial_key", "spatial"))
                name = spatial_key or stored_key
                # Coordinates may be gone; another entry that was asked for must be there.
                there = name != stored_key or positions.has_coordinates(adata, name)
                read[source] = positions.coordinates(adata, name) if there else None
        return source, read[source]

    return of_section


def make_grid(
    adata: AnnData,
    *,
    spatial_key: str = "spatial",
    method: str = "auto",
    batch_key: str | None = None,
    pixel_size: float | None = None,
    n_pixels: int | None = None,
    agg: str = "sum",
) -> tuple[np.ndarray, dict[str, Any]]:
    """Make the grid of an object, without writing it.

    Parameters are those of :func:`omicllm.pp.spatial_grid`.

    Returns
    -------
    int32 (n_obs, 2) positions, and the arrays of the `uns` entry.
    """
    checks.one_of("method", method, ("auto", "hex", "square", "bin"))
    checks.one_of("agg", agg, ("sum", "mean"))
    if pixel_size is not None and not pixel_size > 0:
        msg = f"pixel_size must be positive, not {pixel_size!r}."
        raise ValueError(msg)
    if n_pixels is not None:
        checks.whole_number("n_pixels", n_pixels, at_least=2)
    if adata.n_obs < 2:
        msg = f"A gene image needs at least two spots; the object has {adata.n_obs}."
        raise ValueError(msg)
    codes, names = inputs.sections(adata, batch_key)
    binned = method == "bin" or pixel_size is not None or n_pixels is not None
    if binned and method not in ("auto", "bin"):
        msg = f"pixel_size and n_pixels belong to method='bin', not to method={method!r}."
        raise ValueError(msg)
    if pixel_size is not None and n_pixels is not None:
        msg = "n_pixels= has no effect with pixel_size=: give one of them."
        raise ValueError(msg)
    if agg != "sum" and method in ("hex", "square"):
        msg = f"agg= has no effect with method={method!r}, where no spots share a pixel."
        raise ValueError(msg)
    maker = _Maker(adata, codes, names, spatial_key, method, batch_key, binned=binned)
    position = np.zeros((adata.n_obs, 2), dtype=np.int32)
    made, made_from = [], []
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        section, source = maker.section(code, rows, pixel_size, n_pixels)
        shared = grids.shared_pixels(section)
        if shared and source == "array":
            where = f"section {name!r}" if batch_key else "the object"
            msg = (
                f"{shared} spots of {where} lie on a pixel that another spot already has, by "
                "obs['array_row'] and obs['array_col']. If the object holds several sections, "
                f"tell them apart with batch_key={_proposed(adata, batch_key)}; otherwise use "
                "method='bin'."
            )
            raise ValueError(msg)
        position[rows] = section.position
        made.append(section)
        made_from.append(source)
        if source == "coordinates" and pixel_size is None:
            _warn_of_strays(adata, maker.coords[rows], rows, section, n_pixels)
    if batch_key is None and maker.array is not None and made_from[0] == "array":
        positions.warn_of_overlaid(adata, maker.array[0], what="array positions")
    shapes = np.array([s.shape for s in made], dtype=np.int64)
    logger.info(
        "grid of %d section(s), method %s, largest image %s",
        len(made),
        made[0].method,
        tuple(int(v) for v in shapes.max(axis=0)),
    )
    arrays: dict[str, Any] = {
        "shape": shapes[0] if len(made) == 1 else shapes.max(axis=0),
        "method": made[0].method,
        "scale": float(made[0].scale) if len(made) == 1 else np.array([s.scale for s in made]),
        "agg": agg,
        "sections": np.array(names, dtype=object),
        "shapes": shapes,
        "batch_key": batch_key or "",
        "spatial_key": spatial_key,
        "methods": np.array([s.method for s in made], dtype=object),
        "made_from": np.array(made_from, dtype=object),
        "transforms": np.stack([s.transform for s in made]),
        "n_spots": np.bincount(codes, minlength=len(names)),
    }
    return position, arrays


def _proposed(adata: AnnData, batch_key: str | None) -> str:
    """Column that may tell sections apart, as the value of an argument."""
    for column in positions.section_columns(adata):
        if column != batch_key and len(set(np.asarray(adata.obs[column]).astype(str))) > 1:
            return repr(column)
    return ""


class _Maker:
    """Makes the grids of sections; reads what they need once, when it is needed."""

    def __init__(
        self,
        adata: AnnData,
        codes: np.ndarray,
        names: list[str],
        spatial_key: str,
        method: str,
        batch_key: str | None,
        *,
        binned: bool,
    ) -> None:
        self.adata, self.spatial_key, self.batch_key = adata, spatial_key, batch_key
        self.method, self.binned = method, binned
        self._coords: np.ndarray | None = None
        self.array: tuple[np.ndarray, np.ndarray] | None = None
        if method == "auto" and not binned:
            self.array = positions.array_positions(adata, codes, names, spatial_key=spatial_key)
        elif not binned:
            values = positions.array_values(adata)
            self.array = None if values is None else (values, np.ones(len(names), dtype=bool))

    @property
    def coords(self) -> np.ndarray:
        """Coordinates (n_obs, 2)."""
        if self._coords is None:
            self._coords = positions.section_coordinates(
                self.adata, self.spatial_key, self.batch_key
            )
        return self._coords

    def section(
        self, code: int, rows: np.ndarray, pixel_size: float | None, n_pixels: int | None
    ) -> tuple[grids.Grid, str]:
        """Grid of one section, and what it was made from."""
        if self.binned:
            found = grids.bin_grid(self.coords[rows], pixel_size=pixel_size, n_pixels=n_pixels)
            return found, "coordinates"
        if self.array is not None and self.array[1][code]:
            return self._of_array(rows), "array"
        lattice = None
        if self.method == "auto" or positions.has_coordinates(self.adata, self.spatial_key):
            lattice = grids.lattice_grid(self.coords[rows])
        if self.method == "auto":
            return lattice or grids.bin_grid(self.coords[rows]), "coordinates"
        if lattice is not None and (lattice.method == "hex") == (self.method == "hex"):
            return lattice, "coordinates"
        absent = next(c for c in positions.ARRAY if c not in self.adata.obs)
        raise checks.missing(
            absent, "adata.obs", self.adata.obs,
            hint="Array positions are needed, or coordinates that lie on such an array; or use "
            "method='bin'.",
        )  # fmt: skip

    def _of_array(self, rows: np.ndarray) -> grids.Grid:
        values = self.array[0][rows]  # type: ignore[index]
        for name, column in zip(positions.ARRAY, values.T, strict=True):
            if not np.all(np.isfinite(column)) or np.any(column != np.rint(column)):
                msg = f"obs[{name!r}] must hold whole array positions. Use method='bin' instead."
                raise ValueError(msg)
        row, col = values.astype(np.int64).T
        hexagonal = grids.is_hexagonal(row, col)
        if self.method == "hex" and not hexagonal:
            msg = (
                "method='hex' needs obs['array_row'] + obs['array_col'] to be even for every spot. "
                "Use method='square' or method='bin'."
            )
            raise ValueError(msg)
        if self.method == "square" or not hexagonal:
            return grids.square_grid(row, col)
        return grids.hex_grid(row, col)


def _warn_of_strays(
    adata: AnnData, coords: np.ndarray, rows: np.ndarray, made: grids.Grid, n_pixels: int | None
) -> None:
    """Say so when a few spots far from all others make an image out of all proportion."""
    distinct = len(np.unique(coords, axis=0))
    wanted = min(grids.pixels_wanted(distinct, n_pixels), distinct)
    occupied = len(np.unique(made.pixel))
    few = made.method == "bin" and occupied * 2 < wanted
    if not few and not positions.too_large(made.shape[0] * made.shape[1], len(rows)):
        return
    distance = np.abs(coords - np.median(coords, axis=0)).max(axis=1)
    usual = np.quantile(distance, 0.9)
    far = np.flatnonzero(distance > _FAR * usual) if usual > 0 else np.flatnonzero(distance)
    far = far[np.argsort(-distance[far], kind="stable")]
    named = checks.listed(adata.obs_names[rows[far]], most=3)
    warn(
        f"{len(rows)} spots have an image of {made.shape[0]} x {made.shape[1]} pixels, of which "
        f"{occupied} are occupied ({wanted} were aimed at). "
        + (
            f"{len(far)} lie far from all others: {named}. Leave them out."
            if len(far)
            else "Check the coordinates, or choose the pixels with pixel_size= or n_pixels=."
        )
    )


def staggered_sections(
    adata: AnnData, coords: np.ndarray, codes: np.ndarray, names: list[str], spatial_key: str
) -> np.ndarray:
    """Whether the default grid of each section is hexagonal, bool (n_sections,)."""
    array = positions.array_positions(adata, codes, names, spatial_key=spatial_key)
    out = np.zeros(len(names), dtype=bool)
    for section in range(len(names)):
        rows = np.flatnonzero(codes == section)
        if array is not None and array[1][section]:
            out[section] = grids.is_hexagonal(*array[0][rows].T)
        elif len(rows):
            lattice = grids.lattice_grid(coords[rows])
            out[section] = lattice is not None and lattice.method == "hex"
    return out
