"""`omicllm.tl.histology_baselines`: what plain regression on image features predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm._core.names import positions
from omicllm.stats.expression_scores import SCORES, section_scores
from omicllm.stats.histology import METHODS, Baselines, variable_genes
from omicllm.tl import _histology_inputs as shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def histology_baselines(
    adata: AnnData | MuData,
    *,
    use_rep: str = "X_classical",
    genes: Sequence[str] | None = None,
    n_top: int | None = 250,
    section_key: str | None = None,
    patient_key: str | None = None,
    split_key: str | None = None,
    allow_spot_split: bool = False,
    methods: Sequence[str] | None = None,
    criterion: Literal["pearson", "mse"] = "pearson",
    center: bool = True,
    n_components: int = 256,
    n_neighbors: int = 50,
    n_boot: int = 500,
    level: float = 0.95,
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    spatial_key: str = "spatial",
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Predict expression from image features by plain regression, and score it on held-out rows.

    Whatever a deep model predicts has to be better than this. Rows are held out by patient, else
    by section, else (one section) by region with a margin; genes, scaling, components and
    penalties come from training rows alone.

    Parameters
    ----------
    {adata}
    use_rep
        Image features in `obsm`, made by :func:`omicllm.pp.image_features`.
    genes
        Genes to predict. By default the `n_top` of the largest variance within training sections,
        chosen for each division.
    n_top
        Number of genes when `genes` is not given; None takes all.
    section_key
        Column of `obs` with sections; by default ``"section"`` or ``"library_id"`` where it is
        there.
    patient_key
        Column of `obs` with patients; by default ``"patient"`` where it is there.
    split_key
        Column of `obs` with ``"train"``, ``"val"`` (joined to train) and ``"test"``; by default
        each patient, section or region is held out in turn.
    allow_spot_split
        Accept a `split_key` that mixes spots of one section into training and test.
    methods
        Of ``"mean"`` (training sections), ``"rgb"`` (ridge on the mean colour), ``"knn"``
        (principal components, cosine), ``"ridge"`` (PCA and ridge, tuned) and ``"hest"`` (ridge
        of HEST-Benchmark). By default all; ``"ridge"`` is always among them.
    criterion
        What the penalty is chosen by, on held-out patients (sections, regions) of training rows.
    center
        Centre features and targets by section before fitting.
    n_components, n_neighbors
        Of the principal components and of kNN.
    n_boot, level
        Resamples of spatial blocks of each section, and share of them inside the intervals. An
        interval speaks of the sections at hand, not of further patients.
    {layer}
    input
        ``"counts"``: scaled to log(1 + 10,000 x share of the profile). ``"values"``: as they are.
    {spatial_key}
        Or ``obs["x_centroid"]`` and ``obs["y_centroid"]``.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["histology_baselines"]["table"]`` : DataFrame
        A row for each method and held-out section, ``all`` (mean of the sections) and ``pooled``
        (spots of all sections together): means over genes of ``pearson``, ``spearman``, ``mse``,
        ``mae``, ``rvd`` (relative variance distance), with ``pearson_low``, ``pearson_high``,
        ``mse_low``, ``mse_high``, ``pearson_median``, ``share_above_0.3``, and the interval of
        the difference in Pearson correlation from the ridge, ``over_ridge_low`` and ``_high``.
    ``adata.uns["histology_baselines"]["gene_table"]`` : DataFrame
        ``gene``, ``method`` and the five scores, as the mean of sections.
    ``adata.uns["histology_baselines"]["folds"]`` : DataFrame
        Name, rows trained and tested on and penalty of the ridge of each division.
    ``adata.obsm["histology_baselines_ridge"]`` : float32 (n_obs, n_genes)
        Held-out predictions of the ridge.
    ``adata.obs["histology_baselines_fold"]`` : categorical
        Division in which the row was held out (patient, section or region).
    ``adata.var["histology_baselines_pearson"]``, ``_mse`` : float32
        Scores of the ridge.

    Raises
    ------
    KeyError
        No such features, genes or columns.
    ValueError
        Spots of a section mixed into training and test; nothing to hold out; counts that are not
        whole numbers.

    Notes
    -----
    A gene that is constant in a section has no correlation there and is left out of its mean; a
    constant prediction has correlation 0. Where regions of one section are held out, each by a fit
    of its own, correlations and ``rvd`` are taken within regions (the mean of each region is taken
    away from predictions and measurements): a region's training rows are high where the region is
    low, so that knowing nothing would score below 0. Read the tables with
    :func:`omicllm.get.table`. The ridge solves
    min ||Y - XB||^2 + alpha ||B||^2 for penalties from 0.1 to 100,000 by one singular value
    decomposition, and its predictions are shrunk by the slope that fits held-out rows best.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod), var=False)
    chosen = tuple(METHODS if methods is None else methods)
    for method in chosen:
        checks.one_of("methods", method, METHODS)
    chosen = tuple(m for m in METHODS if m in chosen or m == "ridge")
    checks.one_of("criterion", criterion, ("pearson", "mse"))
    checks.one_of("input", input, ("counts", "values"))
    for name, value in (("n_components", n_components), ("n_neighbors", n_neighbors)):
        checks.whole_number(name, value)
    checks.whole_number("n_boot", n_boot, at_least=0)
    checks.share("level", level, low=0.5, high=0.999)
    if n_top is not None:
        checks.whole_number("n_top", n_top)
    _refuse_unheard(locals(), chosen)
    generator = rngs.generator(rng)
    names = inputs.gene_names(source)
    if not len(names) or not source.n_obs:
        msg = (
            f"There is nothing to predict: adata has {source.n_obs} observations and "
            f"{source.n_vars} genes. Give measured sections with counts."
        )
        raise ValueError(msg)
    wanted = None if genes is None else positions(genes, names)
    X = shared.image_features(source, use_rep)
    sections = shared.labels(source, section_key, ("section", "library_id"), "section_key")
    patients = shared.labels(source, patient_key, ("patient",), "patient_key")
    coords = shared.coordinates(source, spatial_key, sections)
    folds, kind = shared.divisions(
        source, sections, patients, coords, split_key=split_key, allow_spot_split=allow_spot_split
    )
    values = shared.expression(source, layer, input)
    options = Baselines(
        methods=chosen, criterion=criterion, center=center, n_components=n_components,
        n_neighbors=n_neighbors,
    )  # fmt: skip
    rgb = shared.rgb_columns(source, use_rep)
    columns, predicted, summary = _predict(
        options, X, values, sections, patients, coords, folds, wanted, n_top, rgb
    )
    truth = values[:, columns].astype(np.float32).toarray()
    blocks = shared.blocks_of(coords, sections, 25)
    held_out = np.full(source.n_obs, "", dtype=object)
    for fold in folds:
        held_out[fold.test] = fold.name
    rows, per_gene = scored(
        predicted, truth, sections, blocks, folds=held_out, n_boot=n_boot, level=level,
        rng=generator,
    )  # fmt: skip
    table = pd.DataFrame(rows, index=[str(i) for i in range(len(rows))])
    best = table[(table["section"] == "all") & (table["method"] == "ridge")].iloc[0]
    logger.info("ridge, held out by %s: mean Pearson correlation %.3f", kind, best["pearson"])
    per_var = {
        name: np.full(source.n_vars, np.nan, dtype=np.float32) for name in ("pearson", "mse")
    }
    for name, column in per_var.items():
        column[columns] = per_gene["ridge"][SCORES.index(name)]
    result = results.Result(
        "tl.histology_baselines",
        order.restore({
            "obsm:{root}_ridge": predicted["ridge"],
            "obs:{root}_fold": pd.Categorical(
                [name or None for name in held_out], categories=sorted({f.name for f in folds})
            ),
            "var:{root}_pearson": per_var["pearson"],
            "var:{root}_mse": per_var["mse"],
        }),
        {
            "use_rep": use_rep, "n_top": n_top if genes is None else None,
            "section_key": section_key, "patient_key": patient_key, "split_key": split_key,
            "methods": list(chosen), "criterion": criterion, "center": center,
            "n_components": n_components, "n_neighbors": n_neighbors, "n_boot": n_boot,
            "level": level, "layer": layer,
            "input": input, "spatial_key": spatial_key, "rng": rngs.recorded(rng),
        },
        {
            "table": table,
            "gene_table": gene_table(per_gene, names[columns]),
            "folds": summary,
            "genes": names[columns],
            "split": kind,
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _refuse_unheard(given: dict[str, Any], methods: Sequence[str]) -> None:
    """Refuse arguments that change nothing in this call."""
    idle = [
        ("n_top", given["genes"] is not None and given["n_top"] is not None, "with genes="),
        ("allow_spot_split", given["split_key"] is None, "without split_key="),
        ("n_neighbors", "knn" not in methods, "without the method 'knn'"),
        ("level", given["n_boot"] == 0, "with n_boot=0"),
    ]
    for name, unheard, why in idle:
        if unheard:
            checks.no_effect(histology_baselines, given, (name,), because=why)


def _predict(
    options: Baselines, X: np.ndarray, values: Any, sections: np.ndarray, patients: np.ndarray,
    coords: np.ndarray | None, folds: list[Any], wanted: np.ndarray | None, n_top: int | None,
    rgb: list[int] | None,
) -> tuple[np.ndarray, dict[str, np.ndarray], pd.DataFrame]:  # fmt: skip
    """Columns of the genes, held-out predictions by method (NaN elsewhere) and the divisions."""
    if wanted is None:
        n = values.shape[1] if n_top is None else min(n_top, values.shape[1])
        picked = [variable_genes(values[f.train], sections[f.train], n) for f in folds]
    else:
        picked = [wanted] * len(folds)
    columns = np.unique(np.concatenate(picked)) if wanted is None else wanted
    where = {int(c): i for i, c in enumerate(columns)}
    predicted: dict[str, np.ndarray] = {}
    rows = []
    for fold, own in zip(folds, picked, strict=True):
        groups = shared.inner_groups(fold.train, sections, patients, coords)
        found, alphas = options.predict(
            X[fold.train], values[fold.train][:, own].toarray(), sections[fold.train], groups,
            X[fold.test], sections[fold.test], rgb,
        )  # fmt: skip
        at = np.array([where[int(c)] for c in own])
        for method, guess in found.items():
            full = predicted.setdefault(
                method, np.full((len(X), len(columns)), np.nan, dtype=np.float32)
            )
            full[np.ix_(fold.test, at)] = guess
        rows.append(
            {
                "fold": fold.name, "n_train": len(fold.train), "n_test": len(fold.test),
                "n_genes": len(own), "alpha": alphas["ridge"],
            }
        )  # fmt: skip
    return columns, predicted, pd.DataFrame(rows, index=[str(i) for i in range(len(rows))])


def scored(
    predicted: dict[str, np.ndarray],
    truth: np.ndarray,
    sections: np.ndarray,
    blocks: np.ndarray,
    folds: np.ndarray | None = None,
    **options: Any,
) -> tuple[list[dict[str, object]], dict[str, np.ndarray]]:
    """Scores on the rows that were predicted.

    Divisions may have chosen different genes: one that is NaN in a section is not scored there.
    Within a section, correlations are taken within the divisions that `folds` names by row.
    """
    rows = np.any([np.isfinite(p).any(axis=1) for p in predicted.values()], axis=0)
    own = {method: p[rows] for method, p in predicted.items()}
    return section_scores(
        own, truth[rows], sections[rows], blocks[rows], versus="ridge",
        folds=None if folds is None else folds[rows], **options,
    )  # fmt: skip


def gene_table(per_gene: dict[str, np.ndarray], genes: np.ndarray) -> pd.DataFrame:
    """Scores by gene and method, as a table for `uns`."""
    parts = [
        pd.DataFrame({"gene": genes, "method": method} | dict(zip(SCORES, values, strict=True)))
        for method, values in per_gene.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.set_axis([str(i) for i in range(len(table))])
