"""Likeness of sequences: by the words in them, by words in regions, and by words at positions.

Each class is fitted to training sequences (which fixes scales and, for positions, the common
width) and then gives kernels: 1 for equal, towards 0 for unlike sequences. Positions are weighted
by how far classes differ there, so their kernel depends on the labels of the training sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.genome.kmers import base_codes, kmer_numbers
from omicllm.genome.sequence_classifiers import aligned_codes, position_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Rows whose kernel is computed at once.
_BLOCK = 2048
#: Weight of a place: 1 up to so large a statistic, then rising by up to `_RISE`, half at `_HALF`.
_NO_SIGN, _RISE, _HALF = 1.5, 20.0, 10.0


class Gaussian:
    """Kernel exp(-d / 2) on blocks of features, d the mean over blocks of squared distances.

    Every block is centred and scaled so that its mean squared norm over training rows is 1 (a mean
    squared distance of 2), so each counts alike, whatever its size.
    """

    uses_labels = False
    _fitted: list[tuple[np.ndarray, float]]

    def blocks(self, sequences: Sequence[str]) -> list[tuple[float, np.ndarray]]:
        """Weight and features (n, d) of each block; weights add up to 1."""
        raise NotImplementedError

    def fit(self, sequences: Sequence[str], codes: np.ndarray | None = None) -> np.ndarray:
        """Kernel of the training sequences (n, n); class numbers `codes` are not used."""
        blocks = self.blocks(sequences)
        self._fitted = []
        for _, X in blocks:
            mean = X.mean(axis=0)
            size = float(np.sqrt(((X - mean) ** 2).sum(axis=1).mean()))
            self._fitted.append((mean, size if size > 1e-9 else 1.0))
        self._train = self._scaled(blocks)
        return self._kernel(self._train)

    def between(self, sequences: Sequence[str]) -> np.ndarray:
        """Kernel of other sequences (m, n) with the training ones."""
        out = np.empty((len(sequences), len(self._train)))
        for i in range(0, len(sequences), _BLOCK):
            part = sequences[i : i + _BLOCK]
            out[i : i + len(part)] = self._kernel(self._scaled(self.blocks(part)))
        return out

    def _scaled(self, blocks: list[tuple[float, np.ndarray]]) -> np.ndarray:
        scaled = [
            (np.sqrt(weight) / size) * (X - mean)
            for (weight, X), (mean, size) in zip(blocks, self._fitted, strict=True)
        ]
        return np.concatenate(scaled, axis=1)

    def _kernel(self, X: np.ndarray) -> np.ndarray:
        Y = self._train
        squared = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1) - 2 * (X @ Y.T)
        return np.exp(-np.maximum(squared, 0).astype(np.float64) / 2)


class Words(Gaussian):
    """Words of 1 to 6 bases, of either strand, wherever they are.

    Square roots of counts, so that distances are Hellinger distances; a word and its reverse
    complement are one. Words of up to 4 bases count more than longer ones, most of which a short
    sequence does not hold.
    """

    lengths = (1, 2, 3, 4, 5, 6)

    def blocks(self, sequences: Sequence[str]) -> list[tuple[float, np.ndarray]]:
        """One block for each length."""
        codes = base_codes("N".join(sequences), other="unknown")
        row = np.repeat(np.arange(len(sequences)), [len(s) + 1 for s in sequences])
        out = []
        for k in self.lengths:
            counts = _counts(codes, row, k, len(sequences))
            other = _other_strand(k)
            merged = (counts + counts[:, other])[:, np.arange(4**k) <= other]
            merged /= np.maximum(merged.sum(axis=1, keepdims=True), 1)
            weight = 1 / 12 + (1 / 8 if k <= 4 else 0)
            out.append((weight, np.sqrt(merged)))
        return out


class Regions(Words):
    """Words as above, and words of 1 to 3 bases in eight overlapping regions, on this strand."""

    n_regions = 8

    def blocks(self, sequences: Sequence[str]) -> list[tuple[float, np.ndarray]]:
        """Blocks of whole sequences, and one for each length in regions."""
        out = [(weight / 2, X) for weight, X in super().blocks(sequences)]
        n, last = len(sequences), self.n_regions - 1
        codes = base_codes("N".join(sequences), other="unknown")
        lengths = np.array([len(s) for s in sequences])
        row = np.repeat(np.arange(n), lengths + 1)
        start = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        position = np.arange(len(row)) - start[row]
        for k in (1, 2, 3):
            # A word belongs to the two nearest regions, more to the nearer (linear).
            scaled = last * position / np.maximum(lengths[row] - k, 1)
            low = np.clip(scaled.astype(np.int64), 0, last - 1)
            share = np.clip(scaled - low, 0, 1)
            counts = _counts(codes, row * (last + 1) + low, k, n * (last + 1), 1 - share)
            counts += _counts(codes, row * (last + 1) + low + 1, k, n * (last + 1), share)
            counts = counts.reshape(n, -1)
            counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1)
            out.append((1 / 6, np.sqrt(counts)))
        return out


class Positions:
    """Words of 1 to 4 bases (3 in long sequences) that stand at the same place.

    A weighted-degree kernel (Raetsch and Sonnenburg 2004): the share of words in common, mean of
    its second and third power, so that combinations of places count. Sequences are aligned at
    their centres. A word counts by the mean weight of its places, which is 1 + 20 e / (10 + e), e
    being by how far the chi-square statistic of bases against classes (per degree of freedom,
    smoothed over neighbours) exceeds 1.5: places that classes do not differ at keep a part, since
    they may tell together. Without class numbers all places weigh the same.
    """

    uses_labels = True

    def fit(self, sequences: Sequence[str], codes: np.ndarray | None = None) -> np.ndarray:
        """Kernel of the training sequences (n, n), given their class numbers."""
        self._width = min(map(len, sequences))
        self._k = 4 if self._width <= 200 else 3
        weight = np.ones(self._width)
        if codes is not None:
            weight = _place_weights(aligned_codes(sequences, self._width)[:, :-1], codes)
        words = [
            np.array([weight[i : i + j].mean() for i in range(self._width)]).repeat(4**j)
            for j in range(1, self._k + 1)
        ]
        self._weights = np.sqrt(np.concatenate(words))
        self._train = self._features(sequences)
        self._size = self._norm(self._train)
        return self._kernel(self._train)

    def between(self, sequences: Sequence[str]) -> np.ndarray:
        """Kernel of other sequences (m, n) with the training ones."""
        return self._kernel(self._features(sequences))

    def _features(self, sequences: Sequence[str]) -> Any:
        words = position_words(aligned_codes(sequences, self._width), self._k)
        words.data = self._weights[words.indices]
        return words

    @staticmethod
    def _norm(X: Any) -> np.ndarray:
        squared = np.asarray(X.multiply(X).sum(axis=1)).ravel()
        return np.sqrt(np.where(squared > 0, squared, 1.0))

    def _kernel(self, X: Any) -> np.ndarray:
        shared = np.asarray((X @ self._train.T).todense(), dtype=np.float64)
        share = shared / self._norm(X)[:, None] / self._size
        return (share**2 + share**3) / 2


def _place_weights(bases: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Weight of each place (width,), mean 1, from base numbers (n, width) and class numbers."""
    one_hot = bases[:, :, None] == np.arange(4)
    total = one_hot.sum(axis=0)
    classes, size = np.unique(codes, return_counts=True)
    statistic = np.zeros(bases.shape[1])
    for c, n in zip(classes, size, strict=True):
        expected = total * (n / len(codes))
        observed = one_hot[codes == c].sum(axis=0)
        statistic += ((observed - expected) ** 2 / np.maximum(expected, 0.5)).sum(axis=1)
    ratio = statistic / (3 * max(len(classes) - 1, 1))
    smooth = np.convolve(np.pad(ratio, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    excess = np.maximum(smooth - _NO_SIGN, 0)
    weight = 1 + _RISE * excess / (_HALF + excess)
    return weight / weight.mean()


class Features(Gaussian):
    """Vectors that a model gives to sequences, such as the hidden states of a language model.

    Parameters
    ----------
    embed
        Maps a list of sequences to an array (n, d).
    """

    def __init__(self, embed: Callable[[list[str]], np.ndarray]) -> None:
        self.embed = embed

    def blocks(self, sequences: Sequence[str]) -> list[tuple[float, np.ndarray]]:
        """One block."""
        return [(1.0, np.asarray(self.embed(list(sequences)), dtype=np.float32))]


def _counts(
    codes: np.ndarray, row: np.ndarray, k: int, n_rows: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """How often each word of k bases starts in each row: float32 (n_rows, 4^k)."""
    number = kmer_numbers(codes, k)
    known = np.flatnonzero(number >= 0)
    flat = row[known] * 4**k + number[known]
    if weights is not None:
        weights = weights[known]
    counts = np.bincount(flat, weights=weights, minlength=n_rows * 4**k)
    return counts.reshape(n_rows, 4**k).astype(np.float32)


def _other_strand(k: int) -> np.ndarray:
    """Number of the reverse complement of each word of k bases."""
    power = 4 ** np.arange(k - 1, -1, -1)
    digits = np.arange(4**k)[:, None] // power % 4
    # A 0, T 1, C 2, G 3: the complement flips the last bit.
    return ((digits ^ 1)[:, ::-1] * power).sum(axis=1)
