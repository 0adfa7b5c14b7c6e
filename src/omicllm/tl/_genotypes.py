"""Genotypes of a MuData as the verbs on people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import inputs
from omicllm.genome.dosage import Calls

if TYPE_CHECKING:
    from anndata import AnnData

HAPLOID_DOC = """\
haploid
    What an allele of a haploid call (X and Y of men, MT) counts: ``"double"``, as much as two (0
    or 2, as PLINK and FUSION take it), or ``"single"`` (0 or 1). Of sequences: both haplotypes
    have the allele, or the second is the reference."""


def calls_of(variants: AnnData, rows: np.ndarray | None = None) -> Calls:
    """Dosages, missing and haploid calls of some people, or of all.

    Parameters
    ----------
    variants
        People x variants.
    rows
        Numbers of the people, in the order wanted.
    """
    names = [n for n in ("hap1", "hap2", "haploid") if n in variants.layers]
    read = {n: inputs.by_gene(variants, n) for n in names}
    read["X"] = inputs.by_gene(variants)
    if rows is not None:
        read = {name: values.tocsr()[rows].tocsc() for name, values in read.items()}
    return Calls(read["X"], read.get("hap1"), read.get("hap2"), read.get("haploid"))


def frequency(variants: AnnData) -> np.ndarray:
    """Frequency of alleles that are not the reference: ``var["af"]``, else of these people."""
    if "af" in variants.var:
        return np.asarray(variants.var["af"], dtype=np.float64)
    return calls_of(variants).frequency()
