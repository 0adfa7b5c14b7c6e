"""Sizes and training settings of `model.GeneMaskLM`, by name."""

from __future__ import annotations

from typing import Any

from omicllm._core import checks

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 128, "n_layers": 2, "n_heads": 2, "d_ff": 512, "dropout": 0.1},
    "logo_genemask": {"d_model": 256, "n_layers": 2, "n_heads": 8, "d_ff": 3072, "dropout": 0.0},
    "dnabert": {"d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "dropout": 0.1},
}

_PUBLISHED = {"batch_size": 10, "accumulate": 25, "max_tokens": 510, "weight_decay": 0.01}
#: Settings of `pretrain`. A step is one update, on batch_size x accumulate pieces.
PRETRAINING: dict[str, dict[str, Any]] = {
    "small": {
        "max_steps": 1000, "batch_size": 32, "accumulate": 1, "max_tokens": 126, "lr": 1e-3,
        "warmup": 0.05, "weight_decay": 0.01,
    },
    "genemask_pretrain": {"max_steps": 10_000, "lr": 8e-4, "warmup": 0.05, **_PUBLISHED},
    "dnabert_pretrain": {"max_steps": 200_000, "lr": 4e-4, "warmup": 0.05, **_PUBLISHED},
}  # fmt: skip

#: Settings of `train` and `fit`: those published for up to 100 examples per class, and for more.
FINE_TUNING: dict[str, dict[str, Any]] = {
    "few_shot": {
        "max_epochs": 20, "batch_size": 5, "lr": 1e-4, "warmup": 0.1, "weight_decay": 0.01,
    },
    "many_shot": {
        "max_epochs": 5, "batch_size": 15, "lr": 5e-5, "warmup": 0.1, "weight_decay": 0.01,
    },
}  # fmt: skip
#: Up to so many examples per class are few.
FEW = 100
#: Learning rate of fine-tuning in models with fewer layers than DNABERT.
SMALL_MODEL_LR = 1e-3


def chosen(table: dict[str, dict[str, Any]], settings: str, given: dict[str, Any]) -> Any:
    """Named settings, with those that were given in place of theirs, checked.

    Raises
    ------
    ValueError
        An unknown name, or a value out of range.
    """
    checks.one_of("settings", settings, table)
    out = {**table[settings], **{k: v for k, v in given.items() if v is not None}}
    for name in ("max_steps", "max_epochs", "batch_size", "accumulate"):
        if name in out:
            out[name] = checks.whole_number(name, out[name])
    checks.share("warmup", out["warmup"])
    for name in ("lr", "weight_decay"):
        if not out[name] >= 0 or (name == "lr" and out[name] == 0):
            msg = f"{name} must be {'positive' if name == 'lr' else 'at least 0'}, not {out[name]}."
            raise ValueError(msg)
    return out
