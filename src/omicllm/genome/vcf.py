"""Genotypes out of a VCF or BCF file, as sparse columns (needs cyvcf2)."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
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


#: Fields of dosages, and what a record of each looks like.
DOSAGES = ("DS", "GP", "HDS")


@dataclass
class Genotypes:
    """What a VCF says about people and variants.

    Attributes
    ----------
    samples
        Names of the n people.
    chrom, pos, name, ref, alt
        One entry per variant; `pos` as in the file (from 1), `alt` joined by commas.
    matrices
        csc (n, n_variants) by name. Of GT: ``hap1`` and ``hap2`` (allele number on each haplotype;
        -1 where it is missing, and on the second of a haploid call; int8, or int16 where a record
        has more than 127 alternate alleles), ``unphased`` (int8, 1 where an allele is carried, but
        on which haplotype is unknown) and ``haploid`` (int8, 1 for a call of one allele). Of
        dosages: ``dosage`` (float32, alleles that are not the reference; NaN where missing) and
        ``haploid``, where the field tells.
    """

    samples: list[str]
    chrom: list[str]
    pos: np.ndarray
    name: list[str]
    ref: list[str]
    alt: list[str]
    matrices: dict[str, sparse.csc_matrix]


def read_genotypes(
    path: str | Path,
    *,
    region: str | None = None,
    samples: Sequence[str] | None = None,
    field: str = "GT",
) -> Genotypes:
    """Read variants and genotypes (field GT), or dosages, of a VCF or BCF file.

    Parameters
    ----------
    path
        ``.vcf``, ``.vcf.gz`` or ``.bcf``.
    region
        ``chrom``, ``chrom:start-end`` (from 1, ends included), ``chrom:start-`` (to the end) or
        ``chrom:position``, of an indexed file.
    samples
        People to read, in the order wanted; all by default.
    field
        ``"GT"``, or one of `DOSAGES`.

    Raises
    ------
    FileNotFoundError
        No such file.
    KeyError
        Contig or people that are not in the file.
    ValueError
        A file that is damaged or truncated, a region without an index, more than two haplotypes,
        a record without the field, an allele without ALT, a dosage outside 0 to 2; people asked
        for twice; a region that is none.
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
        if twice := _named_twice(path):
            msg = f"{path} names people twice: {listed(twice, most=5)}. Rename them in its header."
        raise ValueError(msg) from error
    try:
        known = list(reader.samples)
        order = _order(samples, known)
        if region is not None:
            region, contig = _region(region, reader.seqnames)
            require_contigs([contig], reader.seqnames, where=path.name)
        records = reader(region) if region else reader
        return _collect(records, known, order, path, field, whole=region is None)
    finally:
        reader.close()


def _order(samples: Sequence[str] | None, known: list[str]) -> np.ndarray:
    if samples is None:
        return np.arange(len(known))
    samples = [samples] if isinstance(samples, str) else list(samples)
    if not samples:
        msg = f"samples= names nobody; the VCF holds {len(known)} ({listed(known, most=5)})."
        raise ValueError(msg)
    if twice := [s for s, times in Counter(samples).items() if times > 1]:
        msg = f"samples= names people twice: {listed(twice, most=5)}."
        raise ValueError(msg)
    at = {name: i for i, name in enumerate(known)}
    absent = [s for s in samples if s not in at]
    if absent:
        msg = (
            f"{len(absent)} of {len(samples)} people are not in the VCF "
            f"({listed(absent, most=5)}); it holds {len(known)} ({listed(known, most=5)})."
        )
        raise KeyError(msg)
    return np.array([at[s] for s in samples], dtype=np.int64)


def _region(region: str, contigs: Sequence[str]) -> tuple[str, str]:
    """A region as htslib takes it, and its contig.

    Raises
    ------
    ValueError
        What follows it are no two positions in order.
    """
    if ":" not in region or region in contigs:
        return region, region
    chrom, _, span = region.rpartition(":")
    found = re.fullmatch(r"([\d,]+)(-[\d,]*)?", span)
    ends = [int(n.replace(",", "")) for n in span.split("-") if n.strip(",")] if found else []
    if not ends or ends[0] < 1 or ends[-1] < ends[0]:
        msg = (
            f"region={region!r} is not chrom or chrom:start-end, positions from 1, start not after "
            "end. One region is read at a time."
        )
        raise ValueError(msg)
    # A position alone is that position (bcftools); htslib would read on to the end.
    last = "" if span.endswith("-") else ends[-1]
    return f"{chrom}:{ends[0]}-{last}", chrom


def _check_index(path: Path) -> None:
    if any(path.with_name(path.name + end).is_file() for end in (".tbi", ".csi")):
        return
    with path.open("rb") as file:
        packed = is_bgzf(file.read(18))
    if path.suffix == ".bcf":
        msg = f"region= needs an index beside {path.name}: bcftools index {path.name} makes one."
        raise ValueError(msg)
    plain = path.name.removesuffix(".gz")
    first = "" if packed else f"bgzip {plain} (packed with bgzip, not gzip), then "
    msg = f"region= needs an index beside {path.name}: {first}tabix -p vcf {plain}.gz makes one."
    raise ValueError(msg)


def _collect(
    records: Any, known: list[str], order: np.ndarray, path: Path, field: str, *, whole: bool
) -> Genotypes:
    """Read records; `whole` says that they begin with the first of the file."""
    chrom: list[str] = []
    pos: list[int] = []
    name, ref, alt = [], [], []
    columns: dict[str, _Columns] = {}
    read = _alleles if field == "GT" else _dosages
    found = iter(records)
    while True:
        try:
            record = next(found)
        except StopIteration:
            break
        except (OSError, EOFError) as error:
            raise truncated(path) from error
        except Exception as error:  # cyvcf2's own are bare ones
            raise _unreadable(path, len(pos) if whole else -1, error) from error
        chrom.append(record.CHROM)
        pos.append(record.POS)
        name.append(record.ID or "")
        ref.append(record.REF.upper())
        alt.append(",".join(_spelled(a) for a in record.ALT))
        for what, values in read(record, known, order, field).items():
            columns.setdefault(what, _Columns()).add(values)
    if not columns:  # a file without records
        columns = {w: _Columns() for w in (_OF_GT if field == "GT" else _OF_DOSAGES)}
    matrices = {what: column.matrix(len(order)) for what, column in columns.items()}
    samples = [known[i] for i in order]
    return Genotypes(samples, chrom, np.array(pos, dtype=np.int64), name, ref, alt, matrices)


def _spelled(allele: str) -> str:
    """An allele in upper case, but for names of contigs and of symbolic alleles."""
    return allele if set(allele) & set("<>[]") else allele.upper()


_OF_GT = ("hap1", "hap2", "unphased", "haploid")
_OF_DOSAGES = ("dosage", "haploid")


def _alleles(record: Any, known: list[str], order: np.ndarray, field: str) -> dict[str, np.ndarray]:
    """Both alleles and the flags of each person at one record."""
    if not known:
        return dict.fromkeys(_OF_GT, np.zeros(0, dtype=np.int8))
    _check_field(record, field)
    where = f"{record.CHROM}:{record.POS}"
    values = record.genotype.array()[order]
    if values.shape[1] > 3:
        msg = f"The record at {where} has {values.shape[1] - 1} alleles per person, not 2."
        raise ValueError(msg)
    largest = int(values[:, :-1].max(initial=-1))
    if largest > len(record.ALT):
        msg = (
            f"The record at {where} has a genotype with allele {largest}, but "
            f"{len(record.ALT)} alternate allele(s) ({record.REF} to "
            f"{','.join(record.ALT) or '.'}). Write the file again, for example with bcftools."
        )
        raise ValueError(msg)
    kind = np.int8 if largest <= np.iinfo(np.int8).max else np.int16
    first = np.maximum(values[:, 0], -1).astype(kind)
    # A haploid call (chromosome X of men) has no second allele: -2, or no column for it.
    second = values[:, 1] if values.shape[1] == 3 else np.full_like(values[:, 0], _NO_ALLELE)
    haploid = (second == _NO_ALLELE) & (first >= 0)
    second = np.maximum(second, -1).astype(kind)
    phased = values[:, -1].astype(bool)
    carries = np.maximum(first, second) > 0
    unphased = ~phased & (first != second) & carries & ~haploid
    return {
        "hap1": first,
        "hap2": second,
        "unphased": unphased.astype(np.int8),
        "haploid": haploid.astype(np.int8),
    }


#: What htslib puts behind the last value of a person who has fewer than others.
_NO_ALLELE = -2
_NO_FLOAT = np.uint32(0x7F800002)
_NO_WHOLE = -(2**31) + 1


def _check_field(record: Any, field: str) -> None:
    """Raise ValueError when a record lacks the field that is to be read."""
    there = list(record.FORMAT or [])
    if field in there:
        return
    dosages = [d for d in DOSAGES if d in there]
    hint = "Genotypes are needed."
    if field != "GT":
        hint = "Pass the name of one that every record has as field=."
    elif dosages:
        hint = (
            f"Pass field={dosages[0]!r} to read dosages, which ol.tl.twas and ol.tl.sample_size "
            "take; sequences of people need genotypes."
        )
    msg = (
        f"The record at {record.CHROM}:{record.POS} has no {field} field (there: "
        f"{listed(there)}). {hint}"
    )
    raise ValueError(msg)


def _dosages(record: Any, known: list[str], order: np.ndarray, field: str) -> dict[str, np.ndarray]:
    """Alleles of each person that are not the reference, as a number that need not be whole."""
    if not known:
        return {"dosage": np.zeros(0, dtype=np.float32), "haploid": np.zeros(0, dtype=np.int8)}
    _check_field(record, field)
    values, there = _field_values(record, field, len(known))
    values, there = values[order], there[order]
    n_values, n_alt = there.sum(axis=1), len(record.ALT)
    if field == "GP":
        alleles = [(j, k) for k in range(n_alt + 1) for j in range(k + 1)]
        haploid = (n_values == n_alt + 1) & (n_alt + 1 < len(alleles))
        counts = np.array([(j > 0) + (k > 0) for j, k in alleles])
        once = np.arange(len(alleles)) > 0
        weight = np.where(haploid[:, None], once, counts)[:, : values.shape[1]]
        full = np.where(haploid, n_alt + 1, len(alleles))
    elif field == "HDS":
        haploid = n_values == n_alt
        full = np.where(haploid, n_alt, 2 * n_alt)
        weight = np.ones_like(values)
    else:
        # DS does not say how many haplotypes there are, and programs differ in how they count one.
        haploid, full = np.zeros(len(order), dtype=bool), np.full(len(order), n_alt)
        weight = np.ones_like(values)
    known_here = ~np.isnan(values).any(axis=1, where=there) & (n_values > 0)
    where = f"{record.CHROM}:{record.POS}"
    if (n_values[known_here] != full[known_here]).any() or values.shape[1] != weight.shape[1]:
        msg = f"The record at {where} has a wrong number of values in {field}."
        raise ValueError(msg)
    values = np.where(there & known_here[:, None], values, 0)
    if field == "GP":
        mass = values.sum(axis=1)
        known_here &= mass != 0  # how IMPUTE and QCTOOL write a missing genotype
        if (odd := known_here & (np.abs(mass - 1) > _ROUNDED * weight.shape[1])).any():
            msg = (
                f"The record at {where} has probabilities in GP that add up to {mass[odd][0]:g}, "
                "not 1 (are they phred-scaled, as in VCF 4.2?). Read GT or DS instead."
            )
            raise ValueError(msg)
    total = (values * weight).sum(axis=1)
    most = np.where(haploid, 1, 2) + _ROUNDED
    each = 2 if field == "DS" else 1
    wrong = values[(values < -_ROUNDED) | (values > each + _ROUNDED)]
    if len(wrong):
        what = "probability" if field == "GP" else "dosage"
        msg = (
            f"The record at {where} has a {what} of {wrong[0]:g} in {field}; it must lie between "
            f"0 and {each}."
        )
        raise ValueError(msg)
    bad = total > most
    if bad.any():
        msg = (
            f"The record at {where} has a dosage of {total[bad][0]:g} in {field}; it must lie "
            "between 0 and 2."
        )
        raise ValueError(msg)
    dosage = np.where(known_here, np.clip(total, 0, 2), np.nan).astype(np.float32)
    return {"dosage": dosage, "haploid": (haploid & known_here).astype(np.int8)}


def _field_values(record: Any, field: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a field, NaN where missing, and where a person has a value: both (n, most)."""
    found = np.asarray(record.format(field))
    if found.dtype.kind == "i":  # declared as whole numbers
        there = found != _NO_WHOLE
        return np.where(found > _NO_WHOLE, found, np.nan).astype(np.float32), there
    if found.dtype.kind == "f":
        return found, found.astype(np.float32).view(np.uint32) != _NO_FLOAT
    # The header declares it as text, or not at all. (What cyvcf2 gives of text may run over its
    # end into memory that is not its own.)
    fields = str(record).rstrip("\r\n").split("\t")
    at = fields[8].split(":").index(field)
    texts = [(f.split(":")[at] if f.count(":") >= at else ".").split(",") for f in fields[9:]]
    out = np.full((n, max(map(len, texts), default=1)), np.nan, dtype=np.float32)
    there = np.zeros(out.shape, dtype=bool)
    for i, text in enumerate(texts):
        there[i, : len(text)] = True
        try:
            out[i, : len(text)] = [np.nan if t in (".", "") else float(t) for t in text]
        except ValueError:
            msg = f"The record at {record.CHROM}:{record.POS} has no number in {field}: {text}."
            raise ValueError(msg) from None
    return out, there


#: Imputation programs round to two or three digits.
_ROUNDED = 0.01


def _named_twice(path: Path) -> list[str]:
    """People that the header of a VCF names more than once.

    Raises
    ------
    ValueError
        A file that ends early.
    """
    people: list[str] = []
    try:
        with _text(path) as file:
            for line in file:  # to the end, which tells a truncated file
                if line.startswith(b"#CHROM"):
                    people = line.decode(errors="replace").rstrip("\r\n").split("\t")[9:]
    except (OSError, EOFError, zlib.error) as error:
        raise truncated(path) from error
    return [p for p, times in Counter(people).items() if times > 1]


def _text(path: Path) -> Any:
    """The bytes of a file, unpacked."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _unreadable(path: Path, number: int, error: Exception) -> ValueError:
    """The error for a record that htslib cannot read: what is wrong, and in which line.

    `number` is that of the record in the file; below 0 it is not known, and the first line is
    named that is evidently wrong.
    """
    header, records = 0, 0
    try:
        with _text(path) as file:
            for at, line in enumerate(file, start=1):
                if line.startswith(b"#CHROM"):
                    header = len(line.rstrip(b"\r\n").split(b"\t"))
                if line.startswith(b"#") or not line.strip():
                    continue
                if not header:  # BCF
                    break
                fields = line.rstrip(b"\r\n").split(b"\t")
                if len(fields) != header or not fields[1].isdigit() or records == number:
                    if len(fields) != header and not line.endswith(b"\n"):
                        return truncated(path)
                    return _odd_line(path, at, fields, header, error)
                records += 1
    except (OSError, EOFError, zlib.error):
        return truncated(path)
    return ValueError(f"{path} holds a record that could not be read as VCF ({error}).")


def _odd_line(
    path: Path, number: int, fields: list[bytes], header: int, error: Exception
) -> ValueError:
    what = f"it could not be read as VCF ({error})"
    if len(fields) != header:
        what = f"it has {len(fields)} columns, the header {header}"
    elif not fields[1].isdigit():
        position = fields[1].decode(errors="replace")
        what = f"the position (POS) is {position!r}, not a whole number"
    return ValueError(f"{path}, line {number}: {what}. Mend the line, or write the file again.")


class _Columns:
    """Columns of a sparse matrix, one after the other."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.data: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        rows = np.flatnonzero(values)
        self.rows.append(rows.astype(np.int32))
        self.data.append(values[rows])

    def matrix(self, n: int) -> sparse.csc_matrix:
        sizes = [len(r) for r in self.rows]
        pointer = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.concatenate(self.rows) if self.rows else np.zeros(0, dtype=np.int32)
        data = np.concatenate(self.data) if self.data else np.zeros(0, dtype=np.int8)
        return sparse.csc_matrix((data, rows, pointer), shape=(n, len(sizes)))
