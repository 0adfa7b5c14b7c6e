"""Tables of verbs on personal genomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def evaluate_personal_df(
    adata: AnnData | MuData,
    *,
    table: Literal["summary", "genes"] = "summary",
    key: str = "evaluate_personal",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the accuracies that :func:`omicllm.tl.evaluate_personal` wrote.

    Parameters
    ----------
    {adata}
    table
        ``"summary"`` (by prediction and class of genes), or ``"genes"`` (one row per gene).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.evaluate_personal` lists.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    checks.one_of("table", table, ("summary", "genes"))
    source = inputs.resolve(adata, mod)
    if key not in source.uns or "summary" not in source.uns[key]:
        hint = "Make them with ol.tl.evaluate_personal(adata)."
        raise checks.missing(key, "adata.uns", source.uns, hint=hint)
    return source.uns[key]["table" if table == "genes" else table].copy()
