"""Sequences of personal haplotypes: what `bcftools consensus` writes, as tokens.

The rules are those of bcftools 1.24 (fuzzed against it): records are applied in the order of
position; one that starts inside the REF of the last applied is skipped, unless it is an insertion
or deletion whose unchanged first base is all that overlaps; a record across an edge of the window
is cut there. bcftools before 1.20 or so ignored records across the left edge instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from omicllm.genome import tokens as nucleotides

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from scipy import sparse


class Window(NamedTuple):
    """One window: 0-based, half-open."""

    chrom: str
    start: int
    end: int
    strand: str = "+"


class WindowHaplotypes(NamedTuple):
    """Haplotypes of everybody in one window.

    Attributes
    ----------
    tokens
        int8 (n_unique, length): A 0, C 1, G 2, T 3, N 4, IUPAC codes 5 to 14, padding -1.
    index
        int32 (n_people, 2): row of `tokens` of each person's first and second haplotype.
    """

    tokens: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # the name is the field's, not tuple's


class Alleles:
    """Variants of one contig in the order of position, and who carries them.

    Parameters
    ----------
    pos
        Positions as in a VCF (from 1), int (m,).
    ref, alt
        Alleles; `alt` joined by commas.
    hap1, hap2
        csc int8 (n, m): allele numbers; below 0 is missing and counts as reference.
    unphased
        csc (n, m), or None: where two different alleles lie on unknown haplotypes; both
        haplotypes then get the IUPAC codes of the two.

    Attributes
    ----------
    n_skipped
        Alleles that are not sequences (``<INS>``, breakends) and are left out.
    """

    def __init__(
        self, pos: np.ndarray, ref: Sequence[str], alt: Sequence[str],
        hap1: sparse.csc_matrix, hap2: sparse.csc_matrix,
        unphased: sparse.csc_matrix | None = None,
    ) -> None:  # fmt: skip
        order = np.argsort(pos, kind="stable")
        self.order = order
        self.start = np.asarray(pos, dtype=np.int64)[order] - 1
        self.ref = [ref[i].upper() for i in order]
        self.alt = [alt[i].upper().split(",") if alt[i] not in ("", ".") else [] for i in order]
        _check_numbers(hap1, hap2, pos, alt)
        #: Allele numbers from here on stand for two alleles whose haplotypes are not known.
        self.pair = 1 + max((len(a) for a in self.alt), default=0)
        self.end = self.start + np.array([len(r) for r in self.ref], dtype=np.int64)
        self.reach = int((self.end - self.start).max()) if len(order) else 0
        self.n_people = hap1.shape[0]
        self.carried = (hap1[:, order].tocsc(), hap2[:, order].tocsc())
        self.unphased = None if unphased is None else unphased[:, order].tocsc()
        self.first = nucleotides.encode("".join(r[0] for r in self.ref))
        # A substitution of one base at a place of its own is a matter of one assignment.
        alone = np.ones(len(order), dtype=bool)
        same = self.start[1:] == self.start[:-1]
        alone[1:][same] = alone[:-1][same] = False
        self.simple = alone & np.array(
            [len(r) == 1 and all(len(a) == 1 for a in alts)
             for r, alts in zip(self.ref, self.alt, strict=True)], dtype=bool,
        )  # fmt: skip
        most = max((len(a) for a in self.alt), default=0)
        self.bases = np.full((len(order), most + 1), nucleotides.N, dtype=np.int8)
        for j in np.flatnonzero(self.simple):
            self.bases[j, 1 : len(self.alt[j]) + 1] = nucleotides.encode("".join(self.alt[j]))
        self.skipped = np.array(
            [(j, k) for j, alts in enumerate(self.alt) for k, a in enumerate(alts, 1)
             if not _is_sequence(a)], dtype=np.int64,
        ).reshape(-1, 2)  # fmt: skip
        self.n_skipped = len(self.skipped)
        self._edits: dict[tuple[int, int], _Edit] = {}

    def within(self, start: int, end: int) -> slice:
        """Variants that may touch ``[start, end)``."""
        low, high = np.searchsorted(self.start, (start - self.reach, end))
        return slice(int(low), int(high))

    def touching(self, start: int, end: int) -> np.ndarray:
        """Variants that do touch ``[start, end)``."""
        columns = self.within(start, end)
        return np.flatnonzero(self.end[columns] > start) + columns.start

    def mismatches(self, reference: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Variants whose REF, as far as it lies inside the window, is not the reference.

        Returns
        -------
        Those with another base, and those where the reference has none (N or an IUPAC code).
        """
        at = self.touching(start, start + len(reference))
        at = at[self.start[at] >= start]
        bad = self.first[at] != reference[self.start[at] - start]
        for i in np.flatnonzero((self.end[at] - self.start[at] > 1) & ~bad):
            offset = int(self.start[at[i]]) - start
            here = reference[offset : offset + len(self.ref[at[i]])]
            bad[i] = (nucleotides.encode(self.ref[at[i]])[: len(here)] != here).any()
        unknown = np.zeros_like(bad)
        for i in np.flatnonzero(bad):
            offset = int(self.start[at[i]]) - start
            here = reference[offset : offset + len(self.ref[at[i]])]
            differs = nucleotides.encode(self.ref[at[i]])[: len(here)] != here
            unknown[i] = (here[differs] == nucleotides.N).all()
        return at[bad & ~unknown], at[unknown]

    def leave_out(self, variants: np.ndarray) -> None:
        """Take all alleles of some variants as the reference."""
        more = [(j, k) for j in variants for k in range(1, len(self.alt[j]) + 1)]
        pairs = np.array([*self.skipped.tolist(), *more], dtype=np.int64).reshape(-1, 2)
        self.skipped = np.unique(pairs, axis=0)

    def numbers(self, columns: slice) -> np.ndarray:
        """Allele of each haplotype at some variants: int8 (2 n, k), rows 2 i and 2 i + 1."""
        k = columns.stop - columns.start
        largest = self.pair * (self.pair + 1)
        kind = np.int16 if largest <= np.iinfo(np.int16).max else np.int64
        out = np.zeros((self.n_people, 2, k), dtype=kind)
        for side, X in enumerate(self.carried):
            rows, at, values = _entries(X, columns)
            out[rows, side, at] = values
        low, high = np.searchsorted(self.skipped[:, 0], (columns.start, columns.stop))
        for j, allele in self.skipped[low:high]:
            column = out[:, :, j - columns.start]
            column[column == allele] = 0
        if self.unphased is not None:
            rows, at, _ = _entries(self.unphased, columns)
            pair = out[rows, :, at]
            less, more = pair.min(axis=1), pair.max(axis=1)
            # Both haplotypes carry the code of the pair, numbered after all single alleles; of an
            # allele and a missing one they carry the allele.
            code = np.where((less == more) | (less < 0), more, (less + 1) * self.pair + more)
            out[rows, :, at] = code[:, None]
        return np.maximum(out, 0).reshape(2 * self.n_people, k)

    def edit(self, j: int, allele: int) -> _Edit:
        """How one allele changes the reference."""
        key = (j, allele)
        if key not in self._edits:
            ref = self.ref[j]
            if allele < self.pair:
                new = nucleotides.encode(self.alt[j][allele - 1])
                indel = _is_indel(ref, self.alt[j][allele - 1])
            else:
                low, high = divmod(allele - self.pair, self.pair)
                pair = [ref if a == 0 else self.alt[j][a - 1] for a in (low, high)]
                new = _ambiguous(pair, ref)
                indel = _is_indel(ref, max((p for p in pair if p != ref), key=len))
            anchored = indel and len(new) > 0 and new[0] == self.first[j]
            self._edits[key] = _Edit(int(self.start[j]), int(self.end[j]), new, anchored)
        return self._edits[key]


class _Edit(NamedTuple):
    start: int
    end: int
    new: np.ndarray
    anchored: bool


def build(
    alleles: Alleles | None,
    reference: np.ndarray,
    window: Window,
    *,
    n_people: int,
    length: int | None = None,
    deduplicate: bool = True,
) -> WindowHaplotypes:
    """Haplotypes of everybody in one window.

    Parameters
    ----------
    alleles
        Variants of the contig; None for none.
    reference
        Tokens of the window on the forward strand.
    window
        Where it lies; ``strand="-"`` asks for reverse complements.
    n_people
        Number of people.
    length
        Cut or pad each haplotype about its centre to this length.
    deduplicate
        Return each sequence once.

    Returns
    -------
    Tokens and index.
    """
    columns = slice(0, 0) if alleles is None else alleles.within(window.start, window.end)
    if alleles is None or columns.start == columns.stop:
        rows = [reference]
        which = np.zeros(2 * n_people, dtype=np.int64)
        if not deduplicate:
            rows, which = rows * (2 * n_people), np.arange(2 * n_people)
    else:
        numbers = alleles.numbers(columns)
        if deduplicate:
            numbers, which = _unique_rows(numbers)
        else:
            which = np.arange(len(numbers))
        rows = list(_sequences(alleles, numbers, columns, reference, window))
    return finished(rows, which, window, n_people=n_people, length=length, deduplicate=deduplicate)


def finished(
    rows: list[np.ndarray], which: np.ndarray, window: Window, *, n_people: int,
    length: int | None, deduplicate: bool,
) -> WindowHaplotypes:  # fmt: skip
    """Turn, cut, compare and stack sequences of one window.

    Parameters
    ----------
    rows
        Sequences on the forward strand.
    which
        (2 n_people,): row of each haplotype, both of a person one after the other.
    window, n_people, length, deduplicate
        As for `build`.

    Returns
    -------
    Tokens and index.
    """
    if window.strand == "-":
        rows = [nucleotides.reverse_complement(row) for row in rows]
    if length is not None:
        rows = [centred(row, length) for row in rows]
    if deduplicate:
        seen: dict[bytes, int] = {}
        number = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows])
        first = np.unique(number, return_index=True)[1]
        rows, which = [rows[i] for i in first], number[which]
    out = np.full((len(rows), max(map(len, rows))), nucleotides.PAD, dtype=np.int8)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return WindowHaplotypes(out, which.reshape(n_people, 2).astype(np.int32))


def centred(row: np.ndarray, length: int) -> np.ndarray:
    """Cut or pad a sequence about its centre to `length`."""
    extra = len(row) - length
    if extra >= 0:
        return row[extra // 2 : extra // 2 + length]
    out = np.full(length, nucleotides.PAD, dtype=np.int8)
    out[-extra // 2 : -extra // 2 + len(row)] = row
    return out


def _sequences(
    alleles: Alleles, numbers: np.ndarray, columns: slice, reference: np.ndarray, window: Window
) -> Iterator[np.ndarray]:
    """Sequence of each row of allele numbers, on the forward strand."""
    start = window.start
    simple = alleles.simple[columns] & (alleles.start[columns] >= start)
    letters = np.repeat(reference[None], len(numbers), axis=0)
    row, at = np.nonzero(numbers[:, simple])
    variant = np.flatnonzero(simple)[at]
    number = numbers[row, variant]
    place = alleles.start[columns][variant] - start
    single = number < alleles.pair
    bases = alleles.bases[columns]
    letters[row[single], place[single]] = bases[variant[single], number[single]]
    for i in np.flatnonzero(~single).tolist():
        edit = alleles.edit(columns.start + int(variant[i]), int(number[i]))
        letters[row[i], place[i]] = edit.new[0]
    others = np.flatnonzero(~simple)
    carries = numbers[:, others] > 0
    some = np.asarray(carries.any(axis=1))
    for k, sequence in enumerate(letters):
        if not some[k]:
            yield sequence
            continue
        carried = others[carries[k]]
        edits = [
            alleles.edit(columns.start + j, a)
            for j, a in zip(carried.tolist(), numbers[k, carried].tolist(), strict=True)
        ]
        yield _walk(sequence, edits, start, window.end)


def _check_numbers(
    hap1: sparse.csc_matrix, hap2: sparse.csc_matrix, pos: np.ndarray, alt: Sequence[str]
) -> None:
    """Raise ValueError when a person has an allele that a record does not list."""
    n_alt = np.array([a.count(",") + 1 if a not in ("", ".") else 0 for a in alt], dtype=np.int64)
    for X in (hap1, hap2):
        columns = np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
        bad = np.flatnonzero(X.data > n_alt[columns])
        if len(bad):
            j = columns[bad[0]]
            msg = (
                f"A person has allele {X.data[bad[0]]} of the variant at {pos[j]}, which has "
                f"{n_alt[j]} alternate allele(s) ({alt[j]!r} in geno.var['alt'])."
            )
            raise ValueError(msg)


def _walk(sequence: np.ndarray, edits: list[_Edit], start: int, end: int) -> np.ndarray:
    """Apply edits in order to the sequence of ``[start, end)``."""
    pieces, done = [], start
    for first, last, new in resolved(edits, start, end):
        pieces += [sequence[done - start : first - start], new]
        done = last
    pieces.append(sequence[done - start :])
    return np.concatenate(pieces)


def resolved(edits: Iterable[_Edit], start: int, end: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """What is put where, of edits in order: those that overlap are left out, edges are cut.

    Yields
    ------
    First base, base after the last, and the bases put there; in order, without overlap.
    """
    done, frozen, after_insertion = start, start - 1, False
    for first, last, new, anchored in edits:
        if last <= start:
            continue
        if first < start:
            # The part left of the window is cut off; so is the unchanged first base.
            first, new, anchored = start, new[start - first :], False
        if last > end:
            last = end
            new = new[: last - first]
        if first <= frozen:
            if first < frozen or not anchored or after_insertion:
                continue
            yield done, last, new[1:]
        else:
            yield first, last, new
        after_insertion = len(new) > last - first
        done, frozen = last, last - 1


def _unique_rows(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows, and the number of each row among them."""
    weights = np.random.default_rng(0).integers(1, 2**62, numbers.shape[1], dtype=np.int64)
    with np.errstate(over="ignore"):
        key = (numbers * weights).sum(axis=1)
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    unique = numbers[first]
    if not np.array_equal(unique[which], numbers):  # two rows share a key: compare them whole
        unique, which = np.unique(numbers, axis=0, return_inverse=True)
    return unique, which.ravel()


def _entries(X: sparse.csc_matrix, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column from the first of the slice, and value of the entries of some columns."""
    pointer = X.indptr[columns.start : columns.stop + 1]
    inside = slice(pointer[0], pointer[-1])
    at = np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))
    return X.indices[inside], at, X.data[inside]


def _is_sequence(allele: str) -> bool:
    """Whether an allele can be put into a sequence; ``*`` (a base deleted upstream) becomes N."""
    return not set(allele) & set("<>[].")


def _is_indel(ref: str, alt: str) -> bool:
    """Whether one allele only lacks bases of the other, at one place (as htslib classifies)."""
    short, long = sorted((ref, alt), key=len)
    if len(short) == len(long):
        return False
    left = 0
    while left < len(short) and short[left] == long[left]:
        left += 1
    rest = len(short) - left
    return rest == 0 or long.endswith(short[left:])


def _ambiguous(pair: Sequence[str], ref: str) -> np.ndarray:
    """IUPAC codes of two alleles, as long as the longest that is not the reference."""
    longest = max(len(a) for a in pair if a != ref)
    bits = np.zeros(max(len(a) for a in pair), dtype=np.int8)
    for allele in pair:
        bits[: len(allele)] |= nucleotides.base_sets(allele)
    return nucleotides.TOKEN_OF_BITS[bits[:longest]]
