"""Scores of a classifier from its probabilities."""

from __future__ import annotations

import numpy as np


def classification_scores(codes: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    """Accuracy, AUC, macro F1 and Matthews correlation of predicted probabilities.

    Parameters
    ----------
    codes
        Class number of each item (n,).
    proba
        Probabilities (n, n_classes).

    Returns
    -------
    ``accuracy``, ``auc`` (two classes: area under the ROC curve; more: mean over pairs of classes,
    Hand and Till 2001), ``f1_macro``, ``mcc``. AUC is NaN where a class has no item.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

    n_classes = proba.shape[1]
    predicted = proba.argmax(axis=1)
    labels = np.arange(n_classes)
    if len(np.unique(codes)) < n_classes:
        auc = float("nan")
    elif n_classes == 2:
        auc = float(roc_auc_score(codes, proba[:, 1]))
    else:
        share = proba / proba.sum(axis=1, keepdims=True)
        auc = float(roc_auc_score(codes, share, multi_class="ovo", labels=labels))
    return {
        "accuracy": float((predicted == codes).mean()),
        "auc": auc,
        "f1_macro": float(
            f1_score(codes, predicted, average="macro", labels=labels, zero_division=0)
        ),
        "mcc": float(matthews_corrcoef(codes, predicted)),
    }
