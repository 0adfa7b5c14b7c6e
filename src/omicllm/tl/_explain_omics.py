"""`omicllm.tl.explain_omics`: which genes a decision of the language model rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, results
from omicllm._core import rng as rngs
from omicllm._core.log import progress
from omicllm.tl._classify_omics import _check_model, _data

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model import OmicLM

#: Texts through the network at once.
_BATCH = 256


@docs.fill()
def explain_omics(
    adata: AnnData | MuData,
    *,
    model: OmicLM | str | Path | None = None,
    key: str = "omiclm",
    n_obs: int | None = 60,
    rng: int | np.random.Generator | None = 0,
    show_progress: bool | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Attribute the classes a language model predicts to genes, by occlusion.

    The character of one gene is replaced by that of its training mean, as if nothing were known
    about it, and the change of the class logits is recorded.

    Parameters
    ----------
    adata
        Annotated data, or the MuData the model was trained on.
    model
        A trained :class:`omicllm.model.OmicLM` or the folder of one. By default the one that
        :func:`omicllm.tl.classify_omics` saved with ``save=``.
    key
        Root of the results of :func:`omicllm.tl.classify_omics`.
    n_obs
        Rows explained, drawn evenly from the predicted classes; None for all.
    {rng}
    {show_progress}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields (of the MuData itself, without `mod`):

    ``adata.var["explain_omics_score"]`` : float32
        Root mean square, over rows and classes, of the change of the centred class logits; 0 for
        genes that are not in the text.
    ``adata.uns["explain_omics"]["table"]`` : DataFrame
        ``gene``, ``modality``, ``class`` and ``attribution``, strongest first: positive where the
        gene speaks for the class.
    ``adata.uns["explain_omics"]``
        ``n_explained``.

    Raises
    ------
    KeyError
        When no model is given and none was saved.
    ValueError
        Other genes than those of the model; NaN or infinite values.

    Notes
    -----
    Logits are centred (their mean over classes is subtracted), so that a change that moves all
    classes alike is none. With the characters x of a row, class c and x' where gene g has the
    character of z = 0, the attribution of g to c is the mean over rows predicted c of
    ``logit_c(x) - logit_c(x')``.

    References
    ----------
    Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, ECCV.
    """
    from omicllm.model import OmicLM

    if model is not None:
        checks.no_effect(explain_omics, locals(), ("key",), because=checks.WITH_MODEL)
    data, joint = _data(adata, mod, None)
    if n_obs is not None:
        checks.whole_number("n_obs", n_obs)
    generator = rngs.generator(rng)
    given = model
    if model is None:
        entry = data.uns.get(key, {})
        if "model_dir" not in entry:
            hint = (
                "Train with ol.tl.classify_omics(adata, labels_key=..., save=folder), "
                "or pass model=."
            )
            name = "model_dir"
            raise checks.missing(name, f"uns[{key!r}]", entry, hint=hint)
        model = str(entry["model_dir"])
    folder = None if isinstance(model, OmicLM) else str(model)
    trained: OmicLM = model if isinstance(model, OmicLM) else OmicLM.load(model)
    _check_model(trained, joint=joint)
    text = trained.codec
    z, present = trained.standardized(data)
    ranks = text.ranks(z)
    guess = trained.predict(data)
    rows = _drawn(guess, n_obs, generator, rngs.name_order(data.obs_names))
    ranks, present, guess = ranks[rows], present[rows], guess[rows]
    change = _occluded(trained, ranks, present, show_progress=show_progress)
    classes = list(trained.classes_)
    score = np.sqrt((change**2).mean(axis=(0, 2)))
    values = {"var:{root}_score": _per_gene(data, trained, score, joint=joint)}
    params = {
        "n_obs": n_obs,
        "key": key if given is None else None,
        "model": folder,
        "rng": rngs.recorded(rng),
    }
    extra = {
        "table": _table(trained, change, guess, classes),
        "n_explained": len(rows),
    }
    out = results.Result("tl.explain_omics", values, params, extra, key_added)
    return results.write(adata, out, mod=mod, copy=copy)


def _drawn(
    guess: np.ndarray, n_obs: int | None, rng: np.random.Generator, by_name: np.ndarray
) -> np.ndarray:
    """Rows to explain: as evenly from the predicted classes as they allow."""
    if n_obs is None or n_obs >= len(guess):
        return np.arange(len(guess))
    order = by_name[rng.permutation(len(guess))]
    names = np.unique(guess)
    turn = np.empty(len(guess), dtype=np.int64)
    for c in names:
        mine = order[guess[order] == c]
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:n_obs])


def _occluded(
    model: OmicLM, ranks: np.ndarray, present: np.ndarray, *, show_progress: bool | None
) -> np.ndarray:
    """Change of the centred logits by each gene, (n, n_genes, n_classes)."""
    text = model.codec
    neutral = int(text.ranks(np.zeros((1, 1)))[0, 0])
    n, n_genes = ranks.shape

    def logits(ranks: np.ndarray, present: np.ndarray) -> np.ndarray:
        value = model.logits(ranks, present).mean(axis=0)
        return value - value.mean(axis=1, keepdims=True)

    whole = logits(ranks, present)
    out = np.zeros((n, n_genes, whole.shape[1]), dtype=np.float64)
    pairs = np.argwhere((ranks != neutral) & present)
    blocks = range(0, len(pairs), _BATCH)
    for start in progress(blocks, what="occlusion", total=len(blocks), show_progress=show_progress):
        row, gene = pairs[start : start + _BATCH].T
        hidden = ranks[row].copy()
        hidden[np.arange(len(row)), gene] = neutral
        out[row, gene] = whole[row] - logits(hidden, present[row])
    return out


def _per_gene(data: Any, model: OmicLM, score: np.ndarray, *, joint: bool) -> np.ndarray:
    """Scores in the order of the genes of the object."""
    out = np.zeros(len(data.var_names), dtype=np.float32)
    text = model.codec
    start = 0
    for i, segment in enumerate(text.segments):
        own = score[text.segment_of == i]
        names = list(data.mod) if joint else [""]
        start = 0
        for name in names:
            part = data.mod[name] if joint else data
            if name == segment.name:
                at = part.var_names.astype(str).get_indexer(segment.gene_names)
                out[start + at] = own
            start += part.n_vars
    return out


def _table(model: OmicLM, change: np.ndarray, guess: np.ndarray, classes: list[str]) -> Any:
    """Attribution of every gene to every class that was predicted."""
    import pandas as pd

    text = model.codec
    modality = np.array([s.name for s in text.segments], dtype=object)[text.segment_of]
    parts = []
    for c, name in enumerate(classes):
        mine = guess == name
        if mine.any():
            value = change[mine][:, :, c].mean(axis=0)
            parts.append(
                pd.DataFrame(
                    {
                        "gene": text.gene_names.astype(str),
                        "modality": modality.astype(str),
                        "class": name,
                        "attribution": value.astype(np.float32),
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True)
    order = np.argsort(-table["attribution"].abs().to_numpy(), kind="stable")
    return table.iloc[order].reset_index(drop=True)
