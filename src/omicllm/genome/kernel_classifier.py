"""A classifier of sequences for few examples: several kernels, weighted by cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm.genome.sequence_classifiers import SequenceClassifier, aligned_codes
from omicllm.genome.sequence_kernels import Features, Positions, Regions, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Views of sequences, by name.
VIEWS = {"words": Words, "regions": Regions, "positions": Positions}
#: How far the views depend on sequences being aligned.
_PLACED = {"regions": 0.5, "positions": 1.0}
#: Sharpness of scores: tried values, and the one expected before any data.
_SHARPNESS = np.exp(np.linspace(-4, 2, 49))
_EXPECTED = 0.4
#: How hard weights are held at the posterior of the views.
_HOLD = 20.0
#: Views of less weight are left out.
_LEAST = 0.005
#: Weights are found on at most so many sequences of each class.
_MOST = 300
#: Up to so many examples per class, cross-validation is repeated.
_FEW = 50


class KernelClassifier(SequenceClassifier):
    """Kernel logistic regressions on words, regions and positions, put together.

    A classifier of scikit-learn, whose rows are strings: it can be cloned, searched over and put
    into a pipeline.

    Each view (:class:`omicllm.genome.sequence_kernels.Words`, ``Regions``, ``Positions``) has a
    logistic regression of its own. Their log-probabilities are scaled and added, with weights that
    come from cross-validation inside the training sequences: the posterior of the views, moved to
    where the mixture predicts best, as far as there are data to tell. The prior
    of positions grows with how far the sequences of a class look aligned.

    Parameters
    ----------
    views
        Which of ``"words"``, ``"regions"`` and ``"positions"`` take part.
    features
        Name -> function from sequences to vectors (n, d), each a further view: hidden states of a
        language model, for example.
    C
        Inverse strength of the ridge penalty of each regression.
    seed
        Seed of the parts of cross-validation.

    Attributes
    ----------
    classes_
        Sorted classes.
    weights_
        Name -> weight of each view; they add up to 1.

    References
    ----------
    Raetsch and Sonnenburg 2004, weighted-degree kernels; Zhu and Hastie 2005, kernel logistic
    regression, doi:10.1198/106186005X25619; Yao et al. 2018, stacking of predictive
    distributions, doi:10.1214/17-BA1091.
    """

    def __init__(
        self,
        *,
        views: Sequence[str] = ("words", "regions", "positions"),
        features: dict[str, Callable[[list[str]], np.ndarray]] | None = None,
        C: float = 5.0,
        seed: int = 0,
    ) -> None:
        self.views, self.features, self.C, self.seed = views, features, C, seed

    def fit(self, sequences: Sequence[str], labels: Any) -> KernelClassifier:
        """Fit to sequences and their labels; returns itself.

        Raises
        ------
        ValueError
            Under two classes, not one label per sequence, an unknown view, or no view at all.
        """
        features = dict(self.features or {})
        for view in self.views:
            checks.one_of("views", view, VIEWS)
        if not len(self.views) and not features:
            msg = "There is nothing to learn from: pass views= or features=."
            raise ValueError(msg)
        sequences, labels = list(sequences), np.asarray(labels)
        if labels.shape != (len(sequences),):
            msg = f"There are {len(sequences)} sequences and labels of shape {labels.shape}."
            raise ValueError(msg)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            msg = f"Two classes are needed to train a classifier, not {len(self.classes_)}."
            raise ValueError(msg)
        rng = np.random.default_rng(self.seed)
        sample = _sample(codes, rng)
        parts = _parts(codes[sample], rng)
        views: dict[str, Any] = {name: VIEWS[name]() for name in self.views}
        views |= {name: Features(embed) for name, embed in features.items()}
        kernels = {name: view.fit(sequences, codes) for name, view in views.items()}
        few = [sequences[i] for i in sample]
        left_out = np.stack(
            [
                _left_out(
                    _kernels(views[name], K[np.ix_(sample, sample)], few, codes[sample]),
                    codes[sample],
                    parts,
                    self.C,
                )
                for name, K in kernels.items()
            ]
        )
        log_odds = _aligned_prior(sequences, codes)
        prior = np.array([log_odds * _PLACED.get(name, 0.0) for name in views])
        factors, weights = _pooled(left_out, codes[sample], prior)
        self.weights_ = dict(zip(views, (weights / weights.sum()).tolist(), strict=True))
        self._used = [
            (views[name], _Regression(self.C).fit(kernels[name], codes), factor * weight)
            for name, factor, weight in zip(views, factors, weights, strict=True)
            if self.weights_[name] > _LEAST
        ]
        return self

    def predict_proba(self, sequences: Sequence[str]) -> np.ndarray:
        """Probability of each class (n, n_classes), columns as in `classes_`."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "weights_")
        sequences = list(sequences)
        total = np.zeros((len(sequences), len(self.classes_)))
        for view, regression, factor in self._used:
            total += factor * regression.scores(view.between(sequences))
        return _softmax(total)

    def predict(self, sequences: Sequence[str]) -> np.ndarray:
        """Most probable class of each sequence."""
        proba = self.predict_proba(sequences)
        return self.classes_[proba.argmax(axis=1)]


class _Regression:
    """Multinomial logistic regression with a kernel; the intercept is penalised like the rest."""

    def __init__(self, C: float) -> None:
        self.C = C

    def fit(self, K: np.ndarray, codes: np.ndarray) -> _Regression:
        from scipy.linalg import cholesky
        from sklearn.linear_model import LogisticRegression

        size = float(np.mean(np.diag(K))) + 1
        self._root = cholesky(K + 1 + 1e-6 * size * np.eye(len(K)), lower=True)
        model = LogisticRegression(C=self.C, max_iter=300, fit_intercept=False)
        self._model = model.fit(self._root, codes)
        return self

    def scores(self, K: np.ndarray) -> np.ndarray:
        """Log-probabilities, centred over classes, of rows with kernels K (m, n)."""
        from scipy.linalg import solve_triangular

        X = solve_triangular(self._root, (K + 1).T, lower=True).T
        out = np.asarray(self._model.predict_log_proba(X))
        return out - out.mean(axis=1, keepdims=True)


def _sample(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows that weights are found on: all, or `_MOST` of each class."""
    rows = [rng.permutation(np.flatnonzero(codes == c))[:_MOST] for c in np.unique(codes)]
    return np.sort(np.concatenate(rows))


def _parts(codes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Part of each sequence, in each round of cross-validation; classes are spread evenly."""
    smallest = int(np.bincount(codes).min())
    few = smallest <= _FEW
    n_parts = max(2, min(smallest, 10 if few else 5))
    rounds = []
    for _ in range(3 if few else 1):
        part = np.empty(len(codes), dtype=np.int64)
        for c in np.unique(codes):
            rows = rng.permutation(np.flatnonzero(codes == c))
            part[rows] = np.arange(len(rows)) % n_parts
        rounds.append(part)
    return rounds


def _kernels(
    view: Any, K: np.ndarray, sequences: Sequence[str], codes: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Function from rows to learn from, and rows left out, to kernels of both with the former.

    A kernel that depends on labels is made again, so that it has not seen those left out.
    """

    def parts(rows: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not view.uses_labels:
            return K[np.ix_(rows, rows)], K[np.ix_(held, rows)]
        fresh_view = type(view)()
        among_rows = fresh_view.fit([sequences[i] for i in rows], codes[rows])
        return among_rows, fresh_view.between([sequences[i] for i in held])

    return parts


def _left_out(
    kernels: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    codes: np.ndarray,
    rounds: list[np.ndarray],
    C: float,
) -> np.ndarray:
    """Scores of each sequence by regressions that did not see it (n, n_classes)."""
    out = np.zeros((len(codes), int(codes.max()) + 1))
    for part in rounds:
        for p in range(int(part.max()) + 1):
            rows, held = np.flatnonzero(part != p), np.flatnonzero(part == p)
            if len(np.unique(codes[rows])) < out.shape[1]:
                continue  # a class with one sequence: nothing to learn from
            among_rows, with_rows = kernels(rows, held)
            out[held] += _Regression(C).fit(among_rows, codes[rows]).scores(with_rows)
    return out / len(rounds)


def _softmax(scores: np.ndarray) -> np.ndarray:
    out = np.exp(scores - scores.max(axis=1, keepdims=True))
    return out / out.sum(axis=1, keepdims=True)


def _surprise(scores: np.ndarray, codes: np.ndarray) -> float:
    """Negative log-likelihood of the classes, summed."""
    proba = _softmax(scores)[np.arange(len(codes)), codes]
    return -float(np.log(np.maximum(proba, 1e-300)).sum())


def _aligned_prior(sequences: Sequence[str], codes: np.ndarray) -> float:
    """Log of the prior odds that positions matter, from -6 to 2.

    They can only matter where sequences are aligned, and then bases differ between the positions
    of a class. A chi-square statistic of that, which does not compare classes, sets the odds.
    """
    bases = aligned_codes(sequences, min(map(len, sequences)))[:, :-1]
    statistic = freedom = 0.0
    for c in np.unique(codes):
        counts = np.stack([(bases[codes == c] == b).sum(axis=0) for b in range(4)], axis=1)
        expected = counts.sum(axis=1, keepdims=True) * (counts.sum(axis=0) / max(counts.sum(), 1))
        occurs = expected > 0
        statistic += float(((counts - expected)[occurs] ** 2 / expected[occurs]).sum())
        freedom += 3 * (len(counts) - 1)
    z = (statistic - freedom) / np.sqrt(2 * max(freedom, 1))
    return float(np.clip(2 * (z - 1), -6, 2))


def _pooled(
    left_out: np.ndarray, codes: np.ndarray, prior_odds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sharpness and weight of each view, from its scores of left-out sequences (views, n, c).

    The sharpness of each view maximises the likelihood, with a log-normal prior. Weights start at
    the posterior of the views (their likelihood and prior log-odds), and then move to where the
    mixture is most likely, with a Gaussian prior about the start: few sequences choose a view,
    many mix them.
    """
    from scipy.optimize import minimize

    size = np.maximum(np.sqrt((left_out**2).mean(axis=(1, 2))), 1e-12)
    scaled = left_out / size[:, None, None]
    prior = 3.0 * np.log(_SHARPNESS / _EXPECTED) ** 2
    best = [
        int(
            np.argmin([_surprise(t * x, codes) + p for t, p in zip(_SHARPNESS, prior, strict=True)])
        )
        for x in scaled
    ]
    sharp = _SHARPNESS[best]
    X = scaled * sharp[:, None, None]
    evidence = prior_odds - np.array([_surprise(x, codes) for x in X])
    start = np.exp(evidence - evidence.max())
    start /= start.sum()
    truth = np.eye(left_out.shape[2])[codes]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.tensordot(w, X, axes=1)
        slope = np.tensordot(X, _softmax(mixed) - truth, axes=2)
        shift = w - start
        return _surprise(mixed, codes) + _HOLD / 2 * float(shift @ shift), slope + _HOLD * shift

    bounds = [(0, None)] * len(start)
    weights = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
    return sharp / size, weights if weights.sum() > 0 else start
