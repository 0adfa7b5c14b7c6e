"""Random access to FASTA files: plain, gzip or bgzip, with or without an index beside them."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from omicllm._core.checks import missing
from omicllm._core.log import logger
from omicllm.genome import tokens as nucleotides

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The empty block that ends every complete bgzip file.
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class _Contig(NamedTuple):
    """One line of a ``.fai`` index."""

    length: int
    offset: int
    line_bases: int
    line_bytes: int


class Genome:
    """A reference genome: sequences by contig and position, read from FASTA when asked for.

    Plain files are read in place through ``<path>.fai``; bgzip files through their blocks
    (``<path>.gzi`` where there is one); gzip files, which allow no random access, are held in
    memory. A missing index is made in memory, which takes one pass over the file; run
    ``samtools faidx`` once to save that.

    Parameters
    ----------
    path
        ``.fa``, ``.fasta``, ``.fa.gz``.

    Attributes
    ----------
    path
        The file.
    lengths
        Contig -> length.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A file that is no FASTA or is truncated, or an index that does not fit it.

    Examples
    --------
    >>> genome = ol.io.Genome("hg38.fa")  # doctest: +SKIP
    >>> genome.fetch("chr22", 19_929_000, 19_929_010)  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            msg = f"There is no FASTA file {self.path}."
            raise FileNotFoundError(msg)
        self._bytes: _Bytes = _open(self.path)
        index = self.path.with_name(self.path.name + ".fai")
        if index.is_file():
            self._contigs = _read_index(index)
        else:
            logger.info("%s has no .fai index; making one in memory", self.path.name)
            self._contigs = _scan(self._bytes, self.path)
        self._check_ends(index)
        self.lengths = {name: contig.length for name, contig in self._contigs.items()}

    def __repr__(self) -> str:
        return f"Genome({str(self.path)!r}, {len(self._contigs)} contigs)"

    def __contains__(self, chrom: object) -> bool:
        return chrom in self._contigs

    @property
    def contigs(self) -> list[str]:
        """Contig names, in the order of the file."""
        return list(self._contigs)

    def contig(self, chrom: str) -> str:
        """Return `chrom` when there is such a contig, else raise with a suggestion."""
        require_contigs([chrom], self._contigs, where=self.path.name)
        return chrom

    def fetch(self, chrom: str, start: int, end: int, *, strand: str = "+") -> str:
        """Return the bases of ``[start, end)``, 0-based, upper case.

        Parameters
        ----------
        chrom
            Contig.
        start, end
            First base and the base after the last, counted from 0.
        strand
            ``"-"`` for the reverse complement.

        Raises
        ------
        KeyError
            No such contig; the message suggests the name that differs by ``chr``.
        ValueError
            A window that is empty or reaches past the contig.
        """
        letters = self._read(chrom, start, end).tobytes().decode("ascii").upper()
        return letters if strand != "-" else letters.translate(_COMPLEMENT)[::-1]

    def tokens(self, chrom: str, start: int, end: int, *, strand: str = "+") -> np.ndarray:
        """Return ``[start, end)`` as int8 tokens: A 0, C 1, G 2, T 3, everything else 4."""
        out = nucleotides.encode(self._read(chrom, start, end))
        return out if strand != "-" else nucleotides.reverse_complement(out)

    def check_window(self, chrom: str, start: int, end: int) -> None:
        """Raise KeyError or ValueError unless ``[start, end)`` lies inside a contig."""
        length = self._contigs[self.contig(chrom)].length
        if not 0 <= start < end <= length:
            msg = (
                f"The window {chrom}:{start}-{end} (0-based, half-open) does not lie inside "
                f"{chrom}, which has {length} bases in {self.path.name}."
            )
            raise ValueError(msg)

    def _read(self, chrom: str, start: int, end: int) -> np.ndarray:
        start, end = int(start), int(end)
        self.check_window(chrom, start, end)
        contig = self._contigs[chrom]
        first = _position(contig, start)
        raw = self._bytes.read(first, _position(contig, end - 1) + 1)
        letters = np.frombuffer(raw, dtype=np.uint8)
        letters = letters[(letters != 10) & (letters != 13)]
        if len(letters) != end - start:
            msg = (
                f"{self.path} ends early or does not fit its index: {len(letters)} of "
                f"{end - start} bases of {chrom}:{start}-{end} could be read."
            )
            raise ValueError(msg)
        return letters

    def _check_ends(self, index: Path) -> None:
        if not self._contigs:
            msg = f"{self.path} holds no FASTA sequence."
            raise ValueError(msg)
        size = self._bytes.size
        for name, contig in self._contigs.items():
            if contig.length and _position(contig, contig.length - 1) >= size:
                msg = (
                    f"{self.path} is truncated: {index.name} places the end of contig {name!r} "
                    f"after its last byte ({size}). Fetch the file again, or index it again with "
                    "samtools faidx."
                )
                raise ValueError(msg)
            # The byte before the first base must end the header line, or the index is stale.
            before = self._bytes.read(contig.offset - 1, contig.offset)
            if before != b"\n":
                msg = (
                    f"{index.name} does not fit {self.path.name} (contig {name!r}). Index the "
                    "file again with samtools faidx."
                )
                raise ValueError(msg)


_COMPLEMENT = str.maketrans("ACGTRYKMBDHV", "TGCAYRMKVHDB")


def fetch_padded(genome: Genome, chrom: str, start: int, end: int) -> str:
    """Bases of a window that may reach past the ends of its contig, N there."""
    low, high = max(0, start), min(end, genome.lengths[chrom])
    if high <= low:
        return "N" * (end - start)
    return "N" * (low - start) + genome.fetch(chrom, low, high) + "N" * (end - high)


def require_contigs(
    wanted: Iterable[str], available: Iterable[str], *, where: str, argument: str = ""
) -> None:
    """Raise KeyError unless all contigs `wanted` are in `available`.

    The message suggests the name that differs by ``chr`` or in the name of the mitochondrion.
    """
    available = list(available)
    absent = [c for c in dict.fromkeys(wanted) if c not in set(available)]
    if not absent:
        return
    hint = ""
    pairs = [(c, other) for c in absent if (other := _other_name(c, available))]
    if pairs:
        one, other = pairs[0]
        hint = (
            f"Did you mean {other!r}? The two sides name contigs differently ({one!r} and "
            f"{other!r}): rename one of them{argument}."
        )
    raise missing(absent[0], f"the contigs of {where}", available, hint=hint)


def _other_name(chrom: str, available: list[str]) -> str | None:
    short = chrom[3:] if chrom.lower().startswith("chr") else chrom
    names = [short, f"chr{short}", f"Chr{short}"]
    if short in ("M", "MT"):
        names += ["M", "MT", "chrM", "chrMT"]
    return next((n for n in names if n in available), None)


def _position(contig: _Contig, base: int) -> int:
    """Byte of a base."""
    line, column = divmod(base, contig.line_bases)
    return contig.offset + line * contig.line_bytes + column


def _read_index(path: Path) -> dict[str, _Contig]:
    out = {}
    for line in path.read_text().splitlines():
        fields = line.split("\t")
        try:
            out[fields[0]] = _Contig(*(int(f) for f in fields[1:5]))
        except (TypeError, ValueError):
            msg = f"{path} is no FASTA index: {line[:60]!r}. Make it again with samtools faidx."
            raise ValueError(msg) from None
    return out


def _scan(data: _Bytes, path: Path) -> dict[str, _Contig]:
    """Index of a FASTA file, from one pass over its lines."""
    out: dict[str, _Contig] = {}
    name, offset, length, bases, width, short = "", 0, 0, 0, 0, False
    position = 0
    for line in data.lines():
        text = line.rstrip(b"\r\n")
        if line.startswith(b">"):
            if name:
                out[name] = _Contig(length, offset, bases or 1, width or 2)
            words = text[1:].split()
            name = words[0].decode() if words else ""
            if not name or name in out:
                msg = f"{path} has a contig without a name, or twice the same ({name!r})."
                raise ValueError(msg)
            offset, length, bases, width, short = position + len(line), 0, 0, 0, False
        elif text:
            if not name:
                msg = f"{path} is no FASTA file: it does not begin with '>'."
                raise ValueError(msg)
            if short or (bases and len(text) > bases):
                msg = f"{path}: the lines of contig {name!r} differ in length; reformat it."
                raise ValueError(msg)
            if not bases:
                bases, width = len(text), len(line)
            short = len(text) < bases
            length += len(text)
        elif name:
            short = True
        position += len(line)
    if name:
        out[name] = _Contig(length, offset, bases or 1, width or 2)
    return out


class _Bytes:
    """A plain file, read in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    def read(self, start: int, end: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def lines(self) -> Iterable[bytes]:
        with self.path.open("rb") as file:
            yield from file


class _Memory(_Bytes):
    """A gzip file, unpacked into memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with gzip.open(path) as file:
                self.data = file.read()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(path) from error
        self.size = len(self.data)

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]

    def lines(self) -> Iterable[bytes]:
        return self.data.splitlines(keepends=True)


class _Blocks(_Bytes):
    """A bgzip file: only the blocks that a window touches are unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.packed, self.unpacked = _walk_blocks(file, path)
        self.size = int(self.unpacked[-1])

    def read(self, start: int, end: int) -> bytes:
        first = int(np.searchsorted(self.unpacked, start, side="right")) - 1
        last = int(np.searchsorted(self.unpacked, end, side="left"))
        with self.path.open("rb") as file:
            file.seek(int(self.packed[first]))
            raw = file.read(int(self.packed[last] - self.packed[first]))
        try:
            text = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(self.path) from error
        shift = int(self.unpacked[first])
        return text[start - shift : end - shift]

    def lines(self) -> Iterable[bytes]:
        with gzip.open(self.path) as file:
            yield from file


def _walk_blocks(file: BinaryIO, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where each block begins in the file and in the text, by hopping from header to footer."""
    packed, unpacked = [0], [0]
    while header := file.read(18):
        size = struct.unpack("<H", header[16:18])[0] + 1 if is_bgzf(header) else 0
        file.seek(packed[-1] + size - 4)
        footer = file.read(4) if size else b""
        if len(footer) < 4:
            raise truncated(path)
        packed.append(packed[-1] + size)
        unpacked.append(unpacked[-1] + struct.unpack("<I", footer)[0])
    return np.array(packed), np.array(unpacked)


def is_bgzf(header: bytes) -> bool:
    """Whether the first 18 bytes are those of a bgzip block."""
    return len(header) >= 18 and header[:4] == b"\x1f\x8b\x08\x04" and header[12:14] == b"BC"


def truncated(path: Path) -> ValueError:
    """The error for a compressed file that ends early."""
    return ValueError(f"{path} is truncated or damaged: it ends early. Fetch it again.")


def check_bgzf_end(path: Path) -> None:
    """Raise ValueError when a bgzip file lacks the block that ends a complete file."""
    with path.open("rb") as file:
        if not is_bgzf(file.read(18)):
            return
        file.seek(max(0, path.stat().st_size - len(_BGZF_END)))
        if file.read() != _BGZF_END:
            raise truncated(path)


def _open(path: Path) -> _Bytes:
    with path.open("rb") as file:
        header = file.read(18)
    if header[:2] != b"\x1f\x8b":
        return _Bytes(path)
    if not is_bgzf(header):
        return _Memory(path)
    check_bgzf_end(path)
    return _Blocks(path)
