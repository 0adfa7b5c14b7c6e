"""`omicllm.pp.standardize`: z-scores by the means and scales of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core.names import positions
from omicllm.pp import _cohort
from omicllm.stats import scaling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData

ROOT = "standardized"


@docs.fill()
def standardize(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    fit_on: str | None = "train",
    split_key: str = "split",
    reference: AnnData | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Scale each gene to mean 0 and standard deviation 1 on the training rows.

    ``X`` stays as it is; the z-scores are a layer. Give it normalised log values: of raw counts,
    z-scores mostly show the depth of a sample.

    Parameters
    ----------
    {adata}
    {layer}
    fit_on
        Part of the split whose rows give means and scales; None takes all rows.
    split_key
        Column of `obs` with the split.
    reference
        Standardised object whose means and scales are used, instead of fitting: for new samples.
        Genes are matched by name.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.layers["standardized"]`` : float32 (n_obs, n_vars)
        (x - mean) / scale.
    ``adata.var["standardized_mean"]``, ``adata.var["standardized_scale"]`` : float64
        What was fitted: mean and standard deviation (denominator n); scale 1 where a gene is
        constant.
    ``adata.uns["standardized"]``
        Parameters and ``n_fit``, the rows fitted on.

    Raises
    ------
    KeyError
        No such layer or split; genes that the reference lacks.
    ValueError
        NaN or infinite values (rows are named); fewer than two rows to fit on.

    Notes
    -----
    Synthetic rows that are marked ``"train"`` are fitted on like the others.
    """
    if reference is not None:
        because = "with reference=, whose means and scales are used"
        checks.no_effect(standardize, locals(), ("fit_on", "split_key"), because=because)
        if not hasattr(reference, "var_names") or hasattr(reference, "mod"):
            msg = f"reference must be an AnnData, not {type(reference).__name__}."
            raise TypeError(msg)
    source = inputs.resolve(adata, mod)
    shape = inputs.stored(source, layer).shape
    root = key_added or ROOT
    n_fit = 0
    if reference is None and fit_on is None:
        checks.no_effect(standardize, locals(), ("split_key",), because="with fit_on=None")
    if reference is not None:
        mean, scale = _from_reference(source, reference, root)
    else:
        rows = _fit_rows(source, fit_on, split_key)
        chosen = (block[rows[i : i + len(block)]] for i, block in _dense(source, layer))
        n_fit, mean, variance = scaling.moments(chosen, source.n_vars)
        scale = scaling.scales(mean, variance)
    out = np.empty(shape, dtype=np.float32)
    for start, block in _dense(source, layer):
        out[start : start + len(block)] = (block - mean) / scale
    result = results.Result(
        "pp.standardize",
        {"layers:{root}": out, "var:{root}_mean": mean, "var:{root}_scale": scale},
        {
            "layer": layer,
            "fit_on": None if reference is not None else fit_on or "all rows",
            "split_key": split_key,
            "reference": reference is not None,
        },
        {"n_fit": n_fit},
        key_added,
    )
    return results.write(adata, result, mod=mod, copy=copy)


def _dense(source: AnnData, layer: str | None) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of rows in float64, checked."""
    names = np.asarray(source.obs_names)
    for start, block in inputs.row_blocks(inputs.matrix(source, layer)):
        own = names[start : start + block.shape[0]]
        _cohort.check_values(block, own, counts=False, layer=layer, source=source, method="")
        dense = block.toarray() if hasattr(block, "toarray") else block
        yield start, np.asarray(dense, dtype=np.float64)


def _fit_rows(source: AnnData, fit_on: str | None, split_key: str) -> np.ndarray:
    if fit_on is None:
        return np.ones(source.n_obs, dtype=bool)
    if split_key not in source.obs:
        raise checks.missing(
            split_key,
            "adata.obs",
            source.obs,
            hint="Make it with ol.pp.split(adata, ...), or fit on all rows with fit_on=None.",
        )
    rows = _cohort.part(source, split_key, fit_on)
    if rows.sum() < 2:
        found = sorted(set(np.asarray(source.obs[split_key]).astype(str)))
        msg = (
            f"{int(rows.sum())} row(s) are {fit_on!r} in adata.obs[{split_key!r}] (there: "
            f"{checks.listed(found)}); at least two are needed. Name a part with fit_on=."
        )
        raise ValueError(msg)
    return rows


def _from_reference(
    source: AnnData, reference: AnnData, root: str
) -> tuple[np.ndarray, np.ndarray]:
    column = f"{root}_mean"
    if column not in reference.var:
        raise checks.missing(
            column,
            "reference.var",
            reference.var,
            hint="Make it with ol.pp.standardize(reference).",
        )
    at = positions(source.var_names, reference.var_names, where="reference.var_names")
    return tuple(  # type: ignore[return-value]
        np.asarray(reference.var[f"{root}_{what}"], dtype=np.float64)[at]
        for what in ("mean", "scale")
    )
