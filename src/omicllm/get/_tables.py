"""Tables out of `uns`: gene functions and gene interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def gene_functions_df(
    adata: AnnData | MuData,
    *,
    table: Literal["proposed", "enrichment", "sets"] = "proposed",
    key: str = "gene_functions",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of :func:`omicllm.tl.gene_functions`.

    Parameters
    ----------
    {adata}
    table
        ``"proposed"`` (functions of genes), ``"enrichment"`` (clusters and sets) or ``"sets"``
        (cross-validated AUROC beside that of co-expression).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.gene_functions` lists.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    checks.one_of("table", table, ("proposed", "enrichment", "sets"))
    name = "table" if table == "proposed" else table
    return table_of(adata, key, name, "gene_functions(adata, gene_sets=...)", mod)


@docs.fill()
def gene_interactions_df(
    adata: AnnData | MuData, *, key: str = "gene_interactions", mod: str | None = None
) -> pd.DataFrame:
    """Return the pairs of genes that :func:`omicllm.tl.gene_interactions` scored.

    Parameters
    ----------
    {adata}
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.gene_interactions` lists, best first.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    return table_of(adata, key, "table", "gene_interactions(adata)", mod)


def table_of(
    adata: AnnData | MuData, key: str, name: str, call: str, mod: str | None, *, where: str = ""
) -> pd.DataFrame:
    """One table of an entry of `uns`, as plain columns; `call` makes it, `where` says where."""
    source = inputs.resolve(adata, mod)
    hint = f"Make it with ol.tl.{call}{where}."
    if key not in source.uns:
        raise checks.missing(key, "adata.uns", source.uns, hint=hint)
    if name not in source.uns[key]:
        raise checks.missing(name, f"adata.uns[{key!r}]", source.uns[key], hint=hint)
    frame = pd.DataFrame(source.uns[key][name]).reset_index(drop=True)
    for column in frame:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = frame[column].astype(object)  # a file makes text categorical
    return frame
