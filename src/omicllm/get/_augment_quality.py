"""The table of `tl.augment_quality`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omicllm._core import docs
from omicllm.get._tables import table_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def augment_quality_df(
    adata: AnnData | MuData, *, key: str = "augment_quality", mod: str | None = None
) -> pd.DataFrame:
    """Return the table of :func:`omicllm.tl.augment_quality`, one row per sampler.

    Parameters
    ----------
    {adata}
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.augment_quality` lists; the first row is of
    the real rows.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    return table_of(adata, key, "table", "augment_quality(adata, labels_key=...)", mod)
