"""Strands, contigs and positions as tables and callers write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.checks import missing

if TYPE_CHECKING:
    import pandas as pd

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
#: A whole number that was a fraction beside missing values when it was written.
_FLOAT = re.compile(r"\d+\.0+")
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
    word = str(value).strip().lower().removesuffix(".0")  # a column of floats, saved as text
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
    text = str(value)
    return text.partition(".")[0] if _FLOAT.fullmatch(text) else text


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


def as_contigs(column: pd.Series) -> pd.Series:
    """Names of contigs as text, ``""`` for missing ones."""
    import pandas as pd

    names = [
        "" if missing else as_contig(v) for v, missing in zip(column, column.isna(), strict=True)
    ]
    return pd.Series(names, index=column.index, dtype=object)


def places_of(var: Any) -> tuple[np.ndarray, np.ndarray]:
    """Contig and position (from 1) of every variant, from ``chrom`` and ``pos`` of ``geno.var``.

    Raises
    ------
    KeyError
        A column that is not there.
    ValueError
        A position that is no whole number.
    """
    import pandas as pd

    for column in ("chrom", "pos"):
        if column not in var:
            raise missing(column, "geno.var", var, hint="Read genotypes with ol.io.read_vcf.")
    given = pd.Series(np.asarray(var["pos"]), dtype=object)
    pos = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(pos % 1 != 0)  # NaN, too
    if len(wrong):
        msg = (
            f"geno.var['pos'] must hold whole numbers, but {len(wrong)} of {len(pos)} are none "
            f"(the first: {given.iloc[wrong[0]]!r})."
        )
        raise ValueError(msg)
    chrom = as_contigs(pd.Series(np.asarray(var["chrom"])))
    return chrom.to_numpy(dtype=object), pos.astype(np.int64)
