"""Genotypes of a MuData as the verbs on people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, inputs
from omicllm.genome.dosage import Calls

if TYPE_CHECKING:
    from anndata import AnnData

HAPLOID_DOC = """\
haploid
    What an allele of a haploid call (X and Y of men, MT) counts: ``"double"``, as much as two (0
    or 2, as PLINK and FUSION take it), or ``"single"`` (0 or 1). Of sequences: both haplotypes
    have the allele, or the second is the reference."""


#: Programs that impute round dosages to two or three digits.
_ROUNDED = 0.01


def rows_of_people(people: AnnData, variants: AnnData, *, rna: str, geno: str) -> np.ndarray:
    """Row of everybody of the expression among the genotypes.

    Raises
    ------
    ValueError
        People without genotypes, or a name that several people bear.
    """
    for name, names in ((rna, people.obs_names), (geno, variants.obs_names)):
        if len(twice := names[names.duplicated()].unique()):
            msg = (
                f"mdata[{name!r}] names people twice ({checks.listed(twice, most=3)}): who is who "
                "among the genotypes cannot be told. Rename or drop them."
            )
            raise ValueError(msg)
    rows = variants.obs_names.get_indexer(people.obs_names)
    if (rows < 0).any():
        absent = people.obs_names[rows < 0]
        msg = (
            f"{len(absent)} of {people.n_obs} people in mdata[{rna!r}] are not in mdata[{geno!r}] "
            f"({checks.listed(absent, most=3)}). Keep those in both: "
            f"mdata[mdata[{rna!r}].obs_names.intersection(mdata[{geno!r}].obs_names)].copy()."
        )
        raise ValueError(msg)
    return np.asarray(rows)


def calls_of(variants: AnnData, rows: np.ndarray | None = None) -> Calls:
    """Dosages, missing and haploid calls of some people, or of all.

    Parameters
    ----------
    variants
        People x variants.
    rows
        Numbers of the people, in the order wanted.

    Raises
    ------
    ValueError
        A dosage outside 0 to 2, such as -1 or -9 for a missing call.
    """
    names = [n for n in ("hap1", "hap2", "haploid") if n in variants.layers]
    read = {n: inputs.by_gene(variants, n) for n in names}
    read["X"] = inputs.by_gene(variants)
    if rows is not None:
        read = {name: values.tocsr()[rows].tocsc() for name, values in read.items()}
    X = read["X"]
    wrong = np.flatnonzero((X.data < -_ROUNDED) | (X.data > 2 + _ROUNDED))
    if len(wrong):
        column = int(np.searchsorted(X.indptr, wrong[0], side="right")) - 1
        msg = (
            f"geno.X must hold 0 to 2 alleles that are not the reference, NaN where missing, but "
            f"{len(wrong)} values lie outside (the first: {X.data[wrong[0]]:g} at "
            f"{str(variants.var_names[column])!r}). Codes of missing calls (-1, -9) must be NaN."
        )
        raise ValueError(msg)
    return Calls(read["X"], read.get("hap1"), read.get("hap2"), read.get("haploid"))


def frequency(variants: AnnData) -> np.ndarray:
    """Frequency of alleles that are not the reference: ``var["af"]``, else of these people."""
    if "af" in variants.var:
        return np.asarray(variants.var["af"], dtype=np.float64)
    return calls_of(variants).frequency()
