"""What `tl.spam` and `tl.predict_expression` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import inputs

if TYPE_CHECKING:
    from anndata import AnnData

    from omicllm.model import SPAM


def source_of(data: Any, mod: str | None, image_mod: str) -> tuple[AnnData, str | None, AnnData]:
    """Object to write to, its modality, and the object to read from.

    A whole MuData with modalities ``rna`` and `image_mod` is joined by the names of observations.
    """
    modalities = getattr(data, "mod", None)
    if modalities is None or mod is not None or not {"rna", image_mod} <= set(modalities):
        source = inputs.resolve(data, mod)
        return source, mod, source
    from omicllm.model._spam_data import joined

    return modalities["rna"], "rna", joined(data, image=image_mod)


def lend(source: AnnData, *, use_rep: str, layer: str | None, spatial_key: str) -> AnnData:
    """A light AnnData with what the model reads, that shares nothing with the user's object."""
    import anndata as ad

    X = None
    if layer is not None or source.X is not None:
        X = inputs.by_gene(source, layer).tocsr()
    names = [str(v) for v in source.var_names]
    obs = pd.DataFrame({c: np.asarray(source.obs[c]) for c in source.obs.columns},
                       index=[str(v) for v in source.obs_names])  # fmt: skip
    out = ad.AnnData(X, obs=obs, var=pd.DataFrame(index=names))
    for key in (use_rep, spatial_key):
        if key in source.obsm:
            found = inputs.readable(source.obsm[key])
            values = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
            out.obsm[key] = np.array(values)
    return out


def trained(model: SPAM | str | Any, adata: AnnData, root: str) -> tuple[SPAM, str | None]:
    """The model that was given, or that the object says where to find, and its folder.

    Raises
    ------
    ValueError
        None was given, and none is known.
    """
    from omicllm.model import SPAM

    if isinstance(model, SPAM):
        return model, None
    if model is None:
        model = (adata.uns.get(root) or adata.uns.get("spam", {})).get("model_dir")
        if not model:
            msg = (
                "No model: train one with ol.tl.spam(adata_with_counts, save='folder') and pass "
                "model='folder'."
            )
            raise ValueError(msg)
    return SPAM.load(str(model)), str(model)


def read_keys(model: SPAM, use_rep: str | None) -> dict[str, Any]:
    """Set-up of a trained model, with the features of the object at hand."""
    return model.setup_args if use_rep is None else {**model.setup_args, "use_rep": use_rep}


def into_columns(values: np.ndarray, genes: Any, names: Any, n_obs: int, rows: Any) -> np.ndarray:
    """Predictions (m, g) as a layer (n_obs, n_vars); NaN where nothing was predicted."""
    out = np.full((n_obs, len(names)), np.nan, dtype=np.float32)
    place = pd.Index([str(v) for v in names]).get_indexer(pd.Index([str(g) for g in genes]))
    out[np.ix_(rows, place[place >= 0])] = values[:, place >= 0]
    return out


def rows_of(part: AnnData, whole: AnnData) -> np.ndarray:
    """Positions in `whole` of the observations of `part`."""
    if part.n_obs == whole.n_obs:
        return np.arange(whole.n_obs)
    return np.asarray(whole.obs_names.get_indexer(part.obs_names))
