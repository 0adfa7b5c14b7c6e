"""`omicllm.io.Genome`, `read_vcf`: reference sequences and genotypes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omicllm._core.log import logger
from omicllm.genome.fasta import Genome
from omicllm.genome.vcf import read_genotypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scipy import sparse

__all__ = ["Genome", "read_vcf"]


def read_vcf(
    path: str | Path, *, region: str | None = None, samples: Sequence[str] | None = None
) -> AnnData:
    """Read genotypes into an AnnData of people x variants.

    Parameters
    ----------
    path
        ``.vcf``, ``.vcf.gz`` or ``.bcf`` (read by cyvcf2, extra ``genome``).
    region
        ``"chr22"`` or ``"chr22:19929263-19959498"``, as in bcftools: counted from 1, ends
        included, records that reach into it belong to it. The file needs an index.
    samples
        People to read, in the order wanted; all by default.

    Returns
    -------
    AnnData with people as observations, and

    ``X`` : csc int8
        Number of alleles that are not the reference (0, 1 or 2; 0 where missing).
    ``layers["hap1"]``, ``layers["hap2"]`` : csc int8
        Allele on each haplotype: 0 reference, k the k-th of ``var["alt"]``, -1 missing.
    ``layers["unphased"]`` : csc int8
        1 where two different alleles were called without phase (``0/1``): the haplotype of each
        is then not known.
    ``var`` : DataFrame
        ``chrom``, ``pos`` (as in the file, from 1), ``ref``, ``alt`` (joined by commas), ``id``,
        ``af`` (share of alleles that are not the reference, among those called), ``n_missing``
        and ``n_unphased`` (people). Names are ``chrom:pos:ref:alt``.

    Raises
    ------
    FileNotFoundError, KeyError
        No such file, contig or people; a contig that differs by ``chr`` is suggested.
    ValueError
        A damaged or truncated file, ``region=`` without an index, records without GT or with
        more than two alleles per person.
    ImportError
        Without cyvcf2.
    """
    import anndata
    import pandas as pd

    found = read_genotypes(path, region=region, samples=samples)
    missing = (found.hap1 < 0).astype(np.int8).maximum((found.hap2 < 0).astype(np.int8))
    carried = (found.hap1 > 0).astype(np.int8) + (found.hap2 > 0).astype(np.int8)
    X = carried.tocsc()
    called = _per_variant(found.hap1, found.hap2)
    with np.errstate(invalid="ignore", divide="ignore"):
        af = np.asarray(X.sum(axis=0), dtype=np.float64).ravel() / called
    var = pd.DataFrame(
        {
            "chrom": np.array(found.chrom, dtype=object),
            "pos": found.pos,
            "ref": np.array(found.ref, dtype=object),
            "alt": np.array(found.alt, dtype=object),
            "id": np.array(found.name, dtype=object),
            "af": af,
            "n_missing": np.asarray(missing.sum(axis=0), dtype=np.int64).ravel(),
            "n_unphased": np.asarray(found.unphased.sum(axis=0), dtype=np.int64).ravel(),
        },
        index=_names(found.chrom, found.pos, found.ref, found.alt),
    )
    if len(var) and (unphased := int((var["n_unphased"] > 0).sum())):
        logger.warning(
            "%s: %d of %d variants have heterozygous genotypes without phase (var['n_unphased'])",
            Path(path).name, unphased, len(var),
        )  # fmt: skip
    adata = anndata.AnnData(X, obs=pd.DataFrame(index=found.samples), var=var)
    adata.layers["hap1"], adata.layers["hap2"] = found.hap1, found.hap2
    adata.layers["unphased"] = found.unphased
    return adata


def _per_variant(hap1: sparse.csc_matrix, hap2: sparse.csc_matrix) -> np.ndarray:
    """Number of alleles called at each variant."""
    absent = [np.asarray((h < 0).sum(axis=0), dtype=np.float64).ravel() for h in (hap1, hap2)]
    return 2.0 * hap1.shape[0] - absent[0] - absent[1]


def _names(chrom: list[str], pos: np.ndarray, ref: list[str], alt: list[str]) -> list[str]:
    """Variant names, numbered from the second where a file repeats a record."""
    seen: dict[str, int] = {}
    out = []
    for fields in zip(chrom, pos.tolist(), ref, alt, strict=True):
        name = ":".join(str(f) for f in fields)
        seen[name] = times = seen.get(name, 0) + 1
        out.append(name if times == 1 else f"{name}-{times}")
    return out
