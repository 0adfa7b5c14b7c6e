"""`omicllm.pp.correct_expression`: log TPM without hidden factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm.genome.hidden_factors import remove_components

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def correct_expression(
    adata: AnnData | MuData,
    *,
    n_pcs: int = 10,
    pseudocount: float = 0.01,
    max_zeros: float = 0.5,
    fit_on: Literal["all", "train"] = "all",
    split_key: str = "split",
    layer: str | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Take hidden factors out of bulk expression of people (RPKM or TPM).

    Each person is scaled to a million, logarithms are taken, and the first principal components
    over people are subtracted, as published with the Geuvadis data. Fit on training people only,
    ``fit_on="train"``, when test people must not be seen; the publication used everybody.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds RPKM, FPKM or TPM of people x genes.
    n_pcs
        Principal components to subtract; 0 only takes logarithms.
    pseudocount
        Added before the natural logarithm.
    max_zeros
        Genes that are zero in this share of the people fitted on, or more, do not determine the
        components; they are corrected like the others.
    fit_on
        ``"all"`` people, or those of ``"train"`` in ``obs[split_key]``.
    split_key
        Column of `obs` with the split.
    {layer}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.layers["corrected"]`` : float32
        Corrected ln(TPM + `pseudocount`).
    ``adata.layers["corrected_z"]`` : float32
        The same, each gene standardised by mean and standard deviation of the people fitted on.
    ``adata.var["corrected_expressed"]`` : bool
        The gene took part in finding the components.
    ``adata.obsm["corrected_pcs"]`` : float32 (n_obs, n_pcs)
        Scores of the components.

    Raises
    ------
    KeyError
        No such layer or column.
    ValueError
        Negative or missing values, a person without expression, more components than people or
        genes allow.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    checks.whole_number("n_pcs", n_pcs, at_least=0)
    checks.one_of("fit_on", fit_on, ("all", "train"))
    if fit_on == "all":
        checks.no_effect(correct_expression, locals(), ("split_key",), because="with fit_on='all'")
    checks.share("max_zeros", max_zeros)
    checks.positive("pseudocount", pseudocount)
    names = inputs.gene_names(source)
    values = inputs.dense_rows(source, layer)
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        genes = names[bad.any(axis=0)]
        msg = (
            f"Negative or missing values in {len(genes)} genes ({checks.listed(genes, most=3)}). "
            "RPKM or TPM are expected: name the layer that holds them with layer=."
        )
        raise ValueError(msg)
    total = values.sum(axis=1)
    if (total == 0).any():
        people = source.obs_names[total == 0]
        msg = f"{len(people)} people have no expression ({checks.listed(people, most=5)})."
        raise ValueError(msg)
    fitted = np.ones(source.n_obs, dtype=bool)
    if fit_on == "train":
        fitted = inputs.obs_column(source, split_key, argument="split_key").astype(str) == "train"
    expressed = (values[fitted] == 0).mean(axis=0) < max_zeros if fitted.any() else fitted[:0]
    most = min(int(fitted.sum()) - 1, int(expressed.sum()))
    if n_pcs > most or not fitted.any():
        msg = (
            f"n_pcs={n_pcs} components cannot be found from {int(fitted.sum())} people and "
            f"{int(expressed.sum())} expressed genes; lower n_pcs=."
        )
        raise ValueError(msg)
    logged = np.log(values * (1e6 / total)[:, None] + pseudocount)
    corrected, _, _, scores = remove_components(logged, expressed, fitted, n_pcs)
    mean, sd = corrected[fitted].mean(axis=0), corrected[fitted].std(axis=0)
    out: dict[str, Any] = {
        "layers:{root}": corrected.astype(np.float32),
        "layers:{root}_z": ((corrected - mean) / np.where(sd > 1e-9, sd, 1.0)).astype(np.float32),
        "var:{root}_expressed": expressed,
    }
    if n_pcs:
        out["obsm:{root}_pcs"] = scores.astype(np.float32)
    params = {
        "n_pcs": n_pcs, "pseudocount": pseudocount, "max_zeros": max_zeros, "fit_on": fit_on,
        "split_key": split_key if fit_on == "train" else None, "layer": layer,
    }  # fmt: skip
    logger.info("%d of %d genes determine the components", int(expressed.sum()), len(names))
    result = results.Result(
        "pp.correct_expression", order.restore(out), params, key_added=key_added
    )
    return results.write(adata, result, mod=mod, copy=copy)
