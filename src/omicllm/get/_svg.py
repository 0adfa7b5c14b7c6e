"""`omicllm.get.svg_df`: spatially variable genes, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def svg_df(
    adata: AnnData | MuData,
    *,
    key: str = "sigel",
    max_qval: float | None = None,
    n_top: int | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the results of :func:`omicllm.tl.spatially_variable_genes`, best gene first.

    Parameters
    ----------
    {adata}
    key
        Root of the results: ``"sigel"``, ``"moran"``, or what was given with ``key_added=``.
    max_qval
        Leave out genes with a larger q value, and those that were not tested.
    n_top
        Number of genes; all by default.
    {mod}

    Returns
    -------
    DataFrame with genes as index and the columns ``score``, ``pval``, ``qval``, ``rank``.

    Raises
    ------
    KeyError
        When there are no such results.
    ValueError
        `max_qval` outside of 0 and 1, or `n_top` that is no positive whole number.
    """
    source = inputs.resolve(adata, mod)
    if max_qval is not None:
        checks.share("max_qval", max_qval)
    if n_top is not None:
        checks.whole_number("n_top", n_top)
    names = {c: f"{key}_svg_{c}" for c in ("score", "pval", "qval", "rank")}
    for name in names.values():
        if name not in source.var:
            raise checks.missing(
                name, "adata.var", source.var,
                hint="Make it with ol.tl.spatially_variable_genes(adata).",
            )  # fmt: skip
    frame = pd.DataFrame({c: source.var[name].to_numpy() for c, name in names.items()})
    frame.index = source.var_names
    frame = frame.sort_values("rank", kind="stable")
    if max_qval is not None:
        frame = frame[frame["qval"] <= max_qval]
    return frame if n_top is None else frame.head(n_top)
