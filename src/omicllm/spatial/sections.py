"""The grid of an AnnData: made from array positions or coordinates, or read back from `obsm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.spatial import grid as grids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData


@dataclass(frozen=True)
class SectionGrid:
    """The grid of one section: which observations it has, their pixels, the image size."""

    name: str
    rows: np.ndarray
    pixel: np.ndarray
    shape: tuple[int, int]
    agg: str


def section_grids(
    adata: AnnData, position: np.ndarray, arrays: Mapping[str, Any]
) -> list[SectionGrid]:
    """Cut a grid (positions and the arrays of its `uns` entry) into sections.

    It may come from an object that was subset since; rows are matched by the section column.
    """
    position = np.asarray(position)
    names = [str(n) for n in np.asarray(arrays["sections"]).ravel()]
    shapes = np.asarray(arrays["shapes"]).reshape(-1, 2)
    key = str(arrays.get("batch_key", "") or "")
    if key:
        column = inputs.obs_column(adata, key, argument="batch_key").astype(str)
        members = [np.flatnonzero(column == n) for n in names]
    else:
        members = [np.arange(adata.n_obs)]
    out = []
    for name, rows, shape in zip(names, members, shapes, strict=True):
        h, w = int(shape[0]), int(shape[1])
        pixel = position[rows, 0].astype(np.int64) * w + position[rows, 1]
        out.append(SectionGrid(name, rows, pixel, (h, w), str(arrays["agg"])))
    return out


def stored_grid(adata: AnnData, key: str = "spatial_grid") -> list[SectionGrid]:
    """Return the grid that `pp.spatial_grid` wrote, by section.

    Raises
    ------
    KeyError
        When there is none.
    """
    if key not in adata.obsm or key not in adata.uns:
        raise checks.missing(
            key, "adata.obsm", adata.obsm, hint="Make the grid with ol.pp.spatial_grid(adata)."
        )
    return section_grids(adata, adata.obsm[key], adata.uns[key])


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
    position = np.zeros((adata.n_obs, 2), dtype=np.int32)
    made = []
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        section = _section(adata, rows, spatial_key, method, pixel_size, n_pixels)
        shared = grids.shared_pixels(section)
        if shared and section.method != "bin":
            where = f"section {name!r}" if batch_key else "the object"
            msg = (
                f"{shared} spots of {where} lie on a pixel that another spot already has, by "
                "obs['array_row'] and obs['array_col']. If the object holds several sections, "
                "tell them apart with batch_key=; otherwise use method='bin'."
            )
            raise ValueError(msg)
        position[rows] = section.position
        made.append(section)
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
    }
    return position, arrays


def _section(
    adata: AnnData,
    rows: np.ndarray,
    spatial_key: str,
    method: str,
    pixel_size: float | None,
    n_pixels: int | None,
) -> grids.Grid:
    """Grid of the observations of one section."""
    asked_for_bins = pixel_size is not None or n_pixels is not None
    if method == "bin" or (method == "auto" and (asked_for_bins or not _has_array(adata))):
        return grids.bin_grid(
            _coordinates(adata, spatial_key)[rows], pixel_size=pixel_size, n_pixels=n_pixels
        )
    if asked_for_bins:
        msg = f"pixel_size and n_pixels belong to method='bin', not to method={method!r}."
        raise ValueError(msg)
    array_row, array_col = (_array_position(adata, k)[rows] for k in ("array_row", "array_col"))
    hexagonal = grids.is_hexagonal(array_row, array_col)
    if method == "hex" and not hexagonal:
        msg = (
            "method='hex' needs obs['array_row'] + obs['array_col'] to be even for every spot. "
            "Use method='square' or method='bin'."
        )
        raise ValueError(msg)
    if method == "square" or not hexagonal:
        return grids.square_grid(array_row, array_col)
    return grids.hex_grid(array_row, array_col)


def _has_array(adata: AnnData) -> bool:
    """Whether obs holds whole array positions (ST sets sometimes store corrected, broken ones)."""
    if not {"array_row", "array_col"} <= set(adata.obs):
        return False
    columns = [np.asarray(adata.obs[k]) for k in ("array_row", "array_col")]
    if not all(c.dtype.kind in "iuf" for c in columns):
        return False
    values = np.stack([c.astype(np.float64) for c in columns])
    return bool(np.all(np.isfinite(values)) and np.all(values == np.rint(values)))


def _array_position(adata: AnnData, key: str) -> np.ndarray:
    if key not in adata.obs:
        raise checks.missing(
            key, "adata.obs", adata.obs, hint="Array positions are needed; or use method='bin'."
        )
    values = np.asarray(adata.obs[key], dtype=np.float64)
    if not np.all(np.isfinite(values)) or np.any(values != np.rint(values)):
        msg = f"obs[{key!r}] must hold whole array positions. Use method='bin' instead."
        raise ValueError(msg)
    return values.astype(np.int64)


def _coordinates(adata: AnnData, spatial_key: str) -> np.ndarray:
    if spatial_key not in adata.obsm:
        raise checks.missing(
            spatial_key,
            "adata.obsm",
            adata.obsm,
            hint="Spot coordinates are needed: name their entry with spatial_key=.",
        )
    where = f"adata.obsm[{spatial_key!r}]"
    return checks.finite_coordinates(np.asarray(adata.obsm[spatial_key]), where=where)
