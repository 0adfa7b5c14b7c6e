"""Published weights of expression models, matched to the variants of a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm.genome.expression_weights import arranged, orientation, read_weights
from omicllm.genome.places import places_of
from omicllm.genome.windows import match_genes
from omicllm.tl._twas_fit import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omicllm.tl._twas_inputs import Cohort, Genotypes

_COUNTS = ("n_used", "n_missing", "n_mismatch", "n_ambiguous", "n_flipped", "n_strand")


@dataclass
class Published:
    """Published weights on the variants of this cohort.

    Attributes
    ----------
    models
        Names of the models.
    of_model
        Model -> number of the gene -> variants, effects per allele that is not the reference,
        intercept that makes the mean over everybody 0.
    table
        What was matched, by gene and model.
    scored
        bool (n_genes,): genes with published weights.
    everybody
        bool (n_people,), all True: mean and deviation of dosages are taken over all people, since
        no label is looked at.
    """

    models: list[str]
    of_model: dict[str, dict[int, tuple[np.ndarray, np.ndarray, float]]]
    table: pd.DataFrame
    scored: np.ndarray
    everybody: np.ndarray


def apply_weights(
    weights: Any, model: str | Sequence[str] | None, cohort: Cohort, genotypes: Genotypes,
    var: pd.DataFrame, *, keep_ambiguous: bool,
) -> Published:  # fmt: skip
    """Match a table of weights to genes and variants.

    Raises
    ------
    KeyError
        Columns that are not there.
    ValueError
        An unknown model; weights of none of these genes, or of none of their variants.
    """
    frame = _checked(weights, model)
    models = [str(m) for m in dict.fromkeys(frame["model"])]
    of_gene = match_genes(cohort.genes.tolist(), pd.DataFrame({"gene_id": frame["gene"].unique()}))
    names = frame["gene"].unique()
    if (of_gene < 0).all():
        msg = (
            f"weights are of {len(names)} genes ({checks.listed(names, most=3)}), none of them in "
            f"rna ({checks.listed(cohort.genes, most=3)})."
        )
        raise ValueError(msg)
    finder = _Finder(var)
    everybody = np.ones(len(cohort.Y), dtype=bool)
    of_model: dict[str, dict[int, tuple[np.ndarray, np.ndarray, float]]] = {m: {} for m in models}
    rows: list[dict[str, Any]] = []
    blocks = {(str(g), str(m)): b for (g, m), b in frame.groupby(["gene", "model"], sort=False)}
    for g in np.flatnonzero(of_gene >= 0):
        for m in models:
            block = blocks.get((str(names[of_gene[g]]), m))
            if block is None:
                continue
            at, effect, counts = finder.match(block, keep_ambiguous=keep_ambiguous)
            of_model[m][int(g)] = _per_allele(genotypes, block, at, effect, everybody)
            total = float(block["weight"].abs().sum())
            used = float(np.abs(block["weight"].to_numpy()[at >= 0]).sum())
            rows.append(
                {"gene": str(cohort.genes[g]), "model": m, "n_published": len(block), **counts,
                 "share_used": used / total if total else 0.0}
            )  # fmt: skip
    table = pd.DataFrame(rows, index=[str(i) for i in range(len(rows))])
    sums = table[["n_published", *_COUNTS]].sum()
    if not sums["n_used"]:
        msg = (
            f"none of the {sums['n_published']} published variants of these genes is among the "
            f"genotypes ({sums['n_missing']} absent, {sums['n_mismatch']} with other alleles, "
            f"{sums['n_ambiguous']} A/T or C/G). Names are matched to var['id'], else places to "
            "var['chrom'] and var['pos']: is this the same genome build?"
        )
        raise ValueError(msg)
    logger.info(
        "published weights: %d of %d used (%d absent, %d other alleles, %d A/T or C/G left out; "
        "%d on the reference allele, %d on the other strand)",
        sums["n_used"], sums["n_published"], sums["n_missing"], sums["n_mismatch"],
        sums["n_ambiguous"], sums["n_flipped"], sums["n_strand"],
    )  # fmt: skip
    if sums["n_used"] < 0.8 * sums["n_published"]:
        logger.warning(
            "only %d of %d published variants are used; see uns['twas']['weights'] of rna",
            sums["n_used"], sums["n_published"],
        )  # fmt: skip
    return Published(models, of_model, table, of_gene >= 0, everybody)


def _checked(weights: Any, model: str | Sequence[str] | None) -> pd.DataFrame:
    """The table, with the columns that matching needs, of the models asked for."""
    if isinstance(weights, pd.DataFrame):
        frame = arranged(weights.reset_index(drop=True), "weights")
    elif isinstance(weights, (str, Path)):
        frame = read_weights(weights)
    else:
        msg = f"weights must be a DataFrame or a path, not {type(weights).__name__}."
        raise TypeError(msg)
    if not np.isfinite(frame["weight"].to_numpy(dtype=np.float64)).all():
        msg = "weights hold values that are NaN or infinite."
        raise ValueError(msg)
    there = [str(m) for m in dict.fromkeys(frame["model"])]
    asked = there if model is None else [model] if isinstance(model, str) else list(model)
    for m in asked:
        checks.one_of("model", m, [t for t in there if t in MODELS] if m in MODELS else MODELS)
    frame = frame[frame["model"].isin(asked) & (frame["weight"] != 0)]
    if frame.empty:
        msg = "weights hold no value other than 0."
        raise ValueError(msg)
    return frame


class _Finder:
    """Looks variants up by name, else by place; of several records the one whose alleles fit."""

    def __init__(self, var: pd.DataFrame) -> None:
        for column in ("chrom", "pos", "ref", "alt"):
            if column not in var:
                hint = "Read genotypes with ol.io.read_vcf."
                raise checks.missing(column, "geno.var", var, hint=hint)
        self.ref = var["ref"].astype(str).str.upper().to_numpy()
        self.alt = var["alt"].astype(str).str.upper().to_numpy()
        self.by_name: dict[str, list[int]] = {}
        if "id" in var:
            for j, names in enumerate(var["id"].astype(str)):
                for name in names.split(";"):
                    if name not in ("", ".", "nan"):
                        self.by_name.setdefault(name, []).append(j)
        self.by_place: dict[tuple[str, int], list[int]] = {}
        for j, (chrom, pos) in enumerate(zip(*places_of(var), strict=True)):
            self.by_place.setdefault((chrom.removeprefix("chr"), int(pos)), []).append(j)

    def match(
        self, block: pd.DataFrame, *, keep_ambiguous: bool
    ) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Record of each weight (-1 for none), sign of its effect on the other allele, counts."""
        n = dict.fromkeys(_COUNTS, 0)
        at, sign = np.full(len(block), -1, dtype=np.int64), np.zeros(len(block))
        taken: set[int] = set()
        for i, row in enumerate(block.itertuples(index=False)):
            place = str(row.chrom).removeprefix("chr"), int(row.pos)
            found = self.by_name.get(str(row.variant)) or self.by_place.get(place, [])
            if not found:
                n["n_missing"] += 1
                continue
            alleles = (str(row.effect_allele), str(row.other_allele))
            for j in found:
                how = orientation(*alleles, self.ref[j], self.alt[j])
                if how is not None and j not in taken:
                    break
            else:
                n["n_mismatch"] += 1
                continue
            if how.ambiguous and not keep_ambiguous:
                n["n_ambiguous"] += 1
                continue
            taken.add(j)
            at[i], sign[i] = j, how.sign
            n["n_used"] += 1
            n["n_flipped"] += how.sign < 0
            n["n_strand"] += how.other_strand
        return at, sign, n


def _per_allele(
    genotypes: Genotypes, block: pd.DataFrame, at: np.ndarray, sign: np.ndarray,
    everybody: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """Records, effects per allele that is not the reference, and the intercept of mean 0."""
    used = at >= 0
    dosage = genotypes.filled(at[used], everybody)
    effect = (block["weight"].to_numpy(dtype=np.float64) * sign)[used]
    sd = dosage.std(axis=0)
    by_deviation = block["standardized"].to_numpy(dtype=bool)[used]
    scale = np.where(by_deviation, np.where(sd > 1e-9, sd, np.inf), 1.0)
    effect = effect / scale
    return at[used], effect, -float(dosage.mean(axis=0) @ effect)
