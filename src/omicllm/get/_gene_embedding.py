"""`omicllm.get.gene_embedding_df`: a gene embedding with names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def gene_embedding_df(
    adata: AnnData | MuData,
    *,
    key: str = "sigel",
    drop_empty: bool = True,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a gene embedding as a DataFrame.

    Parameters
    ----------
    {adata}
    key
        Root of the embedding: ``varm["X_<key>"]``.
    drop_empty
        Leave out genes that are zero everywhere, where ``var["<key>_empty"]`` says so.
    {mod}

    Returns
    -------
    DataFrame (n_genes, d), genes as index, columns ``"<key>_0"`` and on.

    Raises
    ------
    KeyError
        When there is no such embedding.
    """
    adata = inputs.resolve(adata, mod)
    name = f"X_{key}"
    if name not in adata.varm:
        raise checks.missing(
            name, "adata.varm", adata.varm, hint=f"Make it with ol.tl.{key}(adata)."
        )
    values = inputs.vectors(adata.varm[name], f"adata.varm[{name!r}]")
    frame = pd.DataFrame(
        values, index=adata.var_names, columns=[f"{key}_{i}" for i in range(values.shape[1])]
    )
    if drop_empty and f"{key}_empty" in adata.var:
        frame = frame[~adata.var[f"{key}_empty"].to_numpy(dtype=bool)]
    return frame
