"""Pairs of genes: learned from known ones, ranked without them, and how stable they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.stats.scores import auroc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Strengths of the regularised features that a classifier is chosen from; 0 is cosine alone.
STRENGTHS = (0.0, 0.01, 0.03, 0.1, 0.3)


def pair_features(Z: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine (m,), and absolute difference and product of the vectors (m, 2 d), of pairs."""
    a, b = Z[pairs[:, 0]], Z[pairs[:, 1]]
    product = a * b
    return product.sum(axis=1), np.concatenate([np.abs(a - b), product], axis=1)


@dataclass
class PairClassifier:
    """Logistic regression on cosine, free, and on difference and product, held small.

    Parameters
    ----------
    strength
        Scale of the standardised features of difference and product: the ridge penalty on them is
        ``1 / strength ** 2`` times that of cosine; 0 leaves them out.
    """

    strength: float
    _model: Any = None
    _centre: Any = None
    _scale: Any = None

    def _matrix(self, Z: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        cosine, features = pair_features(Z, pairs)
        X = cosine[:, None] if not self.strength else np.concatenate([cosine[:, None], features], 1)
        if self._scale is None:
            self._centre, self._scale = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-9)
        X = (X - self._centre) / self._scale
        X[:, 1:] *= self.strength / np.sqrt(max(X.shape[1] - 1, 1))
        return X

    def fit(self, Z: np.ndarray, pairs: np.ndarray, label: np.ndarray) -> PairClassifier:
        """Learn from pairs and their labels."""
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(C=10.0, max_iter=500, class_weight="balanced")
        self._model.fit(self._matrix(Z, pairs), label)
        return self

    def predict(self, Z: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Probability of an interaction, were half the pairs interacting."""
        return self._model.predict_proba(self._matrix(Z, pairs))[:, 1]


def rematched(
    pairs: np.ndarray, known: set[tuple[int, int]], bins: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Pairs that are not known, of the same genes: each second gene changed within its level.

    The second gene comes from the genes of the same expression level in these pairs, as often as
    it occurs there, so that neither the level nor being in the list tells the two kinds apart.

    Returns
    -------
    int64 (m, 2), m at most the number of pairs: where ten draws give known pairs only, none.
    """
    pool = pairs.ravel()
    by_level = {b: pool[bins[pool] == b] for b in np.unique(bins[pool])}
    out = []
    for first, second in rng.permuted(pairs, axis=1):
        for _ in range(10):
            other = int(rng.choice(by_level[bins[second]]))
            if other != first and ordered(int(first), other) not in known:
                out.append((int(first), other))
                break
    return np.array(out, dtype=np.int64).reshape(-1, 2)


def ordered(a: int, b: int) -> tuple[int, int]:
    """The two numbers, smaller first."""
    return (a, b) if a < b else (b, a)


def gene_splits(
    pairs: np.ndarray, n_genes: int, n_folds: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split pairs by gene: both genes of a test pair are new. Yields bool (m,) train and test."""
    part = rng.permutation(n_genes) % n_folds
    a, b = part[pairs[:, 0]], part[pairs[:, 1]]
    for f in range(n_folds):
        yield (a != f) & (b != f), (a == f) & (b == f)


def labelled(
    pairs: np.ndarray, known: set[tuple[int, int]], bins: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Known pairs and as many others, and 1 or 0 for each."""
    others = rematched(pairs, known, bins, rng)
    label = np.repeat([1, 0], [len(pairs), len(others)])
    return np.concatenate([pairs, others]), label


def chosen_strength(
    Z: np.ndarray,
    pairs: np.ndarray,
    known: set[tuple[int, int]],
    bins: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """Strength that does best on genes left out of these pairs (three folds); 0 where too few."""
    area = np.zeros(len(STRENGTHS))
    for train, test in gene_splits(pairs, len(Z), 3, rng):
        if train.sum() < 10 or test.sum() < 10:
            continue
        labelled_pairs, label = labelled(pairs[train], known, bins, rng)
        new, truth = labelled(pairs[test], known, bins, rng)
        if len(set(label.tolist())) < 2 or len(set(truth.tolist())) < 2:
            continue
        for i, strength in enumerate(STRENGTHS):
            model = PairClassifier(strength).fit(Z, labelled_pairs, label)
            area[i] += auroc(model.predict(Z, new), truth == 1)
    return STRENGTHS[int(area.argmax())]


def cross_validated_pairs(
    Z: np.ndarray,
    plain: Any,
    pairs: np.ndarray,
    bins: np.ndarray,
    *,
    n_folds: int,
    n_repeats: int,
    rng: np.random.Generator,
) -> tuple[dict[str, float], np.ndarray]:
    """How well pairs of unseen genes are told from others of the same levels.

    Parameters
    ----------
    Z
        Unit vectors of genes.
    plain
        Takes pairs, returns their plain co-expression.
    pairs, bins
        Known pairs (m, 2), and level bin of each gene.
    n_folds, n_repeats
        Parts that genes are cut into, and how often.
    rng
        Generator.

    Returns
    -------
    Mean AUC over folds of the classifier (``auc``), of cosine alone and of co-expression on the
    same pairs, with the number of test pairs; and the score of each known pair while both its
    genes were unseen, the mean over repeats (NaN where that was never so).
    """
    known = {ordered(int(a), int(b)) for a, b in pairs}
    areas: list[tuple[float, float, float]] = []
    total, times, n_test = np.zeros(len(pairs)), np.zeros(len(pairs)), 0
    for _ in range(n_repeats):
        for train, test in gene_splits(pairs, len(Z), n_folds, rng):
            if not train.any() or not test.any():
                continue
            labelled_pairs, label = labelled(pairs[train], known, bins, rng)
            new, truth = labelled(pairs[test], known, bins, rng)
            if len(set(label.tolist())) < 2 or len(set(truth.tolist())) < 2:
                continue
            strength = chosen_strength(Z, pairs[train], known, bins, rng)
            score = PairClassifier(strength).fit(Z, labelled_pairs, label).predict(Z, new)
            true = truth == 1
            values = (score, pair_features(Z, new)[0], plain(new))
            areas.append(tuple(auroc(v, true) for v in values))  # type: ignore[arg-type]
            n_test += len(new)
            total[test] += score[true]
            times[test] += 1
    mean = np.mean(areas, axis=0) if areas else np.full(3, np.nan)
    scores = {
        "auc": float(mean[0]),
        "cosine": float(mean[1]),
        "coexpression": float(mean[2]),
        "n_test": n_test,
        "n_folds_tested": len(areas),
    }
    return scores, np.where(times > 0, total / np.maximum(times, 1), np.nan)


def edges_of(index: np.ndarray) -> np.ndarray:
    """Pairs that are neighbours on one side at least, smaller first, each once: int64 (m, 2)."""
    n, k = index.shape
    a, b = np.repeat(np.arange(n), k), index.ravel()
    return np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1), axis=0)


def edge_codes(edges: np.ndarray, n: int) -> np.ndarray:
    """One number per pair."""
    return edges[:, 0] * np.int64(n) + edges[:, 1]


def heterogeneity(
    cosine: np.ndarray, error: np.ndarray, shown: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cochran's Q of the cosines of pairs over sections: I2, and p value (NaN under two sections).

    Parameters
    ----------
    cosine, error, shown
        (n_sections, m): cosines, their standard errors, and whether the section has both genes.
    """
    from scipy.stats import chi2

    weight = np.where(shown, 1.0 / np.maximum(error, 1e-3) ** 2, 0.0)
    mean = (weight * cosine).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
    q = (weight * (cosine - mean) ** 2).sum(axis=0)
    degrees = shown.sum(axis=0) - 1
    several = degrees > 0
    share = np.where(several, np.maximum(0.0, 1.0 - degrees / np.maximum(q, 1e-12)), np.nan)
    return share, np.where(several, chi2.sf(q, np.maximum(degrees, 1)), np.nan)


def contrast(
    cosine: np.ndarray, error: np.ndarray, shown: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine in the second condition less that in the first, and two-sided p value.

    The variance of a mean is the larger of what the errors of its sections give and what their
    spread gives, where there are several.

    Parameters
    ----------
    cosine, error, shown
        (n_sections, m), as in :func:`heterogeneity`.
    second
        Bool (n_sections,): sections of the second condition.
    """
    from scipy.stats import norm

    means, variances = [], []
    for side in (~second, second):
        n = np.maximum(shown[side].sum(axis=0), 1)
        mean = np.where(shown[side], cosine[side], 0.0).sum(axis=0) / n
        from_errors = np.where(shown[side], error[side] ** 2, 0.0).sum(axis=0) / n**2
        spread = np.where(shown[side], (cosine[side] - mean) ** 2, 0.0).sum(axis=0)
        between = np.where(n > 1, spread / (np.maximum(n - 1, 1) * n), 0.0)
        means.append(np.where(shown[side].any(axis=0), mean, np.nan))
        variances.append(np.maximum(from_errors, between))
    change = means[1] - means[0]
    return change, 2 * norm.sf(np.abs(change) / np.sqrt(np.maximum(sum(variances), 1e-12)))


def bootstrapped(parts: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Embed genes from spatial blocks drawn with replacement, in each section: unit rows.

    Parameters
    ----------
    parts
        Per section, what each block adds to the coordinates of genes (n_blocks, n_genes, k).
    rng
        Generator.
    """
    from omicllm.stats.neighbors import unit_rows

    out = []
    for part in parts:
        n = len(part)
        drawn = np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float32)
        out.append(unit_rows(np.tensordot(drawn, part, axes=1)))
    return out
