"""How like real rows synthetic rows are: marginals, correlation, separation, copies, usefulness."""

from __future__ import annotations

import numpy as np


def log_normalised(counts: np.ndarray, depth: np.ndarray, target: float) -> np.ndarray:
    """log(1 + counts scaled from `depth` to `target`), rows x genes."""
    factor = target / np.where(depth > 0, depth, 1.0)
    return np.log1p(counts * factor[:, None])


def ks_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov-Smirnov statistic of each column, ties included: (n_columns,)."""
    both = np.concatenate([a, b])
    order = np.argsort(both, axis=0, kind="stable")
    values = np.take_along_axis(both, order, axis=0)
    step = np.where(order < len(a), 1 / len(a), -1 / len(b))
    gap = np.abs(np.cumsum(step, axis=0))
    # Between equal values the distribution functions do not exist yet.
    gap[:-1][values[1:] == values[:-1]] = 0.0
    return gap.max(axis=0)


def within(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Values less the mean of their class."""
    out = np.array(values, dtype=np.float64)
    for c in np.unique(codes):
        out[codes == c] -= out[codes == c].mean(axis=0)
    return out


def correlations(values: np.ndarray) -> np.ndarray:
    """Correlations of pairs of columns, upper triangle; NaN where a column is constant."""
    centred = values - values.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    flat = norm <= 1e-10 * max(float(norm.max(initial=0.0)), 1e-300)
    centred /= np.where(flat, 1.0, norm)
    table = centred.T @ centred
    table[flat] = np.nan
    table[:, flat] = np.nan
    return table[np.triu_indices(len(table), 1)]


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation over entries that both have; NaN with fewer than three or no spread."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        return float("nan")
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else float("nan")


def variance_ratios(
    real: np.ndarray, fake: np.ndarray, real_codes: np.ndarray, fake_codes: np.ndarray
) -> np.ndarray:
    """Variance of synthetic over that of real rows, for every gene of every class that has both."""
    out = [np.empty(0)]
    for c in np.unique(fake_codes):
        a, b = real[real_codes == c], fake[fake_codes == c]
        if len(a) < 2 or len(b) < 2:
            continue
        spread = a.var(axis=0, ddof=1)
        genes = spread > 0
        out.append(b.var(axis=0, ddof=1)[genes] / spread[genes])
    return np.concatenate(out)


def nearest(rows: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each row to its nearest real row, and which one that is."""
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=1).fit(real).kneighbors(rows)
    return distance[:, 0], index[:, 0]


def near_copies(rows: np.ndarray, real: np.ndarray, ratio: float) -> float:
    """Share of rows that lie much nearer a real row than that row lies to any other real row.

    Parameters
    ----------
    rows, real
        Synthetic and real rows, on one scale.
    ratio
        A row counts when its distance is below this share of the real row's own to its nearest
        neighbour (or is zero).
    """
    from sklearn.neighbors import NearestNeighbors

    if len(real) < 2 or not len(rows):
        return float("nan")
    nearest_real = (
        NearestNeighbors(n_neighbors=1).fit(real).kneighbors(return_distance=True)[0][:, 0]
    )
    distance, index = nearest(rows, real)
    # A copy is found with a distance of rounding error.
    zero = distance <= 1e-6 * np.sqrt((real[index] ** 2).sum(axis=1))
    return float(((distance < ratio * nearest_real[index]) | zero).mean())


def separation(values: np.ndarray, codes: np.ndarray) -> float:
    """Mean silhouette of the classes (cosine); NaN with one class or one row per class."""
    from sklearn.metrics import silhouette_score

    n_classes = len(np.unique(codes))
    if n_classes < 2 or n_classes >= len(codes):
        return float("nan")
    return float(silhouette_score(values, codes, metric="cosine"))


def accuracy(
    train: np.ndarray, train_codes: np.ndarray, test: np.ndarray, test_codes: np.ndarray
) -> float:
    """Balanced accuracy on `test` of a logistic regression fitted to `train`.

    Both must be on one scale. NaN without test rows or with one class to train on.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(test) or len(np.unique(train_codes)) < 2:
        return float("nan")
    model = LogisticRegression(max_iter=2000, class_weight="balanced").fit(train, train_codes)
    hit = model.predict(test) == test_codes
    return float(np.mean([hit[test_codes == c].mean() for c in np.unique(test_codes)]))
