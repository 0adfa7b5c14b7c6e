"""Regions of BED files, read as a stream: which variants lie in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.checks import missing
from omicllm._core.text_files import lines
from omicllm.genome.fasta import require_contigs
from omicllm.genome.places import as_contigs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

#: Lines that are looked up at a time.
_LINES = 200_000
Batch = dict[str, tuple[np.ndarray, np.ndarray]]


def read_bed(path: str | Path) -> Iterator[Batch]:
    """Yield regions in batches: contig -> starts and ends (0-based, half-open).

    Parameters
    ----------
    path
        ``.bed`` or ``.bed.gz``; fields after the third are not read, nor are comments and lines
        that begin with ``track`` or ``browser``.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A line that is no region (its number is given), or a truncated file.
    """
    rows: dict[str, tuple[list[int], list[int]]] = {}
    held = 0
    for number, line in lines(path, what="BED file"):
        if line.startswith(("#", "track", "browser")) or not line.strip():
            continue
        chrom, start, end = _region(line, str(path), number)
        starts, ends = rows.setdefault(chrom, ([], []))
        starts.append(start)
        ends.append(end)
        held += 1
        if held == _LINES:
            yield _batch(rows)
            rows, held = {}, 0
    if held:
        yield _batch(rows)


def _region(line: str, name: str, number: int) -> tuple[str, int, int]:
    fields = line.split(None, 3) if "\t" not in line else line.split("\t", 3)
    try:
        start, end = int(fields[1]), int(fields[2])
        if not 0 <= start <= end:
            raise ValueError
    except (ValueError, IndexError):
        msg = (
            f"{name}, line {number}: {line.strip()[:60]!r} is no region. BED has contig, start and "
            "end (0-based, half-open, start not after end), separated by tabs."
        )
        raise ValueError(msg) from None
    return fields[0], start, end


def _batch(rows: dict[str, tuple[list[int], list[int]]]) -> Batch:
    return {c: (np.array(s, dtype=np.int64), np.array(e, dtype=np.int64))
            for c, (s, e) in rows.items()}  # fmt: skip


def _of_frame(frame: pd.DataFrame) -> Iterator[Batch]:
    for column in ("chrom", "start", "end"):
        if column not in frame:
            hint = "Regions need chrom, start and end (0-based, half-open)."
            raise missing(column, "the columns of regions", frame.columns, hint=hint)
    bad = ~(frame["start"] <= frame["end"]).to_numpy() | (frame["start"] < 0).to_numpy()
    if bad.any():
        msg = f"Row {int(np.flatnonzero(bad)[0])} of the regions ends before it starts."
        raise ValueError(msg)
    yield {
        str(c): (block["start"].to_numpy(np.int64), block["end"].to_numpy(np.int64))
        for c, block in frame.groupby(as_contigs(frame["chrom"]), sort=False)
    }


def inside_regions(
    bed: str | Path | pd.DataFrame, chrom: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, int]:
    """Which intervals touch a region.

    Parameters
    ----------
    bed
        BED file, read as a stream; or a DataFrame with ``chrom``, ``start``, ``end``.
    chrom, start, end
        Intervals (0-based, half-open), (n,).

    Returns
    -------
    bool (n,), and the number of regions on the contigs of the intervals.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_bed`; a file without regions.
    KeyError
        No contig in common; the name that differs by ``chr`` is suggested.
    """
    is_path = isinstance(bed, (str, Path))
    batches: Any = read_bed(bed) if is_path else _of_frame(bed)
    name = Path(bed).name if is_path else "the regions"
    chrom = np.asarray(chrom).astype(str)
    # By contig and length, starts in order: a region then holds a run of them.
    groups: dict[str, list[tuple[np.ndarray, np.ndarray, int, np.ndarray]]] = {}
    length = np.asarray(end) - np.asarray(start)
    for c in np.unique(chrom):
        for size in np.unique(length[chrom == c]):
            at = np.flatnonzero((chrom == c) & (length == size))
            at = at[np.argsort(start[at], kind="stable")]
            change = np.zeros(len(at) + 1, dtype=np.int64)
            groups.setdefault(str(c), []).append((at, start[at], int(size), change))
    seen: dict[str, None] = {}
    n_regions = 0
    for batch in batches:
        for c, (low, high) in batch.items():
            seen[c] = None
            n_regions += len(low) if c in groups else 0
            low, high = low[high > low], high[high > low]
            for _, starts, size, change in groups.get(c, []):
                first = np.searchsorted(starts, low - size, side="right")
                np.add.at(change, first, 1)
                np.add.at(change, np.maximum(first, np.searchsorted(starts, high)), -1)
    if not seen:
        msg = f"{name} holds no regions."
        raise ValueError(msg)
    if groups and not set(groups) & set(seen):
        require_contigs(list(groups), list(seen), where=name)
    out = np.zeros(len(chrom), dtype=bool)
    for parts in groups.values():
        for at, _, _, change in parts:
            out[at] = np.cumsum(change[:-1]) > 0
    return out, n_regions
