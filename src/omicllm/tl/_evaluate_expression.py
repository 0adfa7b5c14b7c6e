"""`omicllm.tl.evaluate_expression`: predicted against measured expression, the ridge beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.stats.expression_scores import SCORES
from omicllm.stats.ridge import GroupedRidge
from omicllm.tl import _histology_inputs as shared
from omicllm.tl._histology_baselines import gene_table, scored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def evaluate_expression(
    adata: AnnData | MuData,
    *,
    pred: str | pd.DataFrame | np.ndarray,
    truth: str | None = None,
    genes: Sequence[str] | None = None,
    input: Literal["auto", "counts", "values"] = "auto",
    reference: AnnData | None = None,
    split_key: str | None = None,
    use_rep: str = "X_classical",
    baseline_key: str = "histology_baselines",
    fold_key: str | None = None,
    section_key: str | None = None,
    patient_key: str | None = None,
    allow_spot_split: bool = False,
    spatial_key: str = "spatial",
    n_boot: int = 500,
    level: float = 0.95,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Score predicted expression: per gene, by section and pooled, with intervals.

    The tuned ridge on the same rows stands beside the prediction.

    Parameters
    ----------
    {adata}
    pred
        Predictions: a layer; an entry of `obsm` whose columns are named in
        ``uns[pred]["genes"]``; or a DataFrame (n_obs x genes) or array in the shape of ``X``. Rows
        of NaN are not scored, nor a gene in a section where it is NaN.
    truth
        Layer with the measured expression; by default ``X``.
    genes
        Genes to score; by default all that were predicted.
    input
        What `truth` holds. ``"counts"``: scaled to log(1 + 10,000 x share of the profile), the
        scale on which models here predict. ``"values"``: compared as they are. ``"auto"``: counts
        where the truth is whole numbers and the prediction is not.
    reference
        Object with measured sections on which the ridge is trained, with `use_rep` in `obsm`.
    split_key
        Column of `obs`: rows of ``"test"`` are scored, and the ridge is trained on the others.
    use_rep
        Image features in `obsm` for the ridge.
    baseline_key
        Root of :func:`omicllm.tl.histology_baselines`: its held-out predictions are the ridge
        where neither `reference` nor `split_key` is given.
    fold_key
        Column of `obs` that says in which division each row was held out, where regions of a
        section were held out in turn. By default ``obs[baseline_key + "_fold"]`` where the ridge
        is the stored one.
    section_key, patient_key
        Columns of `obs` with sections (``"section"`` or ``"library_id"`` by default) and
        patients (``"patient"``), of `adata` and `reference`.
    allow_spot_split
        Accept a `split_key` that mixes spots of one section into training and test.
    {spatial_key}
    n_boot, level
        Resamples of spatial blocks of each section, and share of them inside the intervals.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["evaluate_expression"]["table"]`` : DataFrame
        Rows ``prediction`` and ``ridge`` for each section, ``all`` (mean of the sections) and
        ``pooled``; columns as in :func:`omicllm.tl.histology_baselines`.
    ``adata.uns["evaluate_expression"]["gene_table"]`` : DataFrame
        ``gene``, ``method``, ``pearson``, ``spearman``, ``mse``, ``mae``, ``rvd``.
    ``adata.uns["evaluate_expression"]["ridge"]``
        ``reference``, ``split``, ``stored``, or empty: there was nothing to train a ridge on, and
        its scores are NaN.
    ``adata.var["evaluate_expression_pearson"]``, ``_mse`` : float32
        Scores of the prediction.

    Raises
    ------
    KeyError
        No such layer, predictions, features or genes.
    ValueError
        Predictions of another shape; no row to score; spots of a section mixed into training and
        test.

    Notes
    -----
    Where rows of a section were held out in several divisions (`fold_key`), correlations and
    relative variance distance are taken within divisions, the mean of each taken away from
    predictions and measurements: a constant prediction then scores 0.

    Relative variance distance of a gene: ((var_pred - var_true) / var_true)^2; 1 for a constant
    prediction, 0 where predictions vary as measurements do.
    """
    given = inputs.resolve(adata, mod)
    source, order = inputs.by_name(given, var=False)
    checks.one_of("input", input, ("auto", "counts", "values"))
    checks.whole_number("n_boot", n_boot, at_least=0)
    checks.share("level", level, low=0.5, high=0.999)
    generator = rngs.generator(rng)
    names = inputs.gene_names(source)
    frame = _predictions(given, pred, names).iloc[order.obs].reset_index(drop=True)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()]
        msg = f"Genes of the predictions occur twice ({checks.listed(twice, most=3)})."
        raise ValueError(msg)
    if genes is not None:
        absent = [g for g in genes if g not in frame.columns]
        if absent:
            raise checks.missing(absent[0], "the predictions", frame.columns, hint="See genes=.")
        frame = frame[list(genes)]
    shared_genes = [g for g in frame.columns if g in set(names)]
    if not shared_genes:
        msg = (
            "None of the predicted genes is in adata.var_names: predicted are "
            f"{checks.listed(frame.columns, most=3)}, measured {checks.listed(names, most=3)}."
        )
        raise ValueError(msg)
    if len(shared_genes) < frame.shape[1]:
        logger.info("%d predicted genes were not measured", frame.shape[1] - len(shared_genes))
    guess = frame[shared_genes].to_numpy(dtype=np.float32, copy=True)
    columns = pd.Index(names).get_indexer(shared_genes)
    if input == "auto":
        input = _kind(source, truth, guess)
        logger.info("measured expression is taken as %s", input)
    sections = shared.labels(source, section_key, ("section", "library_id"), "section_key")
    patients = shared.labels(source, patient_key, ("patient",), "patient_key")
    coords = shared.coordinates(source, spatial_key, sections)
    rows = np.isfinite(guess).any(axis=1)
    fold = None
    if split_key is not None:
        fold = shared.given_division(source, split_key)
        shared.how_apart(fold, sections, patients, coords, allow_spot_split=allow_spot_split)
        rows &= np.isin(np.arange(len(rows)), fold.test)
    if not rows.any():
        msg = "Every prediction is NaN, so there is nothing to score."
        raise ValueError(msg)
    folds = None
    if fold_key is not None:
        folds = inputs.obs_column(source, fold_key, argument="fold_key").astype(str)
    values = shared.expression(source, truth, input)
    measured = values[:, columns].astype(np.float32).toarray()
    ridge, origin = _ridge(
        source, rows, values[:, columns], shared_genes, fold, reference, truth, input, use_rep,
        baseline_key, sections, patients, coords, (section_key, patient_key, spatial_key),
    )  # fmt: skip
    if folds is None and origin == "stored" and f"{baseline_key}_fold" in source.obs:
        folds = np.asarray(source.obs[f"{baseline_key}_fold"]).astype(str)
    guess[~rows] = np.nan
    predicted = {"prediction": guess, "ridge": ridge}
    table_rows, per_gene = scored(
        predicted, measured, sections, shared.blocks_of(coords, sections, 25), folds=folds,
        n_boot=n_boot, level=level, rng=generator,
    )  # fmt: skip
    table = pd.DataFrame(table_rows, index=[str(i) for i in range(len(table_rows))])
    per_var = {
        name: np.full(source.n_vars, np.nan, dtype=np.float32) for name in ("pearson", "mse")
    }
    for name, column in per_var.items():
        column[columns] = per_gene["prediction"][SCORES.index(name)]
    every = table[table["section"] == "all"].set_index("method")["pearson"]
    logger.info("mean Pearson correlation %.3f, ridge %.3f", every["prediction"], every["ridge"])
    result = results.Result(
        "tl.evaluate_expression",
        order.restore({"var:{root}_pearson": per_var["pearson"], "var:{root}_mse": per_var["mse"]}),
        {
            "pred": pred if isinstance(pred, str) else "given", "truth": truth, "input": input,
            "split_key": split_key, "use_rep": use_rep, "baseline_key": baseline_key,
            "fold_key": fold_key, "section_key": section_key, "patient_key": patient_key,
            "n_boot": n_boot,
            "level": level, "spatial_key": spatial_key, "rng": rngs.recorded(rng),
        },
        {
            "table": table,
            "gene_table": gene_table(per_gene, np.array(shared_genes, dtype=object)),
            "ridge": origin,
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _predictions(source: AnnData, pred: Any, names: np.ndarray) -> pd.DataFrame:
    """Predictions as a frame (n_obs, genes)."""
    if isinstance(pred, str):
        if pred in source.layers:
            return pd.DataFrame(inputs.dense_rows(source, pred), columns=names)
        if pred not in source.obsm:
            there = [*source.layers, *source.obsm]
            raise checks.missing(
                pred, "adata.layers or adata.obsm", there,
                hint="Predict expression with ol.tl.spam or ol.tl.predict_expression.",
            )  # fmt: skip
        values = source.obsm[pred]
        if hasattr(values, "columns"):
            return pd.DataFrame(np.asarray(values), columns=[str(c) for c in values.columns])
        genes = source.uns.get(pred, {})
        genes = genes.get("genes") if hasattr(genes, "get") else None
        values = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
        if genes is None or len(genes) != values.shape[1]:
            msg = (
                f"The genes of the columns of adata.obsm[{pred!r}] are looked for in "
                f"adata.uns[{pred!r}]['genes']. Pass a DataFrame with pred= instead."
            )
            raise ValueError(msg)
        return pd.DataFrame(values, columns=[str(g) for g in np.asarray(genes).ravel()])
    if hasattr(pred, "columns"):
        return _in_order(pred, source.obs_names)
    values = np.asarray(pred.toarray() if hasattr(pred, "toarray") else pred)
    if values.shape != source.shape:
        msg = f"pred= is of shape {values.shape}, not {source.shape} as the object."
        raise ValueError(msg)
    return pd.DataFrame(values, columns=names)


def _in_order(pred: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """Rows of a frame by the names of observations; by position where it numbers its rows.

    Raises
    ------
    ValueError
        Observations that have no row, or rows of twice the same name.
    """
    absent = [i for i in names if i not in pred.index]
    if len(absent) == len(names) == len(pred) and isinstance(pred.index, pd.RangeIndex):
        return pred.rename(columns=str).reset_index(drop=True)
    if absent:
        msg = (
            f"pred= lacks {len(absent)} observations by name "
            f"({checks.listed(absent, most=3)}; its index: {checks.listed(pred.index, most=3)})."
        )
        raise ValueError(msg)
    if not pred.index.is_unique or not names.is_unique:
        twice = pred.index[pred.index.duplicated()]
        msg = (
            "pred= goes by name, and names occur twice in its index or in adata.obs_names"
            f" ({checks.listed([*twice, *names[names.duplicated()]], most=3)})."
        )
        raise ValueError(msg)
    return pred.loc[names].rename(columns=str).reset_index(drop=True)


def _kind(source: AnnData, truth: str | None, guess: np.ndarray) -> Literal["counts", "values"]:
    """Whether the truth is counts to be scaled, or values on the scale of the prediction."""
    X = inputs.by_gene(source, truth)
    whole = bool(np.all(X.data == np.rint(X.data)) and np.all(X.data >= 0))
    known = guess[np.isfinite(guess)]
    return "counts" if whole and np.any(known != np.rint(known)) else "values"


def _ridge(
    source: AnnData, rows: np.ndarray, values: Any, genes: list[str], fold: Any,
    reference: AnnData | None, truth: str | None, how: str, use_rep: str, baseline_key: str,
    sections: np.ndarray, patients: np.ndarray, coords: np.ndarray | None,
    keys: tuple[str | None, str | None, str],
) -> tuple[np.ndarray, str]:  # fmt: skip
    """Predictions of the tuned ridge (n_obs, genes), NaN where there are none, and their origin."""
    out = np.full((source.n_obs, len(genes)), np.nan, dtype=np.float32)
    if reference is not None:
        names = inputs.gene_names(reference)
        index = pd.Index(names).get_indexer(genes)
        known = index >= 0
        X = shared.image_features(reference, use_rep)
        own = shared.labels(reference, keys[0], ("section", "library_id"), "section_key")
        people = shared.labels(reference, keys[1], ("patient",), "patient_key")
        Y = shared.expression(reference, truth if truth in reference.layers else None, how)
        Y = Y[:, index[known]].toarray()
        where = shared.coordinates(reference, keys[2], own)
        groups = shared.inner_groups(np.arange(len(X)), own, people, where)
        model = GroupedRidge().fit(X, Y, own, groups)
        guess = model.predict(shared.image_features(source, use_rep)[rows], sections[rows])
        out[np.ix_(rows, known)] = guess
        return out, "reference"
    if fold is not None and use_rep in source.obsm:
        X = shared.image_features(source, use_rep)
        groups = shared.inner_groups(fold.train, sections, patients, coords)
        Y = values[fold.train].toarray()
        model = GroupedRidge().fit(X[fold.train], Y, sections[fold.train], groups)
        out[rows] = model.predict(X[rows], sections[rows])
        return out, "split"
    entry = source.uns.get(baseline_key, {})
    if fold is None and f"{baseline_key}_ridge" in source.obsm and "genes" in entry:
        index = pd.Index([str(g) for g in entry["genes"]]).get_indexer(genes)
        known = index >= 0
        stored = np.asarray(source.obsm[f"{baseline_key}_ridge"])
        out[:, known] = stored[:, index[known]]
        out[~rows] = np.nan
        return out, "stored"
    logger.warning(
        "No ridge stands beside these scores: pass reference= (measured sections with "
        "adata.obsm[%r]) or split_key=, or run ol.tl.histology_baselines(adata) first.",
        use_rep,
    )
    return out, ""
