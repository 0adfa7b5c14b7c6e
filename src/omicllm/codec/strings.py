"""Arrays of code points to strings and back, without a Python step per character."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Characters turned into one string at a time, before it is cut into rows.
_CHUNK = 1 << 18


def code_dtype(codes: np.ndarray) -> type[np.uint16] | type[np.uint32]:
    """Two bytes per character where all code points lie in the basic plane, else four."""
    return np.uint16 if not len(codes) or int(codes.max()) < 0x10000 else np.uint32


def _encoding(codes: np.ndarray) -> str:
    return "utf-16-le" if codes.dtype == np.uint16 else "utf-32-le"


def rows_to_strings(codes: np.ndarray, patch_size: int | None, separator: str) -> list[str]:
    """One string per row of code points, a separator between words of `patch_size` characters.

    Parameters
    ----------
    codes
        uint16 (no surrogates) or uint32, (n, length), contiguous; the length is a multiple of
        `patch_size`.
    patch_size
        Characters in a word; None for one word.
    separator
        Goes between words.
    """
    n, length = codes.shape
    if length == 0:
        return [""] * n
    if patch_size is not None and length > patch_size:
        words = length // patch_size
        spaced = np.full((n, words, patch_size + 1), ord(separator), dtype=codes.dtype)
        # A word is copied as one item: numpy's loop over eight characters costs four times more.
        item = np.dtype(f"V{patch_size * codes.itemsize}")
        np.ndarray((n, words), item, buffer=spaced, strides=spaced.strides[:2])[...] = codes.view(
            item
        )
        codes = spaced.reshape(n, -1)
        width, length = codes.shape[1], codes.shape[1] - 1
    else:
        width = length
    encoding = _encoding(codes)
    out: list[str] = []
    step = max(1, _CHUNK // width)
    for start in range(0, n, step):
        text = str(codes[start : start + step].data, encoding)
        out += [text[i : i + length] for i in range(0, len(text), width)]
    return out


def strings_to_rows(
    strings: Sequence[str], patch_size: int | None, separator: str
) -> np.ndarray | None:
    """Code points (n, length) of strings of one length, or None where words are not full.

    Undoes :func:`rows_to_strings`; separators are left out.
    """
    length = len(strings[0])
    if length == 0:
        return None
    codes = _codes(separator.join(strings) + separator).reshape(len(strings), length + 1)
    if patch_size is None or patch_size >= length:
        word = length if patch_size is None else patch_size
        if length != word:
            return None
        return np.ascontiguousarray(codes[:, :-1])
    words, remainder = divmod(length + 1, patch_size + 1)
    if remainder:
        return None
    spaced = codes.reshape(len(strings), words, patch_size + 1)
    if (spaced[:, :, patch_size] != ord(separator)).any():
        return None
    item = np.dtype(f"V{patch_size * codes.itemsize}")
    view = np.ndarray((len(strings), words), item, buffer=spaced, strides=spaced.strides[:2])
    return np.ascontiguousarray(view).view(codes.dtype).reshape(len(strings), -1)


def _codes(text: str) -> np.ndarray:
    data = text.encode("utf-16-le", "surrogatepass")
    if len(data) == 2 * len(text):
        return np.frombuffer(data, dtype=np.uint16)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def words(string: str, separator: str) -> list[np.ndarray]:
    """Code points of each word of one string; empty words are dropped."""
    return [_codes(w).astype(np.int64) for w in string.split(separator) if w]
