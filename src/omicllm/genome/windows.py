"""Windows around genes: transcription start sites from annotation, and the arithmetic."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.checks import listed, missing
from omicllm._core.log import logger
from omicllm._core.text_files import lines
from omicllm.genome.haplotypes import Window
from omicllm.genome.places import as_contigs, as_position, as_strand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

COLUMNS = ("chrom", "start", "end", "strand")


def read_gtf(path: str | Path) -> pd.DataFrame:
    """Genes of a GTF file: where each starts and on which strand.

    Lines of the feature ``gene`` are read; where there are none, ``transcript`` lines are joined.

    Parameters
    ----------
    path
        ``.gtf`` or ``.gtf.gz``.

    Returns
    -------
    DataFrame with ``gene_id``, ``gene_name``, ``chrom``, ``start``, ``end`` (from 1, end
    included) and ``strand``.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A file without genes, or truncated.
    """
    import pandas as pd

    rows: dict[str, list[tuple[Any, ...]]] = {"gene": [], "transcript": []}
    for number, line in lines(path, what="GTF file"):
        fields = line.split("\t")
        if len(fields) < 9 or fields[2] not in rows or line[0] == "#":
            continue
        gene, name = _attribute(fields[8], "gene_id"), _attribute(fields[8], "gene_name")
        if not gene or not (fields[3].isdecimal() and fields[4].isdecimal()):
            msg = (
                f"{path}, line {number}: a gene needs a start and an end (columns 4 and 5, here "
                f"{fields[3]!r} and {fields[4]!r}) and an attribute gene_id "
                f"(here {fields[8][:60]!r})."
            )
            if "=" in fields[8].partition(";")[0]:
                msg += " This is GFF3: turn it into GTF, for example with gffread -T."
            raise ValueError(msg)
        place = (fields[0], int(fields[3]), int(fields[4]), fields[6])
        rows[fields[2]].append((gene, name or gene, *place))
    found = rows["gene"] or rows["transcript"]
    if not found:
        msg = f"{path} has no lines of the feature 'gene' or 'transcript': is it a GTF file?"
        raise ValueError(msg)
    frame = pd.DataFrame(found, columns=["gene_id", "gene_name", "chrom", "start", "end", "strand"])
    if rows["gene"]:
        return frame
    # A name may be in several places (chrX and chrY): these are no one gene.
    together = frame.groupby(["gene_id", "chrom", "strand"], sort=False, as_index=False)
    return together.agg(
        gene_name=("gene_name", "first"), start=("start", "min"), end=("end", "max")
    )


def _attribute(text: str, name: str) -> str:
    """Value of one attribute of a GTF line."""
    found = re.search(rf'(?:^|[;\s]){name}\s+(?:"([^"]*)"|([^\s;"]+))', text)
    return (found[1] or found[2] or "") if found else ""


def start_sites(table: pd.DataFrame) -> pd.DataFrame:
    """Columns ``chrom``, ``tss`` (from 1) and ``strand`` out of a table of genes.

    Where there is no ``tss``, it is ``start`` of genes on ``+`` and ``end`` of genes on ``-``
    (both from 1, as in GTF).

    Raises
    ------
    KeyError
        When columns are missing.
    ValueError
        A strand other than ``+`` and ``-``.
    """
    import pandas as pd

    if "chrom" not in table:
        column = "chrom"
        raise missing(column, "the columns of the genes", table.columns)
    strand = table["strand"] if "strand" in table else pd.Series("+", index=table.index)
    strand = strands_of(strand)
    if "tss" in table:
        tss = _numbers(table, "tss")
    elif {"start", "end"} <= set(table.columns):
        tss = _numbers(table, "start").where(strand == "+", _numbers(table, "end"))
    else:
        column, hint = "tss", "Give the start site (from 1), or start and end of each gene."
        raise missing(column, "the columns of the genes", table.columns, hint=hint)
    if (odd_sites := tss[tss.notna() & (tss % 1 != 0)]).size:
        odd = listed(odd_sites, most=3)
        msg = f"Start sites must be whole numbers (positions from 1), not {odd}."
        raise ValueError(msg)
    chrom = as_contigs(table["chrom"]).where(tss.notna(), "")
    return pd.DataFrame({"chrom": chrom, "tss": tss.fillna(0).astype(np.int64), "strand": strand})


def _numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column of positions; NaN where there is none."""
    import pandas as pd

    given = table[column]
    found = pd.to_numeric(given.astype(object), errors="coerce").astype(np.float64)
    wrong = np.flatnonzero((found.isna() & given.notna() & (given.astype(str) != "")).to_numpy())
    if len(wrong):
        msg = (
            f"Column {column!r} of the genes must hold numbers, not {given.iloc[wrong[0]]!r} "
            f"(row {table.index[wrong[0]]!r})."
        )
        raise ValueError(msg)
    return found


def around(
    sites: pd.DataFrame, *, length: int, upstream: int | None = None, downstream: int | None = None
) -> pd.DataFrame:
    """Windows (0-based, half-open) around transcription start sites.

    Parameters
    ----------
    sites
        ``chrom``, ``tss`` (from 1), ``strand``.
    length
        ``[tss - length/2, tss + length/2 - 1]`` (from 1) on either strand, as published.
    upstream, downstream
        Bases before the start site, and from it on, in the direction of the gene; instead of
        `length`.

    Returns
    -------
    DataFrame ``chrom``, ``start``, ``end``, ``strand``.
    """
    import pandas as pd

    base = sites["tss"].to_numpy() - 1
    minus = (sites["strand"] == "-").to_numpy()
    if upstream is None and downstream is None:
        start = base - length // 2
        end = start + length
    else:
        before, after = upstream or 0, downstream or 0
        start = np.where(minus, base - after + 1, base - before)
        end = start + before + after
    return pd.DataFrame(
        {"chrom": sites["chrom"].to_numpy(), "start": start, "end": end,
         "strand": sites["strand"].to_numpy()},
        index=sites.index,
    )  # fmt: skip


def from_columns(var: pd.DataFrame, key: str = "window") -> pd.DataFrame:
    """Windows that `omicllm.pp.gene_windows` wrote, without genes that have none.

    Raises
    ------
    KeyError
        When they are not there.
    """
    column = f"{key}_start"
    if column not in var:
        hint = "Make it with ol.pp.gene_windows(adata, ...)."
        raise missing(column, "adata.var", var, hint=hint)
    frame = var[[f"{key}_{c}" for c in COLUMNS]].copy()
    frame.columns = list(COLUMNS)
    frame["chrom"] = as_contigs(frame["chrom"])
    frame["strand"] = strands_of(frame["strand"])
    return frame[frame["end"].to_numpy() > frame["start"].to_numpy()]


def without_absent(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of windows without the genes that have none (start and end -1, no contig)."""
    if not {"chrom", "start", "end"} <= set(frame.columns):
        return frame
    absent = (frame["start"] == -1) & (frame["end"] == -1) & (frame["chrom"].astype(str) == "")
    return frame[~absent.to_numpy()]


def strands_of(column: pd.Series) -> pd.Series:
    """``"+"`` and ``"-"`` of a column; what has no strand is read forwards."""
    known = {value: as_strand(value, unstranded="+") for value in column.unique()}
    return column.map(known).fillna("+").astype(object)


def as_windows(frame: pd.DataFrame) -> list[Window]:
    """Rows of a table of windows.

    Raises
    ------
    KeyError
        When columns are missing.
    ValueError
        Windows that end before they start, or an unknown strand.
    """
    for column in COLUMNS[:3]:
        if column not in frame:
            raise missing(
                column, "the columns of windows", frame.columns,
                hint="Windows need chrom, start, end (0-based, half-open) and strand.",
            )  # fmt: skip
    strand = strands_of(frame["strand"]) if "strand" in frame else ["+"] * len(frame)
    out = [
        Window(c, as_position(s, what="start"), as_position(e, what="end"), d)
        for c, s, e, d in zip(
            as_contigs(frame["chrom"]), frame["start"], frame["end"], strand, strict=True
        )
    ]
    for window in out:
        if window.end <= window.start:
            msg = f"{tuple(window)} is no window: start must lie before end (0-based, half-open)."
            raise ValueError(msg)
    return out


def match_genes(wanted: Sequence[str], table: pd.DataFrame) -> np.ndarray:
    """Row of `table` for each gene by ``gene_id`` (with or without version) or ``gene_name``.

    Returns
    -------
    int64: row, the first where several match (told in the log, where they lie in different
    places); -1 for none.
    """
    import pandas as pd

    out = np.full(len(wanted), -1, dtype=np.int64)
    names = pd.Index([str(w) for w in wanted])
    short = names.str.replace(r"\.\d+$", "", regex=True)
    several = np.zeros(len(wanted), dtype=bool)
    place = [c for c in ("chrom", "tss", "start", "end", "strand") if c in table]

    def elsewhere(key: pd.Series) -> pd.Series:
        """Rows that share their key with a row of another place."""
        places = table[place].astype(str).agg(":".join, axis=1) if place else key
        return places.groupby(key.to_numpy()).transform("nunique") > 1

    columns = [c for c in ("gene_id", "gene_name") if c in table]
    tries = [(names, table[c].astype(str)) for c in columns]
    if "gene_id" in table:
        tries.append((short, table["gene_id"].astype(str).str.replace(r"\.\d+$", "", regex=True)))
    for sought, available in tries:
        first = pd.Series(np.arange(len(table)), index=available)
        again = available[elsewhere(available).to_numpy()]
        first = first[~first.index.duplicated()]
        found = first.reindex(sought).to_numpy()
        fill = (out < 0) & ~np.isnan(found.astype(float))
        out[fill] = found[fill].astype(np.int64)
        several |= fill & sought.isin(again)
    if several.any():
        logger.warning(
            "%d genes lie in several places, and the first is taken (%s); name genes by ids",
            int(several.sum()), listed(names[several], most=3),
        )  # fmt: skip
    return out
