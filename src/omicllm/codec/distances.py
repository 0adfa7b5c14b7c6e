"""Distances between strings of one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omicllm.codec.lookup_table import LookupTable


def hamming(strings: Sequence[str]) -> np.ndarray:
    """Share of places where two strings of one length differ, for every pair (condensed).

    Pairs are in the order of :func:`scipy.spatial.distance.pdist`.

    Raises
    ------
    ValueError
        When the strings have different lengths.
    """
    if len({len(s) for s in strings}) > 1:
        msg = "Hamming distances need strings of one length; use metric='levenshtein'."
        raise ValueError(msg)
    codes = np.array([[ord(c) for c in s] for s in strings], dtype=np.uint32)
    codes = codes.reshape(len(strings), -1)
    if not codes.shape[1]:
        return np.zeros(len(strings) * (len(strings) - 1) // 2)
    parts = [(codes[i + 1 :] != codes[i]).mean(axis=1) for i in range(len(strings) - 1)]
    return np.concatenate([*parts, np.empty(0)])


def level(strings: Sequence[str], table: LookupTable) -> np.ndarray:
    """Euclidean distance between the levels of strings of one length, condensed (series only)."""
    from scipy.spatial.distance import pdist

    from omicllm.codec.strings import strings_to_rows

    p = table.parameters
    same = len({len(s) for s in strings}) == 1
    codes = strings_to_rows(list(strings), p.patch_size, p.separator) if same else None
    if p.method != "series" or codes is None:
        msg = "Level distances need the strings of profiles of one length."
        raise ValueError(msg)
    return pdist(table._coding._keys_of(codes).astype(np.float64))


def levenshtein(strings: Sequence[str]) -> np.ndarray:
    """Edit distance (insert, delete, replace) over the longer length, condensed."""
    return _pairs(strings, lambda a, b: _edits(a, b) / max(len(a), len(b), 1))


def indel(strings: Sequence[str]) -> np.ndarray:
    """Edit distance without replacement over the sum of lengths, condensed.

    One minus this is what is often called the Levenshtein ratio, 2 LCS / (len a + len b).
    """
    return _pairs(
        strings, lambda a, b: (len(a) + len(b) - 2 * _common(a, b)) / max(len(a) + len(b), 1)
    )


def _pairs(strings: Sequence[str], distance: Callable[[str, str], float]) -> np.ndarray:
    n = len(strings)
    values = (distance(strings[i], strings[j]) for i in range(n) for j in range(i + 1, n))
    return np.fromiter(values, dtype=np.float64, count=n * (n - 1) // 2)


def _places(a: str) -> dict[str, int]:
    """For each character the places where it occurs, as bits of a whole number."""
    out: dict[str, int] = {}
    for i, character in enumerate(a):
        out[character] = out.get(character, 0) | (1 << i)
    return out


def _common(a: str, b: str) -> int:
    """Length of the longest common subsequence, one column of the table per word of bits.

    Hyyro (2004), Bit-parallel LCS-length computation revisited.
    """
    everything = (1 << len(a)) - 1
    places, column = _places(a), everything
    for character in b:
        matches = column & places.get(character, 0)
        column = ((column + matches) | (column - matches)) & everything
    return len(a) - column.bit_count()


def _edits(a: str, b: str) -> int:
    """Levenshtein distance by the bit-parallel algorithm of Myers (1999) in Hyyro's form."""
    if not a:
        return len(b)
    everything, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    places = _places(a)
    plus, minus, score = everything, 0, len(a)
    for character in b:
        match = places.get(character, 0)
        diagonal = (((match & plus) + plus) ^ plus) | match | minus
        up = minus | (~(diagonal | plus) & everything)
        down = plus & diagonal
        if up & last:
            score += 1
        elif down & last:
            score -= 1
        up = ((up << 1) | 1) & everything
        down = (down << 1) & everything
        plus = down | (~(diagonal | up) & everything)
        minus = up & diagonal
    return score


def pairs_of(n: int) -> tuple[Any, Any]:
    """Row and column of each entry of a condensed matrix of n items."""
    return np.triu_indices(n, k=1)
