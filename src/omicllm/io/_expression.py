"""`omicllm.io.read_expression`, `read_mpra`: expression of people, effects of variants."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm.genome.fasta import Genome, fetch_padded
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

    frame = _table(path)
    name = Path(path).name
    lower = {c: c.lstrip("#").lower() for c in frame.columns}
    ids = [c for c in frame.columns if lower[c] in _IDS]
    bed = {"chr", "start", "end"} <= set(lower.values())
    if not ids or not (bed or {"chr", "coord"} <= set(lower.values())):
        msg = (
            f"{name} is no expression table: expected '#Chr start end TargetID' (BED) or "
            f"'TargetID Gene_Symbol Chr Coord', found {checks.listed(frame.columns, most=6)}."
        )
        raise ValueError(msg)
    last = max(i for i, c in enumerate(frame.columns) if c in ids or lower[c] in _GENE_COLUMNS)
    rest = [str(c) for c in frame.columns[last + 1 :]]
    about = [c for c in rest if _ANNOTATION.fullmatch(c)]
    people = [c for c in rest if c not in about]
    if not people:
        msg = f"{name} has no columns with people's values."
        raise ValueError(msg)
    genes = pd.Index(frame[ids[0]].astype(str))
    for what, index in (("gene", genes), ("person", pd.Index(people))):
        if index.has_duplicates:
            twice = index[index.duplicated()].unique()
            msg = f"{name} holds a {what} more than once ({checks.listed(twice, most=5)})."
            raise ValueError(msg)
    values = frame[people].apply(pd.to_numeric, errors="coerce")
    wrong = (values.isna() & frame[people].notna()).any()
    if wrong.any():
        columns = list(values.columns[wrong])
        msg = f"{name} holds values that are no numbers (columns {checks.listed(columns, most=3)})."
        raise ValueError(msg)
    var = pd.DataFrame(index=genes)
    for column in frame.columns[: last + 1]:
        if lower[column] in _GENE_COLUMNS:
            var[_GENE_COLUMNS[lower[column]]] = frame[column].to_numpy()
    var["chrom"] = var["chrom"].astype(str)
    if bed:
        minus = np.zeros(len(var), dtype=bool)
        if "strand" in var:
            minus = (strands_of(var["strand"]) == "-").to_numpy()
        var["tss"] = np.where(minus, var["end"], var["start"] + 1)
        var = var.drop(columns=["start", "end"])
    for column in about:
        var[column] = frame[column].to_numpy()
    obs = _people(people)
    X = values.to_numpy(dtype=np.float32).T
    return anndata.AnnData(np.ascontiguousarray(X), obs=obs, var=var)


def _people(columns: Sequence[str]) -> pd.DataFrame:
    """Rows of obs: the person before the first dot of an assay's name, where that is unique."""
    import pandas as pd

    person = [c.split(".")[0] for c in columns]
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
        frame = _table(paths)
        cell = _column(frame, ("cell_type", "celltype", "cell"), Path(paths).name, "cell type")
        parts = {str(c): [part] for c, part in frame.groupby(cell, sort=False)}
    else:
        parts = {}
        for cell, files in paths.items():
            several = [files] if isinstance(files, (str, Path)) else files
            parts[str(cell)] = [_table(file) for file in several]
    columns = {}
    for cell, tables in parts.items():
        skews = [_skew(table, f"the file(s) of {cell}") for table in tables]
        together = pd.concat(skews).dropna()
        columns[cell] = together.groupby(level=0, sort=False).mean()
    frame = pd.concat(columns, axis=1, sort=False)
    if frame.empty:
        msg = "No variant of these files has a log2 skew."
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


def _skew(frame: pd.DataFrame, where: str) -> pd.Series:
    """Skew by variant, named ``chrom:pos:ref:alt``."""
    import pandas as pd

    skew = _column(frame, ("log2skew", "logskew", "log2_skew", "skew"), where, "log2 skew")
    lower = {c.lower().lstrip("#"): c for c in frame.columns}
    parts = []
    for names in (("chrom", "chr"), ("pos", "snp_pos", "position"), ("ref", "ref_allele"),
                  ("alt", "alt_allele")):  # fmt: skip
        parts += [lower[n] for n in names if n in lower][:1]
    if len(parts) == 4:
        name = frame[parts].astype(str).agg(":".join, axis=1)
    else:
        column = _column(frame, ("snp", "variant", "variant_id", "id"), where, "variant")
        name = frame[column].astype(str).str.replace("_", ":").str.replace("-", ":")
    return pd.Series(pd.to_numeric(frame[skew], errors="coerce").to_numpy(), index=name.to_numpy())


def _alleles(name: str) -> dict[str, Any]:
    """Place and alleles of a variant called ``chrom:pos:ref:alt``, with anything after."""
    fields = name.split(":")
    if len(fields) < 4 or not fields[1].isdigit():
        msg = f"The variant {name!r} is not named chrom:pos:ref:alt."
        raise ValueError(msg)
    return {"chrom": fields[0], "pos": int(fields[1]), "ref": fields[2], "alt": fields[3]}


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
        if fetch_padded(genome, chrom, start, end) != ref.upper():
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


def _table(path: str | Path) -> pd.DataFrame:
    """A table of either separator, packed or not."""
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        msg = f"There is no file {path}."
        raise FileNotFoundError(msg)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt") if packed else path.open() as file:
            header = file.readline()
            if not header.strip():
                msg = f"{path} is empty."
                raise ValueError(msg)
            separator = "\t" if "\t" in header else ","
            file.seek(0)
            frame = pd.read_csv(file, sep=separator, low_memory=False)
    except (EOFError, gzip.BadGzipFile) as error:
        msg = f"{path} is truncated or damaged ({error})."
        raise ValueError(msg) from error
    if str(frame.columns[0]).startswith("Unnamed"):
        frame = frame.rename(columns={frame.columns[0]: "TargetID"})
    logger.info("read %d rows of %s", len(frame), path.name)
    return frame
