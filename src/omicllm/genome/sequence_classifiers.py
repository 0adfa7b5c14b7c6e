"""Two plain classifiers of sequences: by composition, and by position.

Everything a language model claims to read from sequences is compared with them: composition (how
often words occur) is what tells promoters and enhancers from other sequence, position (which word
stands where) is what tells splice sites. Both are logistic regressions with fixed settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from omicllm.genome.kmers import UNKNOWN, base_codes, kmer_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy import sparse


class SequenceClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn whose rows are sequences of bases, as strings."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.input_tags.string = True
        return tags


class _Logistic(SequenceClassifier):
    """Logistic regression on features of sequences."""

    C: float

    def fit(self, sequences: Sequence[str], labels: Any) -> _Logistic:
        """Fit to sequences and their labels; returns itself."""
        from sklearn.linear_model import LogisticRegression

        labels = np.asarray(labels)
        features = self._fitted(list(sequences))
        self._model = LogisticRegression(C=self.C, max_iter=1000).fit(features, labels)
        self.classes_ = self._model.classes_
        return self

    def predict_proba(self, sequences: Sequence[str]) -> np.ndarray:
        """Probability of each class (n, n_classes), columns as in `classes_`."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "classes_")
        return np.asarray(self._model.predict_proba(self._features(list(sequences))))

    def predict(self, sequences: Sequence[str]) -> np.ndarray:
        """Most probable class of each sequence."""
        return self.classes_[self.predict_proba(sequences).argmax(axis=1)]

    def _fitted(self, sequences: Sequence[str]) -> Any:
        raise NotImplementedError

    def _features(self, sequences: Sequence[str]) -> Any:
        raise NotImplementedError


class CompositionClassifier(_Logistic):
    """Logistic regression on standardised counts of words of 1 to `k` bases, wherever they are.

    Parameters
    ----------
    k
        Longest word.
    C
        Inverse strength of the ridge penalty.
    """

    def __init__(self, k: int = 4, C: float = 3e-3) -> None:
        self.k, self.C = k, C

    def _counts(self, sequences: Sequence[str]) -> np.ndarray:
        """Words per possible place, so that sequences of any length compare: (n, n_words)."""
        out = []
        for j in range(1, self.k + 1):
            number = kmer_numbers(base_codes("N".join(sequences), other="unknown"), j)
            row = np.repeat(np.arange(len(sequences)), [len(s) + 1 for s in sequences])
            row = row[: len(number)]
            known = number >= 0
            flat = row[known] * 4**j + number[known]
            count = np.bincount(flat, minlength=len(sequences) * 4**j).reshape(-1, 4**j)
            out.append(count / np.maximum(count.sum(axis=1, keepdims=True), 1))
        return np.concatenate(out, axis=1)

    def _fitted(self, sequences: Sequence[str]) -> np.ndarray:
        counts = self._counts(sequences)
        self._mean, sd = counts.mean(axis=0), counts.std(axis=0)
        self._sd = np.where(sd > 1e-12, sd, 1.0)
        return (counts - self._mean) / self._sd

    def _features(self, sequences: Sequence[str]) -> np.ndarray:
        return (self._counts(sequences) - self._mean) / self._sd


class PositionClassifier(_Logistic):
    """Logistic regression on which word of 1 to `k` bases starts at each position.

    Sequences of several lengths are aligned at their centres, and the part that all training
    sequences have is used.

    Parameters
    ----------
    k
        Longest word.
    C
        Inverse strength of the ridge penalty.
    """

    def __init__(self, k: int = 3, C: float = 0.01) -> None:
        self.k, self.C = k, C

    def _fitted(self, sequences: Sequence[str]) -> sparse.csr_matrix:
        self._width = min(map(len, sequences))
        return self._features(sequences)

    def _features(self, sequences: Sequence[str]) -> sparse.csr_matrix:
        return position_words(aligned_codes(sequences, self._width), self.k)


def aligned_codes(sequences: Sequence[str], width: int) -> np.ndarray:
    """Base numbers of sequences cut or padded about their centres: uint8 (n, width + 1).

    The last column is unknown, so that no word reaches from one row to the next.
    """
    codes = np.full((len(sequences), width + 1), UNKNOWN, dtype=np.uint8)
    for row, sequence in zip(codes, sequences, strict=True):
        spare = len(sequence) - width
        cut = sequence[max(spare // 2, 0) : max(spare // 2, 0) + width]
        start = max(-spare // 2, 0)
        row[start : start + len(cut)] = base_codes(cut, other="unknown")
    return codes


def position_words(codes: np.ndarray, k: int) -> sparse.csr_matrix:
    """Which word of 1 to `k` bases starts at each position: csr of ones (n, features)."""
    from scipy import sparse

    n, stride = codes.shape
    rows, columns, first = [], [], 0
    for j in range(1, k + 1):
        number = kmer_numbers(codes.ravel(), j)
        cells = np.flatnonzero(number >= 0)
        row, position = np.divmod(cells, stride)
        rows.append(row)
        columns.append(first + position * 4**j + number[cells])
        first += (stride - 1) * 4**j
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(n, first))


#: The baselines that every table of few-shot results holds.
BASELINES = {"composition": CompositionClassifier, "position": PositionClassifier}
