"""Tokens of sequences as the input of networks."""

from __future__ import annotations

import numpy as np
import torch

from omicllm.genome import tokens as nucleotides


def _table() -> torch.Tensor:
    """One-hot row of each token; the last row is the padding (-1)."""
    bits = nucleotides.BITS[:, None] >> np.arange(4) & 1
    rows = bits / bits.sum(axis=1, keepdims=True)
    rows[nucleotides.N] = 0.0
    return torch.from_numpy(np.vstack([rows, np.full(4, 0.25)]).astype(np.float32))


_ROWS = _table()


def one_hot(tokens: torch.Tensor | np.ndarray) -> torch.Tensor:
    """One-hot float32 (..., length, 4) of tokens.

    N is zero, padding a quarter of each base (as in enformer-pytorch), an IUPAC code the mean of
    its bases.
    """
    tokens = torch.as_tensor(tokens)
    return _ROWS.to(tokens.device)[tokens.long()]


def reverse_complement(x: torch.Tensor) -> torch.Tensor:
    """The other strand of tokens (int) or of one-hot rows (..., length, 4)."""
    if x.is_floating_point():
        return x.flip(-1, -2)
    complement = torch.from_numpy(nucleotides.reverse_complement(_EVERY)[::-1].copy())
    return complement.to(x.device)[x.flip(-1).long()].to(x.dtype)


#: Every token in order, with the padding last, where -1 finds it.
_EVERY = np.append(np.arange(len(nucleotides.ALPHABET)), nucleotides.PAD).astype(np.int8)


def as_one_hot(
    tokens: torch.Tensor | np.ndarray, *, like: torch.Tensor, length_multiple: int = 1
) -> torch.Tensor:
    """One-hot (n, length, 4) of the type of `like`, from tokens or from one-hot rows.

    Raises
    ------
    ValueError
        Another shape, an empty sequence, or a length that is no multiple of `length_multiple`.
    """
    x = torch.as_tensor(tokens).to(like.device)
    if not x.is_floating_point():
        if x.ndim == 1:
            x = x[None]
        if x.ndim == 2:
            low, high = (int(v) for v in (x.min(), x.max())) if x.numel() else (0, 0)
            if low < nucleotides.PAD or high >= len(nucleotides.ALPHABET):
                msg = f"Tokens run from -1 to {len(nucleotides.ALPHABET) - 1}; got {low} to {high}."
                raise ValueError(msg)
        x = one_hot(x)
    elif x.ndim == 2:
        x = x[None]
    if x.ndim != 3 or x.shape[-1] != 4:
        msg = f"Sequences are tokens (n, length) or one-hot (n, length, 4), not {tuple(x.shape)}."
        raise ValueError(msg)
    length = x.shape[1]
    if length == 0 or length % length_multiple:
        msg = (
            f"The length of a sequence must be a multiple of {length_multiple}, not {length}: cut "
            f"it to {length // length_multiple * length_multiple} or pad it with -1 to "
            f"{-(-length // length_multiple) * length_multiple}."
        )
        raise ValueError(msg)
    return x.to(like.dtype)
