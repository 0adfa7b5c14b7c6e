"""`omicllm.pp.spatial_grid`: the pixel of each spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm.spatial import grid as grids

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def spatial_grid(
    adata: AnnData | MuData,
    *,
    spatial_key: str = "spatial",
    method: Literal["auto", "hex", "square", "bin"] = "auto",
    batch_key: str | None = None,
    pixel_size: float | None = None,
    n_pixels: int | None = None,
    agg: Literal["sum", "mean"] = "sum",
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Give each spot the row and column it has in a gene image.

    A gene image is a column of ``X`` plus these positions; the stack of images is never stored.
    Verbs that need a grid make one with the defaults when it is missing.

    Parameters
    ----------
    {adata}
    {spatial_key}
        Used for ``method="bin"`` only; hexagonal and square arrays are read from
        ``obs["array_row"]`` and ``obs["array_col"]``.
    method
        ``"hex"``: a hexagonal array (Visium, 2k spatial transcriptomics), whose columns are
        halved. ``"square"``: integer array positions as they are. ``"bin"``: coordinates cut into
        square pixels. ``"auto"``: hex where row + column is even for every spot, square where
        array positions are there but not so, else bin.
    {batch_key}
    pixel_size
        Side of a pixel in coordinate units (bin). By default about one spot per occupied pixel
        (1.3 in the mean), per section.
    n_pixels
        Number of pixels that should be occupied (bin), instead of `pixel_size`.
    agg
        Spots that share a pixel (bin) are summed, or averaged with ``"mean"``.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obsm["spatial_grid"]`` : int32 (n_obs, 2)
        Row and column of each spot in the image of its section.
    ``adata.uns["spatial_grid"]``
        ``shape``, ``method``, ``scale`` (pixels per coordinate unit), ``agg``, ``sections``,
        ``shapes`` (n_sections, 2), ``batch_key``.

    Raises
    ------
    KeyError
        No coordinates, or no such column.
    ValueError
        Coordinates that are not two-dimensional or not finite; fewer than two spots; two spots
        on one pixel of an array.
    """
    source = inputs.resolve(adata, mod)
    result = compute(
        source,
        spatial_key=spatial_key,
        method=method,
        batch_key=batch_key,
        pixel_size=pixel_size,
        n_pixels=n_pixels,
        agg=agg,
        key_added=key_added,
    )
    return results.write(adata, result, mod=mod, copy=copy)


def compute(
    adata: AnnData,
    *,
    spatial_key: str = "spatial",
    method: str = "auto",
    batch_key: str | None = None,
    pixel_size: float | None = None,
    n_pixels: int | None = None,
    agg: str = "sum",
    key_added: str | None = None,
) -> results.Result:
    """Compute a grid without writing it, for verbs that write it together with their own."""
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
        len(made), made[0].method, tuple(shapes.max(axis=0)),
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
    params = {
        "spatial_key": spatial_key, "method": method, "batch_key": batch_key,
        "pixel_size": pixel_size, "n_pixels": n_pixels, "agg": agg,
    }
    return results.Result(
        "pp.spatial_grid", {"obsm:{root}": position}, params, arrays, key_added
    )


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
    import pandas as pd

    if not {"array_row", "array_col"} <= set(adata.obs):
        return False
    columns = [adata.obs[k] for k in ("array_row", "array_col")]
    if not all(pd.api.types.is_numeric_dtype(c) for c in columns):
        return False
    values = np.stack([np.asarray(c, dtype=np.float64) for c in columns])
    return bool(np.all(np.isfinite(values)) and np.all(values == np.rint(values)))


def _array_position(adata: AnnData, key: str) -> np.ndarray:
    if key not in adata.obs:
        raise checks.missing(
            "adata.obs", key, adata.obs, hint="Array positions are needed; or use method='bin'."
        )
    values = np.asarray(adata.obs[key], dtype=np.float64)
    if not np.all(np.isfinite(values)) or np.any(values != np.rint(values)):
        msg = f"obs[{key!r}] must hold whole array positions. Use method='bin' instead."
        raise ValueError(msg)
    return values.astype(np.int64)


def _coordinates(adata: AnnData, spatial_key: str) -> np.ndarray:
    if spatial_key not in adata.obsm:
        raise checks.missing(
            "adata.obsm", spatial_key, adata.obsm,
            hint="Spot coordinates are needed: name their entry with spatial_key=.",
        )
    where = f"adata.obsm[{spatial_key!r}]"
    return checks.finite_coordinates(np.asarray(adata.obsm[spatial_key]), where=where)
