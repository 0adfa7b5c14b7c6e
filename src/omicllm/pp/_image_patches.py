"""The patches of an object by section, from whichever source the caller named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.spatial.image_sources import (
    SectionImage,
    of_section,
    opened,
    patch_side,
    section_images,
)
from omicllm.spatial.patch_map import matched_rows, read_table
from omicllm.spatial.patch_sources import ImagePatches, PatchSource, ReadyPatches, same_pixels
from omicllm.spatial.positions import coordinates
from omicllm.spatial.rgb import as_rgb, white_level

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData


def patch_sources(
    adata: AnnData,
    *,
    image: Any,
    patches: Any,
    patch_map: pd.DataFrame | str | Path | None,
    size_um: float | None,
    mpp: float | Mapping[str, float] | None,
    spot_um: float | None,
    out: int,
    img_key: str | None,
    alignment: Any,
    spatial_key: str,
    batch_key: str | None,
    max_missing: float,
) -> list[PatchSource]:
    """Patches by section. Parameters are those of :func:`omicllm.pp.image_features`."""
    if not adata.n_obs:
        msg = "adata has no observations, so there are no patches to describe."
        raise ValueError(msg)
    if spot_um is not None and (patches is not None or patch_map is not None):
        msg = (
            "spot_um= says how large a pixel of an image is: it has no use with patches cut before."
        )
        raise ValueError(msg)
    if patches is not None:
        return _ready_made(adata, patches, size_um, out, batch_key)
    if patch_map is None and image is None and not adata.uns.get("spatial"):
        patch_map = _own_map(adata, spatial_key)
    if patch_map is not None:
        return _mapped(adata, patch_map, size_um, mpp, out, batch_key, max_missing)
    sections = section_images(
        adata, image=image, img_key=img_key, spatial_key=spatial_key, batch_key=batch_key,
        alignment=alignment, mpp=mpp, spot_um=spot_um,
    )  # fmt: skip
    sources: list[PatchSource] = []
    for section in sections:
        side, known = patch_side(section, size_um)
        sources.append(ImagePatches(section, side, out, known))
        logger.info("section %r: patches of %.1f pixels", section.name, side)
    return sources


def _ready_made(
    adata: AnnData, patches: Any, size_um: float | None, out: int, batch_key: str | None
) -> list[PatchSource]:
    """Patches in an array, or in an entry of obsm."""
    if isinstance(patches, str):
        if patches not in adata.obsm:
            raise checks.missing(
                patches, "adata.obsm", adata.obsm, hint="Name patches there with patches=."
            )
        patches = np.asarray(adata.obsm[patches])
    same_pixels(patches)
    if not hasattr(patches, "dtype"):
        patches = np.asarray(patches)
    white = white_level(patches, where="patches=")
    if len(patches) != adata.n_obs:
        msg = f"patches= holds {len(patches)} patches for {adata.n_obs} observations."
        raise ValueError(msg)
    codes, names = inputs.sections(adata, batch_key)
    out_of: list[PatchSource] = []
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        own = _Rows(patches, rows)
        out_of.append(
            ReadyPatches(name, rows, np.ones(len(rows), dtype=bool), out, own, size_um, white=white)
        )
    return out_of


class _Rows:
    """Some rows of an array that may be too large to copy."""

    def __init__(self, array: Any, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows

    def __getitem__(self, i: int) -> np.ndarray:
        return np.asarray(self.array[self.rows[i]])


def _own_map(adata: AnnData, spatial_key: str) -> pd.DataFrame | None:
    """The table that an object of `read_patch_map(as_anndata=True)` carries in obs."""
    import pandas as pd

    if not {"path", "crop"} <= set(adata.obs.columns):
        return None
    table = pd.DataFrame(
        {"id": list(adata.obs_names), "path": list(adata.obs["path"]), "x": np.nan, "y": np.nan}
    )
    table["crop"] = np.asarray(adata.obs["crop"]).astype(bool)
    if table["crop"].any():
        hint = "Patches of adata.obs['path'] are to be cut there (adata.obs['crop'])."
        table[["x", "y"]] = coordinates(adata, spatial_key, hint=hint)
    return table


def _checked_map(patch_map: pd.DataFrame | str | Path) -> pd.DataFrame:
    """A patch map with every column; one made by hand may lack `crop`."""
    if isinstance(patch_map, (str, Path)):
        return read_table(patch_map)
    for column in ("id", "path"):
        if column not in patch_map:
            raise checks.missing(
                column, "the columns of patch_map=", patch_map.columns,
                hint="Read such a table with ol.io.read_patch_map(csv).",
            )  # fmt: skip
    table = patch_map.copy()
    for column in ("x", "y"):
        if column not in table:
            table[column] = np.nan
    if "crop" not in table:  # a file that serves several rows is an image to cut
        placed = bool(np.isfinite(table[["x", "y"]].to_numpy(dtype=np.float64)).all())
        table["crop"] = placed and bool(table["path"].duplicated().any())
    return table


def _mapped(
    adata: AnnData, patch_map: pd.DataFrame | str | Path, size_um: float | None,
    mpp: float | Mapping[str, float] | None, out: int, batch_key: str | None, max_missing: float,
) -> list[PatchSource]:  # fmt: skip
    """Patches that a table names: files, or places in large images."""
    table = _checked_map(patch_map)
    position = matched_rows(table, adata.obs_names, min_matched=1 - max_missing)
    codes, names = inputs.sections(adata, batch_key)
    sources: list[PatchSource] = []
    if not bool(table["crop"].any()):
        for code, name in enumerate(names):
            rows = np.flatnonzero(codes == code)
            paths = [str(table["path"].iloc[j]) if j >= 0 else "" for j in position[rows]]
            usable = position[rows] >= 0
            absent = [p for p in paths if p and not Path(p).is_file()]
            if absent:
                msg = (
                    f"{len(absent)} patch files are not there (first: {absent[0]}). Say where "
                    "they lie with ol.io.read_patch_map(csv, root=...)."
                )
                raise FileNotFoundError(msg)
            sources.append(ReadyPatches(name, rows, usable, out, paths, size_um))
        return sources
    # Rows without a place go with the first image; they have no patch.
    large = [str(p) for p in dict.fromkeys(table["path"])]
    path = np.array([table["path"].iloc[j] if j >= 0 else large[0] for j in position]).astype(str)
    xy = np.full((adata.n_obs, 2), np.nan)
    found = position >= 0
    xy[found] = table[["x", "y"]].to_numpy(dtype=np.float64)[position[found]]
    for name in large:
        rows = np.flatnonzero(path == name)
        if not len(rows):
            continue
        pixels = as_rgb(opened(name)[0], where=name)
        stem = Path(name).name
        section = SectionImage(stem, rows, pixels, xy[rows], of_section(mpp, stem, name), None)
        side, known = patch_side(section, size_um)
        sources.append(ImagePatches(section, side, out, known))
    return sources
