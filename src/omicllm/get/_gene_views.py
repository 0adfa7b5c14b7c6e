"""`omicllm.get.gene_views_df`: what views of genes have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm.get._tables import table_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

_CALL = "gene_views(adata, views=[...])"


@docs.fill()
def gene_views_df(
    adata: AnnData | MuData,
    *,
    table: Literal["prediction", "canonical", "neighbors", "genes", "alike"] = "prediction",
    key: str = "joint",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of :func:`omicllm.tl.gene_views`.

    Parameters
    ----------
    {adata}
    table
        ``"prediction"``: how much of view `target` view `source` predicts on held-out genes (`r2`,
        `correlation`, `r2_null` the mean over permutations, `pval`, `qval`). ``"canonical"``:
        held-out correlation of each canonical axis of two views, its null mean and p value.
        ``"neighbors"``: share of a gene's neighbours that two views agree on, mean over genes,
        `expected` under permutation, `pval`, `qval`. ``"genes"``: for each shared gene its
        `agreement`, `pval`, `qval` and the neighbours in `common`, surest first. ``"alike"``: genes
        and those neighbours that two views or more agree on.
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with these columns.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    checks.one_of("table", table, ("prediction", "canonical", "neighbors", "genes", "alike"))
    if table != "genes":
        return table_of(adata, key, table, _CALL, mod)
    alike = table_of(adata, key, "alike", _CALL, mod)
    var = inputs.resolve(adata, mod).var
    frame = pd.DataFrame(
        {c: np.asarray(var[f"{key}_{c}"]) for c in ("agreement", "pval", "qval")},
        index=var.index.astype(str),
    )
    common = alike.astype(str).groupby("gene")["neighbor"].agg(", ".join)
    frame["common"] = common.reindex(frame.index).fillna("")
    frame = frame[frame["agreement"].notna()]
    order = np.lexsort((-frame["agreement"].to_numpy(), frame["pval"].to_numpy()))
    return frame.iloc[order]
