"""Analytic Pearson residuals of counts."""

from __future__ import annotations

import numpy as np

#: Overdispersion of the negative binomial null, as in scanpy (Lause et al. 2021).
THETA = 100.0


def pearson_residuals(
    counts: np.ndarray,
    depth_share: np.ndarray,
    *,
    theta: float = THETA,
    clip: float | None = None,
) -> np.ndarray:
    r"""Analytic Pearson residuals of some genes.

    :math:`r = (x - \mu) / \sqrt{\mu + \mu^2 / \theta}` with :math:`\mu = x_{g\cdot}\,s_i`, clipped
    at :math:`\sqrt{n}` by default (Lause, Berens and Kobak 2021, Genome Biology 22:258).

    Parameters
    ----------
    counts
        (n_genes, n) counts.
    depth_share
        Share of all counts that each of the n pixels has, summing to 1.
    theta, clip
        Overdispersion, and the largest absolute residual.

    Returns
    -------
    float32 (n_genes, n); genes without counts are 0.
    """
    total = counts.sum(axis=1, dtype=np.float64, keepdims=True)
    mean = (total * depth_share[None]).astype(np.float32)
    residual = np.asarray(counts, dtype=np.float32) - mean
    mean *= 1.0 + mean / np.float32(theta)
    np.sqrt(mean, out=mean)
    np.divide(residual, mean, out=residual, where=mean > 0)
    bound = np.float32(np.sqrt(counts.shape[1]) if clip is None else clip)
    return np.clip(residual, -bound, bound, out=residual)
