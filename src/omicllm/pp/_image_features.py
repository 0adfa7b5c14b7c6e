"""`omicllm.pp.image_features`: what the tissue looks like around each observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.pp._image_encoders import Encoder, choose_encoder, is_module
from omicllm.pp._image_patches import patch_sources
from omicllm.spatial.image_features import centered, robust_spread
from omicllm.spatial.patch_sources import PatchSource, refuse_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd
    import torch
    from anndata import AnnData
    from mudata import MuData

#: Fewest observations of a section whose median and spread say how it was stained.
_FEW = 50


@docs.fill(saves="file")
def image_features(
    adata: AnnData | MuData,
    *,
    encoder: str | torch.nn.Module | Callable[[np.ndarray], Any] = "classical",
    weights: str | Path | None = None,
    allow_download: bool = False,
    transform: Callable[[np.ndarray], torch.Tensor] | None = None,
    image: Any = None,
    patches: Any = None,
    patch_map: pd.DataFrame | str | Path | None = None,
    size_um: float | None = None,
    mpp: float | Mapping[str, float] | None = None,
    spot_um: float | None = None,
    context: float = 2.0,
    out_px: int | None = None,
    img_key: str | None = None,
    alignment: Any = None,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    standardize: Literal["center", "robust"] | bool | None = None,
    max_outside: float = 0.1,
    max_epochs: int | None = None,
    save: str | Path | None = None,
    split_key: str = "split",
    batch_size: int = 64,
    accelerator: str = "auto",
    rng: int | np.random.Generator | None = 0,
    show_progress: bool | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Describe the patch of H&E around each spot or cell by numbers.

    Patches are squares of a physical size, cut and encoded block by block, so that memory does
    not grow with their number. Nothing is downloaded unless `allow_download` says so.

    Parameters
    ----------
    {adata}
    encoder
        ``"classical"`` (default): 84 features of colour, stains, texture, edges and nuclei at two
        scales. ``"simclr"``: a small network trained on the object's own patches (those of rows
        whose `split_key` is ``"train"``, where there is such a column). A published foundation
        model, with `weights`: ``"uni"``, ``"uni2_h"``, ``"hoptimus0"``, ``"hoptimus1"``,
        ``"h0_mini"``, ``"virchow"``, ``"virchow2"``, ``"gigapath"``, ``"phikon"``, ``"plip"``,
        ``"conch"``. A torch module or a function from patches (uint8, n x p x p x 3) to features
        (n, d). Or the name of features that lie in `obsm` already (``"X_uni"``).
    weights
        Local file (safetensors, or a PyTorch file of tensors alone) of a foundation model, or of
        ``"simclr"`` as `save` wrote it.
    allow_download
        Fetch weights of a foundation model that are neither given nor in the local cache of
        Hugging Face, with your own login and under the terms of its authors.
    transform
        Of a module: function from patches (uint8, n x p x p x 3) to its input. By default values
        in [0, 1], channels first, standardised by the mean and deviation of ImageNet (foundation
        models: as published).
    image
        Image instead of those in ``uns["spatial"]``: an array, a file, a folder of zarr, a
        SpatialData or an image element of it; or a dict of these by section. Files are read by
        their colour model; alpha is laid on white; see the user guide for depths and channels.
        Coordinates are its pixels (spot diameter and size of a pixel in ``uns["spatial"]`` then
        hold for it too), unless `alignment` says otherwise. Those beside an element of SpatialData
        are in its coordinate system, whose transformation is applied; with the whole SpatialData,
        they are of the region that ``obs`` names, and of several images a region has the one
        named after it. Patches are squares in pixels of the image, however it is turned.
    patches
        Patches cut before: array (n_obs, h, w, 3), or the name of one in `obsm`.
    patch_map
        Table of :func:`omicllm.io.read_patch_map`, or its file: patch files, or places in large
        images, matched to observations by their exact names.
    size_um
        Side of a patch, micrometres. By default two spot diameters (110 um for Visium).
    mpp
        Micrometres per pixel of the image that is used; one number, or a dict by section. By
        default from `alignment`, from a coordinate system of SpatialData named after the
        micrometre, from ``uns["spatial"][library]["metadata"]`` or Visium HD's scale factors.
    spot_um
        Diameter of a spot, micrometres: another way to say how large a pixel is, by
        ``scalefactors["spot_diameter_fullres"]`` in ``uns["spatial"]``.
    context
        Width of the second scale of ``"classical"`` over that of the first; 0 leaves it out.
    out_px
        Side in pixels at which patches are encoded; by default 96, and what the foundation model
        was trained at.
    img_key
        Image of ``uns["spatial"]`` to use; by default ``"hires"``, else ``"lowres"``.
    alignment
        Matrix (3, 3) from coordinates (x, y, 1) to pixels of the image, or the CSV that Xenium
        Explorer exports (image to morphology image at 0.2125 um; coordinates in um). Or, where an
        image element of SpatialData has several coordinate systems, the name of one.
    {spatial_key}
        Where it is missing, ``obs["x_centroid"]`` and ``obs["y_centroid"]`` are used.
    batch_key
        Column of `obs` that tells sections apart. With several images it is found by their names.
    standardize
        Take away how a section was stained and scanned. ``"center"``: subtract the median of the
        section; features of ``"classical"`` are also divided by fixed units. ``"robust"`` or True:
        divide by the robust spread of the section as well, which takes away how varied the tissue
        is too. False: as encoded. By default ``"center"`` for ``"classical"``, else False.
    max_outside
        Largest share of observations that may lie outside the image or lack a patch.
    max_epochs
        Epochs of ``"simclr"``; by default as many as make about 400 steps.
    save
        File (safetensors) to which ``"simclr"`` writes its network; hand it to `weights` to
        describe other sections by the same features.
    split_key
        Column of `obs` that says on which rows ``"simclr"`` may train.
    batch_size
        Patches encoded at once.
    {accelerator}
    {rng}
    {show_progress}
    {mod}
    key_added
        Name that replaces the encoder's in everything written. Functions, modules and features of
        `obsm` are named ``image`` without it.
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obsm["X_classical"]`` : float32 (n_obs, d)
        Features; the name is ``X_`` and that of the encoder.
    ``adata.uns["classical"]``
        ``encoder``, ``feature_names``, ``licence`` of the encoder, ``sections``, ``size_um`` and
        ``mpp`` of each section (NaN where unknown), ``out_px``, ``standardized``, ``n_outside``.

    Raises
    ------
    KeyError
        No image, no scale factor of an image, no coordinates.
    ValueError
        The size of a pixel is needed and not known; a patch beyond the image; more than
        `max_outside` of the observations without a patch; patches or features of another length;
        weights of another architecture.
    FileNotFoundError
        No such image, patches or weights.

    Notes
    -----
    Features of a section depend on its image alone, never on expression. With fewer than 50
    observations, the median and spread of a section are rough; a warning says so.

    The order of observations matters where ``encoder="simclr"`` is trained here: its batches are
    drawn in it.
    """
    source = inputs.resolve(adata, mod)
    checks.share("max_outside", max_outside)
    checks.whole_number("batch_size", batch_size)
    if max_epochs is not None:
        checks.whole_number("max_epochs", max_epochs)
    if out_px is not None:
        checks.whole_number("out_px", out_px, at_least=16)
    if not (context == 0 or 1 < context <= 16):
        msg = f"context must be 0 or above 1 (to 16), not {context!r}."
        raise ValueError(msg)
    checks.one_of("standardize", standardize, (None, True, False, "center", "robust"))
    how = "robust" if standardize is True else standardize or ""
    if encoder != "simclr" or weights is not None:
        why = "unless encoder='simclr' is trained here (without weights=)"
        idle = ("max_epochs", "save", "split_key")
        checks.no_effect(image_features, locals(), idle, because=why)
    _refuse_unheard(locals(), source)
    generator = rngs.generator(rng)
    given = [n for n, v in (("image", image), ("patches", patches), ("patch_map", patch_map))
             if v is not None]  # fmt: skip
    if len(given) > 1:
        msg = f"Give one of image=, patches= and patch_map=, not {checks.listed(given)}."
        raise ValueError(msg)
    params = {
        "weights": weights, "size_um": size_um, "mpp": mpp, "spot_um": spot_um,
        "context": context, "out_px": out_px, "img_key": img_key, "spatial_key": spatial_key,
        "batch_key": batch_key, "standardize": standardize, "max_outside": max_outside,
        "max_epochs": max_epochs, "save": save, "split_key": split_key, "batch_size": batch_size,
        "rng": rngs.recorded(rng), "source": given[0] if given else "uns",
    }  # fmt: skip
    saved = None
    if isinstance(encoder, str) and encoder in source.obsm:
        values, arrays = _ready(source, encoder, batch_key, how)
        arrays |= {"out_px": 0, "n_outside": 0}
        name = "image"
    else:
        chosen = choose_encoder(
            encoder, weights=weights, allow_download=allow_download, transform=transform,
            context=context, accelerator=accelerator, obsm=list(source.obsm),
        )  # fmt: skip
        sources = patch_sources(
            source, image=image, patches=patches, patch_map=patch_map, size_um=size_um, mpp=mpp,
            spot_um=spot_um, out=out_px or chosen.out_px, img_key=img_key, alignment=alignment,
            spatial_key=spatial_key, batch_key=batch_key, max_missing=max_outside,
        )  # fmt: skip
        n_outside = refuse_outside(
            sources, max_outside, how="Check the scale factor, alignment= and spatial_key=."
        )
        if chosen.train is not None:
            chosen.train(
                source, sources, split_key, max_epochs, generator, show_progress=show_progress
            )
        saved = results.saved(chosen, save)
        if standardize is None:
            how = "center" if chosen.units is not None else ""
        values = _encoded(source, sources, chosen, batch_size, how, show_progress=show_progress)
        arrays = {
            "encoder": chosen.name,
            "feature_names": np.array(
                chosen.names(sources) or [f"{chosen.name}_{i}" for i in range(values.shape[1])],
                dtype=object,
            ),
            "licence": chosen.licence,
            "sections": np.array([s.name for s in sources], dtype=object),
            "size_um": np.array([s.size_um or np.nan for s in sources]),
            "mpp": np.array([_mpp(s) for s in sources]),
            "out_px": int(out_px or chosen.out_px),
            "standardized": how,
            "n_outside": n_outside,
        }
        name = chosen.root
    result = results.Result(
        "pp.image_features", {"obsm:X_{root}": values}, params, arrays, key_added or name
    )
    return results.write(adata, result, mod=mod, copy=copy, saved=saved)


#: Arguments that say how patches are cut and encoded.
_OF_PATCHES = (
    "weights", "allow_download", "transform", "image", "patches", "patch_map", "size_um", "mpp",
    "spot_um", "context", "out_px", "img_key", "alignment", "spatial_key", "max_outside",
    "batch_size", "accelerator",
)  # fmt: skip


def _refuse_unheard(given: dict[str, Any], source: AnnData) -> None:
    """Refuse arguments that change nothing in this call."""
    encoder = given["encoder"]
    if isinstance(encoder, str) and encoder in source.obsm:
        why = f"with features that lie in adata.obsm[{encoder!r}] already"
        checks.no_effect(image_features, given, _OF_PATCHES, because=why)
        return
    idle = ["context"] if encoder != "classical" else []
    if not isinstance(encoder, str):
        idle += ["weights", "allow_download"] + ([] if is_module(encoder) else ["transform"])
    elif encoder == "classical":
        idle += ["weights", "allow_download", "transform"]
    elif encoder == "simclr":
        idle += ["allow_download", "transform"]
    checks.no_effect(image_features, given, idle, because=f"with encoder={encoder!r}")
    placed = ("img_key", "alignment", "spatial_key")
    for name, more in (("patches", (*placed, "mpp")), ("patch_map", placed)):
        if given[name] is not None:
            checks.no_effect(image_features, given, more, because=f"with {name}=")


def _mpp(source: PatchSource) -> float:
    """Micrometres per pixel of the image of a section, NaN where unknown."""
    section = getattr(source, "section", None)
    return float(section.mpp) if section is not None and section.mpp else float("nan")


def _encoded(
    adata: AnnData, sources: list[PatchSource], encoder: Encoder, batch_size: int, how: str, *,
    show_progress: bool | None,
) -> np.ndarray:  # fmt: skip
    """Features of all observations, section by section."""
    parts = []
    names = np.asarray(adata.obs_names).astype(str)
    for source in sources:
        usable = np.flatnonzero(source.usable)
        # In the order of names, so that the same section gives the same numbers in any order.
        usable = usable[np.argsort(names[source.rows[usable]], kind="stable")]
        sample = usable[np.unique(np.linspace(0, len(usable) - 1, 100).astype(np.int64))]
        total = -(-len(usable) // batch_size)

        def watch(blocks: Any, source: PatchSource = source, total: int = total) -> Any:
            what = f"features of {source.name or 'the image'}"
            return progress(blocks, what=what, total=total, show_progress=show_progress)

        part = encoder.encode(source, sample, batch_size, watch)
        if how and len(usable) < _FEW:
            logger.warning(
                "section %r has %d observations: its median and spread are rough.",
                source.name, len(usable),
            )  # fmt: skip
        units = None if encoder.units is None else encoder.units(sources)
        parts.append(_standardized(part, how, units))
    width = {p.shape[1] for p in parts}
    if len(width) > 1:
        msg = f"The encoder gave features of different lengths: {sorted(width)}."
        raise ValueError(msg)
    values = np.empty((adata.n_obs, width.pop()), dtype=np.float32)
    for source, part in zip(sources, parts, strict=True):
        missing = ~source.usable
        if missing.any():
            part[missing] = 0.0 if how else np.median(part[~missing], axis=0)
        values[source.rows] = part
    return checks.finite_features(values, names, where=f"What encoder {encoder.name!r} gave")


def _standardized(values: np.ndarray, how: str, units: np.ndarray | None) -> np.ndarray:
    """Features of a section as the caller wants them."""
    if not how:
        return values
    return centered(values, robust_spread(values) if how == "robust" else _ones(values, units))


def _ones(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Units of an encoder; without them its features are only held to the usual limit of theirs."""
    if units is not None:
        return units
    return np.full(values.shape[1], max(float(np.nanstd(values)), 1e-12))


def _ready(
    adata: AnnData, key: str, batch_key: str | None, how: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """Features that lie in obsm, checked, and standardised by section on request."""
    found = adata.obsm[key]
    columns = getattr(found, "columns", None)
    values = checks.finite_features(found, adata.obs_names, where=f"adata.obsm[{key!r}]")
    values = values.astype(np.float32)
    codes, names = inputs.sections(adata, batch_key)
    for code in range(len(names)):
        values[codes == code] = _standardized(values[codes == code], how, None)
    titles = [str(c) for c in columns] if columns is not None else [
        f"{key}_{i}" for i in range(values.shape[1])
    ]  # fmt: skip
    return values, {
        "encoder": key,
        "feature_names": np.array(titles, dtype=object),
        "licence": "that of whoever made them",
        "sections": np.array(names, dtype=object),
        "size_um": np.full(len(names), np.nan),
        "mpp": np.full(len(names), np.nan),
        "standardized": how,
    }
