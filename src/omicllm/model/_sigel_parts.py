"""Parameters, presets, grids and transfer of SIGEL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from omicllm._core import checks, inputs
from omicllm._core.log import logger
from omicllm.model._sigel_encoders import ProjectionEncoder, TransformerEncoder
from omicllm.spatial.image_set import ImageSet, Section, image_set
from omicllm.spatial.sections import make_grid, section_grids

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
    "paper": {"encoder": "transformer", "n_latent": 32, "n_clusters": 500, "standardize": False},
}
SCHEDULES: dict[str | None, dict[str, Any]] = {
    None: {
        "n_steps": None, "pretrain_epochs": 0, "refine_epochs": 0, "batch_size": 2048,
        "refine_batch_size": 2048, "lr": 1e-3, "refine_lr": 1e-4, "refine_weight": 0.1,
    },
    "paper": {
        "n_steps": None, "pretrain_epochs": 50, "refine_epochs": 30, "batch_size": 320,
        "refine_batch_size": 64, "lr": 1e-3, "refine_lr": 1e-3, "refine_weight": 1.0,
    },
}  # fmt: skip
_SHARED_GENES = 20


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
    for name in ("gain_floor", "gain_power", "clip", "sharpness", "contrast_weight"):
        checks.share(name, params[name], high=float("inf"))
    return params


def number_of_clusters(asked: int | None, n_expressed: int, *, capped: bool = False) -> int:
    """Components of the mixture: as asked, or one per 32 expressed genes, from 2 to 500.

    Raises
    ------
    ValueError
        When more are asked for than there are genes with counts.
    """
    if asked is None:
        return int(min(max(round(n_expressed / 32), min(4, n_expressed // 2), 1), 500))
    if asked > n_expressed:
        if capped:  # a preset's number, not the user's
            return number_of_clusters(None, n_expressed)
        msg = (
            f"n_clusters={asked} is more than the {n_expressed} genes with counts. Ask for fewer, "
            "or leave it out: it then follows the number of genes."
        )
        raise ValueError(msg)
    return int(asked)


def images_of(adata: AnnData, setup: Mapping[str, Any], max_pixels: int) -> ImageSet:
    """Gene images of an object that was set up; values are checked first."""
    X = inputs.gene_major(inputs.matrix(adata, setup["layer"]))
    inputs.check_expression(
        X, inputs.gene_names(adata), counts=setup["input"] == "counts", layer=setup["layer"],
        layers=adata.layers,
    )  # fmt: skip
    key, batch_key = setup["grid_key"], setup["batch_key"]
    stored = key in adata.obsm and key in adata.uns
    if stored and str(adata.uns[key].get("batch_key", "")) == (batch_key or ""):
        grids = section_grids(adata, adata.obsm[key], adata.uns[key])
    else:
        made = make_grid(adata, spatial_key=setup["spatial_key"], batch_key=batch_key)
        grids = section_grids(adata, *made)
    images = image_set(X, grids, max_pixels=max_pixels)
    if images.patch > 1:
        logger.info("pooled pixels into %d x %d patches", images.patch, images.patch)
    if images.n_pixels < 2:
        msg = "All spots lie on one pixel, which is no image. Check the coordinates."
        raise ValueError(msg)
    return images


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


def reordered(rows: np.ndarray, saved: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows in the order of `wanted` names."""
    index = {name: i for i, name in enumerate(saved)}
    return rows[[index[name] for name in wanted]]


def transferred(model: Any, images: ImageSet, names: np.ndarray) -> Any:
    """Encoder of a trained model for another section.

    A transformer keeps its weights on the new patch grid. A projection has weights per pixel, so
    that those of the new section are found by ridge regression: genes that both have must land
    where the model put them. The penalty is chosen by leaving genes out.
    """
    if isinstance(model.encoder, TransformerEncoder):
        first = model.encoder.networks[0]
        networks = [
            first.for_grid(s.shape, s.occupancy, share=bool(i))
            for i, s in enumerate(images.sections)
        ]
        return TransformerEncoder(torch.nn.ModuleList(networks), model.params_)
    Z = model._trained_embedding()
    index = {name: i for i, name in enumerate(model.var_names_)}
    totals = images.gene_total
    known = np.abs(Z).sum(axis=1) > 0
    pairs = [
        (i, index[n]) for i, n in enumerate(names)
        if n in index and totals[i] >= model.params_["min_count"] and known[index[n]]
    ]  # fmt: skip
    if len(pairs) < _SHARED_GENES:
        msg = (
            f"Another section is embedded through the genes it shares with the model; "
            f"{len(pairs)} expressed genes are shared, at least {_SHARED_GENES} are needed."
        )
        raise ValueError(msg)
    here, there = np.array(pairs).T
    genes = np.flatnonzero(totals >= model.params_["min_count"])
    params = dict(model.params_)
    encoder = ProjectionEncoder.untrained(images, genes, params)
    y = encoder.project(images)[here].double()
    y = (y / y.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy()
    weight = _ridge(y, Z[there].astype(np.float64))
    network = encoder._network(images, y.shape[1], min(Z.shape[1], y.shape[1]), params)
    if network.n_latent < Z.shape[1]:
        msg = (
            f"The section has {y.shape[1]} axes, the model {Z.shape[1]} dimensions: it is too "
            "small to be embedded in the space of the model."
        )
        raise ValueError(msg)
    old = encoder.network
    network.set_axes(old.axes.numpy(), old.gain.numpy(), old.depth_share.numpy())
    with torch.no_grad():
        network.map.weight.copy_(torch.from_numpy(weight.T))
    logger.info("learned a new section from %d shared genes", len(pairs))
    return ProjectionEncoder(network.to(model.encoder.network.map.weight.device), params)


def _ridge(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Ridge coefficients (n_axes, d), penalty by generalised leave-one-out error."""
    u, s, vt = np.linalg.svd(y, full_matrices=False)
    uz = u.T @ z
    best: tuple[float, np.ndarray] | None = None
    for penalty in s.max() ** 2 * np.logspace(-6, 0, 13):
        shrink = s**2 / (s**2 + penalty)
        fitted = u @ (shrink[:, None] * uz)
        leverage = np.einsum("ij,j,ij->i", u, shrink, u)
        error = float((((z - fitted) / (1 - np.minimum(leverage, 0.999))[:, None]) ** 2).mean())
        if best is None or error < best[0]:
            best = error, vt.T @ ((s / (s**2 + penalty))[:, None] * uz)
    assert best is not None
    return best[1]
