"""The plain classifiers that the language model is shown beside."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Shown beside the language model; the last one looks at no gene.
BASELINES = (
    "logistic_regression",
    "linear_svm",
    "random_forest",
    "mlp",
    "knn",
    "majority",
)


def _make(name: str, n: int, seed: int) -> Any:
    """One classifier of scikit-learn with its usual settings."""
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    if name == "logistic_regression":
        return LogisticRegression(max_iter=1000)
    if name == "linear_svm":
        return SVC(
            kernel="linear", random_state=seed
        )  # without it numpy's global state is drawn on
    if name == "random_forest":
        return RandomForestClassifier(500, random_state=seed)
    if name == "mlp":
        return MLPClassifier((64,), max_iter=200, random_state=seed)
    if name == "knn":
        return KNeighborsClassifier(min(5, n))
    return DummyClassifier(strategy="most_frequent")


def baseline_probabilities(
    name: str, Z: np.ndarray, codes: np.ndarray, other: np.ndarray, n_classes: int, *, seed: int = 0
) -> np.ndarray:
    """Fit one baseline and predict other rows.

    Parameters
    ----------
    name
        One of `BASELINES`.
    Z, codes
        Training rows (n, n_genes) and their classes.
    other
        Rows to predict.
    n_classes
        Width of the result.
    seed
        Of the forest and the perceptron.

    Returns
    -------
    float64 (len(other), n_classes). A support vector machine has no probabilities: its decision
    values go through a softmax, which keeps the order.
    """
    import warnings

    model = _make(name, len(Z), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an MLP that has not converged is still the baseline
        model.fit(Z, codes)
        out = np.zeros((len(other), n_classes))
        if name == "linear_svm":
            value = model.decision_function(other)
            value = np.stack([-value, value], axis=1) if value.ndim == 1 else value
            value = np.exp(value - value.max(axis=1, keepdims=True))
            value /= value.sum(axis=1, keepdims=True)
            # One-vs-one votes can tie where the prediction does not.
            winner = np.searchsorted(model.classes_, model.predict(other))
            rows = np.arange(len(other))
            value[rows, winner] = np.maximum(value[rows, winner], value.max(axis=1) + 1e-9)
        else:
            value = model.predict_proba(other)
    out[:, model.classes_] = value
    return out / out.sum(axis=1, keepdims=True)


def folds(codes: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of each row, the classes spread evenly: int64 (n,), 0 to n_folds - 1."""
    out = np.zeros(len(codes), dtype=np.int64)
    start = 0
    for c in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == c))
        out[rows] = (start + np.arange(len(rows))) % n_folds
        start += len(rows)
    return out
