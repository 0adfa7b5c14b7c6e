"""Gene images of an object, and whether two objects lie on the same grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import inputs
from omicllm._core.log import logger
from omicllm.spatial.image_set import ImageSet, Section, image_set, rows_of
from omicllm.spatial.sections import section_grids, serving_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData


def images_of(adata: AnnData, setup: Mapping[str, Any], max_pixels: int) -> ImageSet:
    """Gene images of an object that was set up; values are checked first."""
    return images_and_pixels(adata, setup, max_pixels)[0]


def images_and_pixels(
    adata: AnnData, setup: Mapping[str, Any], max_pixels: int
) -> tuple[ImageSet, np.ndarray]:
    """Gene images, and the row of each observation in them."""
    X = inputs.by_gene(adata, setup["layer"])
    inputs.check_expression(
        X, inputs.gene_names(adata), counts=setup["input"] == "counts", layer=setup["layer"],
        source=adata, has_input=True,
    )  # fmt: skip
    key, batch_key = setup["grid_key"], setup["batch_key"]
    position, arrays, _ = serving_grid(
        adata, grid_key=key, spatial_key=setup["spatial_key"], batch_key=batch_key
    )
    grids = section_grids(adata, position, arrays)
    images = image_set(X, grids, max_pixels=max_pixels)
    if images.patch > 1:
        logger.info("pooled pixels into %d x %d patches", images.patch, images.patch)
    if images.n_pixels < 2:
        msg = "All spots lie on one pixel, which is no image. Check the coordinates."
        raise ValueError(msg)
    return images, rows_of(images, grids, adata.n_obs)


def sections_from(saved: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    """Sections as they were saved."""
    return tuple(
        Section(
            s["name"], s["start"], s["stop"], np.array(s["pixel"], dtype=np.int64),
            (s["shape"][0], s["shape"][1]),
        )
        for s in saved
    )  # fmt: skip


def same_grids(a: Sequence[Section], b: Sequence[Section]) -> bool:
    """Whether sections have the same tissue pixels."""
    return len(a) == len(b) and all(
        x.shape == y.shape and np.array_equal(x.pixel, y.pixel) for x, y in zip(a, b, strict=True)
    )


def empty_images(sections: tuple[Section, ...], n_genes: int) -> ImageSet:
    """Images without counts, for a model whose data are not at hand."""
    return ImageSet(sparse.csc_matrix((sections[-1].stop, n_genes), dtype=np.float32), sections)
