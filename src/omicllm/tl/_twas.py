"""`omicllm.tl.twas`: linear models of expression from genotypes near the gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from omicllm._core import checks, docs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.genome import linear_models
from omicllm.genome.bslmm import bslmm
from omicllm.tl._twas_inputs import Cohort, Genotypes, read_cohort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

MODELS = ("top1", "lasso", "enet", "blup", "bslmm")
#: Share of the absolute value in the penalty of the elastic net.
_L1_RATIO = {"lasso": 1.0, "enet": 0.5}


@docs.fill()
def twas(
    mdata: MuData,
    *,
    model: str | Sequence[str] = "enet",
    layer: str | None = None,
    window: int | None = None,
    window_key: str = "window",
    variants: Literal["snp", "all"] = "snp",
    min_af: float = 0.05,
    heritability: Literal["reml", "he"] = "reml",
    n_folds: int = 5,
    n_iter: int = 600,
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
    fitted on the training people and applied to everybody.

    Parameters
    ----------
    mdata
        MuData of `rna` (people x genes, corrected expression) and `geno` (people x variants, from
        :func:`omicllm.io.read_vcf`). Everybody in `rna` must be in `geno`.
    model
        ``"top1"`` (the one variant of largest correlation), ``"lasso"``, ``"enet"`` (elastic net
        with mixing .5, PrediXcan's), ``"blup"``, ``"bslmm"`` (a second or two per gene); or
        several of them.
    layer
        Layer of `rna` to predict instead of ``X``.
    window
        Bases around the start site (``var["chrom"]``, ``var["tss"]`` of `rna`). By default the
        windows that :func:`omicllm.pp.gene_windows` wrote, else 49,152 bases around the start
        site, else, where nothing says where genes are, all variants.
    window_key
        Root of those windows.
    variants
        ``"snp"``: substitutions with one alternate allele, as published; ``"all"`` counts the
        alleles that are not the reference at every record.
    min_af
        Least frequency, among training people, of the rarer allele.
    heritability
        ``"reml"`` or ``"he"`` (Haseman-Elston regression). BLUP uses the estimate.
    n_folds
        Folds, within the training people, that choose the penalty of lasso and elastic net.
    n_iter
        Sweeps of each of two chains of BSLMM; the first third is left out.
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
        where a model has no effects.
    ``mdata["rna"].var["twas_<m>_pearson"]`` : float32
        Correlation with expression over test people; NaN where the prediction is constant.
    ``mdata["rna"].var["twas_<m>_intercept"]`` : float32
        Prediction = intercept + X of `geno` times the weights.
    ``mdata["rna"].var["twas_bslmm_rhat"]`` : float32
        Convergence of BSLMM; above 1.1 raise `n_iter`.
    ``mdata["rna"].var["twas_h2"]``, ``"twas_h2_se"``, ``"twas_h2_pval"`` : float32
        Heritability among training people, standard error, p value against 0.
    ``mdata["rna"].var["twas_n_variants"]`` : int32
        Variants that the models saw.
    ``mdata["rna"].uns["twas"]["summary"]`` : DataFrame
        Per model: mean and median correlation with constant predictions counted as 0, number of
        genes with a constant prediction, genes scored.
    ``mdata["geno"].varm["twas_<m>"]`` : csr float32 (n_variants, n_genes)
        Weights per allele; genes in ``mdata["geno"].uns["twas"]["genes"]``.

    Raises
    ------
    KeyError
        No such modality, layer or split.
    ValueError
        People in `rna` without genotypes; contigs that differ; too few training people; unknown
        model.

    Notes
    -----
    After FUSION (Gusev et al. 2016) and PrediXcan (Gamazon et al. 2015); BLUP is ridge with the
    penalty m (1 - h2) / h2. Missing genotypes are filled with the mean of the training people.
    """
    models = [model] if isinstance(model, str) else list(dict.fromkeys(model))
    for name in models:
        checks.one_of("model", name, MODELS)
    checks.one_of("variants", variants, ("snp", "all"))
    checks.one_of("heritability", heritability, ("reml", "he"))
    checks.share("min_af", min_af, high=0.5)
    checks.whole_number("n_folds", n_folds, at_least=2)
    checks.whole_number("n_iter", n_iter, at_least=30)
    if window is not None:
        checks.whole_number("window", window)
    cohort, genotypes = read_cohort(
        mdata, rna, geno, layer=layer, split_key=split_key, window=window, window_key=window_key,
        snps=variants == "snp",
    )  # fmt: skip
    generator = rngs.generator(rng)
    n_people, n_genes = cohort.Y.shape
    out = {m: np.zeros((n_people, n_genes), dtype=np.float32) for m in models}
    columns = {f"{m}_{what}": np.full(n_genes, np.nan, dtype=np.float32)
               for m in models for what in ("pearson", "intercept")}  # fmt: skip
    columns |= {k: np.full(n_genes, np.nan, dtype=np.float32) for k in ("h2", "h2_se", "h2_pval")}
    if "bslmm" in models:
        columns["bslmm_rhat"] = np.full(n_genes, np.nan, dtype=np.float32)
    seen = np.zeros(n_genes, dtype=np.int32)
    weights: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {m: [] for m in models}
    for g in progress(range(n_genes), what="TWAS", show_progress=show_progress):
        fits, at, dosage, estimate = _fit_gene(
            cohort, genotypes, g, models, min_af, heritability, n_folds, n_iter, generator
        )
        seen[g] = len(at)
        if estimate is not None:
            columns["h2"][g], columns["h2_se"][g] = estimate.h2, estimate.se
            columns["h2_pval"][g] = estimate.pval
        y, test = cohort.Y[:, g], cohort.test[:, g]
        for m in models:
            effect, intercept, rhat = fits[m]
            prediction = intercept + dosage @ effect
            out[m][:, g] = prediction
            columns[f"{m}_intercept"][g] = intercept
            columns[f"{m}_pearson"][g] = _pearson(prediction[test], y[test])
            if m == "bslmm":
                columns["bslmm_rhat"][g] = rhat
            used = np.flatnonzero(effect)
            weights[m].append((at[used], effect[used]))
    summary = _summary(models, columns, cohort.test)
    params = {
        "model": models, "layer": layer, "window": window, "window_key": window_key,
        "variants": variants, "min_af": min_af, "heritability": heritability, "n_folds": n_folds,
        "n_iter": n_iter, "split_key": split_key, "rna": rna, "geno": geno,
        "rng": rngs.recorded(rng),
    }  # fmt: skip
    values: dict[str, Any] = {f"layers:{{root}}_{m}": out[m] for m in models}
    values |= {f"var:{{root}}_{k}": v for k, v in columns.items()}
    values["var:{root}_n_variants"] = seen
    varm = {f"varm:{{root}}_{m}": _stacked(weights[m], genotypes.n_total) for m in models}
    target = mdata.copy() if copy else mdata
    of_rna = results.Result("tl.twas", values, params, {"summary": summary}, key_added)
    of_geno = results.Result("tl.twas", varm, params, {"genes": cohort.genes}, key_added)
    results.write(target, of_rna, mod=rna)
    results.write(target, of_geno, mod=geno)
    return target if copy else None


def _fit_gene(
    cohort: Cohort, genotypes: Genotypes, g: int, models: Sequence[str], min_af: float,
    heritability: str, n_folds: int, n_iter: int, rng: np.random.Generator,
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, Any]:  # fmt: skip
    """Effects per allele, intercept and convergence of each model of one gene.

    Returns them with the variants (numbers among all), the dosages of everybody, and the
    heritability.
    """
    train = cohort.train[:, g]
    y = cohort.Y[train, g]
    level = float(y.mean())
    at, dosage = genotypes.of_gene(g, train, min_af)
    centred = y - level
    if not len(at) or not centred.any():
        none = np.zeros(len(at))
        return dict.fromkeys(models, (none, level, 1.0)), at, dosage, None
    mean, sd = dosage[train].mean(axis=0), dosage[train].std(axis=0)
    X = np.asfortranarray((dosage[train] - mean) / sd)
    related = linear_models.Relatedness(X)
    estimate = related.reml(centred) if heritability == "reml" else related.haseman_elston(centred)
    folds = np.arange(len(y)) % n_folds
    fits = {}
    for m in models:
        rhat = 1.0
        if m == "top1":
            effect = linear_models.top_variant(X, centred)
        elif m == "blup":
            effect = related.blup(centred, estimate.h2)
        elif m == "bslmm":
            found = bslmm(X, centred, rng=rng, n_iter=n_iter, n_burn=n_iter // 3)
            effect, rhat = found.effects, found.rhat
        else:
            effect = linear_models.elastic_net(
                X, centred, l1_ratio=_L1_RATIO[m], folds=rng.permutation(folds)
            )
        effect = effect / sd
        fits[m] = effect, level - float(mean @ effect), rhat
    return fits, at, dosage, estimate


def _pearson(prediction: np.ndarray, y: np.ndarray) -> float:
    """Correlation over people with expression; NaN for a constant."""
    known = np.isfinite(y)
    a, b = prediction[known], y[known]
    if len(a) < 3 or np.ptp(a) < 1e-9 * max(1.0, float(np.abs(a).max())) or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])


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
