"""`omicllm.tl.sigel`: gene embeddings from gene images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm.pp._spatial_grid import grid_result
from omicllm.spatial.sections import GRID_KEY as _GRID
from omicllm.spatial.sections import serving_grid

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model import SIGEL

#: Arguments that a trained model has settled.
_OF_TRAINING = ("input", "n_clusters", "n_latent", "max_epochs", "batch_size", "preset", "devices")


@docs.fill()
def sigel(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    n_clusters: int | None = None,
    n_latent: int | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    preset: Literal["paper"] | None = None,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    grid_key: str = "spatial_grid",
    umap: bool = False,
    model: SIGEL | str | Path | None = None,
    save: str | Path | None = None,
    rng: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    show_progress: bool | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed genes by their images in tissue, and group them.

    Genes whose counts lie alike over the section get vectors that are close by cosine. The
    embedding does not follow expression level. Compare with PCA in ``uns["sigel"]["baseline"]``.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds counts as read from the file.
    {layer}
    input
        ``"counts"``, or ``"values"`` for non-negative normalised data (less is learned from them:
        counts can be split into independent halves, other values cannot).
    n_clusters
        Components of the mixture; one per 25 expressed genes by default, between 4 and 500.
    n_latent
        Width of the embedding; 128 by default, fewer where the data give fewer axes.
    max_epochs
        Passes over the genes in training; by default 0 (preset paper: 50), as the embedding the
        data determine was not bettered by gradient steps. With ``preset="paper"`` at most 30 rounds
        of refinement follow as many passes (30 by default).
    batch_size
        Genes in a training batch.
    preset
        ``"paper"`` for architecture and schedule of the publication.
    {spatial_key}
    {batch_key}
    grid_key
        Grid made by :func:`omicllm.pp.spatial_grid` to use; ``"spatial_grid"`` is made when it is
        not there, and made anew, with a warning, when it does not fit the sections and
        coordinates of the object.
    umap
        Also compute a two-dimensional map of the genes (scanpy's UMAP).
    model
        A trained :class:`omicllm.model.SIGEL`, or the folder of a saved one: its encoder is
        applied instead of training, and arguments of training are refused.
    save
        New folder to save the model to; the path is kept in ``uns["sigel"]["model_dir"]``.
    {rng}
    {accelerator}
    {devices}
    {show_progress}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.varm["X_sigel"]`` : float32 (n_vars, d)
        Unit vectors; zero for genes without counts.
    ``adata.varm["X_sigel_umap"]`` : float32 (n_vars, 2)
        With ``umap=True``; NaN for genes without counts.
    ``adata.var["sigel_cluster"]`` : categorical
        Most probable component of the Student-t mixture; missing for genes without counts.
    ``adata.var["sigel_confidence"]`` : float32
        Its probability.
    ``adata.var["sigel_empty"]`` : bool
        The gene is zero everywhere.
    ``adata.uns["sigel"]``
        ``params``, ``baseline`` (neighbour overlap between embeddings of two halves of the counts,
        ours beside PCA of Pearson residuals at the same width), ``history``, and with `batch_key`
        ``sections``, ``genes`` and ``X_sections`` (n_sections, n_genes, d).
    ``adata.obsm["spatial_grid"]``, ``adata.uns["spatial_grid"]``
        When they were not there, or did not fit: see :func:`omicllm.pp.spatial_grid`.

    Raises
    ------
    KeyError
        No such layer, neither coordinates nor array positions, no such section column.
    ValueError
        Values that are negative, not finite or not counts; fewer than two spots; more clusters
        than genes; two spots on one pixel of an array.

    Notes
    -----
    SIGEL: Genome Biology 26:287 (2025), doi 10.1186/s13059-025-03748-7; differences from the
    paper are in the user guide.

    The order of genes matters a little: by it they are dealt into the folds that weigh the axes,
    and into batches with `max_epochs`. With 40 genes in another order, entries of the unit vectors
    differed by up to .05.
    """
    if model is not None:
        checks.no_effect(sigel, locals(), _OF_TRAINING, because=checks.WITH_MODEL)
    source = inputs.resolve(adata, mod)
    checks.one_of("input", input, ("counts", "values"))
    checks.one_of("preset", preset, (None, "paper"))
    for name, value in (("max_epochs", max_epochs), ("batch_size", batch_size)):
        if value is not None:
            checks.whole_number(name, value)
    names = inputs.gene_names(source)
    inputs.stored(source, layer)
    from omicllm.model import SIGEL
    from omicllm.model._base import shell

    folder, given = None, model
    if isinstance(given, (str, os.PathLike)):
        folder, given = str(given), SIGEL.load(given, accelerator=accelerator)
    if given is not None:
        input = given.registry_["setup_args"].get("input", "counts")
    options: dict[str, Any] = {"spatial_key": spatial_key, "batch_key": batch_key}
    position, arrays, made = serving_grid(source, grid_key=grid_key, **options)
    X = inputs.by_gene(source, layer)
    inputs.check_expression(
        X, names, counts=input == "counts", layer=layer, source=source, has_input=True
    )
    lent = _lend(source, X, names, position, arrays, batch_key)
    seed = rngs.seed_of(rng)
    with shell(SIGEL, lent):
        if given is None:
            SIGEL.setup_anndata(lent, batch_key=batch_key, input=input, spatial_key=spatial_key)
            trained = SIGEL(lent, preset, n_clusters=n_clusters, n_latent=n_latent, seed=seed)
            epochs = {} if max_epochs is None else {"pretrain_epochs": max_epochs}
            if max_epochs is not None and preset == "paper":
                epochs["refine_epochs"] = min(30, max_epochs)
            trained.train(
                **epochs, batch_size=batch_size, rng=seed, accelerator=accelerator,
                devices=devices, show_progress=show_progress,
            )  # fmt: skip
            values, extra = _from_training(trained, batch_key, seed)
        else:
            trained = cast("SIGEL", given)
            values, extra = _from_model(trained, lent, batch_key, seed)
        saved = results.saved(trained, save)
        extra["model_dir"] = saved.path or folder
    if umap:
        empty = values["var:{root}_empty"]
        values["varm:X_{root}_umap"] = _umap(values["varm:X_{root}"], ~empty, seed)
    params = {
        "layer": layer, "input": input, "n_clusters": trained.n_clusters_,
        "n_latent": values["varm:X_{root}"].shape[1], "max_epochs": max_epochs,
        "batch_size": batch_size, "preset": trained.preset_, "umap": umap,
        "grid_key": grid_key, "rng": rngs.recorded(rng), **options,
    }  # fmt: skip
    out = [results.Result("tl.sigel", values, params, extra, key_added)]
    if made:
        out.append(grid_result(position, arrays, options))
    return results.write(adata, *out, mod=mod, copy=copy, saved=saved)


def _lend(
    source: AnnData, X: Any, names: Any, position: Any, arrays: Any, batch_key: str | None
) -> AnnData:
    """A light AnnData with what the model reads, sharing memory with nothing of the user's."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(index=[str(i) for i in range(source.n_obs)])
    if batch_key is not None:
        obs[batch_key] = inputs.section_text(source, batch_key)
    lent = anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=list(names)))
    # That the grid fits was seen where its coordinates are.
    known = {k: v for k, v in arrays.items() if k != "transforms"}
    lent.obsm[_GRID], lent.uns[_GRID] = position, known
    return lent


def _from_training(
    model: SIGEL, batch_key: str | None, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    extra: dict[str, Any] = {
        "baseline": model.get_agreement(rng=seed),
        "history": {
            k: np.asarray(v, dtype=float).ravel() for k, v in (model.history_ or {}).items()
        },
    }
    if batch_key is not None:
        extra["sections"] = [s.name for s in model.sections_]
        extra["genes"] = [str(g) for g in model.var_names_]
        extra["X_sections"] = model.get_section_embeddings()
    return _values(model, model.get_gene_embedding()), extra


def _from_model(
    model: SIGEL, lent: AnnData, batch_key: str | None, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    # Counts, sections and grid are where the verb put them, wherever the model's own data had them.
    where = {"layer": None, "batch_key": batch_key, "grid_key": _GRID}
    Z, agreement = model.embed_with_agreement(lent, setup=where, rng=seed)
    return _values(model, Z), {"baseline": agreement}


def _values(model: SIGEL, Z: np.ndarray) -> dict[str, Any]:
    """Slots of an embedding, with clusters from the mixture of the model."""
    import pandas as pd

    probability = model.assign(Z)
    empty = np.abs(Z).sum(axis=1) == 0
    codes = np.where(empty, -1, np.nan_to_num(probability, nan=-1.0).argmax(axis=1))
    categories = [str(i) for i in range(probability.shape[1])]
    cluster = pd.Categorical.from_codes(codes, categories=categories)
    confidence = np.where(empty, np.nan, probability.max(axis=1)).astype(np.float32)
    return {
        "varm:X_{root}": Z.astype(np.float32),
        "var:{root}_cluster": cluster,
        "var:{root}_confidence": confidence,
        "var:{root}_empty": empty,
    }


def _umap(Z: np.ndarray, expressed: np.ndarray, seed: int) -> np.ndarray:
    """Map of the genes by scanpy's UMAP on cosine neighbours; NaN where there is no embedding."""
    import anndata
    import scanpy as sc

    out = np.full((len(Z), 2), np.nan, dtype=np.float32)
    genes = anndata.AnnData(Z[expressed])
    k = min(15, genes.n_obs - 1)
    with rngs.isolated(seed):
        sc.pp.neighbors(genes, n_neighbors=k, use_rep="X", metric="cosine", random_state=seed)
        sc.tl.umap(genes, random_state=seed)
    out[expressed] = genes.obsm["X_umap"]
    return out
