"""memelite (Schreiber): FIMO scans and Tomtom matches with motifs of a MEME file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omicllm._core.optional import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_WHY = "A database of motifs (database=)"


def read_meme(path: str | Path) -> dict[str, np.ndarray]:
    """Motifs of a MEME-format file: name -> probabilities (width, 4) of A, C, G, T.

    Raises
    ------
    FileNotFoundError
        No such file.
    ImportError
        Without memelite.
    ValueError
        When the file holds no motif.
    """
    io = require("memelite.io", extra="motif", why=_WHY)
    if not Path(path).exists():
        msg = f"There is no file {path}."
        raise FileNotFoundError(msg)
    try:
        motifs = {name: matrix.T for name, matrix in io.read_meme(str(path)).items()}
    except (ValueError, IndexError, AttributeError, UnicodeDecodeError) as error:
        msg = f"{path} could not be read as a MEME file ({error})."
        raise ValueError(msg) from error
    if not motifs:
        msg = f"{path} holds no motif in MEME format."
        raise ValueError(msg)
    return motifs


def matches(
    queries: Sequence[np.ndarray], targets: Sequence[np.ndarray], *, both_strands: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Best target of each query, by Tomtom: its number, and the p value times their number."""
    tomtom = require("memelite", extra="motif", why=_WHY).tomtom
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about databases of under 25 motifs
        p = tomtom(
            [q.T for q in queries],
            [t.T for t in targets],
            reverse_complement=both_strands,
            n_jobs=1,
        )[0]
    best = p.argmin(axis=1)
    return best, np.minimum(p[np.arange(len(p)), best] * len(targets), 1.0)


def scan(
    motifs: dict[str, np.ndarray], one_hot: np.ndarray, *, threshold: float, both_strands: bool
) -> list[pd.DataFrame]:
    """Sites of each motif by FIMO, one table per motif; `one_hot` is int8 (n, 4, length)."""
    fimo = require("memelite", extra="motif", why=_WHY).fimo
    columns = {name: matrix.T for name, matrix in motifs.items()}
    return list(fimo(columns, one_hot, threshold=threshold, reverse_complement=both_strands))
