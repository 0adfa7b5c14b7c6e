"""Several views of the same genes on common axes: generalised CCA and Procrustes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Variance of an axis, relative to the largest, below which it holds rounding errors only.
_NOTHING = 1e-10


@dataclass(frozen=True)
class Basis:
    """Leading principal axes of one view, fitted on some of its rows.

    Attributes
    ----------
    mean
        float64 (d,): mean of those rows.
    axes
        float64 (d, k): orthonormal.
    scale
        float64 (k,): singular values of the centred rows, largest first.
    n
        Number of rows it was fitted on.
    """

    mean: np.ndarray
    axes: np.ndarray
    scale: np.ndarray
    n: int

    @classmethod
    def of(cls, X: np.ndarray, n_components: int) -> Basis:
        """Fit at most `n_components` axes on the rows of `X` (n, d)."""
        from scipy.linalg import eigh

        mean = X.mean(axis=0, dtype=np.float64)
        centred = X.astype(np.float64) - mean
        n, d = centred.shape
        wide = d > n
        gram = centred @ centred.T if wide else centred.T @ centred
        k = min(n_components, n - 1, d)
        value, vector = eigh(gram, subset_by_index=(len(gram) - k, len(gram) - 1))
        value, vector = value[::-1], vector[:, ::-1]
        nonzero = value > _NOTHING * max(value[0], 1e-300)
        scale = np.sqrt(value[nonzero])
        axes = (centred.T @ vector[:, nonzero]) / scale if wide else vector[:, nonzero]
        # The sign of an axis is arbitrary: its largest weight is made positive.
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
        return cls(mean, axes, scale, n)

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Coordinates of rows on the axes: float64 (m, k)."""
        return (X - self.mean) @ self.axes

    def trust(self, regularization: float) -> np.ndarray:
        """Share of each axis that ridge regularisation leaves: ``s^2 / (s^2 + r mean(s^2))``."""
        square = self.scale**2
        return square / (square + regularization * square.mean())


def present(X: np.ndarray) -> np.ndarray:
    """Bool (n,): rows that have a vector, which is neither zero nor holds NaN."""
    X = np.asarray(X)
    return np.isfinite(X).all(axis=1) & (X != 0).any(axis=1)


@dataclass(frozen=True)
class CommonAxes:
    """Maps of several views to the same axes.

    Attributes
    ----------
    bases
        Principal axes of each view.
    weights
        float64 (k_v, n_axes) of each view: from its scores to the common axes.
    strength
        float64 (n_axes,): eigenvalue over the number of views (``"cca"``, falling), or share of
        the variance of the views that their mean keeps (``"procrustes"``).
    """

    bases: tuple[Basis, ...]
    weights: tuple[np.ndarray, ...]
    strength: np.ndarray

    def place(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Put rows of all views on the common axes: float64 (n_views, n, n_axes), NaN if absent."""
        pairs = zip(views, self.bases, self.weights, strict=True)
        return np.stack([basis.scores(X) @ weight for X, basis, weight in pairs])


def generalised_cca(
    views: Sequence[np.ndarray], bases: Sequence[Basis], *, n_axes: int, regularization: float
) -> CommonAxes:
    r"""Regularised generalised canonical correlation analysis (MAXVAR).

    The common axes are the leading eigenvectors :math:`G` of :math:`\sum_v P_v`, with
    :math:`P_v = X_v (X_v^\top X_v + \rho_v I)^{-1} X_v^\top` the ridge projection on a view and
    :math:`\rho_v` `regularization` times the mean variance of its axes. A view is placed by
    :math:`P_v G`, scaled to variance 1 on every axis. With two views and no regularisation these
    are the canonical variates, and the eigenvalues are one plus the canonical correlations.

    Parameters
    ----------
    views
        (n, d_v) arrays with the same rows, all present.
    bases
        Principal axes of each, fitted on these rows.
    n_axes
        Common axes, at most the number of axes of the narrowest view.
    regularization
        Ridge penalty in units of the mean variance of the axes.

    References
    ----------
    Kettenring 1971, Biometrika 58:433. Tenenhaus and Tenenhaus 2011, Psychometrika 76:257.
    """
    unit = [b.scores(X) / b.scale for X, b in zip(views, bases, strict=True)]
    trust = [b.trust(regularization) for b in bases]
    stacked = np.hstack([u * np.sqrt(t) for u, t in zip(unit, trust, strict=True)])
    k = min(n_axes, *(len(b.scale) for b in bases))
    left, value, right = np.linalg.svd(stacked.T @ stacked)
    G = stacked @ left[:, :k] / np.sqrt(np.maximum(value[:k], 1e-300))
    sign = np.sign(right[np.arange(k), np.abs(right[:k]).argmax(axis=1)])
    weights = []
    for basis, u, t in zip(bases, unit, trust, strict=True):
        weight = (t / basis.scale)[:, None] * (u.T @ (G * sign))
        spread = np.linalg.norm((u * basis.scale) @ weight, axis=0) / np.sqrt(basis.n)
        weights.append(weight / np.maximum(spread, 1e-300))
    return CommonAxes(tuple(bases), tuple(weights), value[:k] / len(views))


def procrustes(
    views: Sequence[np.ndarray], bases: Sequence[Basis], *, n_axes: int, rounds: int = 20
) -> CommonAxes:
    """Generalised orthogonal Procrustes: views are turned, not stretched, to their mean.

    Each view is centred and divided by one number, the root of its total variance; narrower views
    are filled up with empty axes. Axes are then the principal ones of the mean.

    Parameters
    ----------
    views, bases, n_axes
        As in :func:`generalised_cca`.
    rounds
        Turns against the mean.

    References
    ----------
    Gower 1975, Psychometrika 40:33.
    """
    width = max(len(b.scale) for b in bases)
    size = [np.linalg.norm(b.scale) / np.sqrt(b.n) for b in bases]
    padded = []
    for X, basis, total in zip(views, bases, size, strict=True):
        scores = basis.scores(X) / total
        padded.append(np.pad(scores, ((0, 0), (0, width - scores.shape[1]))))
    # The widest view is the first target: no axis of it is lost.
    mean = padded[int(np.argmax([len(b.scale) for b in bases]))]
    turns: list[np.ndarray] = []
    for _ in range(rounds):
        turns = [_turn(one, mean) for one in padded]
        new = np.mean([one @ t for one, t in zip(padded, turns, strict=True)], axis=0)
        moved = np.linalg.norm(new - mean)
        mean = new
        if moved < 1e-9 * np.linalg.norm(mean):
            break
    value, vector = np.linalg.eigh(mean.T @ mean)
    k = min(n_axes, *(len(b.scale) for b in bases))
    vector = vector[:, ::-1][:, :k]
    vector = vector * np.sign(vector[np.abs(vector).argmax(axis=0), np.arange(k)])
    weights = tuple(
        (t[: len(b.scale)] @ vector) / total for t, b, total in zip(turns, bases, size, strict=True)
    )
    placed = np.stack([b.scores(X) @ w for X, b, w in zip(views, bases, weights, strict=True)])
    spread = np.maximum((placed**2).sum(axis=1).mean(axis=0), 1e-300)
    return CommonAxes(tuple(bases), weights, value[::-1][:k] / spread)


def _turn(X: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Orthogonal matrix that turns `X` to `target` (Schoenemann 1966)."""
    left, _, right = np.linalg.svd(X.T @ target)
    return left @ right


def fitted_axes(
    views: Sequence[np.ndarray],
    bases: Sequence[Basis],
    *,
    method: str,
    n_axes: int,
    regularization: float,
) -> CommonAxes:
    """Common axes by ``"cca"`` or ``"procrustes"``."""
    if method == "procrustes":
        return procrustes(views, bases, n_axes=n_axes)
    return generalised_cca(views, bases, n_axes=n_axes, regularization=regularization)


def axis_agreement(placed: np.ndarray) -> np.ndarray:
    """Correlation of views on each axis, mean over pairs of views: float64 (n_axes,)."""
    centred = placed - placed.mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-300)
    n = len(unit)
    total = (unit.sum(axis=0) ** 2).sum(axis=0)
    self_products = (unit**2).sum(axis=(0, 1))
    return (total - self_products) / (n * (n - 1))


def joint_positions(placed: np.ndarray, has: np.ndarray) -> np.ndarray:
    """One position for each gene, from the views it has.

    The position of genes with all views is the mean of the views. For genes with some of them it
    is what the sum of those says about that mean: on each axis the least-squares slope over genes
    with all views. Less is known of such genes, so they lie nearer the origin.

    Parameters
    ----------
    placed
        float64 (n_views, n_genes, n_axes) from :meth:`CommonAxes.place`.
    has
        Bool (n_views, n_genes): views a gene has.

    Returns
    -------
    float64 (n_genes, n_axes); zero for genes without any view.
    """
    full = has.all(axis=0)
    centre = placed[:, full].mean(axis=1, keepdims=True)
    filled = np.where(has[..., None], placed - centre, 0.0)
    goal = filled[:, full].mean(axis=0)
    out = np.zeros(placed.shape[1:])
    for pattern in np.unique(has.T, axis=0):
        if not pattern.any():
            continue
        rows = (pattern == has.T).all(axis=1)
        source = filled[pattern][:, full].sum(axis=0)
        slope = (source * goal).sum(axis=0) / np.maximum((source**2).sum(axis=0), 1e-300)
        out[rows] = filled[pattern][:, rows].sum(axis=0) * slope
    return out
