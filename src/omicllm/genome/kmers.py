"""K-mers: bases as numbers, the token ids of DNABERT, and counts of every length at once.

Bases are numbered as DNABERT's vocabularies order them, A 0, T 1, C 2, G 3 (anything unknown is
4), and a k-mer is the base-4 number of its bases, the first one highest. Haplotypes elsewhere in
this room number bases alphabetically; the two never meet in one array.

References
----------
Ji et al. 2021, DNABERT, doi:10.1093/bioinformatics/btab083.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BASES = "ATCG"
UNKNOWN = 4
_REFUSED = 5
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
N_SPECIAL = len(SPECIAL_TOKENS)
#: Bases handled at a time: a block and its k-mers stay in the cache.
_BLOCK = 1 << 18
#: Number of the complementary base.
COMPLEMENT = np.array([1, 0, 3, 2, 4], dtype=np.uint8)
#: Longest k-mer: 4**12 counts are 128 MiB.
MAX_K = 12

Lower = Literal["upper", "unknown", "refuse"]
Other = Literal["refuse", "unknown"]


def code_table(*, lower: Lower = "upper", other: Other = "refuse") -> bytes:
    """Byte -> base number, for ``bytes.translate``.

    Parameters
    ----------
    lower
        What soft-masked (lower-case) bases become: the base they are, unknown, or refused.
    other
        What letters outside ACGTN become: refused or unknown.
    """
    for name, value, allowed in (
        ("lower", lower, ("upper", "unknown", "refuse")),
        ("other", other, ("refuse", "unknown")),
    ):
        if value not in allowed:
            msg = f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}."
            raise ValueError(msg)
    table = np.full(256, UNKNOWN if other == "unknown" else _REFUSED, dtype=np.uint8)
    for code, base in enumerate(BASES):
        table[ord(base)] = code
        table[ord(base.lower())] = {"upper": code, "unknown": UNKNOWN}.get(lower, _REFUSED)
    table[ord("N")] = UNKNOWN
    table[ord("n")] = _REFUSED if lower == "refuse" else UNKNOWN
    return table.tobytes()


def base_codes(
    sequence: str | bytes,
    *,
    lower: Lower = "upper",
    other: Other = "refuse",
    name: str = "The sequence",
) -> np.ndarray:
    """Numbers of the bases of a sequence: uint8 (n,), A 0, T 1, C 2, G 3, unknown 4.

    Parameters
    ----------
    sequence
        Letters.
    lower, other
        As for :func:`code_table`.
    name
        What the sequence is called in an error.

    Raises
    ------
    ValueError
        When a letter is refused; the message gives the letter and its position.
    """
    raw = sequence.encode("ascii", "replace") if isinstance(sequence, str) else bytes(sequence)
    codes = np.frombuffer(raw.translate(code_table(lower=lower, other=other)), dtype=np.uint8)
    refuse(codes, raw, name=name)
    return codes


def refuse(codes: np.ndarray, raw: bytes, *, name: str, start: int = 0) -> None:
    """Raise ValueError when a base was refused; `start` is the position of the first one."""
    if not len(codes) or codes.max() < _REFUSED:
        return
    where = int(np.argmax(codes == _REFUSED))
    letter = chr(raw[where]) if where < len(raw) else "?"
    if letter in "acgtn":
        hint = "Lower-case bases are allowed with lower='upper' (or 'unknown')."
    elif letter == "U":
        hint = "RNA is not read: write T for U."
    else:
        hint = "Letters outside ACGTN are read as N with other='unknown'."
    msg = f"{name} holds {letter!r} at position {start + where} (from 0). {hint}"
    raise ValueError(msg)


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    """Base numbers of the other strand."""
    return COMPLEMENT[codes[::-1]]


def kmer_names(k: int) -> list[str]:
    """All k-mers in the order of their numbers."""
    names = [""]
    for _ in range(k):
        names = [n + b for n in names for b in BASES]
    return names


def kmer_numbers(codes: np.ndarray, k: int) -> np.ndarray:
    """Number of the k-mer that starts at each base: int16 (n - k + 1,) or wider, -1 with an N.

    Built by doubling: a k-mer's number is that of its front half, shifted, plus that of its rear.
    """
    n = len(codes) - k + 1
    dtype = np.int16 if k <= 7 else np.int32
    if n <= 0:
        return np.empty(0, dtype=dtype)
    out = np.empty(n, dtype=dtype)
    for start in range(0, n, _BLOCK):
        block = codes[start : min(start + _BLOCK, n) + k - 1]
        _numbers_of_block(block, k, out[start : start + len(block) - k + 1])
    return out


def _numbers_of_block(block: np.ndarray, k: int, out: np.ndarray) -> None:
    known = True
    if block.max() >= UNKNOWN:
        known = False
        holes = block >= UNKNOWN
        block = np.where(holes, np.uint8(0), block)
    # Number and length of the k-mers built so far; bytes hold up to 3 bases and are fastest.
    if k <= 3:
        out[:] = _short(block, k)
    elif k == 6:
        three = _short(block, 3)
        np.multiply(three[:-3], 64, out=out, dtype=out.dtype)
        out += three[3:]
    else:
        out[:] = _short(block, 3)[: len(out)]
        for j in range(3, k):
            np.multiply(out, 4, out=out)
            out += block[j : j + len(out)]
    if not known:
        n_holes = np.concatenate([[0], np.cumsum(holes, dtype=np.int32)])
        out[n_holes[k:] != n_holes[: len(n_holes) - k]] = -1


def _short(block: np.ndarray, k: int) -> np.ndarray:
    """Numbers of k-mers of up to 3 bases, in bytes."""
    out = block
    for j in range(1, k):
        out = out[: len(block) - j] * np.uint8(4)
        out += block[j:]
    return out


class TokenRows(NamedTuple):
    """Sequences as rows of tokens.

    Attributes
    ----------
    ids
        (n_rows, width), padded at the end.
    mask
        Bool of the same shape: which of them are tokens.
    owner
        int64 (n_rows,): the sequence that each row comes from.
    """

    ids: np.ndarray
    mask: np.ndarray
    owner: np.ndarray


class KmerTokenizer:
    """Overlapping k-mers as token ids, as in DNABERT: a sequence of n bases has n - k + 1 tokens.

    Ids 0 to 4 are ``[PAD] [UNK] [CLS] [SEP] [MASK]``; a k-mer's id is 5 plus its base-4 number
    (A 0, T 1, C 2, G 3); k-mers with an N are ``[UNK]``. These are the ids of the published
    vocabularies for k = 3 to 6 (69, 261, 1,029 and 4,101 entries).

    Parameters
    ----------
    k
        Bases of a token, 1 to 12.
    lower
        What lower-case bases become: ``"upper"`` (the base they are), ``"unknown"``, ``"refuse"``.
    other
        Letters outside ACGTN: ``"refuse"`` or ``"unknown"``.

    Examples
    --------
    >>> KmerTokenizer(3).encode("AAAT").tolist()
    [5, 6]
    """

    def __init__(self, k: int = 6, *, lower: Lower = "upper", other: Other = "refuse") -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= MAX_K:
            msg = f"k must be a whole number from 1 to {MAX_K}, not {k!r}."
            raise ValueError(msg)
        code_table(lower=lower, other=other)
        self.k, self.lower, self.other = int(k), lower, other

    def __len__(self) -> int:
        return N_SPECIAL + 4**self.k

    @property
    def vocabulary(self) -> list[str]:
        """Every token, in the order of ids."""
        return [*SPECIAL_TOKENS, *kmer_names(self.k)]

    def encode(self, sequence: str | bytes, *, special_tokens: bool = False) -> np.ndarray:
        """Token ids of one sequence (n - k + 1,), in ``[CLS] ... [SEP]`` with `special_tokens`.

        Raises
        ------
        ValueError
            When the sequence is shorter than k, or holds a letter that is refused.
        """
        if len(sequence) < self.k:
            msg = f"A sequence of {len(sequence)} bases has no {self.k}-mer."
            raise ValueError(msg)
        ids = self.from_codes(base_codes(sequence, lower=self.lower, other=self.other))
        if not special_tokens:
            return ids
        return np.concatenate([[CLS], ids, [SEP]]).astype(ids.dtype)

    def from_codes(self, codes: np.ndarray) -> np.ndarray:
        """Token ids of base numbers (see :func:`base_codes`)."""
        ids = kmer_numbers(codes, self.k)
        has_unknown = len(codes) > 0 and codes.max() >= UNKNOWN
        ids += N_SPECIAL
        if has_unknown:
            ids[ids == N_SPECIAL - 1] = UNK
        return ids

    def encode_batch(
        self,
        sequences: Sequence[str],
        *,
        max_tokens: int = 510,
        too_long: Literal["refuse", "split", "truncate"] = "refuse",
    ) -> TokenRows:
        """Token ids of many sequences, each in ``[CLS] ... [SEP]``, padded at the end.

        Parameters
        ----------
        sequences
            Letters.
        max_tokens
            Longest row, without ``[CLS]`` and ``[SEP]``; DNABERT's limit is 510.
        too_long
            What to do with longer sequences: refuse them, split them into rows of their own, as
            DNABERT does, or use their first `max_tokens` tokens only.

        Returns
        -------
        :class:`TokenRows`.

        Raises
        ------
        ValueError
            When a sequence is shorter than k, refused as too long, or holds a letter refused.
        """
        if too_long not in ("refuse", "split", "truncate"):
            msg = f"too_long must be 'refuse', 'split' or 'truncate', not {too_long!r}."
            raise ValueError(msg)
        length = self._token_numbers(sequences)
        if too_long == "refuse" and (length > max_tokens).any():
            worst = int(np.argmax(length))
            msg = (
                f"Sequence {worst} has {int(length[worst])} tokens, the model takes {max_tokens}. "
                "Choose too_long='split' or 'truncate'."
            )
            raise ValueError(msg)
        first = np.cumsum(length + self.k) - (length + self.k)  # one N between two sequences
        pieces = np.ones(len(length), dtype=np.int64)
        if too_long == "split":
            pieces = -(-length // max_tokens)
        owner = np.repeat(np.arange(len(length)), pieces)
        nth = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        size = np.minimum(length[owner] - nth * max_tokens, max_tokens)
        # Letters are checked one by one only where the whole holds a bad one, to name it.
        joined = "N".join(sequences)
        try:
            codes = base_codes(joined, lower=self.lower, other=self.other)
        except ValueError:
            for i, sequence in enumerate(sequences):
                base_codes(sequence, lower=self.lower, other=self.other, name=f"Sequence {i}")
            raise
        tokens = self.from_codes(codes)
        width = int(size.max(initial=0)) + 2
        index = (first[owner] + nth * max_tokens)[:, None] + np.arange(width - 2)
        inside = np.arange(width - 2) < size[:, None]
        ids = np.full((len(owner), width), PAD, dtype=tokens.dtype)
        ids[:, 1:-1][inside] = tokens[index[inside]]
        ids[:, 0] = CLS
        ids[np.arange(len(owner)), size + 1] = SEP
        return TokenRows(ids, np.arange(width) < (size + 2)[:, None], owner)

    def _token_numbers(self, sequences: Sequence[str]) -> np.ndarray:
        length = np.array([len(s) for s in sequences], dtype=np.int64) - self.k + 1
        if (length < 1).any():
            worst = int(np.argmin(length))
            msg = (
                f"Sequence {worst} has {int(length[worst]) + self.k - 1} bases, fewer than k="
                f"{self.k} ({int((length < 1).sum())} such). Drop them first."
            )
            raise ValueError(msg)
        return length

    def decode(self, ids: Iterable[int]) -> str:
        """Bases of consecutive tokens; unknown ones are N, ``[CLS]``, ``[SEP]`` and pads skipped.

        Raises
        ------
        ValueError
            When two k-mers that follow each other do not overlap in k - 1 bases.
        """
        names = self.vocabulary
        words = [
            "N" * self.k if i == UNK else names[i] for i in map(int, ids) if i == UNK or i >= 5
        ]
        bases = list(words[0]) if words else []
        for word in words[1:]:
            overlap = bases[len(bases) - self.k + 1 :] if self.k > 1 else []
            clash = any(a != b and "N" not in (a, b) for a, b in zip(overlap, word, strict=False))
            if clash:
                msg = f"{word} does not continue {''.join(bases[-self.k :])}."
                raise ValueError(msg)
            bases[len(bases) - self.k + 1 :] = [
                b if a == "N" else a for a, b in zip(overlap, word, strict=False)
            ]
            bases.append(word[-1])
        return "".join(bases)


class KmerCounter:
    """Counts of all k-mers of lengths 1 to k, block by block, in constant memory.

    Only the longest are counted; a shorter one is counted as the front of the longer, plus those
    at the end of each run of known bases, which no longer k-mer starts with.

    Parameters
    ----------
    k
        Longest length.

    Examples
    --------
    >>> counter = KmerCounter(2)
    >>> counter.add(base_codes("AAT"))
    >>> [c.tolist()[:2] for c in counter.finish()]
    [[2, 1], [1, 1]]
    """

    def __init__(self, k: int) -> None:
        self.k = KmerTokenizer(k).k
        self._start()

    def _start(self) -> None:
        self._longest = np.zeros(4**self.k + 1, dtype=np.int64)  # first: k-mers with an N
        self._ends = [np.zeros(4**j, dtype=np.int64) for j in range(1, self.k)]
        self._carry = np.empty(0, dtype=np.uint8)

    def add(self, codes: np.ndarray) -> None:
        """Count a block of base numbers that goes on where the last one ended."""
        for start in range(0, len(codes), _BLOCK):
            self._add(codes[start : start + _BLOCK])

    def _add(self, codes: np.ndarray) -> None:
        joined = np.concatenate([self._carry, codes])
        numbers = kmer_numbers(joined, self.k)
        if len(numbers):
            numbers += 1
            self._longest += np.bincount(numbers, minlength=len(self._longest))
        holes = np.flatnonzero(joined >= UNKNOWN)
        self._runs_end(joined, holes[holes >= len(self._carry)])
        self._carry = joined[max(0, len(joined) - self.k + 1) :] if self.k > 1 else joined[:0]

    def _runs_end(self, joined: np.ndarray, ends: np.ndarray) -> None:
        """Count the short k-mers that end right before each of the positions `ends`."""
        good = np.ones(len(ends), dtype=bool)
        number = np.zeros(len(ends), dtype=np.int64)
        for j in range(1, self.k):
            index = ends - j
            good &= index >= 0
            base = joined[np.where(good, index, 0)] if len(joined) else index
            good &= base < UNKNOWN
            number += np.where(good, base, 0).astype(np.int64) * 4 ** (j - 1)
            self._ends[j - 1] += np.bincount(number[good], minlength=4**j)

    def finish(self) -> list[np.ndarray]:
        """Counts of lengths 1 to k of everything since the last call: int64 (4**j,) each."""
        self._runs_end(self._carry, np.array([len(self._carry)]))
        counts = [self._longest[1:]]
        for ends in reversed(self._ends):
            counts.append(counts[-1].reshape(-1, 4).sum(axis=1) + ends)
        self._start()
        return counts[::-1]
