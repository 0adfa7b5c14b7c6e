"""Scores of a classifier beside baselines, and the report about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.checks import listed
from omicllm.stats.scores import balanced_accuracy, calibration, macro_f1

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


@dataclass
class Judged:
    """Held-out rows: their classes, and what each classifier makes of them (n, n_classes)."""

    codes: np.ndarray
    probabilities: dict[str, np.ndarray]


def real(data: Any) -> np.ndarray:
    """Rows that no sampler drew: bool (n_obs,)."""
    if "synthetic" not in data.obs:
        return np.ones(data.n_obs, dtype=bool)
    return np.asarray(data.obs["synthetic"]).astype(str) != "True"


def softmax(logits: np.ndarray) -> np.ndarray:
    """Mean over members (first axis) of the probabilities."""
    P = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (P / P.sum(axis=2, keepdims=True)).mean(axis=0)


def placed(P: np.ndarray, place: Sequence[int], n_classes: int) -> np.ndarray:
    """Probabilities in the columns of all classes; a class the model lacks gets none."""
    out = np.zeros((len(P), n_classes))
    for j, c in enumerate(place):
        if c >= 0:
            out[:, c] = P[:, j]
    return out


def score(parts: list[Judged], names: list[str]) -> dict[str, Any]:
    """Tables of scores, confusion and calibration over all held-out rows.

    Balanced accuracy and F1 are of the predictions of all folds together.
    """
    import pandas as pd

    codes = np.concatenate([p.codes for p in parts])
    rows, tables = [], []
    for name in parts[0].probabilities:
        P = np.concatenate([p.probabilities[name] for p in parts])
        told = calibration(P, codes)
        guess = P.argmax(axis=1)
        rows.append(
            {
                "classifier": name,
                "balanced_accuracy": balanced_accuracy(codes, guess),
                "accuracy": float((guess == codes).mean()),
                "macro_f1": macro_f1(codes, guess),
                "log_loss": told["log_loss"],
                "brier": told["brier"],
                "ece": told["ece"],
            }
        )
        if name == "omiclm":
            kept = ("lower", "confidence", "accuracy", "count")
            tables.append(pd.DataFrame({k: np.asarray(told[k]) for k in kept}))
            counts = np.zeros((len(names), len(names)), dtype=np.int64)
            np.add.at(counts, (codes, guess), 1)
    columns = [str(name).replace("/", "|") for name in names]  # a slash would split an h5ad key
    confusion = pd.DataFrame(
        counts, index=pd.Index([str(n) for n in names], name="true class"), columns=columns
    )
    return {"scores": pd.DataFrame(rows), "calibration": tables[0], "confusion": confusion}


def text(scores: pd.DataFrame, how: str) -> str:
    """Report on the scores; the first line compares the model with the best baseline."""
    value = dict(zip(scores["classifier"], scores["balanced_accuracy"], strict=True))
    ours = value.pop("omiclm")
    lines = []
    if value:
        best = max(value, key=lambda k: value[k])
        if ours > value[best]:
            verdict = "OmicLM beats the best baseline"
        elif ours == value[best]:
            verdict = "OmicLM does not beat the best baseline (it equals it)"
        else:
            verdict = "OmicLM does not beat the best baseline"
        lines.append(f"{verdict}: balanced accuracy {ours:.3f}, {best} {value[best]:.3f} ({how}).")
    else:
        lines.append(f"OmicLM: balanced accuracy {ours:.3f} ({how}); no baseline was run.")
    for row in scores.itertuples():
        lines.append(
            f"{row.classifier}: balanced accuracy {row.balanced_accuracy:.3f}, macro F1 "
            f"{row.macro_f1:.3f}, log loss {row.log_loss:.3f}, calibration error {row.ece:.3f}"
        )
    return "\n".join(lines)


def classes_not_held_out(confusion: np.ndarray, names: list[str]) -> str:
    """A line for the report where held-out rows lack classes, else nothing."""
    there = confusion.sum(axis=1) > 0
    if there.all():
        return ""
    absent = listed([name for name, seen in zip(names, there, strict=True) if not seen])
    if there.sum() == 1:
        return (
            f"\nAll held-out rows are {names[int(there.argmax())]!r} (none is {absent}): these "
            "scores do not say whether classes are told apart. Split anew (ol.pp.split)."
        )
    return f"\nNo held-out row is {absent}: these scores are about the other classes."
