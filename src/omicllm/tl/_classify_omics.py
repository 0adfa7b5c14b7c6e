"""`omicllm.tl.classify_omics`: classes of profiles by a language model, beside plain baselines."""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.class_labels import class_codes, label_column
from omicllm._core.log import logger
from omicllm.sampling.samplers import SAMPLERS
from omicllm.stats.classifiers import BASELINES, baseline_probabilities, folds
from omicllm.tl import _classify_report as report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model import OmicLM

#: Arguments that a trained model has settled.
_OF_TRAINING = (
    "n_top",
    "scale",
    "backbone",
    "preset",
    "lora",
    "augment",
    "n_new",
    "n_folds",
    "baselines",
    "max_epochs",
    "batch_size",
    "lr",
    "training_args",
    "model_args",
    "devices",
    "rng",
)


@docs.fill()
def classify_omics(
    adata: AnnData | MuData,
    *,
    labels_key: str,
    n_top: int | None = None,
    layer: str | Mapping[str, str] | None = None,
    modalities: Sequence[str] | None = None,
    scale: str | None = None,
    backbone: str | None = None,
    preset: str | None = None,
    lora: bool | Mapping[str, Any] | None = None,
    augment: str | None = "mix",
    n_new: int | None = None,
    split_key: str = "split",
    n_folds: int = 3,
    baselines: bool = True,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    training_args: Mapping[str, Any] | str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    model: OmicLM | str | Path | None = None,
    save: str | Path | None = None,
    rng: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    devices: int | list[int] | str = "auto",
    show_progress: bool | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Predict classes of profiles with a language model that reads them as text.

    Rows with a label train the model; rows without one are predicted and never trained on, nor do
    they take part in the choice of genes or in any scale.

    Parameters
    ----------
    adata
        Annotated data, observations x genes. Of a MuData all modalities make one text, unless
        `modalities` or `mod` name some.
    labels_key
        Column of `obs` with the classes. Missing values, empty text and ``"NOLBL"`` are no labels.
    n_top
        Genes in the text, of all modalities together, chosen on the rows trained on; 400 by
        default, or all genes of the largest modality if these are fewer.
    layer
        Layer to use instead of ``X``; of a MuData one name or a dict by modality. With `model`, by
        default what the model was trained on.
    modalities
        Modalities of a MuData that make the text, in this order.
    scale
        ``"rank"``, ``"log"``, ``"values"`` or ``"auto"``, see :class:`omicllm.model.OmicLM`.
    backbone, preset, lora
        The language model: ``"tiny"`` by default, ``"hf:<name>"`` or a folder. See
        :class:`omicllm.model.OmicLM`.
    augment
        ``"mix"``: each text shown in training is a mixture of two rows of one class. A sampler of
        :func:`omicllm.pp.augment` (``"gamma_poisson"``, ``"poisson"``, ``"smote"``, ...): its rows,
        drawn from the rows trained on, are added (AnnData only), and nothing is mixed. None.
    n_new
        Rows that a sampler draws for each class; by default classes are filled up to twice the
        largest.
    split_key
        Column of `obs` with ``"train"`` and ``"test"``. Where it is there, labelled rows marked
        ``"train"`` are trained on and labelled rows marked ``"test"`` give the scores. Otherwise
        all labelled rows are trained on, and scores come from cross-validation.
    n_folds
        Folds of that cross-validation; 0 for no scores.
    baselines
        Score the baselines on the same rows, genes and values.
    max_epochs, batch_size, lr, training_args
        See :meth:`omicllm.model.OmicLM.train`.
    model_args
        Further arguments of :class:`omicllm.model.OmicLM`, for example ``{{"n_layers": 2}}``.
    model
        A trained :class:`omicllm.model.OmicLM`, or the folder of one: it is applied as it is, and
        arguments of training are refused.
    save
        New folder to save the model to; the path is kept in ``uns["omiclm"]["model_dir"]``.
    {rng}
    {accelerator}
    {devices}
    {show_progress}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields (of the MuData itself, without `mod`):

    ``adata.obs["omiclm_label"]`` : categorical
        Predicted class of every row, those trained on included.
    ``adata.obsm["omiclm_proba"]`` : DataFrame, float32
        Probability of each class.
    ``adata.obsm["X_omiclm"]`` : float32
        State of the network after the text.
    ``adata.uns["omiclm"]``
        ``report`` (text; its first line says whether the model beats the baselines), ``classes``,
        ``genes``, ``history``, ``model_dir``; the tables ``scores`` (a row per classifier),
        ``confusion`` (true classes in rows, predicted ones in columns; a slash in a name of these
        becomes ``|``) and ``calibration`` (a row per bin of confidence).

    Raises
    ------
    KeyError
        No such column, layer or modality.
    ValueError
        Fewer than two classes; NaN or infinite values (rows are named); a text that is longer than
        the context of the model (the message says how many genes fit).

    Notes
    -----
    Baselines: logistic regression, linear support vector machine, random forest, perceptron,
    k nearest neighbours, majority class. They are given the genes and values that the language
    model is given.

    The order of observations and of genes matters: folds, batches and the text are made in it, so
    that the same object in another order is classified as with another `rng`.
    """
    if model is not None:
        checks.no_effect(classify_omics, locals(), _OF_TRAINING, because=checks.WITH_MODEL)
    data, joint = _data(adata, mod, modalities)
    _check(augment, n_folds, joint=joint, n_top=n_top, max_epochs=max_epochs, batch_size=batch_size)
    if augment not in SAMPLERS:
        why = "unless augment= names a sampler of ol.pp.augment"
        checks.no_effect(classify_omics, locals(), ("n_new",), because=why)
    if not joint:
        inputs.stored(data, cast("str | None", layer))
    from omicllm.model import OmicLM

    column = _labels(adata, data, labels_key)
    codes, names = class_codes(column, labels_key)
    train, test = _parts(data, codes, split_key)
    given = {"n_top": n_top, "scale": scale, "backbone": backbone, "preset": preset, "lora": lora}
    run = {"max_epochs": max_epochs, "batch_size": batch_size, "lr": lr}
    more = {"training_args": training_args, "accelerator": accelerator, "devices": devices}
    task = _Task(
        data,
        column,
        codes,
        names,
        setup=_setup(data, labels_key, layer, modalities, joint=joint),
        settings={k: v for k, v in (given | dict(model_args or {})).items() if v is not None},
        run={**run, **more, "show_progress": show_progress},
        augment=augment,
        n_new=n_new,
        seed=rngs.seed_of(rng),
        baselines=baselines,
    )
    if model is None:
        trained = task.fitted(train)
    else:
        trained = (
            model if isinstance(model, OmicLM) else OmicLM.load(model, accelerator=accelerator)
        )
        _check_model(trained, joint=joint)
        changed = {"layer": layer, "modalities": modalities}
        trained = trained.reading(**{k: task.setup[k] for k, v in changed.items() if v is not None})
    if len(test):
        trained_on = train if model is None else np.empty(0, dtype=np.int64)
        scored = task.tested(trained, trained_on, test)
    else:
        scored = task.cross_validated(train, n_folds) if model is None and n_folds else {}
    values = _values(trained, data)
    saved = results.saved(trained, save)
    given_folder = None if model is None or isinstance(model, OmicLM) else str(model)
    extra: dict[str, Any] = {
        "classes": list(trained.classes_),
        "genes": list(trained.genes),
        "model_dir": saved.path or given_folder,
        "history": {k: np.asarray(v, float).ravel() for k, v in (trained.history_ or {}).items()},
        **scored,
    }
    used = trained.registry_["setup_args"]
    params = {
        "labels_key": labels_key,
        "layer": used.get("layer"),
        "modalities": used.get("modalities"),
        "split_key": split_key,
        **{k: trained.params_[k] for k in ("scale", "backbone")},
        "n_top": len(trained.genes),
        "lora": bool(trained.params_["lora"]),
    }
    if model is None:
        params |= {"preset": preset, "augment": augment, "n_new": n_new, "n_folds": n_folds}
        params |= {**run, "rng": rngs.recorded(rng)}
    out = results.Result("tl.classify_omics", values, params, extra, key_added)
    return results.write(adata, out, mod=mod, copy=copy, saved=saved)


@dataclass
class _Task:
    """Labelled profiles, and how models are trained and judged on them."""

    data: Any
    column: Any
    codes: np.ndarray
    names: list[str]
    _: KW_ONLY
    setup: dict[str, Any]
    settings: dict[str, Any]
    run: dict[str, Any]
    augment: str | None
    n_new: int | None
    seed: int
    baselines: bool

    def fitted(self, rows: np.ndarray) -> OmicLM:
        """Train a model on some rows, and on what a sampler draws from them."""
        from omicllm.model import OmicLM

        if self.augment not in SAMPLERS:
            model = OmicLM.over(self.data, self.column, self.setup, seed=self.seed, **self.settings)
            mix = "mix" if self.augment == "mix" else None
            model.train(rows=rows, augment=mix, rng=self.seed, **self.run)
            return model
        cohort = self.with_drawn(rows, str(self.augment))
        setup = {**self.setup, "layer": None}
        column = cohort.obs[setup["labels_key"]]
        model = OmicLM.over(cohort, column, setup, seed=self.seed, **self.settings)
        model.train(augment=None, rng=self.seed, **self.run)
        return model.reading(layer=self.setup["layer"])

    def with_drawn(self, rows: np.ndarray, method: str) -> AnnData:
        """The training rows and synthetic ones, as a new object."""
        import anndata
        import pandas as pd

        from omicllm.pp._augment import augment
        from omicllm.pp._cohort import rows_of

        data, key = self.data, self.setup["labels_key"]
        obs = pd.DataFrame(index=pd.Index(np.asarray(data.obs_names)[rows].astype(str)))
        obs[key] = [str(v) for v in np.asarray(self.column, dtype=object)[rows]]
        if "synthetic" in data.obs:
            obs["synthetic"] = np.asarray(data.obs["synthetic"]).astype(str)[rows] == "True"
        X = rows_of(inputs.matrix(data, self.setup["layer"]), rows)
        lent = anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=data.var_names.astype(str)))
        amount: dict[str, Any] = {"n_new": self.n_new}
        if self.n_new is None:
            amount = {"class_size": 2 * int(obs[key].value_counts().max())}
        return augment(
            lent,
            labels_key=key,
            method=method,
            allow_unsplit=True,
            n_jobs=1,
            rng=self.seed,
            **amount,
        )

    def judged(self, model: OmicLM, rows: np.ndarray, held: np.ndarray) -> report.Judged:
        """Probabilities of held-out rows by the model and by the baselines on its genes."""
        names = self.names
        place = [names.index(c) if c in names else -1 for c in model.classes_]
        z, present = model.standardized(self.data)
        logits = model.logits(model.codec.ranks(z[held]), present[held])
        out = {"omiclm": report.placed(report.softmax(logits), place, len(names))}
        if self.baselines and len(rows):
            codes, _ = class_codes(self.column, model.registry_["setup_args"]["labels_key"])
            for name in BASELINES:
                out[name] = baseline_probabilities(
                    name, z[rows], codes[rows], z[held], len(names), seed=self.seed
                )
        return report.Judged(self.codes[held], out)

    def tested(self, model: OmicLM, rows: np.ndarray, test: np.ndarray) -> dict[str, Any]:
        """Tables of scores on test rows, and the report."""
        scored = report.score([self.judged(model, rows, test)], self.names)
        return self.reported(scored, f"{len(test)} test rows")

    def cross_validated(self, train: np.ndarray, n_folds: int) -> dict[str, Any]:
        """Tables of scores over folds of the training rows, and the report."""
        real = train[report.real(self.data)[train]]
        generator = np.random.default_rng(self.seed)
        fold = folds(self.codes[real], min(n_folds, len(real)), generator)
        parts = []
        for k in np.unique(fold):
            rows, held = real[fold != k], real[fold == k]
            if len(np.unique(self.codes[rows])) >= 2:
                parts.append(self.judged(self.fitted(rows), rows, held))
        if not parts:
            return {}
        how = f"{len(parts)}-fold cross-validation, {len(real)} rows"
        return self.reported(report.score(parts, self.names), how)

    def reported(self, scored: dict[str, Any], how: str) -> dict[str, Any]:
        """The tables with a report in words, which is logged."""
        lacking = report.classes_not_held_out(scored["confusion"].to_numpy(), self.names)
        words = report.text(scored["scores"], how) + lacking
        logger.log(logging.WARNING if lacking else logging.INFO, "%s", words)
        return scored | {"report": words}


def _check(augment: str | None, n_folds: int, *, joint: bool, **whole: int | None) -> None:
    """Raise for arguments out of range, before anything is read."""
    checks.one_of("augment", augment, ("mix", *SAMPLERS, None))
    checks.whole_number("n_folds", n_folds, at_least=0)
    if n_folds == 1:
        msg = "n_folds must be 0 (no scores) or at least 2."
        raise ValueError(msg)
    for name, value in whole.items():
        if value is not None:
            checks.whole_number(name, value)
    if augment in SAMPLERS and joint:
        msg = f"augment={augment!r} draws rows of one AnnData: use augment='mix', or mod=."
        raise ValueError(msg)


def _setup(
    data: Any, labels_key: str, layer: Any, modalities: Sequence[str] | None, *, joint: bool
) -> dict[str, Any]:
    """Arguments of the model's set-up."""
    from omicllm.model._omic_lm_text import by_modality

    if not joint:
        return {"labels_key": labels_key, "layer": layer}
    chosen = list(data.mod) if modalities is None else list(modalities)
    return {"labels_key": labels_key, "modalities": chosen, "layer": by_modality(layer, chosen)}


def _data(adata: Any, mod: str | None, modalities: Sequence[str] | None) -> tuple[Any, bool]:
    """The object to read, and whether it is a MuData whose modalities make one text."""
    if getattr(adata, "mod", None) is not None and mod is None:
        return adata, True
    if modalities is not None:
        msg = "modalities= is for a MuData without mod=."
        raise ValueError(msg)
    return inputs.resolve(adata, mod), False


def _labels(adata: Any, data: Any, key: str) -> Any:
    """The column of labels: of the object itself, else of the MuData around it."""
    if key not in data.obs and adata is not data and key in adata.obs:
        return adata.obs[key].reindex(data.obs_names)
    return label_column(data, key)


def _parts(data: Any, codes: np.ndarray, split_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and labelled rows to test on (none without a split)."""
    labelled = codes >= 0
    if split_key not in data.obs:
        return np.flatnonzero(labelled), np.empty(0, dtype=np.int64)
    split = np.asarray(data.obs[split_key]).astype(str)
    train = np.flatnonzero(labelled & (split == "train"))
    if not len(train):
        msg = (
            f"No labelled row is marked 'train' in obs[{split_key!r}] (there: "
            f"{checks.listed(np.unique(split), most=5)}). Name another column with split_key=."
        )
        raise ValueError(msg)
    return train, np.flatnonzero(labelled & (split == "test") & report.real(data))


def _check_model(model: OmicLM, *, joint: bool) -> None:
    if joint != bool(model.registry_["setup_args"].get("modalities")):
        msg = "The model and the object differ: one is of a MuData, the other of an AnnData."
        raise ValueError(msg)


def _values(model: OmicLM, data: Any) -> dict[str, Any]:
    import pandas as pd

    P: Any = model.predict(data, soft=True)
    label = np.array(model.classes_, dtype=object)[P.to_numpy().argmax(axis=1)]
    P.columns = [str(c).replace("/", "|") for c in P.columns]  # a slash would split an h5ad key
    return {
        "obs:{root}_label": pd.Categorical(label, categories=list(model.classes_)),
        "obsm:{root}_proba": P.astype(np.float32),
        "obsm:X_{root}": model.get_latent_representation(data),
    }
