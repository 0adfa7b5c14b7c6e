"""Genotypes out of a VCF or BCF file, as sparse columns (needs cyvcf2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core.checks import listed
from omicllm._core.optional import require
from omicllm.genome.fasta import check_bgzf_end, is_bgzf, require_contigs, truncated

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Genotypes:
    """What a VCF says about people and variants.

    Attributes
    ----------
    samples
        Names of the n people.
    chrom, pos, name, ref, alt
        One entry per variant; `pos` as in the file (from 1), `alt` joined by commas.
    hap1, hap2
        csc int8 (n, n_variants): allele number on each haplotype; -1 where it is missing.
    unphased
        csc int8 (n, n_variants): 1 where an allele is carried, but on which haplotype is unknown.
    """

    samples: list[str]
    chrom: list[str]
    pos: np.ndarray
    name: list[str]
    ref: list[str]
    alt: list[str]
    hap1: sparse.csc_matrix
    hap2: sparse.csc_matrix
    unphased: sparse.csc_matrix


def read_genotypes(
    path: str | Path, *, region: str | None = None, samples: Sequence[str] | None = None
) -> Genotypes:
    """Read variants and genotypes (field GT) of a VCF or BCF file.

    Parameters
    ----------
    path
        ``.vcf``, ``.vcf.gz`` or ``.bcf``.
    region
        ``chrom`` or ``chrom:start-end`` (from 1, ends included), of an indexed file.
    samples
        People to read, in the order wanted; all by default.

    Raises
    ------
    FileNotFoundError
        No such file.
    KeyError
        Contig or people that are not in the file.
    ValueError
        A file that is damaged or truncated, a region without an index, more than two haplotypes,
        a record without GT.
    """
    cyvcf2 = require("cyvcf2", extra="genome", why="Reading a VCF")
    path = Path(path)
    if not path.is_file():
        msg = f"There is no VCF file {path}."
        raise FileNotFoundError(msg)
    check_bgzf_end(path)
    if region is not None:
        _check_index(path)
    try:
        reader = cyvcf2.VCF(str(path))
    except Exception as error:  # it raises OSError, ValueError and bare ones
        msg = f"{path} could not be read as VCF ({error})."
        raise ValueError(msg) from error
    try:
        known = list(reader.samples)
        order = _order(samples, known)
        if region is not None:
            chrom = region.rsplit(":", 1)[0] if ":" in region else region
            require_contigs([chrom], reader.seqnames, where=path.name)
        return _collect(reader(region) if region else reader, known, order, path)
    finally:
        reader.close()


def _order(samples: Sequence[str] | None, known: list[str]) -> np.ndarray:
    if samples is None:
        return np.arange(len(known))
    at = {name: i for i, name in enumerate(known)}
    absent = [s for s in samples if s not in at]
    if absent:
        msg = (
            f"{len(absent)} of {len(samples)} people are not in the VCF "
            f"({listed(absent, most=5)}); it holds {len(known)} ({listed(known, most=5)})."
        )
        raise KeyError(msg)
    return np.array([at[s] for s in samples], dtype=np.int64)


def _check_index(path: Path) -> None:
    if any(path.with_name(path.name + end).is_file() for end in (".tbi", ".csi")):
        return
    with path.open("rb") as file:
        packed = is_bgzf(file.read(18))
    plain = path.name.removesuffix(".gz")
    first = "" if packed else f"bgzip {plain} (packed with bgzip, not gzip), then "
    msg = f"region= needs an index beside {path.name}: {first}tabix -p vcf {plain}.gz makes one."
    raise ValueError(msg)


def _collect(records: Any, known: list[str], order: np.ndarray, path: Path) -> Genotypes:
    chrom, pos, name, ref, alt = [], [], [], [], []
    columns = (_Columns(), _Columns(), _Columns())
    try:
        for record in records:
            chrom.append(record.CHROM)
            pos.append(record.POS)
            name.append(record.ID or "")
            ref.append(record.REF.upper())
            alt.append(",".join(a.upper() if a[:1] != "<" else a for a in record.ALT))
            for column, values in zip(columns, _alleles(record, known, order), strict=True):
                column.add(values)
    except (OSError, EOFError) as error:
        raise truncated(path) from error
    except Exception as error:
        if type(error) is Exception:  # cyvcf2's own
            raise truncated(path) from error
        raise
    n = len(order)
    hap1, hap2, unphased = (column.matrix(n) for column in columns)
    samples = [known[i] for i in order]
    return Genotypes(
        samples, chrom, np.array(pos, dtype=np.int64), name, ref, alt, hap1, hap2, unphased
    )


def _alleles(
    record: Any, known: list[str], order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both alleles and the flag of each person at one record."""
    if not known:
        none = np.zeros(0, dtype=np.int8)
        return none, none, none
    genotype = record.genotype
    where = f"{record.CHROM}:{record.POS}"
    if genotype is None:
        msg = f"The record at {where} has no GT field. Genotypes are needed."
        raise ValueError(msg)
    values = genotype.array()[order]
    if values.shape[1] > 3:
        msg = f"The record at {where} has {values.shape[1] - 1} alleles per person, not 2."
        raise ValueError(msg)
    first = np.maximum(values[:, 0], -1).astype(np.int8)
    # A haploid call (chromosome X of men) has no second allele.
    second = np.maximum(values[:, 1], -1).astype(np.int8) if values.shape[1] == 3 else None
    if second is None:
        return first, np.full_like(first, -1), np.zeros_like(first)
    phased = values[:, 2].astype(bool)
    carries = np.maximum(first, second) > 0
    return first, second, (~phased & (first != second) & carries).astype(np.int8)


class _Columns:
    """Columns of a sparse matrix, one after the other."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.data: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        rows = np.flatnonzero(values)
        self.rows.append(rows.astype(np.int32))
        self.data.append(values[rows].astype(np.int8))

    def matrix(self, n: int) -> sparse.csc_matrix:
        sizes = [len(r) for r in self.rows]
        pointer = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.concatenate(self.rows) if self.rows else np.zeros(0, dtype=np.int32)
        data = np.concatenate(self.data) if self.data else np.zeros(0, dtype=np.int8)
        return sparse.csc_matrix((data, rows, pointer), shape=(n, len(sizes)))
