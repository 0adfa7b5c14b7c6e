"""Settings, labels and networks of `model.OmicLM`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.checks import listed, missing
from omicllm._core.log import logger
from omicllm.stats.class_genes import ridge_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omicllm.model._omic_lm_text import OmicText

#: Tokens of the tiny backbone's context, least number of training steps.
CONTEXT, STEPS = 4096, 40
#: Strengths of the regularised least squares that the members of a tiny backbone start from, in
#: turn. The strongest gives differences of class means; weaker ones heed correlations of genes.
RIDGE = (100.0, 10.0, 30.0)
#: Rows that the scale of the first logits is taken from.
START_ROWS = 256
#: Tokens through a network at once.
_TOKENS = 1 << 16

DEFAULTS: dict[str, Any] = {
    "backbone": "tiny", "n_top": None, "scale": "auto", "bits": 8, "mu": 255.0, "max_value": 4.0,
    "patch_size": 10, "codepoints": "safe", "context": None, "d_model": 32, "n_layers": 1,
    "n_heads": 4, "n_members": 3, "tokenizer": None, "lora": False,
}  # fmt: skip

#: Settings of the published experiment: the table, and what `TrainingArguments` gets.
PRESETS: dict[str, dict[str, Any]] = {
    "ieee_icdh": {
        "backbone": "hf:HuggingFaceTB/SmolLM-1.7B", "n_top": 40, "scale": "values", "bits": 8,
        "mu": 256.0, "max_value": 1.0, "patch_size": 10, "codepoints": "reference",
        "tokenizer": "pretrained", "lora": False,
    },
}  # fmt: skip
TRAINING: dict[str, dict[str, Any]] = {
    "ieee_icdh": {
        "num_train_epochs": 20, "learning_rate": 1e-4, "lr_scheduler_type": "cosine",
        "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32,
        "auto_find_batch_size": True, "gradient_accumulation_steps": 1, "weight_decay": 0.1,
        "adam_beta1": 0.9, "adam_beta2": 0.95, "bf16": True, "max_grad_norm": 1.0,
        "eval_strategy": "steps", "eval_steps": 500, "save_strategy": "steps", "save_steps": 500,
        "logging_steps": 500, "save_total_limit": 3, "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss", "greater_is_better": False, "seed": 42,
    },
}  # fmt: skip
#: Evaluations without improvement after which the published experiment stops; share held out.
PATIENCE, VALIDATION = 8, 0.1


def settled(preset: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: the defaults, the preset's, and those given."""
    checks.one_of("preset", preset, (None, *PRESETS))
    out = {**DEFAULTS, **PRESETS.get(preset or "", {}), **given}
    if out["tokenizer"] is None:
        out["tokenizer"] = "aligned" if out["backbone"] == "tiny" else "pretrained"
    checks.one_of("tokenizer", out["tokenizer"], ("aligned", "pretrained"))
    if out["backbone"] == "tiny":
        for name, wrong in (("tokenizer", out["tokenizer"] != "aligned"), ("lora", out["lora"])):
            if wrong:
                msg = f"{name}={out[name]!r} is for pretrained backbones; the tiny one has none."
                raise ValueError(msg)
    return out


def label_column(data: Any, key: str) -> Any:
    """Column of labels of an AnnData, or of a MuData (its own obs, else that of a modality).

    Raises
    ------
    KeyError
        No such column.
    ValueError
        Modalities that disagree about a label.
    """
    import pandas as pd

    if key in data.obs:
        return pd.Series(np.asarray(data.obs[key], dtype=object), index=data.obs_names)
    mods = getattr(data, "mod", {})
    holders = [m for m in mods if key in mods[m].obs]
    if not holders:
        where = "mdata.obs" if mods else "adata.obs"
        raise missing(key, where, data.obs, hint="Name a column with labels_key=.")
    out = pd.Series(np.full(data.n_obs, None, dtype=object), index=data.obs_names)
    for name in holders:
        own = mods[name].obs[key].astype(object)
        own = own[own.notna()]
        both = own.index[out.loc[own.index].notna()]
        differ = [i for i in both if str(out[i]) != str(own[i])]
        if differ:
            msg = f"Modalities disagree about {key!r} of {listed(differ, most=3)}."
            raise ValueError(msg)
        out.loc[own.index] = own
    return out


def class_codes(column: Any, key: str) -> tuple[np.ndarray, list[str]]:
    """Number of each row's class (-1 without a label) and class names, sorted.

    Missing values, empty text, ``"nan"`` and ``"NOLBL"`` are no labels.
    """
    import pandas as pd

    values = pd.Series(np.asarray(column, dtype=object))
    text = values.map(lambda v: str(v).strip(), na_action="ignore")
    text = text.where(text.notna() & ~text.isin(["", "nan", "NOLBL"]), None)
    codes, names = pd.factorize(text, sort=True)
    if not len(names):
        msg = f"No row has a label in obs[{key!r}]."
        raise ValueError(msg)
    return codes.astype(np.int64), [str(n) for n in names]


def real_rows(data: Any, codes: np.ndarray) -> np.ndarray:
    """Rows that no sampler drew; all rows where a class has drawn rows only."""
    if "synthetic" not in data.obs:
        return np.ones(len(codes), dtype=bool)
    real = np.asarray(data.obs["synthetic"]).astype(str) != "True"
    lost = set(codes[codes >= 0].tolist()) - set(codes[real & (codes >= 0)].tolist())
    return np.ones(len(codes), dtype=bool) if lost else real


def limited(codes: np.ndarray, rows: Any) -> np.ndarray:
    """Codes with -1 outside `rows` (a mask or numbers; None for all)."""
    if rows is None:
        return codes
    keep = np.zeros(len(codes), dtype=bool)
    keep[np.asarray(rows)] = True
    return np.where(keep, codes, -1)


def trainable(codes: np.ndarray, names: list[str]) -> np.ndarray:
    """Classes that have rows to train on; a warning for those that have one.

    Raises
    ------
    ValueError
        Fewer than two.
    """
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    used = np.flatnonzero(sizes)
    if len(used) < 2:
        shown = listed([names[i] for i in used])
        msg = f"Two classes are needed to train a classifier; the labelled rows have {shown}."
        raise ValueError(msg)
    alone = [names[i] for i in np.flatnonzero(sizes == 1)]
    if alone:
        logger.warning(
            "only one row has the class %s: it is learned from that row alone", listed(alone)
        )
    return used


def in_classes(codes: np.ndarray, names: list[str], classes: list[str]) -> np.ndarray:
    """Codes counted in `classes` instead of `names`.

    Raises
    ------
    ValueError
        Rows of another class.
    """
    new = [n for i, n in enumerate(names) if n not in classes and (codes == i).any()]
    if new:
        msg = f"The trained model has no class {listed(new)} (it has {listed(classes)})."
        raise ValueError(msg)
    place = [classes.index(n) if n in classes else -1 for n in names]
    return np.array([*place, -1])[codes]


def networks(p: Mapping[str, Any], text: OmicText, n_classes: int) -> Any:
    """Untrained members of the ensemble."""
    import torch

    from omicllm.nn.language_model import ProfileLM

    return torch.nn.ModuleList(
        ProfileLM(
            text.values, text.n_positions, n_classes, n_markers=text.n_markers,
            d_model=p["d_model"], n_layers=p["n_layers"], n_heads=p["n_heads"],
        )
        for _ in range(p["n_members"])
    )  # fmt: skip


def contrasts(text: OmicText, z: np.ndarray, codes: np.ndarray, n_classes: int) -> list[np.ndarray]:
    """Weights of positions for classes (n_positions, n_classes), one array per strength."""
    out = []
    for strength in RIDGE:
        weights = np.zeros((text.n_positions, n_classes))
        weights[text.columns] = ridge_weights(z.astype(np.float64), codes, n_classes, strength)
        out.append(weights)
    return out


def through(model: Any, ranks: np.ndarray, present: np.ndarray, what: str) -> np.ndarray:
    """What each member of a tiny backbone makes of texts, (n_members, n, width), in blocks."""
    import torch

    text = model.text_
    step = max(1, _TOKENS // text.n_positions)
    out = []
    with torch.no_grad():
        for start in range(0, len(ranks), step):
            ids = torch.from_numpy(text.with_markers(ranks[start : start + step]))
            keep = torch.from_numpy(text.keep(present[start : start + step]))
            at = next(model.module.parameters()).device
            hide = None if bool(keep.all()) else keep.to(at)
            own = [getattr(m, what)(ids.to(at), hide).float().cpu() for m in model.module]
            out.append(torch.stack(own))
    if not out:
        width = len(model.classes_) if what == "forward" else model.params_["d_model"]
        return np.zeros((len(model.module), 0, width), dtype=np.float32)
    return torch.cat(out, dim=1).numpy()


def appended(earlier: Mapping[str, Any] | None, fresh: Mapping[str, list[float]]) -> dict[str, Any]:
    """History with further values at its end."""
    import pandas as pd

    out = dict(earlier or {})
    for key, values in fresh.items():
        before = [] if key not in out else np.asarray(out[key], dtype=float).ravel().tolist()
        out[key] = pd.DataFrame({"value": [*before, *values]})
    return out


def held_out(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth of each class for validation: bool (n,)."""
    out = np.zeros(len(codes), dtype=bool)
    for c in np.unique(codes):
        rows = np.flatnonzero(codes == c)
        n = min(round(VALIDATION * len(rows)) or 1, len(rows) - 1)
        out[rng.permutation(rows)[:n]] = True
    return out


def mixed(
    z: np.ndarray, present: np.ndarray, codes: np.ndarray, use: np.ndarray, rng: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As many mixtures of two rows of a class as there are training rows; their first rows."""
    first = rng.permutation(np.flatnonzero(use))
    second = np.empty_like(first)
    for k, i in enumerate(first):
        alike = use & (codes == codes[i]) & (present == present[i]).all(axis=1)
        second[k] = rng.choice(np.flatnonzero(alike))
    w = rng.random((len(first), 1)).astype(np.float32)
    return w * z[first] + (1 - w) * z[second], first
