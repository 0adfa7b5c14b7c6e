"""`omicllm.pl.motif_logo`: motifs as sequence logos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm._core.names import positions
from omicllm._core.optional import require
from omicllm.get._table import table as table_of
from omicllm.pl._panels import as_list, finish, panels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure
    from mudata import MuData


@docs.fill()
def motif_logo(
    adata: AnnData | MuData,
    *,
    motifs: str | Sequence[str] | None = None,
    n_motifs: int = 6,
    key: str = "motifs",
    ncols: int = 2,
    mod: str | None = None,
    show: bool | None = None,
) -> Figure:
    """Draw motifs as logos: letters as high as their information, in bits.

    Parameters
    ----------
    {adata}
    motifs
        Names of motifs; the first `n_motifs` of the table when None.
    n_motifs
        Number of motifs drawn when `motifs` is not given.
    key
        Root of the results of :func:`omicllm.tl.motifs`.
    ncols
        Logos in a row.
    {mod}
    {show}

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        No such results or motif.
    ValueError
        When no motif was found.
    ImportError
        Without logomaker (extra ``motif``).
    """
    source = inputs.resolve(adata, mod)
    table = table_of(source, key)
    if not len(table):
        msg = f"adata.uns[{key!r}] holds no motif: none was found."
        raise ValueError(msg)
    checks.whole_number("n_motifs", n_motifs)
    checks.whole_number("ncols", ncols)
    logomaker = require("logomaker", extra="motif", why="A sequence logo")
    names = list(table["motif"])
    chosen = as_list(motifs) if motifs is not None else names[:n_motifs]
    rows = positions(chosen, names, argument="motifs", where="the motifs found")
    matrices = np.asarray(source.uns[key]["matrices"], dtype=np.float64)
    figure, axes = panels(len(rows), ncols=ncols, height=2.0, width=3.6)
    for ax, row in zip(axes, rows, strict=True):
        line = table.iloc[int(row)]
        matrix = matrices[row][: int(line["width"])]
        with np.errstate(divide="ignore", invalid="ignore"):
            bits = 2 + np.nansum(matrix * np.log2(matrix), axis=1, keepdims=True)
        logomaker.Logo(pd.DataFrame(matrix * bits, columns=list("ACGT")), ax=ax)
        title = str(line["motif"])
        if line["match"]:
            title += f" ({line['match']})"
        shares = f"{line['share_positive']:.0%} against {line['share_negative']:.0%}"
        ax.set_title(f"{title}\nq = {line['q']:.2g}, {shares}", fontsize=9)
        ax.set_ylim(0, 2)
        ax.set_ylabel("bits")
        ax.set_xticks(range(len(matrix)), [str(i + 1) for i in range(len(matrix))], fontsize=7)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return finish(figure, show=show)
