"""`omicllm.get.imputed`: measured and imputed genes in one object."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def imputed(
    adata: AnnData | MuData, *, key: str = "sigel_imputed", mod: str | None = None
) -> AnnData:
    """Join measured and imputed genes, for scanpy and squidpy to work on.

    Parameters
    ----------
    {adata}
    key
        Root of the results of :func:`omicllm.tl.impute_genes`.
    {mod}

    Returns
    -------
    New AnnData, observations as in `adata` (with its `obs`, `obsm`, `obsp` and `uns`, without the
    results that were joined). ``X`` holds the measured genes, from the layer that was used, and
    then the imputed ones; it is sparse where the measured genes are. ``var`` has the columns of
    `adata`, empty for imputed genes, and ``var["imputed"]``. Genes that are measured stay so,
    even when they were imputed as well.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    source = inputs.resolve(adata, mod)
    hint = "Make it with ol.tl.impute_genes(adata, reference=...)."
    if key not in source.obsm:
        raise checks.missing(key, "adata.obsm", source.obsm, hint=hint)
    entry = inputs.uns_entry(source, key, "genes", "params", hint=hint)
    measured = inputs.gene_names(source)
    genes = np.asarray(entry["genes"], dtype=object).ravel()
    if np.shape(source.obsm[key])[1] != len(genes):
        msg = (
            f"adata.obsm[{key!r}] has {np.shape(source.obsm[key])[1]} columns, but adata.uns"
            f"[{key!r}] names {len(genes)} genes, as after joining objects. {hint}"
        )
        raise ValueError(msg)
    new = np.flatnonzero(~np.isin(genes.astype(str), measured.astype(str)))
    layer = entry["params"].get("layer")
    known = inputs.matrix(source, None if layer is None else str(layer))
    block = np.asarray(source.obsm[key], dtype=np.float32)[:, new]
    if isinstance(known, np.ndarray):
        X = np.hstack([known.astype(np.float32, copy=False), block])
    else:
        parts = [sparse.csr_matrix(b, dtype=np.float32) for _, b in inputs.row_blocks(known)]
        X = sparse.hstack([sparse.vstack(parts), sparse.csr_matrix(block)], format="csr")
    memory = source.to_memory() if source.isbacked else source
    names = pd.Index([str(g) for g in [*measured, *genes[new]]])
    var = memory.var.reindex(names)
    var["imputed"] = np.arange(len(names)) >= len(measured)
    joined = {key, *(f"{key}_{part}" for part in ("lower", "upper", "heldout"))}
    out = anndata.AnnData(X, obs=memory.obs.copy(), var=var)
    for name, value in memory.obsm.items():
        if name not in joined:
            out.obsm[name] = value.copy()
    for name, value in memory.obsp.items():
        out.obsp[name] = value.copy()
    # Results of models set up on the old object would point at it.
    kept = {k: v for k, v in memory.uns.items() if k != key and not k.startswith("_scvi")}
    out.uns.update(copy.deepcopy(kept))
    return out
