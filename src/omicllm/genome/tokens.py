"""Nucleotides as small integers: A 0, C 1, G 2, T 3, N 4, padding -1.

IUPAC codes of two or three bases, which only unphased genotypes make, follow from 5 on in the
order of `ALPHABET`. A token stands for a set of bases (`BASES`), so a one-hot encoding of any of
them is the mean of its bases.
"""

from __future__ import annotations

import numpy as np

ALPHABET = "ACGTNRYSWKMBDHV"
PAD = -1
N = 4

#: Bases that each token stands for, as bits: A 1, C 2, G 4, T 8.
BITS = np.array([1, 2, 4, 8, 15, 5, 10, 6, 9, 12, 3, 14, 13, 11, 7], dtype=np.int8)
#: Token of each set of bases.
TOKEN_OF_BITS = np.zeros(16, dtype=np.int8)
TOKEN_OF_BITS[BITS] = np.arange(len(BITS))
TOKEN_OF_BITS[0] = N

_ENCODE = np.full(256, N, dtype=np.int8)
for _i, _letter in enumerate("ACGT"):
    _ENCODE[[ord(_letter), ord(_letter.lower())]] = _i
_DECODE = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)
#: Complement of each token; the last entry is that of the padding (-1).
_COMPLEMENT = np.full(len(ALPHABET) + 1, PAD, dtype=np.int8)
_COMPLEMENT[: len(ALPHABET)] = [ALPHABET.index("TGCANYRSWMKVHDB"[i]) for i in range(len(ALPHABET))]


def encode(sequence: str | bytes | np.ndarray) -> np.ndarray:
    """Tokens (int8) of a sequence; letters other than ACGT, of either case, become N."""
    if isinstance(sequence, str):
        sequence = sequence.encode("ascii", errors="replace")
    if isinstance(sequence, (bytes, bytearray)):
        sequence = np.frombuffer(sequence, dtype=np.uint8)
    return _ENCODE[sequence]


def decode(tokens: np.ndarray) -> str:
    """Letters of one row of tokens, without its padding."""
    tokens = np.asarray(tokens)
    return _DECODE[tokens[tokens >= 0]].tobytes().decode("ascii")


def reverse_complement(tokens: np.ndarray) -> np.ndarray:
    """Tokens of the other strand: last axis reversed, padding included, bases complemented."""
    return _COMPLEMENT[np.asarray(tokens)[..., ::-1]]


def base_sets(allele: str) -> np.ndarray:
    """Bits (see `BITS`) of the bases each letter of an allele stands for."""
    found = np.array([ALPHABET.find(letter) for letter in allele.upper()], dtype=np.int64)
    return BITS[np.where(found < 0, N, found)]
