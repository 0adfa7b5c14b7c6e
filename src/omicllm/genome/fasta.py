"""Random access to FASTA files: plain, gzip or bgzip, with or without an index beside them."""

from __future__ import annotations

import gzip
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import numpy as np

from omicllm._core.checks import listed, missing, one_of
from omicllm._core.log import logger
from omicllm.genome import tokens as nucleotides
from omicllm.genome.places import as_position, as_strand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    outside
        What verbs read where a window reaches past an end of its contig: ``"raise"`` an error, or
        ``"pad"`` it with N. (:func:`omicllm.pp.gene_windows` with ``missing="skip"`` leaves such
        genes without a window instead.)

    Attributes
    ----------
    path
        The file.
    lengths
        Contig -> length.
    outside
        As given.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A file that is no FASTA, is truncated or damaged, or holds anything but letters; an index
        that does not fit it or is older and out of date.

    Examples
    --------
    >>> genome = ol.io.Genome("hg38.fa")  # doctest: +SKIP
    >>> genome.fetch("chr22", 19_929_000, 19_929_010)  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, outside: Literal["raise", "pad"] = "raise") -> None:
        one_of("outside", outside, ("raise", "pad"))
        self.path, self.outside = Path(path), outside
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
        self._check_index(index)
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
            ``"-"`` for the reverse complement (also -1, ``"minus"``).

        Raises
        ------
        KeyError
            No such contig; the message suggests the name that differs by ``chr``.
        ValueError
            A window that is empty or reaches past the contig (unless ``outside="pad"``), positions
            that are not whole, an unknown strand.
        """
        plus = as_strand(strand) == "+"
        letters = self._read(chrom, start, end).tobytes().decode("ascii").upper()
        return letters if plus else letters.translate(_COMPLEMENT)[::-1]

    def tokens(self, chrom: str, start: int, end: int, *, strand: str = "+") -> np.ndarray:
        """Return ``[start, end)`` as int8 tokens: A 0, C 1, G 2, T 3, everything else 4."""
        plus = as_strand(strand) == "+"
        out = nucleotides.encode(self._read(chrom, start, end))
        return out if plus else nucleotides.reverse_complement(out)

    def check_window(self, chrom: str, start: int, end: int) -> None:
        """Raise KeyError or ValueError unless ``[start, end)`` can be read.

        It must lie inside its contig, or with ``outside="pad"`` reach into it.
        """
        length = self._contigs[self.contig(chrom)].length
        pads = self.outside == "pad"
        inside = start < length and end > 0 if pads else start >= 0 and end <= length
        if not (inside and start < end):
            where = "reach into" if pads else "lie inside"
            msg = (
                f"The window {chrom}:{start}-{end} (0-based, half-open) does not {where} "
                f"{chrom}, which has {length} bases in {self.path.name}."
            )
            if not pads and start < min(end, length) and end > 0:
                msg += (
                    " Open the genome with ol.io.Genome(path, outside='pad') to read N there, or "
                    "leave such genes out: ol.pp.gene_windows(..., genome=, missing='skip')."
                )
            raise ValueError(msg)

    def _read(self, chrom: str, start: int, end: int) -> np.ndarray:
        start, end = as_position(start, what="start"), as_position(end, what="end")
        self.check_window(chrom, start, end)
        contig = self._contigs[chrom]
        low, high = max(0, start), min(end, contig.length)
        if (low, high) != (start, end):
            sides = (np.full(n, ord("N"), dtype=np.uint8) for n in (low - start, end - high))
            before, after = sides
            return np.concatenate([before, self._read(chrom, low, high), after])
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
        odd = ~_IS_LETTER[letters]
        if odd.any():
            at = int(np.flatnonzero(odd)[0])
            msg = (
                f"{self.path} holds {chr(letters[at])!r} at {chrom}:{start + at} (0-based), where "
                f"a base is expected. {_MEND}"
            )
            raise ValueError(msg)
        return letters

    def _check_index(self, index: Path) -> None:
        """Raise ValueError when contigs do not lie where the index places them."""
        if not self._contigs:
            msg = f"{self.path} holds no FASTA sequence."
            if index.is_file():
                msg = f"{index} names no contig. Make it again with samtools faidx."
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
            if not self._fits(name, contig):
                raise _unfitting(index, self.path, name)
        if not index.is_file() or index.stat().st_mtime_ns >= self.path.stat().st_mtime_ns:
            return
        logger.info("%s is older than %s: comparing them", index.name, self.path.name)
        scanned = _scan(self._bytes, self.path)
        for name in dict.fromkeys([*scanned, *self._contigs]):
            one, other = self._contigs.get(name), scanned.get(name)
            if one is None or other is None or _shape(one) != _shape(other):
                raise _unfitting(index, self.path, name)

    def _fits(self, name: str, contig: _Contig) -> bool:
        """Whether a contig begins after its header, and its lines end where they should."""
        start = max(0, contig.offset - _HEADER)
        before = self._bytes.read(start, contig.offset)
        if contig.length == 0 and contig.offset >= self._bytes.size:
            before = before.rstrip(b"\r\n") + b"\n"  # a header that ends the file
        line = before[:-1].rpartition(b"\n")[2]
        if before[-1:] != b"\n":
            return False
        whole = start == 0 or len(line) < len(before) - 1  # not a header longer than `_HEADER`
        words = line.removeprefix(BOM)[1:].split() if start == 0 else line[1:].split()
        if whole and (b">" not in line[:4] or words[:1] != [name.encode()]):
            return False
        if not contig.length:
            return True
        last = _position(contig, contig.length - 1)
        end = self._bytes.read(last, last + 2)
        if end[:1] in (b"\n", b"\r") or end[1:] not in (b"", b"\n", b"\r"):
            return False
        if contig.length <= contig.line_bases:
            return True
        first = contig.offset + contig.line_bases
        return self._bytes.read(first, contig.offset + contig.line_bytes) in (b"\n", b"\r\n")


#: Bytes before the first base that are looked at for the header.
_HEADER = 512
BOM = b"\xef\xbb\xbf"
#: What the lines of a FASTA file may hold; gaps and stops are read as unknown bases.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*-"
_IS_LETTER = np.zeros(256, dtype=bool)
_IS_LETTER[list(_LETTERS)] = True


def refuse_bare_returns(line: bytes, path: Path) -> None:
    """Raise ValueError when lines end in a carriage return alone: all would be one header."""
    if b"\r" in line.rstrip(b"\r"):
        msg = (
            f"{path}: lines end in a carriage return alone, as on old Macs. Convert it, for "
            "example with tr '\\r' '\\n'."
        )
        raise ValueError(msg)


_MEND = "Take such characters out of the file, and index it again."


def _shape(contig: _Contig) -> tuple[int, ...]:
    """What two indices must agree in; the width of lines counts where there are several."""
    if contig.length == 0:
        return (0,)
    return tuple(contig) if contig.length > contig.line_bases else (contig.length, contig.offset)


def _unfitting(index: Path, path: Path, name: str) -> ValueError:
    return ValueError(
        f"{index.name} does not fit {path.name} (contig {name!r}). Index the file again with "
        "samtools faidx, or delete the index."
    )


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
    for line in path.read_text(errors="replace").splitlines():
        if not line.strip():
            continue
        fields = line.split("\t")
        try:
            contig = _Contig(*(int(f) for f in fields[1:5]))
        except (TypeError, ValueError):
            contig = _Contig(-1, 0, 0, 0)
        least = 1 if contig.length else 0
        wrong = contig.length < 0 or contig.offset < 1 or contig.line_bases < least
        if wrong or contig.line_bytes < contig.line_bases or fields[0] in out:
            msg = f"{path} is no FASTA index: {line[:60]!r}. Make it again with samtools faidx."
            raise ValueError(msg)
        out[fields[0]] = contig
    return out


def _scan(data: _Bytes, path: Path) -> dict[str, _Contig]:
    """Index of a FASTA file, from one pass over its lines."""
    out: dict[str, _Contig] = {}
    name, offset, length, bases, width, short = "", 0, 0, 0, 0, False
    position = 0
    for number, line in enumerate(data.lines(), start=1):
        text = line.rstrip(b"\r\n")
        if number == 1:
            text = text.removeprefix(BOM)
        if text.startswith(b">"):
            refuse_bare_returns(text, path)
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
            if odd := text.translate(None, _LETTERS):
                msg = (
                    f"{path}, line {number}: holds {odd[:1].decode('latin-1')!r}, where bases are "
                    f"expected. {_MEND}"
                )
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
    if empty := [n for n, contig in out.items() if not contig.length]:
        logger.warning(
            "%s: %d contigs have a header and no bases (%s); is the file complete?",
            path.name,
            len(empty),
            listed(empty, most=3),
        )
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
        # No sequence packs so well; what does would fill the memory.
        most = max(_LEAST_LIMIT, _MOST_TIMES * path.stat().st_size)
        parts, self.size = [], 0
        with damage_named(path), gzip.open(path) as file:
            while part := file.read(1 << 24):
                parts.append(part)
                self.size += len(part)
                if self.size > most:
                    msg = (
                        f"{path} unpacks to more than {_MOST_TIMES} times its size, into memory: "
                        "that is no sequence of a genome. If it is, pack it with bgzip, which is "
                        "read in place."
                    )
                    raise ValueError(msg)
        self.data = b"".join(parts)

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
        with damage_named(self.path):
            text = gzip.decompress(raw)
        shift = int(self.unpacked[first])
        return text[start - shift : end - shift]

    def lines(self) -> Iterable[bytes]:
        with damage_named(self.path), gzip.open(self.path) as file:
            yield from file


#: A gzip file is unpacked up to so many times its size, and up to so many bytes in any case.
_MOST_TIMES, _LEAST_LIMIT = 100, 1 << 28


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Errors of unpacking as ones that name the file."""
    try:
        yield
    except EOFError as error:
        raise truncated(path) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, str(error)) from error


def _walk_blocks(file: BinaryIO, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where each block begins in the file and in the text, by hopping from header to footer."""
    packed, unpacked = [0], [0]
    while header := file.read(18):
        size = struct.unpack("<H", header[16:18])[0] + 1 if is_bgzf(header) else 0
        if size < _LEAST_BLOCK:
            raise damaged(path, f"no bgzip block begins at byte {packed[-1]}")
        file.seek(packed[-1] + size - 4)
        footer = file.read(4)
        if len(footer) < 4:
            raise truncated(path)
        length = struct.unpack("<I", footer)[0]
        if length > _MOST_UNPACKED:
            raise damaged(path, f"the block at byte {packed[-1]} is longer than bgzip makes them")
        packed.append(packed[-1] + size)
        unpacked.append(unpacked[-1] + length)
    return np.array(packed), np.array(unpacked)


#: Bytes of the smallest bgzip block, and bases in the largest.
_LEAST_BLOCK, _MOST_UNPACKED = 26, 1 << 16


def is_bgzf(header: bytes) -> bool:
    """Whether the first 18 bytes are those of a bgzip block."""
    return len(header) >= 18 and header[:4] == b"\x1f\x8b\x08\x04" and header[12:14] == b"BC"


def truncated(path: Path) -> ValueError:
    """The error for a compressed file that ends early."""
    return ValueError(f"{path} is truncated or damaged: it ends early. Fetch it again.")


def damaged(path: Path, what: str) -> ValueError:
    """The error for a compressed file whose bytes are not what they were."""
    return ValueError(f"{path} is damaged ({what}). Fetch it again.")


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
