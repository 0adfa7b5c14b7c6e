"""`omicllm.tl.twas`: linear models of expression from genotypes near the gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from omicllm._core import blocks, checks, docs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.genome.dosage import HAPLOID
from omicllm.stats.people import agreement
from omicllm.tl import _twas_fit as linear
from omicllm.tl._genotypes import HAPLOID_DOC
from omicllm.tl._twas_inputs import Cohort, Genotypes, read_cohort
from omicllm.tl._twas_weights import apply_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mudata import MuData

_WINDOWS = ["gene", "model", "window", "n_variants", "cv_pearson", "pearson", "chosen"]


@docs.fill(haploid=HAPLOID_DOC)
def twas(
    mdata: MuData,
    *,
    model: str | Sequence[str] | None = None,
    layer: str | None = None,
    window: int | Sequence[int] | None = None,
    window_key: str = "window",
    variants: Literal["snp", "all"] = "snp",
    min_af: float = 0.05,
    haploid: Literal["double", "single"] = "double",
    heritability: Literal["reml", "he"] = "reml",
    n_folds: int = 5,
    n_iter: int = 600,
    weights: pd.DataFrame | str | Path | None = None,
    ambiguous: Literal["drop", "keep"] = "drop",
    split_key: str = "split",
    rna: str = "rna",
    geno: str = "geno",
    rng: int | np.random.Generator | None = 0,
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Predict the expression of every gene from the genotypes in its window.

    The plain models that every network on personal sequences must be compared with. They are
    fitted on the training people and applied to everybody; or published weights are applied.

    Parameters
    ----------
    mdata
        MuData of `rna` (people x genes, corrected expression) and `geno` (people x variants, from
        :func:`omicllm.io.read_vcf`; dosages will do). Everybody in `rna` must be in `geno`.
    model
        ``"top1"`` (the one variant of largest correlation), ``"lasso"``, ``"enet"`` (elastic net
        with mixing .5, PrediXcan's), ``"blup"``, ``"bslmm"`` (a second or two per gene); or
        several of them. ``"enet"`` by default, and with `weights` all models of the table.
    layer
        Layer of `rna` to predict instead of ``X``.
    window
        Bases around the start site (``var["chrom"]``, ``var["tss"]`` of `rna`). By default the
        windows that :func:`omicllm.pp.gene_windows` wrote, else 49,152 bases around the start
        site, else, where nothing says where genes are, all variants. Several lengths: each gene
        and model takes the one of largest correlation over folds inside the training people.
    window_key
        Root of those windows.
    variants
        ``"snp"``: substitutions with one alternate allele, as published; ``"all"`` counts the
        alleles that are not the reference at every record.
    min_af
        Least frequency, among training people, of the rarer allele.
    {haploid}
    heritability
        ``"reml"`` or ``"he"`` (Haseman-Elston regression). BLUP uses the estimate.
    n_folds
        Folds, within the training people, that choose the penalty of lasso and elastic net, and
        the window.
    n_iter
        Sweeps of each of two chains of BSLMM; the first third is left out.
    weights
        Published weights to apply instead of fitting: a table of
        :func:`omicllm.io.read_twas_weights`, or a path that it reads. `window`, `variants`,
        `min_af`, `heritability`, `n_folds` and `n_iter` have no part in this. Nobody needs to be
        in training.
    ambiguous
        Published A/T and C/G substitutions, whose strand the alleles do not tell: ``"drop"`` them
        (as FUSION does), or ``"keep"`` them as given on the forward strand.
    split_key
        Column of ``rna.obs`` with train, val and test; or layer of `rna` (0 train, 1 validation,
        2 test) where the split depends on the gene, which is used first.
    rna, geno
        Names of the modalities.
    {rng}
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields, for each model m:

    ``mdata["rna"].layers["twas_<m>"]`` : float32
        Prediction for everybody, on the scale of the expression; the mean of the training people
        where a model has no effects. With `weights` relative to the mean of these people, on the
        scale of the publication; 0 without effects.
    ``mdata["rna"].var["twas_<m>_pearson"]`` : float32
        Correlation with expression over test people (everybody, with `weights` and no split);
        NaN where the prediction is constant.
    ``mdata["rna"].var["twas_<m>_intercept"]`` : float32
        Prediction = intercept + dosage times the weights (``X`` of `geno`, but for haploid and
        missing calls).
    ``mdata["rna"].var["twas_<m>_window"]`` : int32
        Length of the window that was chosen, of several.
    ``mdata["rna"].var["twas_bslmm_rhat"]`` : float32
        Convergence of BSLMM; above 1.1 raise `n_iter`.
    ``mdata["rna"].var["twas_h2"]``, ``"twas_h2_se"``, ``"twas_h2_pval"`` : float32
        Heritability among training people, standard error, p value against 0; of the longest
        window.
    ``mdata["rna"].var["twas_n_variants"]`` : int32
        Variants that the models saw, in the longest window; or published ones that were found.
    ``mdata["rna"].uns["twas"]["summary"]`` : DataFrame
        Per model: mean and median correlation with constant predictions counted as 0, number of
        genes with a constant prediction, genes scored.
    ``mdata["rna"].uns["twas"]["windows"]`` : DataFrame
        With several lengths, per gene, model and ``window``: ``n_variants``, ``cv_pearson``
        (folds inside the training people), ``pearson`` (test people; it plays no part in the
        choice), ``chosen``.
    ``mdata["rna"].uns["twas"]["weights"]`` : DataFrame
        With `weights`, per gene and model: ``n_published``, ``n_used``, ``n_missing``,
        ``n_mismatch`` (other alleles at that place), ``n_ambiguous`` (left out), ``n_flipped``
        (effect on the reference allele), ``n_strand`` (other strand), ``share_used`` (of the sum
        of absolute weights).
    ``mdata["geno"].varm["twas_<m>"]`` : csr float32 (n_variants, n_genes)
        Weights per allele; genes in ``mdata["geno"].uns["twas"]["genes"]``.

    Raises
    ------
    KeyError
        No such modality, layer or split; a table of weights without its columns.
    ValueError
        People in `rna` without genotypes; contigs that differ; too few training people; unknown
        model; weights of none of these genes or variants.

    Notes
    -----
    After FUSION (Gusev et al. 2016) and PrediXcan (Gamazon et al. 2015); BLUP is ridge with the
    penalty m (1 - h2) / h2. Missing genotypes (no call, half a call, NaN in ``X``) are filled with
    the mean of the training people; frequencies take a haploid call as one allele.
    """
    checks.one_of("ambiguous", ambiguous, ("drop", "keep"))
    checks.one_of("haploid", haploid, HAPLOID)
    if weights is None:
        checks.no_effect(twas, locals(), ("ambiguous",), because="without weights=")
    if weights is not None:
        idle = ("window", "window_key", "variants", "min_af", "heritability", "n_folds", "n_iter",
                "rng")  # fmt: skip
        why = "with weights=, which are applied as published"
        checks.no_effect(twas, locals(), idle, because=why)
        out = _published(mdata, weights, model, layer, ambiguous, split_key, rna, geno, haploid)
        settings: dict[str, Any] = {
            "weights": "table" if isinstance(weights, pd.DataFrame) else str(weights),
            "ambiguous": ambiguous,
        }
    else:
        checks.one_of("variants", variants, ("snp", "all"))
        how = linear.settings(
            model or "enet", min_af=min_af, heritability=heritability, n_folds=n_folds,
            n_iter=n_iter,
        )  # fmt: skip
        lengths = _lengths(window)
        cohort, genotypes = read_cohort(
            mdata, rna, geno, layer=layer, split_key=split_key, windows=lengths,
            window_key=window_key, snps=variants == "snp", haploid=haploid,
        )  # fmt: skip
        out = _fitted(
            cohort, genotypes, lengths, how, rngs.generator(rng), show_progress=show_progress
        )
        settings = {
            "window": window, "window_key": window_key, "variants": variants, "min_af": min_af,
            "heritability": heritability, "n_folds": n_folds, "n_iter": n_iter,
            "rng": rngs.recorded(rng),
        }  # fmt: skip
    values, varm, tables, genes = out
    models = tables["summary"]["model"].tolist()
    params = {
        "model": models,
        "layer": layer,
        **settings,
        "haploid": haploid,
        "split_key": split_key,
        "rna": rna,
        "geno": geno,
    }
    of_rna = results.Result("tl.twas", values, params, tables, key_added, rna)
    of_geno = results.Result("tl.twas", varm, params, {"genes": genes}, key_added, geno)
    return results.write(mdata, of_rna, of_geno, copy=copy)


def _one_gene(
    windows: list[tuple[np.ndarray, np.ndarray]], y: np.ndarray, train: np.ndarray,
    test: np.ndarray, rng: np.random.Generator, how: linear.Settings,
) -> tuple[list[Any], Any]:  # fmt: skip
    """Models of one gene in every window, and the heritability in the last.

    Per window: variants, r within the training people by model (with several windows), and by
    model the fit, everybody's prediction and r over the test people.
    """
    tried, estimate = [], None
    for at, dosage in windows:
        inner = linear.held_out_r(dosage[train], y[train], how, rng) if len(windows) > 1 else {}
        fits, estimate = linear.fit_gene(dosage[train], y[train], how, rng)
        kept = {}
        for m, fit in fits.items():
            predicted = fit.predict(dosage)
            kept[m] = fit, predicted, agreement(predicted[test], y[test])[0]
        tried.append((at, inner, kept))
    return tried, estimate


def _lengths(window: int | Sequence[int] | None) -> list[int | None]:
    """Lengths of windows, shortest first."""
    if window is None or np.ndim(window) == 0:
        if window is not None:
            checks.whole_number("window", window)
        return [window]  # type: ignore[list-item]
    several = sorted({checks.whole_number("window", w) for w in np.asarray(window).tolist()})
    if not several:
        msg = "window holds no length."
        raise ValueError(msg)
    return list(several)


def _fitted(
    cohort: Cohort, genotypes: Genotypes, lengths: Sequence[int | None], how: linear.Settings,
    rng: np.random.Generator, *, show_progress: bool | None,
) -> Any:  # fmt: skip
    """Slots of `rna` and of `geno`, tables and genes of models fitted here."""
    n_people, n_genes = cohort.Y.shape
    out = {m: np.zeros((n_people, n_genes), dtype=np.float32) for m in how.models}
    names = [f"{m}_{what}" for m in how.models for what in ("pearson", "intercept")]
    columns = linear.columns_of(n_genes, [*names, "h2", "h2_se", "h2_pval"])
    if "bslmm" in how.models:
        columns |= linear.columns_of(n_genes, ["bslmm_rhat"])
    sweep = len(lengths) > 1
    chosen = {m: np.zeros(n_genes, dtype=np.int32) for m in how.models}
    seen = np.zeros(n_genes, dtype=np.int32)
    effects: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {m: [] for m in how.models}
    rows: list[tuple[Any, ...]] = []
    tasks = (
        (
            [genotypes.of_gene(g, cohort.train[:, g], how.min_af, w) for w in range(len(lengths))],
            cohort.Y[:, g], cohort.train[:, g], cohort.test[:, g], stream,
        )
        for g, stream in enumerate(rng.spawn(n_genes))
    )  # fmt: skip
    found = blocks.run(_one_gene, tasks, how, lazy=genotypes.lazy)
    for g in progress(range(n_genes), what="TWAS", show_progress=show_progress):
        tried, estimate = next(found)
        seen[g] = len(tried[-1][0])  # the longest window is the last
        if estimate is not None:
            columns["h2"][g], columns["h2_se"][g] = estimate.h2, estimate.se
            columns["h2_pval"][g] = estimate.pval
        for m in how.models:
            # Of equals the shortest: it asks for the least.
            best = int(np.argmax([inner.get(m, 0.0) for _, inner, _ in tried]))
            for w, (at, inner, fits) in enumerate(tried):
                _, _, r = fits[m]
                score = inner.get(m, 0.0)
                rows.append((cohort.genes[g], m, lengths[w], len(at), score, r, w == best))
            at, (fit, predicted, r) = tried[best][0], tried[best][2][m]
            out[m][:, g], chosen[m][g] = predicted, lengths[best] or 0
            columns[f"{m}_intercept"][g], columns[f"{m}_pearson"][g] = fit.intercept, r
            if m == "bslmm":
                columns["bslmm_rhat"][g] = fit.rhat
            used = np.flatnonzero(fit.effect)
            effects[m].append((at[used], fit.effect[used]))
    tables = {"summary": _summary(how.models, columns, cohort.test)}
    values = _slots(out, columns, seen)
    if sweep:
        tables["windows"] = cohort.as_in_object(
            pd.DataFrame(rows, columns=_WINDOWS, index=[str(i) for i in range(len(rows))])
        )
        values |= {f"var:{{root}}_{m}_window": chosen[m] for m in how.models}
    varm = {f"varm:{{root}}_{m}": _stacked(effects[m], genotypes.n_total) for m in how.models}
    return _as_in_object(cohort, values, varm, tables)


def _published(
    mdata: MuData, weights: Any, model: str | Sequence[str] | None, layer: str | None,
    ambiguous: str, split_key: str, rna: str, geno: str, haploid: Literal["double", "single"],
) -> Any:  # fmt: skip
    """Slots of `rna` and of `geno`, tables and genes of published weights."""
    cohort, genotypes = read_cohort(
        mdata, rna, geno, layer=layer, split_key=split_key, training=False, haploid=haploid
    )
    found = apply_weights(
        weights, model, cohort, genotypes, mdata.mod[geno].var, keep_ambiguous=ambiguous == "keep"
    )
    n_people, n_genes = cohort.Y.shape
    names = [f"{m}_{what}" for m in found.models for what in ("pearson", "intercept")]
    columns = linear.columns_of(n_genes, names)
    out, seen = {}, np.zeros(n_genes, dtype=np.int32)
    for m in found.models:
        P = np.zeros((n_people, n_genes))
        for g, (at, effect, intercept) in found.of_model[m].items():
            P[:, g] = intercept + genotypes.filled(at, found.everybody) @ effect
            columns[f"{m}_intercept"][g] = intercept
            seen[g] = max(seen[g], len(at))
            test = cohort.test[:, g]
            columns[f"{m}_pearson"][g] = agreement(P[test, g], cohort.Y[test, g])[0]
        out[m] = P.astype(np.float32)
    tables = {
        "summary": _summary(found.models, columns, found.scored & cohort.test),
        "weights": found.table,
    }
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
    varm = {
        f"varm:{{root}}_{m}": _stacked(
            [found.of_model[m].get(g, nothing)[:2] for g in range(n_genes)], genotypes.n_total
        )
        for m in found.models
    }
    return _as_in_object(cohort, _slots(out, columns, seen), varm, tables)


def _as_in_object(
    cohort: Cohort, values: dict[str, Any], varm: dict[str, Any], tables: dict[str, Any]
) -> Any:
    """Slots of `rna` and of `geno`, tables and genes, with people and genes as the object has them.

    Tables that are sorted by gene are already.
    """
    genes = np.argsort(cohort.order.var)
    weights = {slot: value[:, genes] for slot, value in varm.items()}
    return cohort.order.restore(values), weights, tables, cohort.genes[genes]


def _slots(
    out: dict[str, np.ndarray], columns: dict[str, np.ndarray], seen: np.ndarray
) -> dict[str, Any]:
    """Slots of `rna`."""
    values: dict[str, Any] = {f"layers:{{root}}_{m}": P for m, P in out.items()}
    values |= {f"var:{{root}}_{k}": v for k, v in columns.items()}
    values["var:{root}_n_variants"] = seen
    return values


def _summary(models: Sequence[str], columns: dict[str, np.ndarray], test: np.ndarray) -> Any:
    scored = test.any(axis=0)
    rows = []
    for m in models:
        r = columns[f"{m}_pearson"][scored]
        filled = np.nan_to_num(r)
        mean, median = (float(f(filled)) if len(r) else np.nan for f in (np.mean, np.median))
        rows.append((m, mean, median, int(np.isnan(r).sum()), len(r)))
        logger.info("%s: mean r %.3f over %d genes (%d constant)", m, mean, len(r), rows[-1][3])
    names = ["model", "mean_pearson", "median_pearson", "n_constant", "n_genes"]
    return pd.DataFrame(rows, columns=names, index=[str(i) for i in range(len(rows))])


def _stacked(weights: list[tuple[np.ndarray, np.ndarray]], n: int) -> sparse.csr_matrix:
    """Weights of all genes as variants x genes."""
    genes = np.repeat(np.arange(len(weights)), [len(at) for at, _ in weights])
    at = np.concatenate([a for a, _ in weights]) if weights else np.zeros(0, dtype=np.int64)
    data = np.concatenate([w for _, w in weights]) if weights else np.zeros(0)
    shape = (n, len(weights))
    return sparse.csr_matrix((data.astype(np.float32), (at, genes)), shape=shape)
