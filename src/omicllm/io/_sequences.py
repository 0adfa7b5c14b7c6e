"""`omicllm.io.read_sequences`: sequences with their labels, one per observation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm._core.text_files import existing_file, lines, read_table, typed
from omicllm.genome.kmers import base_codes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from omicllm.genome.fasta import Genome

FORMATS = ("fasta", "tsv", "dnabert", "bed")
_SUFFIXES = {
    ".fa": "fasta", ".fasta": "fasta", ".fna": "fasta", ".ffn": "fasta",
    ".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".bed": "bed",
}  # fmt: skip
_BED = ("chrom", "start", "end", "name", "score", "strand")


def read_sequences(
    path: str | Path,
    *,
    format: Literal["fasta", "tsv", "dnabert", "bed"] | None = None,
    genome: Genome | str | Path | None = None,
    sequence_column: str = "sequence",
    label_column: str = "label",
    lower: Literal["upper", "refuse", "unknown"] = "upper",
    other: Literal["refuse", "unknown"] = "refuse",
) -> AnnData:
    """Read sequences into an AnnData with one observation per sequence.

    Parameters
    ----------
    path
        FASTA; table (tab- or comma-separated, with a header) with a column of sequences;
        DNABERT's table, whose sequences are k-mers with blanks between them; or BED with `genome`.
        Each may be gzipped.
    format
        ``"fasta"``, ``"tsv"``, ``"dnabert"`` or ``"bed"``; by the file name when None (a table
        whose sequences hold blanks is taken as DNABERT's).
    genome
        :class:`omicllm.io.Genome`, or the path of a FASTA, that the intervals of a BED are cut
        from. Intervals on the minus strand are reverse-complemented.
    sequence_column, label_column
        Columns of a table. The label is not required.
    lower
        What lower-case bases become: ``"upper"`` the base they are, ``"unknown"`` an N;
        ``"refuse"`` raises.
    other
        What letters outside ACGTN become: ``"unknown"`` an N; ``"refuse"`` raises.

    Returns
    -------
    AnnData without variables, and with

    ``obs["sequence"]`` : str
        The sequence, of A, C, G, T and N.
    ``obs["label"]``
        The label, where the file has one: whole numbers where all are (Int64 if some are missing),
        other numbers as float64, and else the text as it is written (``01`` and ``NA`` are text).
        Empty cells are missing.
    ``obs[...]``
        Other columns of a table (``split``, for one), read as labels are; ``description`` of a
        FASTA;
        ``chrom``, ``start``, ``end``, ``name``, ``score``, ``strand`` of a BED.

    Raises
    ------
    FileNotFoundError
        No such file.
    KeyError
        A table without the column of sequences, or a contig that the genome lacks.
    ValueError
        An unknown format, a letter that is refused, k-mers that do not follow each other, an
        interval outside its contig, or a BED without `genome`.

    Examples
    --------
    >>> adata = ol.io.read_sequences("promoters.tsv.gz")  # doctest: +SKIP
    """
    path = existing_file(path)
    kind, separator = _kind(path, format)
    if genome is not None and kind != "bed":
        msg = f"genome= goes with a BED, and {path.name} was taken as {kind}: pass format='bed'."
        raise ValueError(msg)
    if kind == "fasta":
        obs = _fasta(path)
    elif kind == "bed":
        obs = _bed(path, genome)
    else:
        obs = _table(path, separator, sequence_column, label_column, kind)
    if not len(obs):
        msg = f"{path} holds no sequence."
        raise ValueError(msg)
    obs["sequence"] = _cleaned(obs, lower, other, path)
    import anndata

    out = anndata.AnnData(obs=obs)
    twice = int(obs["sequence"].duplicated().sum())
    if twice:
        logger.info("%s: %d of %d sequences repeat an earlier one", path.name, twice, len(obs))
    return out


def _kind(path: Path, format: str | None) -> tuple[str, str]:
    name = path.name.lower()
    for suffix in (".gz", ".bgz"):
        name = name.removesuffix(suffix)
    by_name = _SUFFIXES.get(Path(name).suffix)
    separator = "," if by_name == "csv" else "\t"
    if format is not None:
        checks.one_of("format", format, FORMATS)
        return format, separator
    if by_name is None:
        msg = (
            f"{path.name}: the name does not tell the format. Pass format= ({', '.join(FORMATS)})."
        )
        raise ValueError(msg)
    return ("tsv" if by_name == "csv" else by_name), separator


def _fasta(path: Path) -> pd.DataFrame:
    import pandas as pd

    names, descriptions = [], []
    sequences: list[list[str]] = []
    for _, line in lines(path, what="FASTA"):
        text = line.strip()
        if text.startswith(">"):
            name, *description = text[1:].split(maxsplit=1) or [""]
            names.append(name)
            descriptions.append("".join(description))
            sequences.append([])
        elif text and not sequences:
            msg = f"{path} is no FASTA: it does not start with '>'."
            raise ValueError(msg)
        elif text:
            sequences[-1].append(text)
    joined = ["".join(s) for s in sequences]
    obs = pd.DataFrame({"sequence": joined}, index=_unique(names, path), dtype=object)
    if any(descriptions):
        obs["description"] = descriptions
    return obs


def _unique(names: list[str], path: Path) -> list[str]:
    """Names, with a number after those that are empty or occurred before."""
    seen: dict[str, int] = {}
    taken, out = set(names), []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        new = name or "sequence"
        number = seen[name]
        while (number > 1 or not name) and (new == name or new in taken or not new):
            new = f"{name or 'sequence'}-{number}"
            number += 1
        taken.add(new)
        out.append(new)
    if len(seen) < len(names):
        logger.warning("%s: %d names occur twice; numbers were added", path.name,
                       len(names) - len(seen))  # fmt: skip
    return out


def _table(
    path: Path, separator: str, sequence_column: str, label_column: str, kind: str
) -> pd.DataFrame:
    import pandas as pd

    frame = read_table(path, what="table of sequences", separator=separator)
    frame = frame.rename(columns={"": "name"} if "name" not in frame else {})
    if sequence_column not in frame:
        raise checks.missing(
            sequence_column,
            f"the columns of {path}",
            frame.columns,
            hint="Name the column with sequence_column=.",
        )
    frame = frame.rename(columns={sequence_column: "sequence", label_column: "label"})
    words = frame["sequence"].str.strip()
    absent = words.index[words == ""]
    if len(absent):
        msg = f"{path} lacks a sequence in {len(absent)} rows (first: line {absent[0]})."
        raise ValueError(msg)
    if kind == "dnabert" or words.str.contains(" ", regex=False).any():
        words = pd.Series(
            [_joined(w, i, f"{path}, line {at}") for i, (at, w) in enumerate(words.items())],
            index=words.index,
        )
    frame["sequence"] = words.astype(object)
    for column in frame.columns.drop("sequence"):
        frame[column] = typed(frame[column])
    if "label" in frame and frame["label"].isna().any():
        logger.warning("%s: %d rows have no label", path.name, int(frame["label"].isna().sum()))
    frame.index = pd.RangeIndex(len(frame)).astype(str)
    front = [c for c in ("sequence", "label") if c in frame]
    return frame[[*front, *(c for c in frame.columns if c not in front)]]


def _joined(text: str, row: int, where: str) -> str:
    """The sequence behind overlapping k-mers."""
    words = text.split()
    k = len(words[0])
    for before, word in zip(words, words[1:], strict=False):
        if len(word) != k or word[:-1] != before[1:]:
            msg = (
                f"Row {row}: {word!r} does not follow {before!r} ({where}); overlapping k-mers "
                "are expected."
            )
            raise ValueError(msg)
    return words[0] + "".join(w[-1] for w in words[1:])


def _bed(path: Path, genome: Genome | str | Path | None) -> pd.DataFrame:
    import pandas as pd

    if genome is None:
        msg = "A BED needs genome=: an ol.io.Genome, or the path of a FASTA."
        raise ValueError(msg)
    from omicllm.genome.fasta import Genome as Fasta
    from omicllm.genome.places import as_strand

    source = genome if isinstance(genome, Fasta) else Fasta(genome)
    rows = []
    for number, line in lines(path, what="BED file"):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")[: len(_BED)]
        if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
            msg = f"{path}, line {number}: chrom, start and end are expected (tabs)."
            raise ValueError(msg)
        rows.append(fields)
    width = min((len(r) for r in rows), default=3)
    obs = pd.DataFrame([r[:width] for r in rows], columns=list(_BED[:width]), dtype=object)
    obs[["start", "end"]] = obs[["start", "end"]].astype(np.int64)
    strand = obs["strand"] if "strand" in obs else pd.Series("+", index=obs.index)
    sequences = [
        source.fetch(c, s, e, strand=as_strand(t, unstranded="+"))
        for c, s, e, t in zip(obs["chrom"], obs["start"], obs["end"], strand, strict=True)
    ]
    obs.insert(0, "sequence", np.array(sequences, dtype=object))
    named = "name" in obs and obs["name"].is_unique
    obs.index = pd.Index(obs["name"] if named else obs.index.astype(str), name=None)
    return obs


def _cleaned(obs: pd.DataFrame, lower: Any, other: Any, path: Path) -> np.ndarray:
    """Sequences of A, C, G, T and N."""
    letters = np.frombuffer(b"ATCGN", dtype=np.uint8)
    out = np.empty(len(obs), dtype=object)
    for i, (name, sequence) in enumerate(zip(obs.index, obs["sequence"], strict=True)):
        codes = base_codes(sequence, lower=lower, other=other, name=f"{path}: Sequence {name!r}")
        out[i] = letters[codes].tobytes().decode("ascii")
    return out
