"""Scores of variants and of bases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omicllm._core import checks, docs, inputs
from omicllm.get._table import table as table_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def variant_effects_df(
    adata: AnnData | MuData,
    *,
    gene: str | None = None,
    n: int | None = None,
    key: str = "variant_effects",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the variants that :func:`omicllm.tl.variant_effects` scored.

    Parameters
    ----------
    {adata}
    gene
        Of one gene only.
    n
        The `n` strongest of each gene.
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame ``gene``, ``variant``, ``pos``, ``distance``, ``af``, ``effect``; strongest first
    within each gene.

    Raises
    ------
    KeyError
        When there are no such results (they are in the modality of the genotypes).
    """
    table = table_of(adata, key, "table", mod=mod)
    if gene is not None:
        table = table[table["gene"] == gene]
    if n is not None:
        table = table.groupby("gene", sort=False, observed=True).head(n)
    return table


@docs.fill()
def ism_df(
    adata: AnnData | MuData,
    *,
    gene: str | None = None,
    key: str = "saturation_ism",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the scores of every base and change of one gene.

    Parameters
    ----------
    {adata}
    gene
        Gene; the first when None.
    key
        Root of the results of :func:`omicllm.tl.saturation_ism`, or ``"input_gradients"``.
    {mod}

    Returns
    -------
    DataFrame ``A``, ``C``, ``G``, ``T`` (scores) and ``reference``; distances from the start site
    as index.

    Raises
    ------
    KeyError
        When there are no such results, or none of the gene.
    """
    import numpy as np
    import pandas as pd

    source = inputs.resolve(adata, mod)
    if key not in source.uns or "scores" not in source.uns[key]:
        hint = "Make them with ol.tl.saturation_ism or ol.tl.input_gradients."
        raise checks.missing(key, "adata.uns", source.uns, hint=hint)
    entry = source.uns[key]
    genes = [str(g) for g in entry["genes"]]
    if gene is not None and gene not in genes:
        raise checks.missing(gene, "the scored genes", genes)
    g = 0 if gene is None else genes.index(gene)
    scores = np.asarray(entry["scores"])[g]
    place = np.arange(len(scores)) + int(np.asarray(entry["offset"])[g])
    frame = pd.DataFrame(scores, index=pd.Index(place, name="distance"), columns=list("ACGT"))
    letters = np.array(list("ACGTN"), dtype=object)
    tokens = np.asarray(entry["reference"])[g]
    frame["reference"] = letters[np.where((tokens < 0) | (tokens > 4), 4, tokens)]
    return frame
