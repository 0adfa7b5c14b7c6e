"""How good class probabilities are: scores, and the agreement of confidence with accuracy."""

from __future__ import annotations

import numpy as np


def balanced_accuracy(codes: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur in `codes` of the share of their rows predicted right."""
    codes, predicted = np.asarray(codes), np.asarray(predicted)
    return float(np.mean([np.mean(predicted[codes == c] == c) for c in np.unique(codes)]))


def macro_f1(codes: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over classes (that occur in either) of the harmonic mean of precision and recall."""
    scores = []
    for c in np.union1d(codes, predicted):
        hit = np.sum((codes == c) & (predicted == c))
        scores.append(2 * hit / max(np.sum(codes == c) + np.sum(predicted == c), 1))
    return float(np.mean(scores))


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
    place = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(place, minlength=n_bins)
    used = count > 0
    n = np.maximum(count, 1)
    mean = np.bincount(place, confidence, n_bins) / n
    accuracy = np.bincount(place, right, n_bins) / n
    own = P[np.arange(len(P)), codes]
    return {
        "lower": (np.arange(n_bins) / n_bins)[used],
        "confidence": mean[used],
        "accuracy": accuracy[used],
        "count": count[used],
        "ece": float((count * np.abs(accuracy - mean)).sum() / count.sum()),
        "brier": float(((P - np.eye(P.shape[1])[codes]) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(own.clip(1e-12)).mean()),
    }
