"""Ridge regression on image features, as strong as a linear baseline can honestly be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: Penalties that are tried, for standardised features.
ALPHAS = 10.0 ** np.arange(-1.0, 5.01, 0.5)


def section_means(values: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Mean of each row's section, float64 (n, k)."""
    out = np.empty(values.shape)
    for s in np.unique(sections):
        rows = sections == s
        out[rows] = values[rows].mean(axis=0, dtype=np.float64)
    return out


def mean_of_sections(values: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Mean (k,) over sections of the means of their rows, each section counting once."""
    return np.stack(
        [values[sections == s].mean(axis=0, dtype=np.float64) for s in np.unique(sections)]
    ).mean(axis=0)


class RidgePath:
    """Ridge regression for many penalties at the cost of one decomposition.

    Minimises ||Y - X B||^2 + alpha ||B||^2. With X = U S V^T, B = V diag(s / (s^2 + alpha)) U^T Y.
    No intercept: centre before.

    Parameters
    ----------
    X
        (n, d) features.
    Y
        (n, g) targets.

    References
    ----------
    Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, eq. 3.47.
    """

    def __init__(self, X: np.ndarray, Y: np.ndarray) -> None:
        U, self.s, self.Vt = np.linalg.svd(np.asarray(X, dtype=np.float64), full_matrices=False)
        self.UY = U.T @ Y

    def coefficients(self, alpha: float) -> np.ndarray:
        """B (d, g) for one penalty."""
        # Directions without any variance carry nothing, whatever the penalty.
        nonzero = self.s > 1e-10 * self.s.max(initial=0.0)
        factor = np.where(nonzero, self.s / np.maximum(self.s**2 + alpha, 1e-300), 0.0)
        return self.Vt.T @ (factor[:, None] * self.UY)

    def predict(self, X: np.ndarray, alpha: float) -> np.ndarray:
        """Predictions (m, g) for one penalty."""
        return X @ self.coefficients(alpha)


@dataclass
class Components:
    """Standardisation and principal components, fitted on training rows.

    Attributes
    ----------
    mean, scale
        (d,) of the features.
    axes
        (d, k) principal axes.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, n_components: int = 256) -> Components:
        """Fit on features (n, d)."""
        mean = X.mean(axis=0, dtype=np.float64)
        scale = X.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 1e-8 * np.maximum(np.abs(mean), 1e-12), scale, 1.0)
        Z = (X - mean) / scale
        _, s, Vt = np.linalg.svd(Z, full_matrices=False)
        k = min(n_components, int((s > 1e-8 * s.max(initial=0.0)).sum()) or 1)
        # The sign of an axis is arbitrary: the largest weight is made positive.
        sign = np.sign(Vt[np.arange(len(Vt)), np.abs(Vt).argmax(axis=1)])
        return cls(mean, scale, (Vt * sign[:, None])[:k].T)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Scores (n, k)."""
        return ((X - self.mean) / self.scale) @ self.axes


@dataclass
class GroupedRidge:
    """PCA and ridge, with the penalty chosen on held-out patients (or sections, or blocks).

    Features and targets are centred within each section: how a section was stained, and how deep
    it was sequenced, are then no part of what is learned. A prediction is the mean over training
    sections plus what the features say about the difference from the mean of their own section.

    Parameters
    ----------
    alphas
        Penalties that are tried.
    n_components
        Principal components of the standardised features, at most.
    criterion
        What the held-out groups decide by: ``"pearson"`` (mean over genes and sections) or
        ``"mse"`` (of all genes together). Either way, predictions are then multiplied by the
        slope that fits held-out targets best (.05 to 1), which leaves correlations alone.
    center
        Centre by section; False centres over all training rows.

    Attributes
    ----------
    alpha_, slope_
        Chosen.
    scores_
        Dict of ``alpha``, ``pearson``, ``mse`` (relative to the variance) on held-out groups;
        empty without a second group.
    mean_
        (g,) offset of predictions.
    """

    alphas: np.ndarray = field(default_factory=lambda: ALPHAS)
    n_components: int = 256
    criterion: str = "pearson"
    center: bool = True

    def fit(
        self, X: np.ndarray, Y: np.ndarray, sections: np.ndarray, groups: np.ndarray | None = None
    ) -> GroupedRidge:
        """Choose the penalty on held-out groups and fit on all rows.

        Parameters
        ----------
        X, Y
            (n, d) features and (n, g) targets.
        sections
            (n,) section of each row.
        groups
            (n,) what is held out in turn; by default the sections. One group alone: the largest
            penalty but one decade is used, since nothing says which is right.
        """
        groups = sections if groups is None else groups
        X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
        self.mean_ = mean_of_sections(Y, sections) if self.center else Y.mean(axis=0)
        centred = Y - (section_means(Y, sections) if self.center else self.mean_)
        F = self._features(X, sections)
        self._choose(F, centred, sections, groups)
        self._components = Components.of(F, self.n_components)
        self._path = RidgePath(self._components(F), centred)
        return self

    def predict(self, X: np.ndarray, sections: np.ndarray) -> np.ndarray:
        """Predictions (m, g) of rows from any sections; only their features are used."""
        scores = self._components(self._features(np.asarray(X, dtype=np.float64), sections))
        return self.mean_ + self.slope_ * self._path.predict(scores, self.alpha_)

    def _features(self, X: np.ndarray, sections: np.ndarray) -> np.ndarray:
        return X - section_means(X, sections) if self.center else X

    def _choose(
        self, F: np.ndarray, Y: np.ndarray, sections: np.ndarray, groups: np.ndarray
    ) -> None:
        """Set `alpha_`, `slope_` and `scores_` from held-out groups."""
        alphas = np.asarray(self.alphas, dtype=np.float64)
        names = np.unique(groups)
        self.alpha_, self.slope_, self.scores_ = float(alphas[-3:][0]), 1.0, {}
        if len(names) < 2:
            return
        pearson = np.zeros(len(alphas))
        error, cross, square = (np.zeros(len(alphas)) for _ in range(3))
        total = 0.0
        for name in names:
            out = groups == name
            components = Components.of(F[~out], self.n_components)
            path = RidgePath(components(F[~out]), Y[~out])
            Z, truth = components(F[out]), Y[out]
            total += float((truth**2).sum())
            for i, alpha in enumerate(alphas):
                guess = path.predict(Z, alpha)
                error[i] += float(((guess - truth) ** 2).sum())
                cross[i] += float((guess * truth).sum())
                square[i] += float((guess**2).sum())
                pearson[i] += mean_correlation(guess, truth, sections[out]) / len(names)
        self.scores_ = {"alpha": alphas, "pearson": pearson, "mse": error / max(total, 1e-300)}
        # Ties go to the larger penalty.
        score = pearson if self.criterion == "pearson" else -error
        best = len(alphas) - 1 - int(np.argmax(score[::-1]))
        self.alpha_ = float(alphas[best])
        self.slope_ = float(np.clip(cross[best] / max(square[best], 1e-300), 0.05, 1.0))


def mean_correlation(guess: np.ndarray, truth: np.ndarray, sections: np.ndarray) -> float:
    """Mean Pearson correlation over genes within sections; constant truths are left out."""
    section_means_of_r = []
    for s in np.unique(sections):
        rows = sections == s
        p, t = (v[rows] - v[rows].mean(axis=0) for v in (guess, truth))
        pp, tt = (p**2).sum(axis=0), (t**2).sum(axis=0)
        varies = tt > 1e-12
        r = (p * t).sum(axis=0) / np.sqrt(np.maximum(pp * tt, 1e-300))
        section_means_of_r.append(r[varies].mean() if varies.any() else 0.0)
    return float(np.mean(section_means_of_r))


def hest_ridge(
    X: np.ndarray, Y: np.ndarray, new: np.ndarray, *, n_components: int = 256
) -> np.ndarray:
    """Predictions (m, g) of the ridge of HEST-Benchmark, for comparability.

    Features are standardised on training rows and reduced to 256 principal components; ridge with
    alpha = 100 / (components x genes) and no intercept on targets as they are, so that predictions
    have mean zero and their squared error says little.

    References
    ----------
    Jaume et al. 2024, HEST-1k, NeurIPS Datasets and Benchmarks.
    """
    components = Components.of(np.asarray(X, dtype=np.float64), n_components)
    scores = components(X)
    alpha = 100.0 / (scores.shape[1] * Y.shape[1])
    return RidgePath(scores, np.asarray(Y, dtype=np.float64)).predict(components(new), alpha)


def knn_regression(
    X: np.ndarray, Y: np.ndarray, new: np.ndarray, *, k: int = 50, block: int = 2048
) -> np.ndarray:
    """Mean target (m, g) of the `k` training rows of the largest cosine to each new row."""
    from omicllm.stats.neighbors import unit_rows

    base, query = unit_rows(X), unit_rows(new)
    k = min(k, len(base))
    out = np.empty((len(new), Y.shape[1]))
    for start in range(0, len(new), block):
        rows = slice(start, start + block)
        near = np.argpartition(-(query[rows] @ base.T), k - 1, axis=1)[:, :k]
        # Rows in ascending order: a sum is then the same on every run.
        out[rows] = np.asarray(Y, dtype=np.float64)[np.sort(near, axis=1)].mean(axis=1)
    return out
