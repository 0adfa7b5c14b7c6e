"""Distances between strings of one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omicllm.codec.lookup_table import LookupTable


def hamming(strings: Sequence[str]) -> np.ndarray:
    """Share of places where two strings of one length differ, for every pair (condensed).

    Pairs are in the order of :func:`scipy.spatial.distance.pdist`.

    Raises
    ------
    ValueError
        When the strings have different lengths.
    """
    from rapidfuzz.distance import Hamming

    if len({len(s) for s in strings}) > 1:
        msg = "Hamming distances need strings of one length; use metric='levenshtein'."
        raise ValueError(msg)
    return _pairs(strings, Hamming)


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
    from rapidfuzz.distance import Levenshtein

    return _pairs(strings, Levenshtein)


def indel(strings: Sequence[str]) -> np.ndarray:
    """Edit distance without replacement over the sum of lengths, condensed.

    One minus this is what is often called the Levenshtein ratio, 2 LCS / (len a + len b).
    """
    from rapidfuzz.distance import Indel

    return _pairs(strings, Indel)


def _pairs(strings: Sequence[str], metric: Any) -> np.ndarray:
    """Normalised distances of every pair; 0 between two empty strings."""
    from rapidfuzz.process import cdist

    square = cdist(strings, strings, scorer=metric.normalized_distance, dtype=np.float64)
    return square[np.triu_indices(len(strings), k=1)]
