"""`omicllm.io.read_patch_map`: which patch of which image belongs to which observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm.spatial.patch_map import read_table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData


def read_patch_map(
    csv: str | Path, *, root: str | Path | None = None, as_anndata: bool = False
) -> pd.DataFrame | AnnData:
    """Read a table that says which patch of H&E belongs to which spot or cell.

    Three layouts are told apart by the header: ``x, y, source_image, cell_id`` (or ``spot_id``),
    places in large images, from which patches are cut when they are used; ``cell_id,
    patch_path`` with a pair of coordinates (``x_he_px, y_he_px``; ``x_morph_px, y_morph_px``;
    ``x_um, y_um``; the first that is there), one file per patch; and any table with an id
    (``spot_id``, ``cell_id``, ``barcode``, ``obs_name``, ``id``, else the first column) and a
    path (``patch_path``, ``image_path``, ``path``, ``filepath``, ``file``, else the second).

    Parameters
    ----------
    csv
        The table, separated by commas or tabs, plain or packed.
    root
        Folder of relative paths; by default that of the table. Paths of the table are followed
        wherever they lead, also absolute ones and those with ``..``; what is there is only ever
        read as an image.
    as_anndata
        Return an AnnData without genes (n x 0), for sections that have no counts.

    Returns
    -------
    DataFrame with ``id`` (text, as in the file), ``path``, ``x``, ``y`` (NaN where the file has
    none) and ``crop`` (the path is a large image to cut at x and y, not a patch). As an AnnData:
    ids are observation names, ``obsm["spatial"]`` holds x and y where they are known,
    ``obs["path"]`` and ``obs["crop"]`` the rest.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        No column of paths, an id that is missing or occurs twice, coordinates that are no
        numbers.

    Notes
    -----
    Ids are never shifted or renumbered: :func:`omicllm.pp.image_features` matches them to
    observations as they are, but for blanks around them and a ``.0`` at the end of whole numbers.
    """
    table = read_table(csv, root)
    return _image_only(table) if as_anndata else table


def _image_only(table: pd.DataFrame) -> AnnData:
    """An AnnData with a row for each patch and no genes."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(
        {"path": table["path"].to_numpy(), "crop": table["crop"].to_numpy()},
        index=pd.Index(table["id"].to_numpy().astype(str)),
    )
    adata = anndata.AnnData(np.zeros((len(table), 0), dtype=np.float32), obs=obs)
    xy = table[["x", "y"]].to_numpy(dtype=np.float64)
    if np.isfinite(xy).all():
        adata.obsm["spatial"] = xy
    return adata
