"""Sequences in `obs`: what every verb on them checks first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, inputs
from omicllm.genome.kmers import base_codes

if TYPE_CHECKING:
    from anndata import AnnData


def sequences_of(
    adata: AnnData, key: str, *, min_bases: int = 1, other: str = "refuse"
) -> list[str]:
    """Sequences of all observations, upper case; missing, short and odd ones are refused.

    Parameters
    ----------
    adata
        The object.
    key
        Column of `obs`.
    min_bases
        Fewest bases.
    other
        ``"refuse"`` letters outside ACGTN, or take them as N (``"unknown"``).

    Raises
    ------
    KeyError
        No such column.
    ValueError
        A sequence that is missing, no text, too short, or holds a letter that is refused.
    """
    if key not in adata.obs:
        raise checks.missing(
            key,
            "adata.obs",
            adata.obs,
            hint="Read sequences with ol.io.read_sequences(path), or name the column with "
            "sequence_key=.",
        )
    values = inputs.obs_column(adata, key, argument="sequence_key").tolist()
    names = adata.obs_names
    for i, value in enumerate(values):
        if not isinstance(value, str):
            msg = f"adata.obs[{key!r}] of {names[i]!r} is {value!r}, not a sequence."
            raise ValueError(msg)
    length = np.array([len(v) for v in values])
    if (length < min_bases).any():
        short = np.flatnonzero(length < min_bases)
        msg = (
            f"{len(short)} sequence(s) have fewer than {min_bases} bases (first: "
            f"{names[int(short[0])]!r} with {length[short[0]]}). Drop them first."
        )
        raise ValueError(msg)
    sequences = [v.upper() for v in values]
    try:
        base_codes("N".join(sequences), other=other)  # type: ignore[arg-type]
    except ValueError:
        for i, sequence in enumerate(sequences):  # again, one by one, to name it
            base_codes(sequence, other=other, name=f"Sequence {names[i]!r}")  # type: ignore[arg-type]
        raise
    return sequences
