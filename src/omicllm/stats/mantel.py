"""Agreement of two distance matrices, tested by permuting items (Mantel 1967)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Mantel(NamedTuple):
    """Correlation over pairs and its one-sided p value."""

    statistic: float
    pvalue: float


def mantel(
    x: Any,
    y: Any,
    *,
    method: str = "pearson",
    n_permutations: int = 999,
    rng: int | np.random.Generator | None = 0,
) -> Mantel:
    """Correlation of two distance matrices off the diagonal, with a permutation p value.

    The pairs of a distance matrix are not independent, so the p value comes from relabelling the
    items of one matrix: ``(1 + #{r* >= r}) / (1 + n_permutations)``.

    Parameters
    ----------
    x, y
        Square symmetric matrices, or condensed ones as of :func:`scipy.spatial.distance.pdist`.
    method
        ``"pearson"`` or ``"spearman"``.
    n_permutations
        Relabellings.
    rng
        Seed or Generator.

    Returns
    -------
    Named tuple (statistic, pvalue); NaN where a matrix is constant.

    Raises
    ------
    ValueError
        When the matrices differ in size or hold fewer than three items.

    References
    ----------
    Mantel (1967), Cancer Research 27, 209-220.
    """
    if method not in ("pearson", "spearman"):
        msg = f"method must be 'pearson' or 'spearman', not {method!r}."
        raise ValueError(msg)
    a, b = _condensed(x), _condensed(y)
    n = int(round((1 + np.sqrt(1 + 8 * len(a))) / 2))
    if len(a) != len(b) or n < 3:
        msg = f"Two matrices of one size and of three items or more are needed: {len(a)}, {len(b)}."
        raise ValueError(msg)
    if method == "spearman":
        from scipy.stats import rankdata

        a, b = rankdata(a), rankdata(b)
    a, b = _unit(a), _unit(b)
    if not (a.any() and b.any()):
        return Mantel(np.nan, np.nan)
    observed = float(a @ b)
    rows, columns = np.triu_indices(n, k=1)
    square = np.zeros((n, n))
    square[rows, columns] = square[columns, rows] = b
    generator = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)
    larger = 0
    for _ in range(n_permutations):
        order = generator.permutation(n)
        # Tiny differences of rounding must not make a relabelling look smaller than itself.
        larger += float(a @ square[order[rows], order[columns]]) >= observed - 1e-12
    return Mantel(observed, (1 + larger) / (1 + n_permutations))


def _condensed(matrix: Any) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim == 2:
        return matrix[np.triu_indices(len(matrix), k=1)]
    return matrix.ravel()


def _unit(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    norm = np.linalg.norm(centred)
    return (
        centred / norm if norm > 1e-12 * max(1.0, np.abs(values).max()) else np.zeros_like(values)
    )
