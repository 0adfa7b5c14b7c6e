"""`omicllm.io.read_expression`, `read_mpra`: expression of people, effects of variants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm._core.text_files import MISSING, read_table, row_names, to_numbers, typed
from omicllm.genome.fasta import Genome, fetch_padded
from omicllm.genome.places import as_contigs
from omicllm.genome.windows import strands_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

#: Columns of the published tables that describe genes -> column of `var`.
_GENE_COLUMNS = {
    "gene_symbol": "symbol", "chr": "chrom", "coord": "tss", "gid": "gene_id",
    "strand": "strand", "start": "start", "end": "end",
}  # fmt: skip
_IDS = ("targetid", "gene_id", "phenotype_id", "pid", "id")
_ANNOTATION = re.compile(r"stable_id|gencode_.*|our_gene_name|.*_eGene|top_.*", re.IGNORECASE)


def read_expression(path: str | Path) -> AnnData:
    """Read a table of genes x people into an AnnData of people x genes.

    Three layouts are told apart by the header: the BED of fastQTL, QTLtools and tensorQTL
    (``#Chr start end TargetID ...people``, also with ``pid gid strand``); the Geuvadis RPKM table
    (``TargetID Gene_Symbol Chr Coord ...people``); and the published annotated CSV, which adds
    columns about genes (``stable_id``, ``EUR_eGene``, ``top_EUR_eqtl_rsid`` ...) after the people.

    Parameters
    ----------
    path
        Tab- or comma-separated, plain or ``.gz``.

    Returns
    -------
    AnnData with people as observations and

    ``X`` : float32
        Values as in the file; missing ones are NaN.
    ``var`` : DataFrame
        ``chrom`` and ``tss`` (from 1: the ``Coord`` of a table; in a BED ``start`` + 1, or
        ``end`` of genes on strand ``-``), ``strand`` and ``symbol`` where the file has them, and
        every other column about genes.
    ``obs["assay"]``
        Name of the column, where it is longer than the person's (``HG00096.1.M_111124_6``); the
        observation bears the person's name when nobody occurs twice.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A header of no known layout, a gene or person that occurs twice, a value that is no
        number, a truncated file.
    """
    import anndata
    import pandas as pd

    header = _Header(path)
    frame = read_table(path, what="expression table", numbers=header.numbers)
    if not header.people:
        msg = f"{path} has no columns with people's values."
        raise ValueError(msg)
    if frame.empty:
        msg = f"{path} holds a header and no gene."
        raise ValueError(msg)
    logger.info("read %d rows of %s", len(frame), Path(path).name)
    genes = row_names(frame[header.gene], path=path, what="gene")
    var = pd.DataFrame(index=pd.Index(genes))
    for column, ours in header.about_genes.items():
        var[ours] = frame[column].to_numpy()
    _add_places(var, bed=header.bed)
    for column in header.annotation:
        named = re.search(r"name|id$|rsid", column, re.IGNORECASE)
        values = frame[column] if named else typed(frame[column])
        var[column] = values.to_numpy()
    X = frame[header.people].to_numpy(dtype=np.float32).T
    return anndata.AnnData(np.ascontiguousarray(X), obs=_people(header.people), var=var)


class _Header:
    """Which columns of an expression table are what, found out while it is read."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.gene = ""
        self.bed = False
        self.about_genes: dict[str, str] = {}
        self.annotation: list[str] = []
        self.people: list[str] = []

    def numbers(self, columns: list[str]) -> list[str]:
        """Sort the columns out; those that hold numbers are returned.

        Raises
        ------
        ValueError
            A header of no known layout.
        """
        first = "TargetID" if columns and not columns[0] else ""
        lower = {c: (c or first).lstrip("#").lower() for c in columns}
        ids = [c for c in columns if lower[c] in _IDS]
        self.bed = {"chr", "start", "end"} <= set(lower.values())
        if not ids or not (self.bed or {"chr", "coord"} <= set(lower.values())):
            msg = (
                f"{self.path} is no expression table: expected '#Chr start end TargetID' (BED) or "
                f"'TargetID Gene_Symbol Chr Coord', found {checks.listed(columns, most=6)}."
            )
            raise ValueError(msg)
        self.gene = ids[0]
        known = [i for i, c in enumerate(columns) if c in ids or lower[c] in _GENE_COLUMNS]
        self.about_genes = {
            c: _GENE_COLUMNS[lower[c]]
            for c in columns[: known[-1] + 1]
            if lower[c] in _GENE_COLUMNS
        }
        rest = [c for c in columns[known[-1] + 1 :] if c]
        self.annotation = [c for c in rest if _ANNOTATION.fullmatch(c)]
        self.people = [c for c in rest if c not in self.annotation]
        places = [c for c, ours in self.about_genes.items() if ours in ("tss", "start", "end")]
        return [*self.people, *places]


def _add_places(var: pd.DataFrame, *, bed: bool) -> None:
    """Contig and start site; genes without a place have an empty contig and no start site."""
    if bed:
        minus = np.zeros(len(var), dtype=bool)
        if "strand" in var:
            minus = (strands_of(var["strand"]) == "-").to_numpy()
        var["tss"] = np.where(minus, var["end"], var["start"] + 1)
        var.drop(columns=["start", "end"], inplace=True)
    chrom = as_contigs(var["chrom"])
    var["chrom"] = chrom.where(~(var["tss"].isna() & chrom.isin(MISSING)), "")
    if var["tss"].notna().all() and (var["tss"] % 1 == 0).all():
        var["tss"] = var["tss"].astype(np.int64)


#: Name of an assay of Geuvadis behind the person's: centre, protocol, date, lane.
_ASSAY = re.compile(r"(?P<person>[^.]+)(?:\.\d+)?\.M[A-Z]?_\d{6}_\d+")


def _people(columns: Sequence[str]) -> pd.DataFrame:
    """Rows of obs: the person in the name of a Geuvadis assay, where that is unique."""
    import pandas as pd

    found = [_ASSAY.fullmatch(c) for c in columns]
    person = [m["person"] if m else c for m, c in zip(found, columns, strict=True)]
    if person == list(columns):
        return pd.DataFrame(index=person)
    if len(set(person)) < len(person):
        return pd.DataFrame({"individual": person}, index=list(columns))
    return pd.DataFrame({"assay": list(columns)}, index=person)


def read_mpra(
    paths: Mapping[str, str | Path | Sequence[str | Path]] | str | Path,
    *,
    zscore: bool = True,
    genome: Genome | str | Path | None = None,
    length: int = 200,
) -> AnnData:
    """Read allelic effects of a massively parallel reporter assay: variants x cell types.

    Parameters
    ----------
    paths
        Cell type -> file, or several files of the same cell type; or one file with a column
        ``cell_type``. Files are tables (tab or comma, plain or ``.gz``) with a variant (``SNP``,
        ``ID``, ``variant`` ...; or ``chr``, ``pos``, ``ref``, ``alt``) and its log2 skew
        (``Log2Skew``, ``LogSkew``, ``log2_skew``, ``skew``), as ENCODE distributes them.
    zscore
        Standardise the skew of each cell type (mean 0, standard deviation 1).
    genome
        FASTA file or :class:`omicllm.io.Genome` of the build of the positions: writes what stood
        on the reporter, for training together with it
        (:class:`omicllm.model.PersonalExpression`).
    length
        Bases on the reporter, 200 as published.

    Returns
    -------
    AnnData with variants as observations, cell types as variables and

    ``X`` : float32
        Skew, standardised on request; NaN where a variant was not measured.
    ``layers["skew"]`` : float32
        As in the file. Several measurements of a variant in a cell type are averaged.
    ``obs`` : DataFrame
        ``chrom``, ``pos``, ``ref``, ``alt``, from columns or from names like ``1:1000:A:G``; with
        `genome` also ``ref_sequence`` and ``alt_sequence``, `length` bases about either allele
        (N past the ends of a contig).

    Raises
    ------
    FileNotFoundError, KeyError
        No such file; no column with the variant or its skew; a contig that the genome lacks.
    ValueError
        A name from which the alleles cannot be read; no usable value; REF alleles that are not
        what the genome holds (counted); alleles that are no sequence of bases, or longer than
        `length`.
    """
    import anndata
    import pandas as pd

    if isinstance(paths, (str, Path)):
        frame = _mpra_table(paths)
        cell = _column(frame, ("cell_type", "celltype", "cell"), str(paths), "cell type")
        row_names(frame[cell], path=paths, what="cell type", unique=False)
        parts = {str(c): [(paths, part)] for c, part in frame.groupby(cell, sort=False)}
    else:
        parts = {}
        for cell, files in paths.items():
            several = [files] if isinstance(files, (str, Path)) else files
            parts[str(cell)] = [(file, _mpra_table(file)) for file in several]
    columns = {}
    for cell, tables in parts.items():
        if not tables:
            msg = f"paths names no file of {cell!r}."
            raise ValueError(msg)
        skews = [_skew(table, file, cell) for file, table in tables]
        together = pd.concat(skews).dropna()
        columns[cell] = together.groupby(level=0, sort=False).mean()
    if not columns:
        msg = "paths names no file: pass cell type -> file, or one file with a column cell_type."
        raise ValueError(msg)
    frame = pd.concat(columns, axis=1, sort=False)
    if frame.empty:
        files = str(paths) if isinstance(paths, (str, Path)) else [*map(str, paths.values())]
        msg = f"No variant of {files} has a log2 skew."
        raise ValueError(msg)
    skew = frame.to_numpy(dtype=np.float64)
    X = skew
    if zscore:
        sd = np.nanstd(skew, axis=0)
        X = (skew - np.nanmean(skew, axis=0)) / np.where(sd > 0, sd, 1)
    obs = pd.DataFrame([_alleles(name) for name in frame.index], index=frame.index)
    if genome is not None:
        checks.whole_number("length", length)
        of = genome if isinstance(genome, Genome) else Genome(genome)
        obs["ref_sequence"], obs["alt_sequence"] = _on_reporter(obs, of, length)
    out = anndata.AnnData(
        X.astype(np.float32), obs=obs, var=pd.DataFrame(index=frame.columns.astype(str))
    )
    out.layers["skew"] = skew.astype(np.float32)
    return out


def _mpra_table(path: str | Path) -> pd.DataFrame:
    frame = read_table(path, what="table of an MPRA")
    if frame.empty:
        msg = f"{path} holds a header and no variant (there: {checks.listed(frame.columns)})."
        raise ValueError(msg)
    return frame


def _skew(frame: pd.DataFrame, path: str | Path, cell: str) -> pd.Series:
    """Skew by variant, named ``chrom:pos:ref:alt`` with alleles in upper case."""
    import pandas as pd

    where = f"the file(s) of {cell} ({path})"
    skew = _column(frame, ("log2skew", "logskew", "log2_skew", "skew"), where, "log2 skew")
    lower = {c.lower().lstrip("#"): c for c in frame.columns}
    parts = []
    for names in (
        ("chrom", "chr"),
        ("pos", "snp_pos", "position"),
        ("ref", "ref_allele"),
        ("alt", "alt_allele"),
    ):
        parts += [lower[n] for n in names if n in lower][:1]
    if len(parts) == 4:
        chrom = as_contigs(frame[parts[0]])
        alleles = frame[parts[2:]].apply(lambda column: column.str.strip().str.upper())
        name = (
            chrom
            + ":"
            + as_contigs(frame[parts[1]].str.strip())
            + ":"
            + alleles.agg(":".join, axis=1)
        )
    else:
        column = _column(frame, ("snp", "variant", "variant_id", "id"), where, "variant")
        row_names(frame[column], path=path, what="variant", unique=False)
        name = frame[column].str.strip().map(_with_colons)
    values = to_numbers(frame[skew], path=path, column=skew)
    endless = np.flatnonzero(np.isinf(values.to_numpy()))
    if len(endless):
        line, found = frame.index[endless[0]], frame[skew].iloc[endless[0]]
        msg = f"{path}, line {line}, column {skew!r}: {found!r} is infinite."
        raise ValueError(msg)
    return pd.Series(values.to_numpy(), index=name.to_numpy(dtype=object))


#: Contig (which may hold the signs between fields), position, alleles, and anything after.
_VARIANT = re.compile(
    r"(.+?)[:_-](\d+)[:_-]([A-Za-z*]+|<[^<>]+>)[:_-]([A-Za-z*]+|<[^<>]+>)(?:[:_-](.*))?"
)


def _with_colons(name: str) -> str:
    """A variant's name with colons between its fields and alleles in upper case."""
    found = _VARIANT.fullmatch(name)
    if found is None:
        return name  # refused where alleles are read
    chrom, pos, ref, alt, rest = found.groups()
    return ":".join([chrom, pos, ref.upper(), alt.upper(), *([rest] if rest else [])])


def _alleles(name: str) -> dict[str, Any]:
    """Place and alleles of a variant called ``chrom:pos:ref:alt``, with anything after."""
    found = _VARIANT.fullmatch(name)
    if found is None:
        msg = (
            f"The variant {name!r} is not named chrom:pos:ref:alt (both alleles in letters: those "
            "of insertions and deletions begin with the base before)."
        )
        raise ValueError(msg)
    return {"chrom": found[1], "pos": int(found[2]), "ref": found[3], "alt": found[4]}


def _on_reporter(obs: pd.DataFrame, genome: Genome, length: int) -> tuple[list[str], list[str]]:
    """Sequences of `length` bases about the reference and the alternate alleles."""
    for chrom in dict.fromkeys(obs["chrom"]):
        genome.contig(chrom)
    out: tuple[list[str], list[str]] = ([], [])
    other = []
    for name, chrom, pos, ref, alt in zip(
        obs.index, obs["chrom"], obs["pos"], obs["ref"], obs["alt"], strict=True
    ):
        start, end = pos - 1, pos - 1 + len(ref)
        within = start >= 0 and end <= genome.lengths[genome.contig(chrom)]
        if not within or fetch_padded(genome, chrom, start, end) != ref.upper():
            other.append(name)
            continue
        for sequences, allele in zip(out, (ref.upper(), alt.upper()), strict=True):
            if set(allele) - set("ACGTN") or len(allele) > length:
                msg = f"The allele {allele!r} of {name} is no sequence of at most {length} bases."
                raise ValueError(msg)
            left = (length - len(allele)) // 2
            right = length - len(allele) - left
            before = fetch_padded(genome, chrom, start - left, start)
            sequences.append(before + allele + fetch_padded(genome, chrom, end, end + right))
    if other:
        msg = (
            f"The reference alleles of {len(other)} of {len(obs)} variants are not those of "
            f"{genome.path.name} ({checks.listed(other, most=3)}): is it another build?"
        )
        raise ValueError(msg)
    return out


def _column(frame: pd.DataFrame, names: Sequence[str], where: str, what: str) -> str:
    lower = {c.lower(): c for c in frame.columns}
    for name in names:
        if name in lower:
            return lower[name]
    hint = f"The {what} is looked for under {checks.listed(names)}."
    raise checks.missing(names[0], f"the columns of {where}", frame.columns, hint=hint)
