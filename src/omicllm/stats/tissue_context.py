"""Predictions corrected by what was measured: a few observations, or a few genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

_LENGTHS = np.array([1.5, 3.0, 6.0, 12.0])
_NOISES = np.array([0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e6])
#: Measurements that the mean of a section is worth before any.
_PRIOR_COUNT = 5.0
_MAX_SECTION = 1500


@dataclass
class TissueContext:
    """How errors of predictions go together over the tissue and over genes.

    An error (measured less predicted) is an offset of the gene in the section, plus gene programs
    whose scores vary over the tissue with covariance exp(-d / length), plus noise.

    Attributes
    ----------
    axes
        (g, k) gene programs.
    length, noise
        (k,) length of the covariance in spacings of the array, and variance of the noise of a
        program's scores in units of theirs.
    covariance
        (k, k) of program scores of errors.
    residual
        (g,) variance of errors that programs leave.
    """

    axes: np.ndarray
    length: np.ndarray
    noise: np.ndarray
    covariance: np.ndarray
    residual: np.ndarray

    @classmethod
    def fitted(
        cls,
        errors: np.ndarray,
        coords: list[np.ndarray],
        rows: list[np.ndarray],
        axes: np.ndarray,
        rng: np.random.Generator,
        *,
        shares: tuple[float, ...] = (0.05, 0.05, 0.05, 0.1, 0.2),
    ) -> TissueContext:
        """Choose lengths and noises by hiding most of each training section.

        Parameters
        ----------
        errors
            (n, g) held-out errors of training rows.
        coords, rows
            Coordinates in spacings of the array, and rows, of each section.
        axes
            (g, k) gene programs.
        rng
            Draws which rows are measured.
        shares
            Shares of a section that are measured, one per repeat.
        """
        k = axes.shape[1]
        loss = np.zeros((len(_LENGTHS), len(_NOISES), k))
        for xy, mine in zip(coords, rows, strict=True):
            chosen = np.arange(len(mine))
            if len(mine) > _MAX_SECTION:
                chosen = np.sort(rng.choice(len(mine), _MAX_SECTION, replace=False))
            distance = cdist(xy[chosen], xy[chosen])
            part = errors[mine[chosen]]
            for share in shares:
                measured = np.zeros(len(chosen), dtype=bool)
                measured[rng.permutation(len(chosen))[: max(2, round(share * len(chosen)))]] = True
                if measured.all():
                    continue
                offset = _offset(part[measured])
                scores = (part - offset) @ axes
                for i, length in enumerate(_LENGTHS):
                    K = np.exp(-distance / length)
                    values, U = np.linalg.eigh(K[np.ix_(measured, measured)])
                    left = K[np.ix_(~measured, measured)] @ U
                    right = U.T @ scores[measured]
                    for j, noise in enumerate(_NOISES):
                        guess = left @ (right / (np.maximum(values, 0) + noise)[:, None])
                        loss[i, j] += ((scores[~measured] - guess) ** 2).sum(axis=0)
        flat = loss.reshape(-1, k).argmin(axis=0)
        i, j = np.unravel_index(flat, loss.shape[:2])
        centred = errors.copy()
        for mine in rows:
            centred[mine] -= centred[mine].mean(axis=0)
        scores = centred @ axes
        left_over = centred - scores @ axes.T
        return cls(
            axes,
            _LENGTHS[i],
            _NOISES[j],
            np.atleast_2d(np.cov(scores, rowvar=False)),
            np.maximum(left_over.var(axis=0), 1e-6),
        )

    def krige(
        self, predicted: np.ndarray, values: np.ndarray, measured: np.ndarray, coords: np.ndarray
    ) -> np.ndarray:
        """Correct predictions of a section by observations that were measured in it.

        Parameters
        ----------
        predicted, values
            (m, g) predictions, and measurements; rows that were not measured are not read.
        measured
            (m,) bool.
        coords
            (m, 2) in spacings of the array.

        Returns
        -------
        (m, g). A measured row is smoothed as the others are.
        """
        error = values[measured] - predicted[measured]
        offset = _offset(error)
        scores = (error - offset) @ self.axes
        distance = cdist(coords, coords[measured])
        among = cdist(coords[measured], coords[measured])
        out = np.zeros((len(predicted), len(self.length)))
        for length, noise in sorted({*zip(self.length, self.noise, strict=True)}):
            mine = (self.length == length) & (self.noise == noise)
            K = np.exp(-among / length) + noise * np.eye(len(among))
            out[:, mine] = np.exp(-distance / length) @ np.linalg.solve(K, scores[:, mine])
        return predicted + offset + out @ self.axes.T

    def condition(self, predicted: np.ndarray, values: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Correct predictions by genes that were measured in all observations of the section.

        Parameters
        ----------
        predicted
            (m, g).
        values
            (m, p) measurements of the panel.
        genes
            (p,) positions of the panel's genes.

        Returns
        -------
        (m, g): mean given the panel, when program scores and what they leave are Gaussian.
        """
        error = values - predicted[:, genes]
        error = error - error.mean(axis=0)
        V = self.axes[genes]
        gram = V @ self.covariance @ V.T + np.diag(self.residual[genes])
        scores = np.linalg.solve(gram, error.T).T @ V @ self.covariance
        return predicted + scores @ self.axes.T


def _offset(errors: np.ndarray) -> np.ndarray:
    """Mean error of each gene, drawn to zero while few observations are known."""
    return errors.sum(axis=0) / (len(errors) + _PRIOR_COUNT)
