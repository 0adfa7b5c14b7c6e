"""Haplotypes reconstructed by genvarloader.

genvarloader applies substitutions, insertions and deletions that do not overlap. Which records a
haplotype applies where they do, and what of them lies inside a window, is decided by
`omicllm.genome.haplotypes` (the rules of bcftools); what is left is written as plain records, one
contig per window, and handed over. The sequences are therefore the same as those built here.

References
----------
genvarloader, https://genvarloader.readthedocs.io
"""

from __future__ import annotations

import io
import shutil
import tempfile
import weakref
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.optional import require
from omicllm.genome import tokens as nucleotides
from omicllm.genome.haplotypes import resolved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from omicllm.genome.fasta import Genome
    from omicllm.genome.haplotypes import Alleles, Window

#: Position from 1, reference allele, alternate allele.
Record = tuple[int, str, str]
_WIDTH = 60
_WHY = "backend='gvl'"


def require_gvl() -> Any:
    """Import genvarloader, or say which extra brings it."""
    with _quiet():
        return require("genvarloader", extra="gvl", why=_WHY)


class Store:
    """Haplotypes of all windows, in a folder that goes with the object.

    Parameters
    ----------
    alleles
        Contig -> variants.
    windows
        Windows; their strand is not looked at.
    genome
        The reference.
    n_people
        Number of people.

    Raises
    ------
    ImportError
        Without genvarloader or pysam.
    """

    def __init__(
        self, alleles: dict[str, Alleles], windows: Sequence[Window], genome: Genome,
        n_people: int,
    ) -> None:  # fmt: skip
        gvl, pysam = require_gvl(), require("pysam", extra="gvl", why=_WHY)
        folder = Path(tempfile.mkdtemp(prefix="omicllm-gvl-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        #: Windows that hold a record -> number in the store; others are the reference.
        self.number: dict[int, int] = {}
        lines: list[str] = []
        regions, contigs = [], []
        with (folder / "windows.fa").open("w") as fasta:
            for w, window in enumerate(windows):
                reference = genome.tokens(window.chrom, window.start, window.end)
                carried = _carried(alleles.get(window.chrom), reference, window)
                if not carried:
                    continue
                name = f"w{len(self.number)}"
                # One base more, so that the first of the window has one before it.
                text = "N" + nucleotides.decode(reference)
                fasta.write(f">{name}\n")
                fasta.writelines(f"{text[i : i + _WIDTH]}\n" for i in range(0, len(text), _WIDTH))
                contigs.append(f"##contig=<ID={name},length={len(text)}>\n")
                regions.append(f"{name}\t0\t{len(text)}\n")
                lines += _lines(name, carried, n_people)
                self.number[w] = len(self.number)
        if not self.number:
            return
        # Names whose alphabetical order is that of the people: genvarloader sorts them.
        people = "\t".join(f"p{i:09d}" for i in range(n_people))
        (folder / "windows.bed").write_text("".join(regions))
        (folder / "a.vcf").write_text(
            "##fileformat=VCFv4.2\n" + "".join(contigs)
            + '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
            + f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{people}\n"
            + "".join(lines)
        )  # fmt: skip
        packed = pysam.tabix_index(str(folder / "a.vcf"), preset="vcf", force=True)
        with _quiet():
            gvl.write(folder / "a.gvl", folder / "windows.bed", variants=packed)
            opened = gvl.Dataset.open(folder / "a.gvl", folder / "windows.fa")
            self._data = opened.with_seqs("haplotypes").with_len("ragged")

    def rows(self, window: int) -> list[np.ndarray]:
        """Tokens of all haplotypes of a window on its forward strand, two for each person."""
        found = self._data[self.number[window], :]
        letters = np.ascontiguousarray(found.data).view(np.uint8)
        out = nucleotides.encode(letters)
        offsets = np.asarray(found.offsets)
        return [out[a + 1 : b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what genvarloader logs of its progress."""
    with redirect_stderr(io.StringIO()):
        yield


def _carried(
    alleles: Alleles | None, reference: np.ndarray, window: Window
) -> dict[Record, np.ndarray]:
    """Records of one window, and the haplotypes that carry each."""
    if alleles is None:
        return {}
    columns = alleles.within(window.start, window.end)
    numbers = alleles.numbers(columns)
    unique, which = np.unique(numbers, axis=0, return_inverse=True)
    carriers: dict[Record, list[int]] = {}
    for k, row in enumerate(unique):
        at = np.flatnonzero(row)
        edits = [alleles.edit(columns.start + int(j), int(row[j])) for j in at]
        pieces = list(resolved(edits, window.start, window.end))
        for record in _records(pieces, reference, window.start):
            carriers.setdefault(record, []).append(k)
    which = which.ravel()
    return {record: np.flatnonzero(np.isin(which, ks)) for record, ks in sorted(carriers.items())}


def _records(
    pieces: Sequence[tuple[int, int, np.ndarray]], reference: np.ndarray, start: int
) -> Iterator[Record]:
    """Substitutions of one base, and insertions and deletions after an unchanged base."""
    together: list[tuple[int, int, np.ndarray]] = []
    for first, last, new in pieces:
        if together and together[-1][1] == first:
            before = together.pop()
            first, new = before[0], np.concatenate([before[2], new])
        together.append((first, last, new))
    for first, last, new in together:
        at, old = first - start, reference[first - start : last - start]
        extra = len(new) - len(old)
        # Position of the base before: counted from 1, and with the additional first base.
        base = "N" if at == 0 else nucleotides.decode(reference[at - 1 : at])
        if extra > 0:
            yield at + 1, base, base + nucleotides.decode(new[:extra])
            new = new[extra:]
        elif extra < 0:
            yield at + 1, base + nucleotides.decode(old[:-extra]), base
            at, old = at - extra, old[-extra:]
        for i in np.flatnonzero(new != old).tolist():
            one, other = (nucleotides.decode(x[i : i + 1]) for x in (old, new))
            yield at + i + 2, one, other


def _lines(name: str, carried: dict[Record, np.ndarray], n_people: int) -> Iterator[str]:
    calls = np.array(["0|0", "0|1", "1|0", "1|1"])
    for (pos, ref, alt), haplotypes in carried.items():
        flags = np.zeros(2 * n_people, dtype=np.int64)
        flags[haplotypes] = 1
        called = "\t".join(calls[2 * flags[::2] + flags[1::2]])
        yield f"{name}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{called}\n"
