"""`omicllm.tl.predict_expression`: expression of sections from their images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, memory, results
from omicllm._core.log import logger
from omicllm.tl._spam_inputs import into_columns, lend, read_keys, rows_of, source_of, trained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model import SPAM


@docs.fill()
def predict_expression(
    adata: AnnData | MuData,
    *,
    model: SPAM | str | Path | None = None,
    use_rep: str | None = None,
    genes: Sequence[str] | None = None,
    context: str | np.ndarray | None = None,
    panel: Sequence[str] | None = None,
    intervals: bool = True,
    library_size: float | np.ndarray | str | None = None,
    min_reliability: float | None = None,
    layer: str | None = None,
    image_mod: str = "image",
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Predict expression of sections by a trained model, from image features and coordinates.

    Counts of `adata` are not looked at, unless `context` or `panel` says that some were measured.
    A section of a patient that was trained on, by the name in `obs`, has the mean expression of
    that patient's sections; others have the mean of all.

    Parameters
    ----------
    {adata}
        Also a MuData with modalities ``rna`` and `image_mod`. It needs no genes.
    model
        Trained model, or the folder it was saved in; by default ``uns["spam"]["model_dir"]``.
    use_rep
        Entry of `obsm` with image features; by default that of training.
    genes
        Genes to predict; by default all trained ones.
    context
        Observations that were measured: a mask, or a column of `obs` of bool.
    panel
        Genes that were measured in all observations; they are not predicted.
    intervals
        Write the bounds of 90 % intervals. They are those of predictions without context.
    library_size
        Counts of a profile as it would be measured, for intervals of a measurement of that depth:
        a number, one per observation (a Series goes by name), or a column of `obs`. Without it
        intervals hold on average over sections as deep as those of training, and less of a
        shallower section.
    min_reliability
        Leave out genes whose correlation in held-out groups of training was lower.
    layer
        Layer of counts that `context` and `panel` read.
    image_mod
        Modality of a MuData that holds image features in its ``X``.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Where `adata` lacks predicted genes, a new AnnData (n_obs x predicted
    genes) instead, with predictions in ``X`` and, on request, bounds in ``layers``; `adata` is
    then left as it is. Sets the following fields:

    ``adata.layers["spam"]`` : float32 (n_obs, n_vars)
        Predicted log(1 + 10,000 x share); NaN for genes that are not predicted. Layers are dense:
        where few genes of many are predicted, call on ``adata[:, genes].copy()``.
    ``adata.layers["spam_lower"]``, ``adata.layers["spam_upper"]``
        Bounds of the interval.
    ``adata.obsm["X_spam"]`` : float32 (n_obs, n_programs)
        Predicted scores of gene programs, which predictions are made of.
    ``adata.var["spam_reliability"]`` : float64
        Correlation in held-out groups of training.

    Raises
    ------
    KeyError
        No such features or genes.
    ValueError
        No model; other features than those of training; no gene reliable enough; library sizes
        that are not positive.
    MemoryError
        The predictions do not fit into memory.
    """
    if context is None and panel is None:
        why = "without context= or panel=, which read counts"
        checks.no_effect(predict_expression, locals(), ("layer",), because=why)
    if not intervals:
        why = "with intervals=False"
        checks.no_effect(predict_expression, locals(), ("library_size",), because=why)
    target, mod, source = source_of(adata, mod, image_mod)
    found, folder = trained(model, target, key_added or "spam")
    setup = read_keys(found, use_rep if source is target else "X_image")
    lent = lend(
        source, use_rep=setup["use_rep"], layer=layer or _there(source, setup["layer"]),
        spatial_key=setup["spatial_key"],
    )  # fmt: skip
    if setup["use_rep"] != found.setup_args["use_rep"] and setup["use_rep"] in lent.obsm:
        lent.obsm[found.setup_args["use_rep"]] = lent.obsm[setup["use_rep"]]
    reliability = found.get_reliability()
    if min_reliability is not None:
        kept = reliability.index[reliability >= min_reliability]
        genes = [g for g in (kept if genes is None else genes) if g in set(kept)]
        if not genes:
            best = reliability.max()
            msg = f"No gene has a reliability of {min_reliability} (largest: {best:.2f})."
            raise ValueError(msg)
    own_layer = found.setup_args["layer"]
    if own_layer is not None and lent.X is not None:
        lent.layers[own_layer] = lent.X
    wanted = {str(g) for g in (found.genes_ if genes is None else genes)}
    n_columns = target.n_vars if wanted <= {str(v) for v in target.var_names} else len(wanted)
    memory.check(
        "ol.tl.predict_expression",
        {
            "predictions, and what they are made of": (
                (3, lent.n_obs, len(found.genes_)),
                "float64",
            ),
            "layers": ((3 if intervals else 1, target.n_obs, n_columns), "float32"),
        },
        instead="Predict part of the observations at a time.",
    )
    predicted = found.predict(lent, genes=genes, context=context, panel=panel)
    values: dict[str, Any] = {"": predicted.to_numpy()}
    if intervals:
        low, high = found.get_intervals(
            lent, genes=list(predicted.columns), library_size=library_size
        )
        values |= {"_lower": low.to_numpy(), "_upper": high.to_numpy()}
    latent = found.get_latent_representation(lent)
    names = [str(g) for g in predicted.columns]
    trust = reliability.loc[predicted.columns].to_numpy(dtype=np.float64)
    absent = set(names) - {str(v) for v in target.var_names}
    logger.info("predicted %d genes in %d observations", len(names), len(predicted))
    if absent:
        return _new_object(source, names, values, latent, trust, key_added or "spam")
    if 2 * len(names) < target.n_vars:
        logger.info(
            "%d of %d genes are predicted: the layers hold NaN for the others. On "
            "adata[:, genes].copy() they are as small as the predictions.",
            len(names), target.n_vars,
        )  # fmt: skip
    rows = rows_of(source, target)
    state = np.full((target.n_obs, latent.shape[1]), np.nan, dtype=np.float32)
    state[rows] = latent
    column = np.full(target.n_vars, np.nan)
    column[target.var_names.get_indexer(names)] = trust
    slots = {
        f"layers:{{root}}{suffix}": into_columns(v, names, target.var_names, target.n_obs, rows)
        for suffix, v in values.items()
    }
    result = results.Result(
        "tl.predict_expression",
        {**slots, "obsm:X_{root}": state, "var:{root}_reliability": column},
        {
            "use_rep": setup["use_rep"], "intervals": intervals, "layer": layer,
            "min_reliability": min_reliability, "context": None if context is None else "given",
            "panel": None if panel is None else list(panel),
            "library_size": (
                library_size if library_size is None or isinstance(library_size, (str, int, float))
                else "given"
            ),
        },
        {"genes": names, **({} if folder is None else {"model_dir": folder})},
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _there(source: AnnData, layer: str | None) -> str | None:
    return layer if layer in source.layers else None


def _new_object(
    source: AnnData, names: list[str], values: dict[str, np.ndarray], latent: np.ndarray,
    trust: np.ndarray, root: str,
) -> AnnData:  # fmt: skip
    """Observations of `source` x predicted genes."""
    import anndata as ad
    import pandas as pd

    out = ad.AnnData(
        values[""].astype(np.float32), obs=source.obs.copy(),
        var=pd.DataFrame({f"{root}_reliability": trust}, index=names),
    )  # fmt: skip
    for key in source.obsm:
        out.obsm[key] = source.obsm[key].copy()
    out.obsm[f"X_{root}"] = latent
    for suffix, v in values.items():
        if suffix:
            out.layers[f"{root}{suffix}"] = v.astype(np.float32)
    if "spatial" in source.uns:
        out.uns["spatial"] = source.uns["spatial"]
    return out
