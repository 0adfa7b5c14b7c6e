"""`omicllm.pp.spatial_grid`: the pixel of each spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from omicllm._core import docs, inputs, results
from omicllm.spatial.sections import make_grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
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
        Used where ``obs["array_row"]`` and ``obs["array_col"]`` do not hold whole array positions.
    method
        ``"hex"``: a hexagonal array (Visium, 2k spatial transcriptomics), whose columns are
        halved; without array positions it is looked for in the coordinates, turned and scaled as
        it may be. ``"square"``: integer array positions as they are. ``"bin"``: coordinates cut
        into square pixels. ``"auto"``, for each section: hex where row + column is even for every
        spot, square where array positions are there but not so; without them (or where they are
        not whole numbers, or pixels of an image: a warning says so) the lattice that coordinates
        lie on, so that no spots are joined, else bin.
    {batch_key}
    pixel_size
        Side of a pixel in coordinate units (bin). By default about one spot per occupied pixel
        (1.3 distinct places in the mean), per section.
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
        ``shapes`` (n_sections, 2), ``batch_key``; and what it was made from: ``spatial_key``,
        ``made_from``, ``methods``, ``transforms`` and ``n_spots``.

    Raises
    ------
    KeyError
        No coordinates, or no such column.
    ValueError
        Coordinates that are not two-dimensional or not finite; fewer than two spots; two spots
        on one pixel of an array.

    Notes
    -----
    A grid goes on serving when observations are left out or put in another order. Where it no
    longer fits the sections or positions of the object, verbs make another one, with a warning,
    and getters and plots raise an error. Without `batch_key`, a warning tells when a column such
    as ``obs["section"]`` has groups that lie over each other.
    """
    source = inputs.resolve(adata, mod)
    options: dict[str, Any] = {
        "spatial_key": spatial_key,
        "method": method,
        "batch_key": batch_key,
        "pixel_size": pixel_size,
        "n_pixels": n_pixels,
        "agg": agg,
    }
    position, arrays = make_grid(source, **options)
    result = grid_result(position, arrays, options, key_added=key_added)
    return results.write(adata, result, mod=mod, copy=copy)


def grid_result(
    position: np.ndarray,
    arrays: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    key_added: str | None = None,
) -> results.Result:
    """Return what is written for a grid; verbs that make one write it with their own results."""
    return results.Result("pp.spatial_grid", {"obsm:{root}": position}, options, arrays, key_added)
