"""`omicllm.io.Genome`, `read_vcf`: reference sequences and genotypes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from omicllm._core import checks
from omicllm._core.checks import listed
from omicllm._core.log import logger
from omicllm.genome.dosage import Calls, alleles_carried
from omicllm.genome.fasta import Genome
from omicllm.genome.vcf import DOSAGES, read_genotypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

__all__ = ["Genome", "read_vcf"]


def read_vcf(
    path: str | Path,
    *,
    region: str | None = None,
    samples: Sequence[str] | None = None,
    field: Literal["GT", "DS", "GP", "HDS"] = "GT",
) -> AnnData:
    """Read genotypes into an AnnData of people x variants.

    Parameters
    ----------
    path
        ``.vcf``, ``.vcf.gz`` or ``.bcf`` (read by cyvcf2, extra ``genome``).
    region
        ``"chr22"`` or ``"chr22:19929263-19959498"``, as in bcftools: counted from 1, ends
        included, records that reach into it belong to it (``"chr22:19929263"`` is one position,
        ``"chr22:19929263-"`` all that follows). The file needs an index.
    samples
        People to read, in the order wanted; all by default.
    field
        ``"GT"``, genotypes; or dosages of imputed data: ``"DS"`` (as they are given), ``"GP"``
        (probabilities of the genotypes) or ``"HDS"`` (one dosage for each haplotype). Dosages are
        enough for :func:`omicllm.tl.twas` and :func:`omicllm.tl.sample_size`; sequences of people
        need genotypes.

    Returns
    -------
    AnnData with people as observations, and

    ``X`` : csc int8
        Number of alleles that are not the reference (0, 1 or 2; 0 where missing). Of dosages:
        float32, NaN where missing (so are probabilities that are all 0).
    ``layers["hap1"]``, ``layers["hap2"]`` : csc int8
        Allele on each haplotype: 0 reference, k the k-th of ``var["alt"]``, -1 missing. A haploid
        call (``1``: X and Y of men, MT) has its allele on the first and -1 on the second. int16
        where a record has more than 127 alternate alleles. Not there for dosages.
    ``layers["haploid"]`` : csc int8
        1 for a haploid call. Such a person is not missing; of a half call (``0/.``) one allele is.
        DS does not tell, so there it is 0.
    ``layers["unphased"]`` : csc int8
        1 where two different alleles were called without phase (``0/1``): the haplotype of each
        is then not known. Not there for dosages.
    ``var`` : DataFrame
        ``chrom``, ``pos`` (as in the file, from 1), ``ref``, ``alt`` (joined by commas), ``id``,
        ``af`` (share of alleles that are not the reference, among those called), ``n_missing``
        (people without a whole call: ``.``, ``./.`` and half calls) and ``n_unphased`` (people).
        Names are ``chrom:pos:ref:alt``.

    Raises
    ------
    FileNotFoundError, KeyError
        No such file, contig or people; a contig that differs by ``chr`` is suggested.
    ValueError
        A damaged or truncated file or a line that is no record (its number is given), ``region=``
        without an index, records without the field, with more than two alleles per person, with
        an allele number that has no ALT, with a dosage outside 0 to 2, or with probabilities that
        do not add up to 1.
    ImportError
        Without cyvcf2.
    """
    import anndata
    import pandas as pd

    checks.one_of("field", field, ("GT", *DOSAGES))
    found = read_genotypes(path, region=region, samples=samples, field=field)
    layers = found.matrices
    given = layers.pop("dosage", None)
    X = alleles_carried(layers["hap1"], layers["hap2"]) if given is None else given
    calls = Calls(X, layers.get("hap1"), layers.get("hap2"), layers["haploid"])
    unphased = layers.get("unphased")
    n_unphased = np.zeros(len(found.pos)) if unphased is None else unphased.sum(axis=0)
    var = pd.DataFrame(
        {
            "chrom": np.array(found.chrom, dtype=object),
            "pos": found.pos,
            "ref": np.array(found.ref, dtype=object),
            "alt": np.array(found.alt, dtype=object),
            "id": np.array(found.name, dtype=object),
            "af": calls.frequency(),
            "n_missing": calls.n_missing(),
            "n_unphased": np.asarray(n_unphased, dtype=np.int64).ravel(),
        },
        index=_names(found.chrom, found.pos, found.ref, found.alt),
    )
    _warn(var, Path(path).name)
    adata = anndata.AnnData(X, obs=pd.DataFrame(index=found.samples), var=var)
    for name, values in layers.items():
        adata.layers[name] = values
    return adata


def _warn(var: pd.DataFrame, file: str) -> None:
    """Say what of the records is likely to surprise."""
    if n := int((var["n_unphased"] > 0).sum()):
        logger.warning(
            "%s: %d of %d variants have heterozygous genotypes without phase (var['n_unphased'])",
            file, n, len(var),
        )  # fmt: skip
    again = var.duplicated(["chrom", "pos", "ref", "alt"])
    if again.any():
        logger.warning(
            "%s: %d records are given more than once (%s) and count as often in linear models; "
            "drop them with bcftools norm -d exact, or by the numbers behind their names",
            file, int(again.sum()), listed(var.index[again], most=3),
        )  # fmt: skip


def _names(chrom: list[str], pos: np.ndarray, ref: list[str], alt: list[str]) -> list[str]:
    """Variant names, numbered from the second where a file repeats a record."""
    seen: dict[str, int] = {}
    out = []
    for fields in zip(chrom, pos.tolist(), ref, alt, strict=True):
        name = ":".join(str(f) for f in fields)
        seen[name] = times = seen.get(name, 0) + 1
        out.append(name if times == 1 else f"{name}-{times}")
    return out
