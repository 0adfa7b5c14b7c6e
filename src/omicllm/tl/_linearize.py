"""`omicllm.tl.linearize`: how far a network is a sum over variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm.genome.dosage import HAPLOID
from omicllm.stats.people import agreement
from omicllm.tl._genotypes import HAPLOID_DOC, calls_of, rows_of_people

if TYPE_CHECKING:
    from mudata import MuData


@docs.fill(haploid=HAPLOID_DOC)
def linearize(
    mdata: MuData,
    *,
    prediction: str = "personal_pair_regression",
    effects_key: str = "variant_effects",
    haploid: Literal["double", "single"] = "double",
    rna: str = "rna",
    geno: str = "geno",
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Add up the effects of each person's variants, and compare with the network's prediction.

    A network whose predictions are such sums has learned a linear model of the variants, however
    deep it is. The published one nearly has (mean accuracy .278 against .274 of its sums).

    Parameters
    ----------
    mdata
        MuData of `rna` with predictions (:func:`omicllm.tl.personal_expression`) and `geno` with
        effects (:func:`omicllm.tl.variant_effects`, of all variants: ``min_af=0``).
    prediction
        Layer of `rna` with the predictions of the network that the effects are of.
    effects_key
        Root of the effects.
    {haploid}
    rna, geno
        Names of the modalities.
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``mdata["rna"].layers["linearized"]`` : float32
        Half the sum of the effects of the alleles that a person carries; NaN for genes without
        effects. :func:`omicllm.tl.evaluate_personal` compares it with expression.
    ``mdata["rna"].var["linearized_pearson"]`` : float32
        Correlation with the network's prediction over everybody; NaN where one is constant.

    Raises
    ------
    KeyError
        No such modality, layer or effects.
    ValueError
        People in `rna` without genotypes.

    Notes
    -----
    At records with several alternate alleles every one counts with the effect of the first.
    """
    checks.one_of("haploid", haploid, HAPLOID)
    people, variants = inputs.resolve(mdata, rna), inputs.resolve(mdata, geno)
    inputs.stored(people, prediction)
    if effects_key not in variants.varm or "genes" not in variants.uns.get(effects_key, {}):
        hint = "Make them with ol.tl.variant_effects(mdata, model=...)."
        raise checks.missing(effects_key, "geno.varm", variants.varm, hint=hint)
    at = rows_of_people(people, variants, rna=rna, geno=geno)
    genes = [str(g) for g in variants.uns[effects_key]["genes"]]
    column = people.var_names.astype(str).get_indexer(genes)
    W = inputs.gene_major(variants.varm[effects_key])
    used = np.flatnonzero(np.diff(W.tocsr().indptr))
    dosage = calls_of(variants, at).dosage(haploid)[:, used]
    total = np.asarray((dosage @ W[used]).todense(), dtype=np.float32) / 2
    P = np.full(people.shape, np.nan, dtype=np.float32)
    P[:, column[column >= 0]] = total[:, column >= 0]
    predicted = inputs.dense_rows(people, prediction)
    r = np.full(people.n_vars, np.nan, dtype=np.float32)
    for g in column[column >= 0]:
        r[g] = agreement(P[:, g], predicted[:, g])[0]
    logger.info("median r of the sums with the network: %.3f", _median(r))
    params: dict[str, Any] = {
        "prediction": prediction, "effects_key": effects_key, "haploid": haploid,
        "rna": rna, "geno": geno,
    }  # fmt: skip
    values = {"layers:{root}": P, "var:{root}_pearson": r}
    result = results.Result("tl.linearize", values, params, key_added=key_added)
    return results.write(mdata, result, mod=rna, copy=copy)


def _median(r: np.ndarray) -> float:
    known = r[np.isfinite(r)]
    return float(np.median(known)) if len(known) else float("nan")
