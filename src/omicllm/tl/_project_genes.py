"""`omicllm.tl.project_genes`: from gene embeddings back to cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm.stats.gene_projection import centred_rows, projected
from omicllm.stats.view_axes import present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def project_genes(
    adata: AnnData | MuData,
    *,
    use_varm: str = "X_sigel",
    layer: str | None = None,
    normalize: bool = True,
    unit_length: bool = True,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Place every observation among the genes: the mean of gene vectors, weighted by expression.

    Works with any embedding of genes in `varm`. Expression is read in blocks of rows and stays
    sparse; in-memory, backed and dask matrices give the same numbers.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds counts, or with ``normalize=False`` non-negative values.
    use_varm
        Entry of `varm` with gene vectors; genes whose vector is zero or holds NaN are left out.
    {layer}
    normalize
        Scale each observation to the median total and take log(1 + x); False uses values as they
        are.
    unit_length
        Divide the rows, less their mean, by their length, so that neighbours are those of a like
        direction.
    {mod}
    {key_added}
        By default the name of the embedding, without ``X_``.
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obsm["X_sigel_cells"]`` : float32 (n_obs, d)
        Place of each observation; zero where none of the genes is expressed.
    ``adata.uns["sigel_cells"]``
        Parameters, and ``n_genes``, the number of genes that were used.

    Raises
    ------
    KeyError
        No such embedding or layer.
    ValueError
        No gene with a vector; expression that is negative or not finite.

    Examples
    --------
    >>> ol.tl.project_genes(adata)  # doctest: +SKIP
    >>> sc.pp.neighbors(adata, use_rep="X_sigel_cells")  # doctest: +SKIP
    """
    source = inputs.resolve(adata, mod)
    if use_varm not in source.varm:
        raise checks.missing(
            use_varm, "adata.varm", source.varm,
            hint="Make one with ol.tl.sigel or ol.tl.embed_genes, or name another with use_varm=.",
        )  # fmt: skip
    Z = inputs.vectors(source.varm[use_varm], f"adata.varm[{use_varm!r}]")
    has = present(Z)
    if not has.any():
        msg = f"No gene has a vector in adata.varm[{use_varm!r}]."
        raise ValueError(msg)
    X = inputs.matrix(source, layer)
    where = inputs.place(layer)
    logger.info("projecting %d observations, %s, in blocks", source.n_obs, inputs.storage(X))
    vectors = np.where(has[:, None], Z, 0.0).astype(np.float64)
    F, used = projected(lambda: _checked(X, where), source.n_obs, vectors, normalize=normalize)
    if not used.all():
        logger.warning("%d observations express none of the genes: zero", int((~used).sum()))
    result = results.Result(
        "tl.project_genes",
        {"obsm:X_{root}_cells": centred_rows(F, used, unit_length=unit_length)},
        {
            "use_varm": use_varm, "layer": layer, "normalize": normalize,
            "unit_length": unit_length,
        },
        {"n_genes": int(has.sum())},
        key_added or use_varm.removeprefix("X_"),
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _checked(X: Any, where: str) -> Iterator[tuple[int, Any]]:
    """Blocks of rows, none with negative or missing values."""
    for start, block in inputs.row_blocks(X):
        values = block.data if hasattr(block, "indptr") else block
        inputs.refuse_large(values, where)
        if not np.isfinite(values).all() or (values < 0).any():
            msg = f"{where} holds negative, NaN or infinite values; counts are expected."
            raise ValueError(msg)
        yield start, block
