"""Tables of predicted expression: baselines and agreement with measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from omicllm._core import checks, docs
from omicllm.get._tables import table_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def histology_baselines_df(
    adata: AnnData | MuData,
    *,
    table: Literal["scores", "genes", "folds"] = "scores",
    key: str = "histology_baselines",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of :func:`omicllm.tl.histology_baselines`.

    Parameters
    ----------
    {adata}
    table
        ``"scores"`` (by method and section), ``"genes"`` (by method and gene) or ``"folds"``
        (what was held out, and the penalty of the ridge).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.histology_baselines` lists.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    names = {"scores": "table", "genes": "gene_table", "folds": "folds"}
    checks.one_of("table", table, names)
    return table_of(adata, key, names[table], "histology_baselines(adata)", mod)


@docs.fill()
def evaluate_expression_df(
    adata: AnnData | MuData,
    *,
    table: Literal["scores", "genes"] = "scores",
    key: str = "evaluate_expression",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of :func:`omicllm.tl.evaluate_expression`.

    Parameters
    ----------
    {adata}
    table
        ``"scores"`` (by method and section) or ``"genes"`` (by method and gene).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.evaluate_expression` lists.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    names = {"scores": "table", "genes": "gene_table"}
    checks.one_of("table", table, names)
    return table_of(adata, key, names[table], "evaluate_expression(adata, pred=...)", mod)
