"""Tables of verbs on personal genomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from omicllm._core import checks, docs, inputs
from omicllm.get._tables import table_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

#: Where a MuData holds the results.
_RNA, _GENO = "; it is in the expression, mod='rna'", "; it is in the genotypes, mod='geno'"


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
    name = "table" if table == "genes" else table
    return table_of(adata, key, name, "evaluate_personal(adata)", mod)


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
    table = table_of(adata, key, "table", "variant_effects(mdata)", mod, where=_GENO)
    if gene is not None:
        table = table[table["gene"] == gene]
    if n is not None:
        table = table.groupby("gene", sort=False, observed=True).head(n)
    return table


@docs.fill()
def variant_drivers_df(
    adata: AnnData | MuData, *, key: str = "variant_drivers", mod: str | None = None
) -> pd.DataFrame:
    """Return the variants that :func:`omicllm.tl.variant_drivers` kept.

    Parameters
    ----------
    {adata}
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.variant_drivers` lists.

    Raises
    ------
    KeyError
        When there are no such results (they are in the modality of the genotypes).
    """
    return table_of(adata, key, "table", "variant_drivers(mdata)", mod, where=_GENO)


@docs.fill()
def variant_enrichment_df(
    adata: AnnData | MuData, *, key: str = "variant_enrichment", mod: str | None = None
) -> pd.DataFrame:
    """Return the enrichments that :func:`omicllm.tl.variant_enrichment` wrote.

    Parameters
    ----------
    {adata}
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.variant_enrichment` lists.

    Raises
    ------
    KeyError
        When there are no such results (they are in the modality of the genotypes).
    """
    return table_of(adata, key, "table", "variant_enrichment(mdata, bed=...)", mod, where=_GENO)


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


@docs.fill()
def twas_df(
    adata: AnnData | MuData,
    *,
    table: Literal["summary", "windows", "weights"] = "summary",
    key: str = "twas",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the tables that :func:`omicllm.tl.twas` wrote.

    Parameters
    ----------
    {adata}
    table
        ``"summary"`` (accuracy by model), ``"windows"`` (every length of window, by gene and
        model), or ``"weights"`` (what was found of published weights).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.twas` lists.

    Raises
    ------
    KeyError
        When there are no such results (they are in the modality of the expression).
    """
    checks.one_of("table", table, ("summary", "windows", "weights"))
    ways = {"summary": "", "windows": ", window=[...]", "weights": ", weights=..."}
    return table_of(adata, key, table, f"twas(mdata{ways[table]})", mod, where=_RNA)


@docs.fill()
def sample_size_df(
    adata: AnnData | MuData,
    *,
    table: Literal["summary", "genes"] = "summary",
    key: str = "sample_size",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the accuracies that :func:`omicllm.tl.sample_size` wrote.

    Parameters
    ----------
    {adata}
    table
        ``"summary"`` (by model and share of the training people), or ``"genes"`` (by draw and
        gene too).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with the columns that :func:`omicllm.tl.sample_size` lists.

    Raises
    ------
    KeyError
        When there are no such results (they are in the modality of the expression).
    """
    checks.one_of("table", table, ("summary", "genes"))
    name = "table" if table == "genes" else table
    return table_of(adata, key, name, "sample_size(mdata)", mod, where=_RNA)
