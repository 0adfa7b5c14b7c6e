"""`omicllm.tl.spam`: train a model that predicts expression from histology."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.stats.agreement import gene_pearson
from omicllm.stats.expression_scores import held_out_pearson
from omicllm.stats.ridge import GroupedRidge
from omicllm.tl import _histology_inputs as shared
from omicllm.tl._spam_inputs import into_columns, lend, rows_of, source_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def spam(
    adata: AnnData | MuData,
    *,
    use_rep: str = "X_classical",
    genes: Sequence[str] | None = None,
    n_top_genes: int | None = None,
    section_key: str | None = None,
    patient_key: str | None = None,
    split_key: str | None = None,
    allow_spot_split: bool = False,
    pretrain: str | None = None,
    pretrain_epochs: int = 50,
    max_epochs: int = 40,
    batch_size: int = 128,
    likelihood: str = "zinb",
    tokens: str = "multi",
    knn: int = 12,
    save: str | Path | None = None,
    layer: str | None = None,
    spatial_key: str = "spatial",
    image_mod: str = "image",
    rng: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    show_progress: bool | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Learn to predict expression from histology, and predict it.

    Trains :class:`omicllm.model.SPAM` on the sections of `adata` and predicts them. Predictions of
    rows that were trained on say little; how well new sections are predicted is measured on rows
    that were held out, with a tuned ridge regression on the same features beside.

    Parameters
    ----------
    {adata}
        Also a MuData with modalities ``rna`` and `image_mod`, joined by observation names.
    use_rep
        Entry of `obsm` with image features, see :func:`omicllm.pp.image_features`.
    genes
        Genes to predict; by default all with counts.
    n_top_genes
        Predict only the genes that vary most within the training sections.
    section_key, patient_key
        Columns of `obs`; by default the usual ones, where they are there.
    split_key
        Column of `obs` in which ``"test"`` rows are kept out of training.
    allow_spot_split
        Allow test rows among training rows of their section.
    pretrain
        ``"joint"``, ``"image-gene"`` or ``"image-space"``: align the encoders first.
    pretrain_epochs, max_epochs, batch_size
        Of pretraining and training.
    likelihood, tokens, knn
        See :class:`omicllm.model.SPAM`.
    save
        Folder to save the model in, for :func:`omicllm.tl.predict_expression`.
    {layer}
    spatial_key
        Entry of `obsm` with coordinates.
    image_mod
        Modality of a MuData that holds image features in its ``X``.
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

    ``adata.layers["spam"]`` : float32 (n_obs, n_vars)
        Predicted log(1 + 10,000 x share); NaN for genes that are not predicted.
    ``adata.obsm["X_spam"]`` : float32 (n_obs, n_programs)
        Predicted scores of gene programs, which predictions are made of.
    ``adata.var["spam_pearson"]`` : float64
        Correlation with held-out measurements: of the test rows, else of groups (patients,
        sections or regions) that were held out in turn, within sections and regions. NaN for
        genes that are not predicted.
    ``adata.uns["spam"]``
        ``baseline``: mean ``pearson`` of ``spam`` and of ``ridge`` on the same held-out rows;
        ``genes``, ``history``, ``model_dir``, ``train_sections``.

    Raises
    ------
    KeyError
        No such features, column, genes or layer.
    ValueError
        Counts that are not whole numbers; test rows among training rows; nothing to train on.
    FileExistsError
        The folder to save in exists.

    Notes
    -----
    The order of observations and of genes matters: batches and weights of the network are drawn in
    it, so that the same object in another order is predicted as with another `rng`.

    References
    ----------
    Park, Kim and Oh, SPAM (in preparation); what differs is in the user guide.
    """
    target, mod, source = source_of(adata, mod, image_mod)
    use_rep = use_rep if source is target else "X_image"
    checks.one_of("pretrain", pretrain, (None, "joint", "image-gene", "image-space"))
    checks.whole_number("max_epochs", max_epochs, at_least=0)
    _refuse_unheard(locals())
    X = shared.image_features(source, use_rep)
    measured = shared.expression(source, layer, "counts", has_input=False)
    sections = shared.labels(
        source, section_key, ("section", "library_id", "sample"), "section_key"
    )
    patients = shared.labels(source, patient_key, ("patient", "donor"), "patient_key")
    coords = shared.coordinates(source, spatial_key, sections)
    train, test = np.arange(source.n_obs), np.arange(0)
    if split_key is not None:
        fold = shared.given_division(source, split_key)
        shared.how_apart(fold, sections, patients, coords, allow_spot_split=allow_spot_split)
        train, test = fold.train, fold.test
    from omicllm.model import SPAM
    from omicllm.model._base import shell

    lent = lend(source, use_rep=use_rep, layer=layer, spatial_key=spatial_key)
    lent.obs["_section"], lent.obs["_patient"] = sections, patients
    seed = rngs.seed_of(rng)
    with shell(SPAM, lent[train].copy()) as part:
        SPAM.setup_anndata(
            part, use_rep=use_rep, section_key="_section", patient_key="_patient",
            spatial_key=spatial_key,
        )  # fmt: skip
        model = SPAM(
            part, genes=genes, n_top_genes=n_top_genes, likelihood=likelihood, tokens=tokens,
            knn=knn, seed=seed,
        )  # fmt: skip
        run: dict[str, Any] = {
            "rng": seed, "accelerator": accelerator, "devices": devices,
            "show_progress": show_progress,
        }  # fmt: skip
        if pretrain is not None:
            model.pretrain(pretrain, max_epochs=pretrain_epochs, **run)
        model.train(max_epochs, batch_size=batch_size, **run)
        predicted = model.predict(lent).to_numpy()
        latent = model.get_latent_representation(lent)
        groups = model.regression_.groups_  # type: ignore[union-attr]
        model.set_group_keys(section_key=section_key, patient_key=patient_key)
        saved = results.saved(model, save)
    place = pd.Index(source.var_names.astype(str)).get_indexer(pd.Index(model.genes_.astype(str)))
    truth = measured[:, place].toarray()
    if len(test):
        ridge = GroupedRidge().fit(X[train], truth[train], sections[train], groups)
        guess = {"spam": predicted[test], "ridge": ridge.predict(X[test], sections[test])}
        scores = {k: _within(truth[test], v, sections[test]) for k, v in guess.items()}
    else:
        scores = {
            "spam": model.reliability_,
            "ridge": _ridge_by_group(X, truth, sections, groups),
        }
    baseline = {k: float(np.mean(v)) for k, v in scores.items()}
    logger.info(
        "held-out mean Pearson over %d genes: %.3f (ridge on the same features %.3f)",
        len(place), baseline["spam"], baseline["ridge"],
    )  # fmt: skip
    rows = rows_of(source, target)
    pearson = np.full(target.n_vars, np.nan)
    pearson[place] = scores["spam"]
    state = np.full((target.n_obs, latent.shape[1]), np.nan, dtype=np.float32)
    state[rows] = latent
    extra = {
        "baseline": {**baseline, "held_out": "test rows" if len(test) else "groups in turn"},
        "genes": [str(g) for g in model.genes_],
        "train_sections": [str(s) for s in np.unique(sections[train])],
        "history": {k: np.asarray(v, float).ravel() for k, v in (model.history_ or {}).items()},
    }
    if saved.path is not None:
        extra["model_dir"] = saved.path
    layer_out = into_columns(predicted, model.genes_, target.var_names, target.n_obs, rows)
    result = results.Result(
        "tl.spam",
        {
            "layers:{root}": layer_out,
            "obsm:X_{root}": state,
            "var:{root}_pearson": pearson,
        },
        {
            "use_rep": use_rep, "n_top_genes": n_top_genes, "section_key": section_key,
            "patient_key": patient_key, "split_key": split_key, "pretrain": pretrain,
            "pretrain_epochs": pretrain_epochs, "max_epochs": max_epochs,
            "batch_size": batch_size, "likelihood": likelihood, "tokens": tokens, "knn": knn,
            "layer": layer, "spatial_key": spatial_key, "rng": rngs.recorded(rng),
        },
        extra,
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy, saved=saved)


def _refuse_unheard(given: dict[str, Any]) -> None:
    """Refuse arguments that change nothing in this call."""
    if given["pretrain"] is None:
        checks.no_effect(spam, given, ("pretrain_epochs",), because="without pretrain=")
    if given["split_key"] is None:
        checks.no_effect(spam, given, ("allow_spot_split",), because="without split_key=")
    if given["genes"] is not None:
        checks.no_effect(spam, given, ("n_top_genes",), because="with genes=")


def _within(truth: np.ndarray, guess: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Correlation of each gene within sections, averaged over them."""
    return np.mean(
        [gene_pearson(truth[sections == s], guess[sections == s]) for s in np.unique(sections)],
        axis=0,
    )


def _ridge_by_group(
    X: np.ndarray, truth: np.ndarray, sections: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """The ridge's score of each gene, groups held out in turn, as the model's reliability."""
    guess = np.zeros_like(truth, dtype=np.float64)
    for g in np.unique(groups):
        out = groups == g
        ridge = GroupedRidge().fit(X[~out], truth[~out], sections[~out], groups[~out])
        # Features are centred over whole sections, as the model's are: they are all known.
        guess[out] = ridge.predict(X, sections)[out]
    return held_out_pearson(truth, guess, sections, groups)
