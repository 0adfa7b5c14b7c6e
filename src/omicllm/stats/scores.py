"""Scores of classes, probabilities, rankings and partitions, and rates of false discoveries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def balanced_accuracy(codes: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur in `codes` of the share of their rows predicted right."""
    from sklearn.metrics import recall_score

    # `balanced_accuracy_score` warns where a class that does not occur is predicted.
    classes = np.unique(codes)
    return float(recall_score(codes, predicted, labels=classes, average="macro", zero_division=0))


def macro_f1(codes: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over classes (that occur in either) of the harmonic mean of precision and recall."""
    from sklearn.metrics import f1_score

    return float(f1_score(codes, predicted, average="macro", zero_division=0))


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


def calibration(
    probabilities: np.ndarray, codes: np.ndarray, *, n_bins: int = 10
) -> dict[str, np.ndarray | float]:
    """Reliability of class probabilities.

    Parameters
    ----------
    probabilities
        (n, n_classes); rows sum to 1.
    codes
        (n,) true class of each row.
    n_bins
        Bins of equal width of the confidence (the largest probability).

    Returns
    -------
    dict with ``confidence``, ``accuracy`` and ``count`` of each bin that holds rows, ``lower``
    (its lower edge), and the numbers ``ece`` (expected calibration error: mean over rows of
    ``abs(accuracy - confidence)`` of their bin), ``brier`` and ``log_loss``.

    References
    ----------
    Guo et al. 2017, On calibration of modern neural networks, ICML.
    """
    P, codes = np.asarray(probabilities, dtype=np.float64), np.asarray(codes, dtype=np.int64)
    if P.ndim != 2 or len(P) != len(codes) or not len(codes):
        msg = f"probabilities must be (n, n_classes) for {len(codes)} codes, not {P.shape}."
        raise ValueError(msg)
    confidence, right = P.max(axis=1), P.argmax(axis=1) == codes
    bin_of_row = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bin_of_row, minlength=n_bins)
    used = count > 0
    n = np.maximum(count, 1)
    mean = np.bincount(bin_of_row, confidence, n_bins) / n
    accuracy = np.bincount(bin_of_row, right, n_bins) / n
    of_truth = P[np.arange(len(P)), codes]
    return {
        "lower": (np.arange(n_bins) / n_bins)[used],
        "confidence": mean[used],
        "accuracy": accuracy[used],
        "count": count[used],
        "ece": float((count * np.abs(accuracy - mean)).sum() / count.sum()),
        "brier": float(((P - np.eye(P.shape[1])[codes]) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(of_truth.clip(1e-12)).mean()),
    }


def ari(truth: ArrayLike, labels: ArrayLike) -> float:
    """Adjusted Rand index of two partitions of the same items (Hubert and Arabie 1985).

    Parameters
    ----------
    truth, labels
        One label per item.

    Returns
    -------
    1 for equal partitions, about 0 for unrelated ones; may be negative.
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, labels))


def nmi(truth: ArrayLike, labels: ArrayLike) -> float:
    """Normalised mutual information of two partitions (arithmetic mean of the entropies).

    Parameters
    ----------
    truth, labels
        One label per item.

    Returns
    -------
    Between 0 and 1.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(truth, labels))


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties counting half; NaN without either.

    Parameters
    ----------
    score
        One value per item (n,).
    positive
        Bool (n,).
    """
    from scipy.stats import rankdata

    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    rank = rankdata(np.asarray(score))
    above = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def upper_tail(score: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Share of null values at or above each score, counting the score itself among them."""
    null = np.sort(np.asarray(null, dtype=np.float64))
    above = len(null) - np.searchsorted(null, score, side="left")
    return (1.0 + above) / (1.0 + len(null))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rates (Benjamini and Hochberg 1995), in the shape of `p`; NaN stay NaN."""
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    # Sums of probabilities may pass 1 by rounding.
    q[tested] = false_discovery_control(np.minimum(p[tested], 1.0))
    return q
