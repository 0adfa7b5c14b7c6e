"""Text as runs of its Burrows-Wheeler transform (Burrows and Wheeler 1994), chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Marks the end of a chunk in the transform.
END = "\x1d"
_RESERVED = "\x1d\x1e\x1f"
#: Chunks up to this length are sorted by comparing whole rotations.
_SHORT = 256


def tokens(text: str, *, patch_size: int = 8) -> list[list[str]]:
    """Run-length tokens of each chunk of a text.

    Every chunk of `patch_size` characters (the last may be shorter) gets an end mark; its rotations
    are sorted by code point, and the last column is written as runs: ``"aab"`` gives ``"2a"``,
    ``"1b"``.

    Parameters
    ----------
    text
        Any text without U+001D, U+001E and U+001F.
    patch_size
        Characters in a chunk.

    Returns
    -------
    One list of tokens, count and character, per chunk.

    Raises
    ------
    TypeError
        When it is no str.
    ValueError
        When the text holds one of the three control characters.
    """
    if not isinstance(text, str):
        msg = f"Expected a str, not {type(text).__name__}."
        raise TypeError(msg)
    for character in _RESERVED:
        if character in text:
            msg = f"The text holds U+{ord(character):04X}, which the transform uses itself."
            raise ValueError(msg)
    chunks = [text[i : i + patch_size] for i in range(0, len(text), patch_size)]
    return [_runs(last_column(chunk)) for chunk in chunks]


def last_column(chunk: str) -> str:
    """Burrows-Wheeler transform of a chunk: last characters of its sorted rotations."""
    marked = chunk + END
    n = len(marked)
    if n <= _SHORT:
        order = sorted(range(n), key=lambda i: marked[i:] + marked[:i])
        return "".join(marked[i - 1] for i in order)
    # Prefix doubling: ranks of rotations by their first 1, 2, 4, ... characters.
    rank = np.unique(np.array([ord(c) for c in marked]), return_inverse=True)[1]
    width = 1
    while rank.max() < n - 1:
        pair = rank.astype(np.int64) * n + np.roll(rank, -width)
        rank = np.unique(pair, return_inverse=True)[1]
        width *= 2
    return "".join(marked[i - 1] for i in np.argsort(rank))


def _runs(column: str) -> list[str]:
    out, start = [], 0
    for i in range(1, len(column) + 1):
        if i == len(column) or column[i] != column[start]:
            out.append(f"{i - start}{column[start]}")
            start = i
    return out


def joined(chunks: Sequence[Sequence[str]]) -> str:
    """Text from the tokens of its chunks; the inverse of :func:`tokens`."""
    return "".join(_chunk("".join(int(t[:-1]) * t[-1] for t in chunk)) for chunk in chunks)


def _chunk(column: str) -> str:
    """Inverse Burrows-Wheeler transform by following each character to its successor, O(n)."""
    n = len(column)
    follow = sorted(range(n), key=column.__getitem__)  # stable: equal characters keep their order
    if column.count(END) == 1:
        # The row that ends in the mark is the chunk itself, wherever the mark sorts.
        position, length, skip = column.index(END), n - 1, 0
    else:
        # Tokens that do not come from a text: first row without its first character, as published.
        position, length, skip = 0, n, 1
    out = []
    for _ in range(length):
        position = follow[position]
        out.append(column[position])
    return "".join(out[skip:])


def similarity(text: str, decoded: str) -> float:
    """Ratio of matching characters of two stripped texts (Ratcliff and Obershelp), in [0, 1]."""
    from difflib import SequenceMatcher

    return SequenceMatcher(None, text.strip(), decoded.strip()).ratio()
