"""Read a grid back out of an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs

if TYPE_CHECKING:
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
    adata: AnnData, position: np.ndarray, arrays: dict[str, Any]
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
            "adata.obsm", key, adata.obsm, hint="Make the grid with ol.pp.spatial_grid(adata)."
        )
    return section_grids(adata, adata.obsm[key], adata.uns[key])
