"""`omicllm.get.gene_windows_df`: windows of genes as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omicllm._core import docs, inputs
from omicllm.genome.windows import from_columns

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def gene_windows_df(
    adata: AnnData | MuData, *, key: str = "window", mod: str | None = None
) -> pd.DataFrame:
    """Return the windows that :func:`omicllm.pp.gene_windows` wrote.

    Parameters
    ----------
    {adata}
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame ``chrom``, ``start``, ``end`` (0-based, half-open), ``strand``; genes as index,
    without those that have no window. :func:`omicllm.pp.haplotypes` takes it as ``windows=``.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    return from_columns(inputs.resolve(adata, mod).var, key)
