"""Parameters, presets, grids and transfer of SIGEL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.spatial.image_set import ImageSet, Section, image_set, rows_of
from omicllm.spatial.sections import section_grids, serving_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

#: Parameters of the model and their defaults, those that measure best.
DEFAULTS: dict[str, Any] = {
    "encoder": "projection",
    "n_latent": 128,
    "n_clusters": None,
    "n_axes": 512,
    "gain_floor": 0.2,
    "gain_power": 0.25,
    "clip": 5.0,
    "pull": 0.8,
    "n_pull": 20,
    "sharpness": 3.0,
    "contrast_weight": 0.0,
    "temperature": 0.1,
    "patch_size": 4,
    "dim": 16,
    "depth": 5,
    "n_heads": 4,
    "mlp_ratio": 5.0,
    "mask_ratio": 0.3,
    "decoder": "image",
    "standardize": True,
    "max_pixels": 16384,
    "min_count": 50,
    "seed": 0,
}
PRESETS: dict[str | None, dict[str, Any]] = {
    None: {},
    "paper": {
        "encoder": "transformer",
        "n_latent": 32,
        "n_clusters": 500,
        "standardize": False,
        "pull": 0.0,
    },
}
SCHEDULES: dict[str | None, dict[str, Any]] = {
    None: {
        "pretrain_epochs": 0, "refine_epochs": 0, "batch_size": 2048,
        "refine_batch_size": 2048, "lr": 1e-3, "refine_lr": 1e-4, "refine_weight": 0.1,
    },
    "paper": {
        "pretrain_epochs": 50, "refine_epochs": 30, "batch_size": 320,
        "refine_batch_size": 64, "lr": 1e-3, "refine_lr": 1e-3, "refine_weight": 1.0,
    },
}  # fmt: skip


def resolved(preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Join defaults, preset and the arguments of a call, and check them."""
    checks.one_of("preset", preset, PRESETS)
    params = DEFAULTS | PRESETS[preset] | dict(given)
    checks.one_of("encoder", params["encoder"], ("projection", "transformer"))
    for name in ("n_latent", "n_axes", "max_pixels", "patch_size", "dim", "depth", "n_heads"):
        checks.whole_number(name, params[name])
    if params["n_clusters"] is not None:
        params["capped"] = "n_clusters" not in given
        checks.whole_number("n_clusters", params["n_clusters"])
    for name in ("gain_floor", "gain_power", "clip", "pull", "sharpness", "contrast_weight"):
        checks.share(name, params[name], high=float("inf"))
    return params


def number_of_clusters(asked: int | None, n_expressed: int, *, capped: bool = False) -> int:
    """Components of the mixture: as asked, or one per 25 expressed genes, from 4 to 500.

    Under eight expressed genes it is half their number.

    Raises
    ------
    ValueError
        When more are asked for than there are genes with counts.
    """
    if asked is None:
        return int(min(max(round(n_expressed / 25), min(4, n_expressed // 2), 1), 500))
    if asked > n_expressed:
        if capped:  # a preset's number, not the user's
            return number_of_clusters(None, n_expressed)
        msg = (
            f"n_clusters={asked} is more than the {n_expressed} genes with counts. Ask for fewer, "
            "or leave it out: it then follows the number of genes."
        )
        raise ValueError(msg)
    return int(asked)


def number_pulling(asked: int, n_genes: int) -> int:
    """Neighbours a gene is drawn to: as asked, but at most a tenth of the genes there are."""
    return max(1, min(asked, n_genes // 10))


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


def order_of(saved: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Where each of the `wanted` names stands among those saved."""
    index = {name: i for i, name in enumerate(saved)}
    return [index[name] for name in wanted]
