"""Motifs as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from omicllm._core import checks, docs
from omicllm.get._tables import table_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def motifs_df(
    adata: AnnData | MuData,
    *,
    table: Literal["motifs", "sites"] = "motifs",
    key: str = "motifs",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the motifs of :func:`omicllm.tl.motifs`, or their sites.

    Parameters
    ----------
    {adata}
    table
        ``"motifs"``, one row per motif; or ``"sites"``, one per site.
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.motifs` lists; ``pval`` and ``qval`` are
    called ``p`` and ``q``.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    checks.one_of("table", table, ("motifs", "sites"))
    name = "table" if table == "motifs" else table
    frame = table_of(adata, key, name, "motifs(adata)", mod)
    if table == "motifs":
        frame = frame.rename(columns={"pval": "p", "qval": "q"})
    return frame
