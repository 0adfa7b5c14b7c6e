"""`omicllm.tl.personal_expression`: train or apply a network on personal sequences."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, parts, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.genome.dosage import HAPLOID
from omicllm.stats.people import agreement
from omicllm.tl._evaluate_personal import summarised
from omicllm.tl._genotypes import HAPLOID_DOC
from omicllm.tl._sequence_models import personal_haplotypes, trunk_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.genome.fasta import Genome

STRATEGIES = (
    "baseline",
    "single_counts",
    "single_z",
    "pair_regression",
    "pair_counts",
    "pair_classification",
    "pair_regression_tracks",
    "pair_classification_tracks",
    "pair_regression_mpra",
)


#: Arguments that a trained model has settled.
_OF_TRAINING = ("strategy", "tracks", "mpra", "max_epochs", "model_args", "train_args", "devices")
#: Arguments that are recorded as they were given.
_RECORDED = (
    "layer",
    "length",
    "split_key",
    "window_key",
    "baseline",
    "unphased",
    "haploid",
    "rna",
    "geno",
)


@docs.fill(haploid=HAPLOID_DOC)
def personal_expression(
    mdata: MuData,
    *,
    genome: Genome | str | Path,
    trunk: Any = None,
    model: Any = None,
    strategy: str = "pair_regression",
    tracks: AnnData | Mapping[str, AnnData] | None = None,
    mpra: AnnData | None = None,
    layer: str | None = None,
    genes: str | Sequence[str] | None = None,
    length: int | None = None,
    unphased: Literal["refuse", "iupac"] = "refuse",
    haploid: Literal["double", "single"] = "double",
    split_key: str = "split",
    window_key: str = "window",
    max_epochs: int = 50,
    baseline: Literal["top1", "lasso", "enet", "blup", "bslmm"] | None = "enet",
    model_args: Mapping[str, Any] | None = None,
    train_args: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    save: str | Path | None = None,
    rng: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    allow_download: bool = False,
    rna: str = "rna",
    geno: str = "geno",
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Predict the expression of people from their sequences, beside a linear model.

    A genome model is fine-tuned on the training people (or a trained one is applied), and everybody
    is predicted. A linear model of the same split (:func:`omicllm.tl.twas`) is always reported
    with it: published networks do not beat it on genes they were trained on, and predict nothing
    about other genes.

    Parameters
    ----------
    mdata
        MuData of `rna` (people x genes, with windows from :func:`omicllm.pp.gene_windows`) and
        `geno` (people x variants, from :func:`omicllm.io.read_vcf`).
    genome
        FASTA file or :class:`omicllm.io.Genome`.
    trunk
        Genome model to start from: :class:`omicllm.nn.GenomeTrunk`, or folder of a checkpoint.
    model
        Instead: trained :class:`omicllm.model.PersonalExpression`, or folder with one.
    strategy
        ``"pair_regression"``, ``"pair_counts"``, ``"pair_classification"``, ``"single_counts"``,
        ``"single_z"``, or ``"baseline"``, the trunk's own track without training; together with
        other data ``"pair_regression_tracks"``, ``"pair_classification_tracks"`` or
        ``"pair_regression_mpra"``; see :class:`omicllm.model.PersonalExpression`. That of `model`
        where one is given.
    tracks
        Sequences with tracks to train on as well, from :func:`omicllm.io.read_basenji`; several by
        species, ``{"human": ..., "mouse": ...}``.
    mpra
        Allelic effects to train on as well, from :func:`omicllm.io.read_mpra` with ``genome=``.
    layer
        Layer of `rna` with corrected expression instead of ``X``.
    genes
        Genes to model; all with a window by default.
    length
        Cut or pad haplotypes about their centre to this length; that of the windows by default.
    unphased
        As in :func:`omicllm.pp.haplotypes`.
    {haploid}
    split_key
        Column of ``rna.obs`` with train, val and test; or layer of `rna` (0, 1, 2) where the split
        depends on the gene.
    window_key
        Root of the windows.
    max_epochs
        Most epochs of training.
    baseline
        Linear model to report beside; None for none.
    model_args, train_args
        Further arguments of the class (``freeze=``, ``random_start=``, ``min_af=``) and of its
        ``train`` (``train_fraction=``, ``heads_first=``, Lightning's ``strategy=``).
    batch_size
        Haplotypes in a batch of the predictions.
    save
        Folder to keep the trained model in.
    {rng}
    {accelerator}
    {devices}
    allow_download
        Fetch a checkpoint named in `trunk` from the Hugging Face hub.
    rna, geno
        Names of the modalities.
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields, for the strategy s:

    ``mdata["rna"].layers["personal_<s>"]`` : float32
        Prediction for everybody; NaN for genes that were not modelled. The scale is that of the
        strategy's target; only differences between people count for ``"pair_regression"``.
    ``mdata["rna"].var["personal_<s>_pearson"]`` : float32
        Correlation with expression over test people; NaN for a constant prediction.
    ``mdata["rna"].var["personal_<s>_baseline"]`` : float32
        The same of the linear model; genes without training people have none.
    ``mdata["rna"].uns["personal"]`` : dict
        ``summary``: means over genes, of the network and the linear model, by class of genes;
        ``history``; ``model_dir`` with `save`.

    Raises
    ------
    KeyError
        No such modality, layer, split, windows or gene.
    ValueError
        People without genotypes; windows of a length that the trunk does not take; neither or both
        of `trunk` and `model`; a joint strategy without its data.
    FileExistsError
        When `save` exists.

    Notes
    -----
    The order of observations and of genes matters: pairs of people and batches are drawn in it, so
    that the same object in another order is trained as with another `rng`.
    """
    given = dict(locals())
    checks.one_of("strategy", strategy, STRATEGIES)
    checks.one_of("haploid", haploid, HAPLOID)
    checks.whole_number("max_epochs", max_epochs)
    checks.whole_number("batch_size", batch_size)
    path = isinstance(model, (str, os.PathLike))
    if (trunk is None) == (model is None) and not (path and trunk is not None):
        msg = "Give trunk= (a genome model to train) or model= (a trained PersonalExpression)."
        raise ValueError(msg)
    if model is not None:
        checks.no_effect(personal_expression, locals(), _OF_TRAINING, because=checks.WITH_MODEL)
        if baseline is None:
            why = "with model= and without baseline="
            checks.no_effect(personal_expression, locals(), ("rng",), because=why)
    elif strategy == "baseline":
        idle = ("max_epochs", "train_args", "devices")
        why = "with strategy='baseline', which trains nothing"
        checks.no_effect(personal_expression, locals(), idle, because=why)
    people = inputs.resolve(mdata, rna)
    inputs.resolve(mdata, geno)
    inputs.stored(people, layer)
    part = parts.by_gene(people, split_key)
    from omicllm.model import PersonalExpression

    trained = model
    if path:
        trained = PersonalExpression.load(model, trunk=trunk, accelerator=accelerator)
    start = trunk_of(trunk if trained is None else trained, allow_download=allow_download)
    people, store, names = personal_haplotypes(
        mdata,
        start,
        genome=genome,
        genes=genes,
        length=length,
        rna=rna,
        geno=geno,
        window_key=window_key,
        unphased=unphased,
        haploid=haploid,
    )
    options: dict[str, Any] = {"batch_size": batch_size, "accelerator": accelerator}
    options["show_progress"] = show_progress
    if trained is None:
        others = {"tracks": tracks, "mpra": mpra, "seed": rngs.seed_of(rng)}
        settings = {"trunk": start, "strategy": strategy, **others, **(model_args or {})}
        run = {"rng": rng, "accelerator": accelerator, "devices": devices}
        run |= {"show_progress": show_progress, **(train_args or {})}
        lent = _lent(people, layer, part)
        epochs = None if strategy == "baseline" else max_epochs
        history, predicted, saved = _learned(lent, store, epochs, settings, run, options, save)
    else:
        strategy, history = trained.strategy, {}
        predicted = trained.predict(store, **options)
        saved = results.saved(trained, save)
    columns = people.var_names.get_indexer(names)
    P = np.full(people.shape, np.nan, dtype=np.float32)
    P[:, columns] = predicted[names].to_numpy()
    linear = None
    if baseline is not None:
        keys = {"layer": layer, "split_key": split_key, "window_key": window_key}
        how = {"haploid": haploid, "show_progress": show_progress, "rng": rngs.seed_of(rng)}
        linear = _linear(mdata, rna, geno, columns, part, model=baseline, **keys, **how)
    pearson, summary = _scores(people, layer, part, strategy, P, baseline, linear, columns)
    values: dict[str, Any] = {f"layers:{{root}}_{strategy}": P}
    values[f"var:{{root}}_{strategy}_pearson"] = pearson[0]
    if linear is not None:
        values[f"var:{{root}}_{strategy}_baseline"] = pearson[1]
    params: dict[str, Any] = {name: given[name] for name in _RECORDED}
    params |= {"strategy": strategy, "trunk": start.name, "rng": rngs.recorded(rng)}
    params["genome"] = str(getattr(genome, "path", genome))
    if model is None:
        params["max_epochs"] = None if strategy == "baseline" else max_epochs
        params |= {"model_args": model_args, "train_args": train_args}
        params |= {"tracks": _shapes(tracks), "mpra": _shapes(mpra)}
    arrays = {"summary": summary, "history": history or None, "genes": names}
    arrays["model_dir"] = saved.path or (str(model) if path else None)
    result = results.Result("tl.personal_expression", values, params, arrays, key_added)
    return results.write(mdata, result, mod=rna, copy=copy, saved=saved)


class _Learned(NamedTuple):
    """What training leaves: curves, predictions of everybody, and where the model lies."""

    history: dict[str, np.ndarray]
    predicted: pd.DataFrame
    saved: results.Saved


def _learned(
    lent: AnnData,
    haplotypes: Any,
    max_epochs: int | None,
    settings: Mapping[str, Any],
    run: Mapping[str, Any],
    options: Mapping[str, Any],
    save: str | Path | None,
) -> _Learned:
    """Train a model on a throw-away object (not at all without epochs), and apply it."""
    from omicllm.model import PersonalExpression
    from omicllm.model._base import shell

    history = {}
    with shell(PersonalExpression, lent):
        PersonalExpression.setup_anndata(lent, split_key="split")
        model = PersonalExpression(lent, haplotypes, **settings)
        if max_epochs is not None:
            model.train(max_epochs, **run)
            curves = (model.history_ or {}).items()
            history = {k: np.asarray(v, float).ravel() for k, v in curves}
        return _Learned(history, model.predict(**options), results.saved(model, save))


def _shapes(data: Any) -> Any:
    """Numbers of rows and columns of data that were trained on as well."""
    if data is None:
        return None
    return list(data.shape) if hasattr(data, "shape") else {k: _shapes(v) for k, v in data.items()}


def _lent(people: AnnData, layer: str | None, part: np.ndarray) -> AnnData:
    """A throw-away object with the expression and the split by gene."""
    import anndata

    obs, var = (pd.DataFrame(index=names) for names in (people.obs_names, people.var_names))
    X = inputs.dense_rows(people, layer).astype(np.float32)
    out = anndata.AnnData(X, obs=obs, var=var)
    # People outside all parts never train, validate or test.
    out.layers["split"] = np.where(part == parts.OUT, parts.TEST, part).astype(np.int8)
    return out


def _linear(
    mdata: MuData,
    rna: str,
    geno: str,
    columns: np.ndarray,
    part: np.ndarray,
    *,
    model: str,
    **arguments: Any,
) -> np.ndarray:
    """Predictions of the linear model for modelled genes with enough training people."""
    from types import SimpleNamespace

    import anndata

    from omicllm.tl._twas import twas
    from omicllm.tl._twas_inputs import _FEWEST

    people = mdata.mod[rna]
    out = np.full(people.shape, np.nan, dtype=np.float32)
    enough = columns[(part[:, columns] == parts.TRAIN).sum(axis=0) >= _FEWEST]
    if not len(enough):
        logger.warning("no gene has %d training people: there is no linear model", _FEWEST)
        return out
    source = mdata.mod[geno]
    layers = {k: source.layers[k] for k in ("hap1", "hap2", "haploid") if k in source.layers}
    variants = anndata.AnnData(source.X, obs=source.obs, var=source.var, layers=layers)
    # What `twas` needs of a MuData; nothing reaches the user's object.
    both: Any = SimpleNamespace(mod={rna: people[:, enough].copy(), geno: variants})
    twas(both, model=model, rna=rna, geno=geno, key_added="linear", **arguments)
    out[:, enough] = both.mod[rna].layers[f"linear_{model}"]
    return out


def _scores(
    people: AnnData,
    layer: str | None,
    part: np.ndarray,
    strategy: str,
    P: np.ndarray,
    baseline: str | None,
    linear: np.ndarray | None,
    columns: np.ndarray,
) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Correlations over test people of network and linear model, and their means."""
    truth = inputs.dense_rows(people, layer)
    pearson, rows = [], []
    genes = np.asarray(people.var_names.astype(str))
    for name, predicted in ((strategy, P), (baseline, linear)):
        if predicted is None:
            continue
        r = np.full(people.n_vars, np.nan, dtype=np.float32)
        for g in columns:
            test = part[:, g] == parts.TEST
            if not test.any():
                continue
            a, b, n = agreement(predicted[test, g], truth[test, g])
            r[g] = a
            of = "seen" if (part[:, g] == parts.TRAIN).any() else "unseen"
            rows.append((name, genes[g], of, n, a, b))
        pearson.append(r)
    header = ["prediction", "gene", "gene_class", "n", "pearson", "spearman"]
    summary = summarised(pd.DataFrame(rows, columns=header))
    for line in summary.itertuples():
        logger.info("%s, %s: mean r %.3f", line.prediction, line.gene_class, line.mean_pearson)
    return pearson, summary
