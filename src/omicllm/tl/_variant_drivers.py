"""`omicllm.tl.variant_drivers`: the few variants that make a model's predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger, progress
from omicllm.genome.dosage import HAPLOID
from omicllm.stats.people import constant
from omicllm.tl._genotypes import HAPLOID_DOC, calls_of, rows_of_people

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

_COLUMNS = ("gene", "variant", "rank", "effect", "af", "r", "gain", "marginal_r", "pval")


@docs.fill(haploid=HAPLOID_DOC)
def variant_drivers(
    mdata: MuData,
    *,
    prediction: str = "personal_pair_regression",
    effects_key: str = "variant_effects",
    min_gain: float = 0.05,
    alpha: float = 0.01,
    haploid: Literal["double", "single"] = "double",
    rna: str = "rna",
    geno: str = "geno",
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Find, for each gene, the variants that a model's differences between people come from.

    Variants are taken from the largest effect down. One is kept when the sum of the effects kept so
    far, with it, agrees better with the prediction by at least `min_gain`, and when it alone agrees
    with the prediction.

    Parameters
    ----------
    mdata
        MuData of `rna` with predictions and `geno` with effects.
    prediction
        Layer of `rna` with predictions: of a network, or ``"twas_enet"`` and the like.
    effects_key
        Effects in ``geno.varm``: of :func:`omicllm.tl.variant_effects`, or the weights
        ``"twas_enet"`` of :func:`omicllm.tl.twas`.
    min_gain
        Least rise of the correlation.
    alpha
        Level of the test that the variant alone correlates with the prediction, Bonferroni over
        the gene's variants.
    {haploid}
    rna, geno
        Names of the modalities.
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``mdata["geno"].uns["variant_drivers"]["table"]`` : DataFrame
        ``gene``, ``variant``, ``rank`` (in the order kept), ``effect``, ``af``, ``r`` (of the sum
        with the prediction), ``gain``, ``marginal_r``, ``pval`` (Bonferroni).
    ``mdata["rna"].var["variant_drivers_n"]`` : int32
        Drivers of each gene.

    Raises
    ------
    KeyError
        No such modality, layer or effects.
    ValueError
        People in `rna` without genotypes; effects whose genes are not known.

    Notes
    -----
    The procedure of the published analysis of fine-tuned networks (doi
    10.1186/s13059-026-04091-1).
    """
    checks.one_of("haploid", haploid, HAPLOID)
    people, variants = inputs.resolve(mdata, rna), inputs.resolve(mdata, geno)
    checks.share("min_gain", min_gain)
    checks.share("alpha", alpha)
    inputs.stored(people, prediction)
    if effects_key not in variants.varm:
        hint = "Make them with ol.tl.variant_effects or ol.tl.twas."
        raise checks.missing(effects_key, "geno.varm", variants.varm, hint=hint)
    W = inputs.columns(variants.varm[effects_key])
    genes = genes_of_columns(variants, effects_key, W.shape[1])
    at = rows_of_people(people, variants, rna=rna, geno=geno)
    column = people.var_names.astype(str).get_indexer(genes)
    calls = calls_of(variants, at)
    dosage = calls.dosage(haploid)
    predicted = inputs.dense_rows(people, prediction)
    af = calls.frequency()
    names = np.asarray(variants.var_names.astype(str))
    rows: list[tuple[Any, ...]] = []
    counts = np.zeros(people.n_vars, dtype=np.int32)
    steps = progress(range(W.shape[1]), what="Genes", total=W.shape[1], show_progress=show_progress)
    for g in steps:
        inside = slice(W.indptr[g], W.indptr[g + 1])
        which, effect = W.indices[inside], W.data[inside].astype(np.float64)
        if column[g] < 0 or not len(which):
            continue
        found = _drivers(
            dosage[:, which].toarray().astype(np.float64), effect, predicted[:, column[g]],
            min_gain, alpha,
        )  # fmt: skip
        counts[column[g]] = len(found)
        for rank, (j, r, gain, marginal, p) in enumerate(found, 1):
            v = which[j]
            rows.append((genes[g], names[v], rank, effect[j], af[v], r, gain, marginal, p))
    table = pd.DataFrame(rows, columns=list(_COLUMNS), index=[str(i) for i in range(len(rows))])
    logger.info("%d drivers of %d genes", len(table), W.shape[1])
    params = {
        "prediction": prediction, "effects_key": effects_key, "min_gain": min_gain,
        "alpha": alpha, "haploid": haploid, "rna": rna, "geno": geno,
    }  # fmt: skip
    of_rna = {"var:{root}_n": counts}
    first = results.Result("tl.variant_drivers", of_rna, params, {}, key_added, rna)
    second = results.Result("tl.variant_drivers", {}, params, {"table": table}, key_added, geno)
    return results.write(mdata, first, second, copy=copy)


def genes_of_columns(variants: AnnData, key: str, n: int) -> list[str]:
    """Genes of the columns of effects, from the entry of `uns` that the verb made."""
    for root in (key, key.rsplit("_", 1)[0]):
        entry = variants.uns.get(root, {})
        if "genes" in entry and len(entry["genes"]) == n:
            return [str(g) for g in entry["genes"]]
    msg = f"geno.uns does not say which genes the {n} columns of varm[{key!r}] are."
    raise ValueError(msg)


def _drivers(
    D: np.ndarray, effect: np.ndarray, predicted: np.ndarray, min_gain: float, alpha: float
) -> list[tuple[int, float, float, float, float]]:
    """Number, r of the sum, gain, marginal r and p value of each variant that is kept."""
    known = np.isfinite(predicted)
    D, predicted = D[known], predicted[known]
    n, m = D.shape
    if n < 4 or constant(predicted):
        return []
    total, best, kept = np.zeros(n), 0.0, []
    for j in np.argsort(-np.abs(effect), kind="stable"):
        part = effect[j] * D[:, j]
        if constant(part):
            continue
        marginal = float(np.corrcoef(part, predicted)[0, 1])
        t = marginal * np.sqrt((n - 2) / max(1e-12, 1 - marginal**2))
        pval = min(1.0, m * 2 * float(stats.t.sf(abs(t), n - 2)))
        if marginal <= 0 or pval >= alpha:
            continue
        r = float(np.corrcoef(total + part, predicted)[0, 1])
        if r - best >= min_gain:
            kept.append((int(j), r, r - best, marginal, pval))
            total, best = total + part, r
    return kept
