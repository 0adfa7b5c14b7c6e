"""`omicllm.pp.gene_windows`, `attach_sequences`: where genes start, and the sequence there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm._core.text_files import read_table
from omicllm.genome import windows as arithmetic
from omicllm.genome.fasta import Genome

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def gene_windows(
    adata: AnnData | MuData,
    *,
    gtf: str | Path | None = None,
    table: pd.DataFrame | str | Path | None = None,
    length: int = 49_152,
    upstream: int | None = None,
    downstream: int | None = None,
    genome: Genome | str | Path | None = None,
    missing: Literal["raise", "skip"] = "raise",
    gene_key: str | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Place a window around the transcription start site of every gene.

    Parameters
    ----------
    {adata}
    gtf
        GTF file (also ``.gz``); genes are found by id, with or without version, or by name.
    table
        Instead: DataFrame or CSV file with one row per gene, ``gene_id`` or ``gene_name`` (or
        genes as index), ``chrom``, ``strand``, and ``tss`` or ``start`` and ``end`` (from 1, as
        in GTF). Without `gtf` and `table`, these columns are taken from ``adata.var``.
    length
        Bases of the window, ``[tss - length/2, tss + length/2 - 1]`` counted from 1, on either
        strand.
    upstream, downstream
        Instead of `length`: bases before the start site, and from the site on, in the direction
        of the gene.
    genome
        FASTA file or :class:`omicllm.io.Genome`: windows are then checked against its contigs.
        With ``ol.io.Genome(path, outside="pad")`` windows may reach past the ends of contigs.
    missing
        What to do about genes without a start site, or whose window reaches past an end of its
        contig: ``"raise"``, or ``"skip"`` them: they get no window.
    gene_key
        Column of `var` with the genes' ids; by default ``var_names``.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.var["window_chrom"]``, ``adata.var["window_strand"]`` : str
        Contig and strand; empty and ``"+"`` for genes without a window.
    ``adata.var["window_start"]``, ``adata.var["window_end"]`` : int64
        0-based, half-open; both -1 for genes without a window.

    Raises
    ------
    FileNotFoundError, KeyError
        No such file or column; no gene of the object is in the annotation; a contig that
        `genome` lacks (one that differs by ``chr`` is suggested).
    ValueError
        Genes without a start site; a window past the end of its contig; an unknown strand.

    Examples
    --------
    >>> ol.pp.gene_windows(rna, gtf="gencode.v12.gtf.gz", length=8192)  # doctest: +SKIP
    """
    import pandas as pd

    source = inputs.resolve(adata, mod)
    checks.one_of("missing", missing, ("raise", "skip"))
    checks.whole_number("length", length)
    for name, value in (("upstream", upstream), ("downstream", downstream)):
        if value is not None:
            checks.whole_number(name, value, at_least=0)
    if upstream is not None or downstream is not None:
        why = "with upstream= and downstream=, which are given instead"
        checks.no_effect(gene_windows, locals(), ("length",), because=why)
    if (upstream is not None or downstream is not None) and not (upstream or 0) + (downstream or 0):
        msg = "upstream= and downstream= are both 0: the window would be empty."
        raise ValueError(msg)
    if gtf is not None and table is not None:
        msg = "Give gtf= or table=, not both."
        raise ValueError(msg)
    genes = inputs.gene_names(source) if gene_key is None else _var(source).get(gene_key)
    if genes is None:
        raise checks.missing(
            str(gene_key), "adata.var", source.var, hint="Name a column with gene_key=."
        )
    sites = _sites(source, [str(g) for g in genes], gtf, table)
    absent = (sites["chrom"] == "").to_numpy()
    if absent.all() or (absent.any() and missing == "raise"):
        msg = (
            f"{int(absent.sum())} of {len(sites)} genes have no transcription start site "
            f"({checks.listed(sites.index[absent], most=5)}). "
            + ("" if absent.all() else "Drop them, or pass missing='skip'.")
        ).strip()
        raise ValueError(msg)
    frame = arithmetic.around(sites, length=length, upstream=upstream, downstream=downstream)
    outside = _outside(frame, absent, genome)
    if outside.any() and (missing == "raise" or (absent | outside).all()):
        msg = (
            f"The windows of {int(outside.sum())} genes reach past the end of their contig "
            f"({checks.listed(frame.index[outside], most=5)}). Choose shorter windows, leave these "
            "genes without one (missing='skip', if others have one), or pass "
            "genome=ol.io.Genome(path, outside='pad') to read N there."
        )
        raise ValueError(msg)
    absent = absent | outside
    frame.loc[outside, "chrom"] = ""
    frame.loc[absent, ["start", "end"]] = -1
    if absent.any():
        logger.warning("%d of %d genes have no window", int(absent.sum()), len(absent))
    values: dict[str, Any] = {
        "var:{root}_chrom": frame["chrom"].to_numpy(dtype=object),
        "var:{root}_start": frame["start"].to_numpy(dtype=np.int64),
        "var:{root}_end": frame["end"].to_numpy(dtype=np.int64),
        "var:{root}_strand": frame["strand"].to_numpy(dtype=object),
    }
    params = {
        "gtf": None if gtf is None else str(gtf),
        "table": None if table is None or isinstance(table, pd.DataFrame) else str(table),
        "length": length if upstream is None and downstream is None else None,
        "upstream": upstream, "downstream": downstream, "missing": missing, "gene_key": gene_key,
        "genome": None if genome is None else str(getattr(genome, "path", genome)),
    }  # fmt: skip
    result = results.Result("pp.gene_windows", values, params, key_added=key_added)
    return results.write(adata, result, mod=mod, copy=copy)


def _sites(source: AnnData, genes: list[str], gtf: str | Path | None, table: Any) -> pd.DataFrame:
    """Start site of every gene, an empty contig where there is none."""
    import pandas as pd

    if gtf is None and table is None:
        columns = _var(source).reset_index(drop=True)
        if "chrom" not in columns:
            column = "chrom"
            hint = "Say where genes are with gtf= or table=, or put chrom, tss and strand there."
            raise checks.missing(column, "adata.var", source.var, hint=hint)
        sites = arithmetic.start_sites(columns)
    else:
        if gtf is not None:
            known, what = arithmetic.read_gtf(gtf), "the GTF file"
        else:
            known, what = _gene_table(table)
        row = arithmetic.match_genes(genes, known)
        if (row < 0).all():
            column = "gene_id" if "gene_id" in known else "gene_name"
            from omicllm._core.names import positions

            positions(genes, known[column].astype(str), argument="genes", where=what)
        sites = arithmetic.start_sites(known).iloc[np.maximum(row, 0)].reset_index(drop=True)
        sites.loc[row < 0, "chrom"] = ""
    sites.index = pd.Index(genes)
    return sites


def _gene_table(table: pd.DataFrame | str | Path) -> tuple[pd.DataFrame, str]:
    """A table of genes with `gene_id` or `gene_name`, and what to call it in messages."""
    import pandas as pd

    column = "gene_id"
    if isinstance(table, pd.DataFrame):
        if {column, "gene_name"} & set(table.columns):
            return table, "the table"
        if isinstance(table.index, pd.RangeIndex):
            hint = "Genes are looked for under gene_id or gene_name, or in an index of names."
            raise checks.missing(column, "the columns of the table", table.columns, hint=hint)
        return table.assign(gene_id=table.index.astype(str)), "the table (by its index)"
    known = read_table(table, what="table of genes", numbers=("start", "end", "tss"))
    if known.empty:
        msg = f"{table} holds a header and no gene."
        raise ValueError(msg)
    if not {column, "gene_name"} & set(known.columns):
        if "" not in known:
            hint = "Genes are looked for under gene_id or gene_name, or in a first unnamed column."
            raise checks.missing(column, f"the columns of {table}", known.columns, hint=hint)
        known = known.rename(columns={"": column})
    return known.reset_index(drop=True), str(table)


def _var(source: AnnData) -> pd.DataFrame:
    """The columns of var, in memory."""
    return source.var.to_memory() if hasattr(source.var, "to_memory") else source.var


def _outside(
    frame: pd.DataFrame, absent: np.ndarray, genome: Genome | str | Path | None
) -> np.ndarray:
    """Genes whose window begins before 0 or lies past the end of its contig."""
    outside = (frame["start"] < 0).to_numpy()
    if genome is not None:
        genome = genome if isinstance(genome, Genome) else Genome(genome)
        for chrom in dict.fromkeys(frame["chrom"][~absent]):
            genome.contig(chrom)
        length = frame["chrom"].map(genome.lengths).to_numpy(dtype=np.float64)
        outside = outside | (frame["end"].to_numpy() > length)
        if genome.outside == "pad":
            outside = (frame["end"].to_numpy() <= 0) | (frame["start"].to_numpy() >= length)
    return outside & ~absent


@docs.fill()
def attach_sequences(
    adata: AnnData | MuData,
    *,
    genome: Genome | str | Path,
    windows: pd.DataFrame | None = None,
    window_key: str = "window",
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Write the reference sequence of every gene's window.

    Parameters
    ----------
    {adata}
    genome
        FASTA file or :class:`omicllm.io.Genome`.
    windows
        DataFrame with ``chrom``, ``start``, ``end`` (0-based, half-open) and ``strand``, one row
        per gene, genes as index; by default what :func:`gene_windows` wrote.
    window_key
        Root under which it wrote.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.var["sequence"]`` : str
        Upper case, in the direction of the gene (the reverse complement for ``-``); empty for
        genes without a window.

    Raises
    ------
    FileNotFoundError, KeyError
        No such FASTA file, windows or contig (one that differs by ``chr`` is suggested).
    ValueError
        A window past the end of its contig.
    """
    import pandas as pd

    source = inputs.resolve(adata, mod)
    if windows is not None:
        checks.no_effect(attach_sequences, locals(), ("window_key",), because="with windows=")
    genes = inputs.gene_names(source)
    frame = arithmetic.from_columns(_var(source), window_key) if windows is None else windows
    listed = arithmetic.as_windows(frame)
    rows = pd.Index(genes).get_indexer(frame.index.astype(str))
    if (rows < 0).any():
        unknown = checks.listed(frame.index[rows < 0], most=5)
        msg = f"windows= has rows that are no genes: {unknown}."
        raise KeyError(msg)
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    for window in listed:
        genome.check_window(*window[:3])
    sequences = np.full(len(genes), "", dtype=object)
    for row, window in zip(rows, listed, strict=True):
        sequences[row] = genome.fetch(*window[:3], strand=window.strand)
    result = results.Result(
        "pp.attach_sequences",
        {"var:{root}": sequences},
        {"genome": str(genome.path), "window_key": window_key if windows is None else None},
        key_added=key_added,
    )
    return results.write(adata, result, mod=mod, copy=copy)
