"""Which character stands for which rank."""

from __future__ import annotations

from functools import lru_cache

# Unicode 3.2 is frozen in the standard library, so that a table gets the same characters from
# every version of Python.
from unicodedata import ucd_3_2_0

import numpy as np

LAST = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
#: What the published code makes of a surrogate ("?").
REPLACED = 0x3F
#: Markers such as <rna> and <LABEL> must not occur in data; tokenizers that "clean up spaces" drop
#: the space before ! ? . , '; JSON and CSV escape the quote and the backslash.
_RESERVED = frozenset("<>!?.,'\"\\")
#: Soft hyphen and two Mongolian letters, which later versions of Unicode count elsewhere.
_RECLASSIFIED = frozenset((0x00AD, 0x1885, 0x1886))
#: Conjoining letters of Hangul fuse with their neighbours under normalisation.
_JAMO = (0x1100, 0x11FF)
#: Private use, planes 15 and 16: for tables with more values than there are good characters.
_PRIVATE = ((0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))


def reference_code_points(n: int, *, offset: int, separator: str) -> np.ndarray:
    """Code points of the published code, uint32 (n,): offset + rank, surrogates become ``?``.

    Raises
    ------
    ValueError
        When the characters run out, or the separator is among them.
    """
    if offset + n - 1 > LAST:
        msg = (
            f"{n} values need code points up to {offset + n - 1}, beyond the last one ({LAST}). "
            "Use fewer bits, a smaller offset or codepoints='safe'."
        )
        raise ValueError(msg)
    codes = np.arange(offset, offset + n, dtype=np.uint32)
    if n and offset <= ord(separator) < offset + n:
        msg = (
            f"offset={offset} gives the separator U+{ord(separator):04X} to a value. Use an offset "
            f"above {ord(separator)} or codepoints='safe'."
        )
        raise ValueError(msg)
    codes[(codes >= SURROGATES[0]) & (codes <= SURROGATES[1])] = REPLACED
    return codes


def safe_code_points(n: int, *, offset: int, separator: str) -> np.ndarray:
    """First n characters from `offset` on that survive handling as text, uint32 (n,).

    Letters, digits, punctuation and symbols that Unicode normalisation (NFKC) leaves alone:
    no surrogates, controls, white space, combining marks or unassigned code points.
    """
    codes = _safe(max(64, 1 << int(max(n, 1) - 1).bit_length()), offset)
    codes = codes[codes != ord(separator)][:n]
    if len(codes) < n:
        msg = f"{n} values need more characters than there are ({len(codes)}). Use fewer bits."
        raise ValueError(msg)
    return codes


@lru_cache(maxsize=8)
def _safe(n: int, offset: int) -> np.ndarray:
    """At least n + 1 safe code points from `offset` on, or all there are."""
    codes = []
    for code in range(offset, 0x30000):
        if _is_safe(code):
            codes.append(code)
            if len(codes) > n:
                break
    else:
        for low, high in _PRIVATE:
            codes.extend(range(max(low, offset), high + 1))
    return np.array(codes, dtype=np.uint32)


def _is_safe(code: int) -> bool:
    if SURROGATES[0] <= code <= SURROGATES[1] or _JAMO[0] <= code <= _JAMO[1]:
        return False
    if code in _RECLASSIFIED:
        return False
    character = chr(code)
    if ucd_3_2_0.category(character)[0] not in "LNPS" or character in _RESERVED:
        return False
    return ucd_3_2_0.normalize("NFKC", character) == character
