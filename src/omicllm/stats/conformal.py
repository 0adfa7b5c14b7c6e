"""Intervals for genes that were not measured, calibrated on genes that were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Nominal shares outside the interval that are tried.
_LEVELS = np.array(
    [
        0.01,
        0.02,
        0.03,
        0.04,
        0.05,
        0.06,
        0.08,
        0.1,
        0.12,
        0.14,
        0.16,
        0.18,
        0.2,
        0.25,
        0.3,
        0.35,
        0.4,
        0.5,
    ]
)
_BINS = 25


def gene_folds(n: int, k: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Cut `n` genes at random into at most `k` parts of about one size."""
    return np.array_split(rng.permutation(n), min(k, n))


def _quantiles_by_prediction(
    predicted: np.ndarray, measured: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean prediction of each bin, and quantiles of what was measured in it, rising over bins."""
    edges = np.quantile(predicted, np.linspace(0, 1, _BINS + 1)[1:-1])
    of = np.searchsorted(edges, predicted)
    order = np.argsort(of, kind="stable")
    groups = np.split(order, np.searchsorted(of[order], np.arange(1, _BINS)))
    groups = [g for g in groups if len(g)]
    centres = np.array([predicted[g].mean() for g in groups])
    quantiles = np.stack([np.quantile(measured[g], levels) for g in groups])
    return centres, np.maximum.accumulate(quantiles, axis=0)


@dataclass(frozen=True)
class Intervals:
    """Bounds as functions of the prediction.

    Attributes
    ----------
    centres
        Predictions at which the bounds are known (ascending).
    low, high
        Bounds there; linear in between.
    level
        Nominal share outside.
    coverage
        Share of cells inside, for each calibration gene, with bounds made from other genes.
    """

    centres: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    coverage: np.ndarray

    def bounds(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of predictions, float32 in their shape; they hold them."""
        low = np.interp(predicted, self.centres, self.low).astype(np.float32)
        high = np.interp(predicted, self.centres, self.high).astype(np.float32)
        return np.minimum(low, predicted), np.maximum(high, predicted)


def calibrated(
    predicted: np.ndarray,
    measured: np.ndarray,
    rng: np.random.Generator,
    *,
    coverage: float = 0.9,
    max_cells: int = 1500,
    n_folds: int = 10,
) -> Intervals:
    """Fit intervals that hold about a share `coverage` of the values of a new gene.

    Bounds are quantiles of what was measured given the prediction, pooled over genes. Their
    nominal level is the largest one whose coverage of genes that were left out of the quantiles,
    corrected for the finite number of genes, is enough.

    Parameters
    ----------
    predicted, measured
        Held-out predictions of measured genes, and the measurements (n, p).
    coverage
        Wanted share.
    max_cells
        Random cells that are looked at.
    n_folds
        Parts the genes are cut into.

    Notes
    -----
    Conformal risk control over genes (Angelopoulos et al. 2024), where the loss of a gene is the
    share of its cells outside. The correction supposes that a new gene is at worst as badly
    covered as the worst calibration gene, which is no guarantee.
    """
    if len(predicted) > max_cells:
        cells = np.sort(rng.choice(len(predicted), max_cells, replace=False))
        predicted, measured = predicted[cells], measured[cells]
    M, Y = (np.asarray(A, dtype=np.float64) for A in (predicted, measured))
    p, n = M.shape[1], len(_LEVELS)
    levels = np.concatenate([_LEVELS / 2, 1 - _LEVELS / 2])
    inside = np.zeros((p, n))
    for test in gene_folds(p, n_folds, rng):
        train = np.setdiff1d(np.arange(p), test)
        centres, quantiles = _quantiles_by_prediction(
            M[:, train].ravel(), Y[:, train].ravel(), levels
        )
        for j in range(n):
            low = np.interp(M[:, test], centres, quantiles[:, j]) - 1e-9
            high = np.interp(M[:, test], centres, quantiles[:, n + j]) + 1e-9
            # As the bounds handed out, these hold the prediction itself.
            low, high = np.minimum(low, M[:, test]), np.maximum(high, M[:, test])
            inside[test, j] = ((Y[:, test] >= low) & (Y[:, test] <= high)).mean(axis=0)
    outside = (p * (1 - inside.mean(axis=0)) + (1 - inside).max(axis=0)) / (p + 1)
    corrected = np.minimum.accumulate(1 - outside)
    level = float(np.interp(-coverage, -corrected, _LEVELS))
    centres, quantiles = _quantiles_by_prediction(
        M.ravel(), Y.ravel(), np.array([level / 2, 1 - level / 2])
    )
    return Intervals(
        centres,
        quantiles[:, 0],
        quantiles[:, 1],
        level,
        inside[:, np.abs(_LEVELS - level).argmin()],
    )
