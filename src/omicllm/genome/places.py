"""Strands, contigs and positions as tables and callers write them."""

from __future__ import annotations

from typing import Any

import numpy as np

_STRANDS = {
    "+": "+",
    "1": "+",
    "+1": "+",
    "plus": "+",
    "forward": "+",
    "-": "-",
    "-1": "-",
    "minus": "-",
    "reverse": "-",
}
_NONE = ("", ".", "nan", "none", "<na>")


def as_strand(value: Any, *, unstranded: str | None = None) -> str:
    """``"+"`` or ``"-"`` of ``+``, ``-``, 1, -1, "plus" and "minus", "forward" and "reverse".

    Parameters
    ----------
    value
        The strand.
    unstranded
        What ``.``, None and NaN stand for; refused when None.

    Raises
    ------
    ValueError
        Anything else.
    """
    word = str(value).strip().lower()
    if not isinstance(value, (str, bool)) and np.isreal(value) and value in (1, -1):
        word = str(int(value))
    if word in _STRANDS and not isinstance(value, (bool, np.bool_)):
        return _STRANDS[word]
    if word in _NONE and unstranded is not None:
        return unstranded
    msg = f"Strands must be '+' or '-' (also 1, -1, 'plus', 'minus'), not {value!r}."
    raise ValueError(msg)


def as_contig(value: Any) -> str:
    """Name of a contig; a number that became a fraction beside missing values (22.0) is whole."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def as_position(value: Any, *, what: str) -> int:
    """A whole number; `what` it is, for the message.

    Raises
    ------
    ValueError
        A fraction, NaN or something that is no number.
    """
    try:
        whole = int(value)
        fits = not isinstance(value, (bool, np.bool_)) and float(value) == whole
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        msg = f"{what} must be a whole number of bases, not {value!r}."
        raise ValueError(msg)
    return whole
