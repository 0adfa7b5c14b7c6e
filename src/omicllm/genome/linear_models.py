"""Linear models of expression from genotypes: top variant, lasso, elastic net, BLUP; heritability.

All take standardised genotypes X (n people, m variants; columns of mean 0 and variance 1) and
centred expression y (n,), and return effects w (m,): the prediction is X w.

References
----------
Gusev et al. 2016 (FUSION), doi:10.1038/ng.3506; Gamazon et al. 2015 (PrediXcan),
doi:10.1038/ng.3367; Yang et al. 2011 (GCTA), doi:10.1016/j.ajhg.2010.11.011.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

#: Penalties on a path, and the smallest over the largest.
_N_PENALTIES, _RATIO = 60, 0.01
#: Penalties computed at a time; the path ends when held-out error has not fallen in one such part.
_PART = 12


@dataclass
class Heritability:
    """Share of the variance of expression that lies along the genotypes.

    Attributes
    ----------
    h2, se, pval
        Estimate in [0, 1], its standard error, and p value against 0 (likelihood ratio, half a
        chi-square with one degree of freedom; or normal for Haseman-Elston).
    """

    h2: float
    se: float
    pval: float


class Relatedness:
    """Eigen-decomposition of K = X X' / m, on which REML and BLUP rest.

    Parameters
    ----------
    X
        Standardised genotypes (n, m).
    """

    def __init__(self, X: np.ndarray) -> None:
        self.X = X
        self.K = X @ X.T / X.shape[1]
        # Columns of X are centred: the constant is an eigenvector, of value 0. Expression has no
        # part along it (the mean takes one degree of freedom), so it is lifted out and dropped.
        n = len(X)
        values, vectors = np.linalg.eigh(self.K + 2.0 * (np.trace(self.K) / n + 1.0))
        self.values, self.vectors = np.maximum(values[:-1], 0.0), vectors[:, :-1]

    def reml(self, y: np.ndarray) -> Heritability:
        """Restricted maximum likelihood of y = g + e, var(g) = h2 K, var(e) = (1 - h2) I."""
        from scipy.stats import chi2

        d, squares = self.values, (self.vectors.T @ y) ** 2
        n = len(d)

        def likelihood(h: np.ndarray) -> np.ndarray:
            v = np.maximum(np.outer(h, d) + (1 - h)[:, None], 1e-9)
            return -0.5 * (np.log(v).sum(axis=1) + n * np.log((squares / v).sum(axis=1)))

        grid = np.linspace(0.0, 0.999, 101)
        for _ in range(3):
            values = likelihood(grid)
            best = int(np.argmax(values))
            low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
            h, top = float(grid[best]), float(values[best])
            grid = np.linspace(low, high, 41)
        step = 1e-3
        around = likelihood(np.array([max(h - step, 0.0), h + step, h + 2 * step]))
        curvature = -(around[0] - 2 * top + around[1]) / step**2
        if h < step:
            curvature = -(top - 2 * around[1] + around[2]) / step**2
        se = float(1 / np.sqrt(curvature)) if curvature > 0 else np.nan
        ratio = 2 * (top - float(likelihood(np.zeros(1))[0]))
        return Heritability(h, se, float(0.5 * chi2.sf(max(ratio, 0.0), 1)) if h > 0 else 0.5)

    def haseman_elston(self, y: np.ndarray) -> Heritability:
        """Regression of products of expression of pairs of people on their relatedness."""
        from scipy.stats import norm

        y = y / y.std()
        pairs = np.triu_indices(len(y), 1)
        k, product = self.K[pairs], y[pairs[0]] * y[pairs[1]]
        k = k - k.mean()
        total = float(k @ k)
        slope = float(k @ product) / total
        se = float(np.sqrt(product.var() / total))
        return Heritability(float(np.clip(slope, 0, 1)), se, float(norm.sf(slope / se)))

    def blup(self, y: np.ndarray, h2: float) -> np.ndarray:
        """Best linear unbiased prediction: ridge with penalty m (1 - h2) / h2."""
        if h2 <= 0:
            return np.zeros(self.X.shape[1])
        v = h2 * self.values + (1 - h2)
        solved = self.vectors @ ((self.vectors.T @ y) / v)
        return h2 / self.X.shape[1] * (self.X.T @ solved)


def top_variant(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Regression on the one variant of largest absolute correlation."""
    slope = X.T @ y / len(y)
    best = int(np.argmax(np.abs(slope)))
    out = np.zeros(X.shape[1])
    out[best] = slope[best]
    return out


def elastic_net(X: np.ndarray, y: np.ndarray, *, l1_ratio: float, folds: np.ndarray) -> np.ndarray:
    """Elastic net (``l1_ratio=1``: lasso); the penalty of least held-out error.

    Parameters
    ----------
    X, y
        Genotypes and expression.
    l1_ratio
        Share of the absolute in the penalty.
    folds
        Fold of each person, whole numbers from 0.

    Returns
    -------
    float64 (m,): effects; all zero when no penalty betters the mean.

    Notes
    -----
    Minimises |y - X w|^2 / (2 n) + a (l1_ratio |w|_1 + (1 - l1_ratio) |w|^2 / 2) for y of unit
    variance, as glmnet does, and scales the effects back. The penalty a falls geometrically over
    60 steps to 1 % of the one that lets in the first variant. The path ends early when the
    held-out error stops falling.
    """
    n, scale = len(y), float(y.std())
    if scale == 0:
        return np.zeros(X.shape[1])
    y = y / scale
    gram, product = X.T @ X, X.T @ y
    largest = np.abs(product).max() / n / l1_ratio
    if largest <= 0:
        return np.zeros(X.shape[1])
    penalties = largest * np.geomspace(1.0, _RATIO, _N_PENALTIES)
    parts = []
    for fold in np.unique(folds):
        out = folds == fold
        inside = int((~out).sum())
        mean, level = X[~out].mean(axis=0), y[~out].mean()
        own_gram = gram - X[out].T @ X[out] - inside * np.outer(mean, mean)
        own_product = product - X[out].T @ y[out] - inside * mean * level
        parts.append((own_gram, own_product, inside, X[out] - mean, y[out] - level))
    error = np.zeros(_N_PENALTIES)
    start = [np.zeros(X.shape[1]) for _ in parts]
    done = 0
    while done < _N_PENALTIES:
        some = slice(done, done + _PART)
        for i, (own_gram, own_product, inside, held, wanted) in enumerate(parts):
            path = _path(own_gram, own_product, inside, penalties[some], l1_ratio, start[i])
            start[i] = path[:, -1].copy()
            error[some] += ((held @ path - wanted[:, None]) ** 2).sum(axis=0)
        done += _PART
        if error[:done].argmin() < done - _PART:
            break
    best = int(error[:done].argmin())
    whole = _path(gram, product, n, penalties[: best + 1], l1_ratio, np.zeros(X.shape[1]))
    return scale * whole[:, -1]


def _path(
    gram: np.ndarray,
    product: np.ndarray,
    n: int,
    penalties: np.ndarray,
    l1_ratio: float,
    start: np.ndarray,
) -> np.ndarray:
    """Effects (m, n_penalties) by coordinate descent, each from the one before."""
    from sklearn.linear_model import enet_path

    # The solver looks at the Gram matrix only; of the data it takes the shape, and the length of
    # y for the scale of its duality gap (y has unit variance here).
    y = np.full(n, 1.0)
    X = np.zeros((n, len(product)), order="F")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a point of the path that has not converged fully
        return enet_path(
            X,
            y,
            l1_ratio=l1_ratio,
            alphas=penalties,
            precompute=gram,
            Xy=product,
            coef_init=start,
            tol=1e-3,
            max_iter=500,
            check_input=False,
        )[1]
