"""Sequence for pretraining: a FASTA read as a stream, and pieces cut from it for every worker."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from omicllm._core.text_files import existing_file
from omicllm.genome.fasta import BOM, check_bgzf_end, damage_named, refuse_bare_returns
from omicllm.genome.kmers import UNKNOWN, Lower, Other, code_table, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Piece lengths drawn at a time.
_DRAWN = 4096


class Block(NamedTuple):
    """A block of one contig: its name, the position of the first base, and base numbers."""

    contig: str
    start: int
    codes: np.ndarray


class Piece(NamedTuple):
    """A piece of the corpus: contig, position of the first base, base numbers (uint8)."""

    contig: str
    start: int
    codes: np.ndarray


def stream_fasta(
    path: str | Path,
    *,
    lower: Lower = "upper",
    other: Other = "refuse",
    block_bytes: int = 1 << 22,
) -> Iterator[Block]:
    """Read a FASTA (or FASTA.gz) once, in blocks, as base numbers.

    Parameters
    ----------
    path
        File; gzip and BGZF are recognised by their content.
    lower, other
        What lower-case bases and letters outside ACGTN become; see
        :func:`omicllm.genome.kmers.code_table`.
    block_bytes
        Bytes of the file handled at a time.

    Yields
    ------
    Blocks in the order of the file; every contig has at least one (the last may be empty).

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        When the file is no FASTA or truncated, a contig name occurs twice, or a letter is refused.
    """
    path = existing_file(path, what="FASTA file")
    table = code_table(lower=lower, other=other)
    seen: set[str] = set()
    contig: str | None = None
    position = 0
    with damage_named(path), _opened(path) as handle:
        # The end of a line is kept with what follows: only there does '>' begin a header.
        rest = b"\n" + handle.read(len(BOM)).removeprefix(BOM)
        while block := handle.read(block_bytes):
            block = rest + block
            # A header that the block cuts off is left for the next one.
            header = block.rfind(b"\n>")
            cut = len(block) - block.endswith(b"\n")
            if header >= 0 and block.find(b"\n", header + 1) < 0:
                cut = header
            block, rest = block[:cut], block[cut:]
            for i, part in enumerate(block.split(b"\n>")):
                sequence = part
                if i > 0:
                    contig, sequence = _header(part, path, seen)
                    position = 0
                elif not part.strip():
                    continue
                if contig is None:
                    msg = f"{path} is no FASTA: it does not start with '>'."
                    raise ValueError(msg)
                codes = np.frombuffer(sequence.translate(table, b"\r\n \t"), dtype=np.uint8)
                if len(codes) and codes.max() > UNKNOWN:
                    raw = sequence.translate(None, b"\r\n \t")
                    refuse(codes, raw, name=f"Contig {contig!r}", start=position)
                yield Block(contig, position, codes)
                position += len(codes)
        if rest.startswith(b"\n>"):
            contig, _ = _header(rest[2:] + b"\n", path, seen)
            yield Block(contig, 0, np.empty(0, dtype=np.uint8))
    if contig is None:
        msg = f"{path} holds no sequence."
        raise ValueError(msg)


def _opened(path: Path) -> Any:
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    if not packed:
        return path.open("rb")
    check_bgzf_end(path)
    return gzip.open(path)


def _header(part: bytes, path: Path, seen: set[str]) -> tuple[str, bytes]:
    """Name of a contig and the sequence after the header."""
    line, _, sequence = part.partition(b"\n")
    refuse_bare_returns(line, path)
    words = line.split()
    if not words:
        msg = f"{path}: a contig has no name."
        raise ValueError(msg)
    name = words[0].decode("utf-8", "replace")
    if name in seen:
        msg = f"{path}: the contig name {name!r} occurs twice."
        raise ValueError(msg)
    seen.add(name)
    return name, sequence


def sample_corpus(
    path: str | Path,
    *,
    max_bases: int = 511,
    min_bases: int = 6,
    full_share: float = 0.5,
    max_offset: int = 1000,
    n_policy: Literal["split", "delete"] = "split",
    lower: Lower = "upper",
    other: Other = "refuse",
    rng: np.random.Generator | int | None = 0,
    worker: int = 0,
    n_workers: int = 1,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Piece]:
    """Cut a FASTA into pieces that do not overlap, in one pass, in constant memory.

    Each contig is entered at a random offset. A piece has `max_bases` with probability
    `full_share`, else a length drawn evenly from `min_bases` to ``max_bases - 1``. The defaults
    are those of the published corpus (511 bases are 506 6-mers), but for the runs of N: these end
    a piece here, where the published preparation deleted them and so joined their flanks.

    All shards walk the same pieces, drawn from the same seed, and each yields its own: piece i
    goes to shard ``i % (n_workers * world_size)``. Shards are disjoint and together complete.

    Parameters
    ----------
    path
        FASTA or FASTA.gz.
    max_bases, min_bases
        Longest and shortest piece.
    full_share
        Chance of a piece of `max_bases`.
    max_offset
        The first piece of a contig starts before this base.
    n_policy
        ``"split"``: pieces end at unknown bases; ``"delete"``: unknown bases are taken out first
        (positions are then those of the shortened contig).
    lower, other
        As for :func:`stream_fasta`. Soft-masked bases are upper-cased by default.
    rng
        Seed or Generator. Several shards need the same seed, not a Generator they share.
    worker, n_workers
        Number of this data-loading worker, and how many there are.
    rank, world_size
        Number of this process, and how many there are.

    Yields
    ------
    :class:`Piece`.

    Raises
    ------
    ValueError
        When a length, share, policy or shard makes no sense, or the file is refused.
    """
    if not 1 <= min_bases <= max_bases:
        msg = f"min_bases must be from 1 to max_bases ({max_bases}), not {min_bases}."
        raise ValueError(msg)
    if n_policy not in ("split", "delete"):
        msg = f"n_policy must be 'split' or 'delete', not {n_policy!r}."
        raise ValueError(msg)
    if not 0 <= full_share <= 1:
        msg = f"full_share must lie between 0 and 1, not {full_share!r}."
        raise ValueError(msg)
    if not (0 <= worker < n_workers and 0 <= rank < world_size):
        msg = f"There is no worker {worker} of {n_workers} on rank {rank} of {world_size}."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    shard, n_shards = rank * n_workers + worker, n_workers * world_size
    blocks = stream_fasta(path, lower=lower, other=other)
    pieces = _walk(blocks, generator, max_bases, min_bases, full_share, max_offset, n_policy)
    for i, piece in enumerate(pieces):
        if i % n_shards == shard:
            yield piece


def _walk(
    blocks: Iterator[Block], rng: np.random.Generator, max_bases: int, min_bases: int,
    full_share: float, max_offset: int, n_policy: str,
) -> Iterator[Piece]:  # fmt: skip
    lengths = _lengths(rng, max_bases, min_bases, full_share)
    contig, carry, start, skip, deleted = None, np.empty(0, np.uint8), 0, 0, 0
    for block in blocks:
        if block.contig != contig:
            yield from _cut(contig, carry, start, lengths, min_bases, 0)
            contig, carry, start, deleted = block.contig, carry[:0], 0, 0
            skip = int(rng.integers(max_offset)) if max_offset > 0 else 0
        codes, first = block.codes, block.start
        if n_policy == "delete":
            codes = codes[codes < UNKNOWN]
            first -= deleted
            deleted += len(block.codes) - len(codes)
        dropped = min(skip, len(codes))
        skip -= dropped
        codes = codes[dropped:]
        if not len(carry):
            start = first + dropped
        joined = np.concatenate([carry, codes])
        for at, end in _runs(joined):
            # What may go on in the next block is kept until it has the length of any piece.
            keep = max_bases if end == len(joined) else 0
            used = yield from _cut(contig, joined[at:end], start + at, lengths, min_bases, keep)
            if keep:
                carry, start = joined[at + used :], start + at + used
                break
        else:
            carry = joined[:0]
    yield from _cut(contig, carry, start, lengths, min_bases, 0)


def _lengths(
    rng: np.random.Generator, max_bases: int, min_bases: int, full_share: float
) -> Iterator[int]:
    # Lengths have a stream of their own: what else is drawn from `rng` must not depend on blocks.
    own = rng.spawn(1)[0]
    while True:
        full = own.random(_DRAWN) < full_share
        short = own.integers(min_bases, max(max_bases, min_bases + 1), _DRAWN)
        yield from np.where(full, max_bases, short).tolist()


def _runs(codes: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of the runs of known bases."""
    known = np.concatenate([[False], codes < UNKNOWN, [False]])
    edges = np.flatnonzero(known[1:] != known[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _cut(
    contig: str | None, codes: np.ndarray, start: int, lengths: Iterator[int], min_bases: int,
    keep: int,
) -> Any:  # fmt: skip
    """Cut a run into pieces while more than `keep` bases are left; returns the bases used."""
    used = 0
    while len(codes) - used > max(keep, min_bases - 1):
        size = next(lengths)
        piece = codes[used : used + size]
        if len(piece) >= min_bases:
            yield Piece(str(contig), start + used, piece)
        used += len(piece)
    return used
