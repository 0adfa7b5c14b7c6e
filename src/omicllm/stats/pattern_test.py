"""How sure one can be that a gene follows a pattern."""

from __future__ import annotations

import numpy as np

#: Null values at or above a score from which the share of them is taken as it is.
_COUNTED = 10


def excess_pvalues(score: np.ndarray, null: np.ndarray) -> np.ndarray:
    """One-sided p value of each score among null scores of its own.

    The share of null values at or above the score where at least ten are; further out, the upper
    tail of a normal fitted to them on Fisher's z scale, where correlations are about normal.

    Parameters
    ----------
    score
        (n,), between -1 and 1.
    null
        (n, n_null).
    """
    from scipy.stats import norm

    above = (null >= score[:, None]).sum(axis=1)
    counted = (1.0 + above) / (1.0 + null.shape[1])
    z = np.arctanh(np.clip(null, -0.999, 0.999))
    spread = np.maximum(z.std(axis=1, ddof=1), 1e-6)
    far = norm.sf((np.arctanh(np.clip(score, -0.999, 0.999)) - z.mean(axis=1)) / spread)
    return np.where(above >= _COUNTED, counted, np.minimum(far, counted))


def likeness_pvalues(cosine: np.ndarray) -> np.ndarray:
    """One-sided p value of each of many cosines to one gene, most of which are of unlike genes.

    Fisher's z of the cosines is taken to be normal but for the like ones: its centre is the
    median and its spread 1.4826 times the median distance below it.
    """
    from scipy.stats import norm

    z = np.arctanh(np.clip(cosine, -0.999999, 0.999999))
    centre = np.median(z)
    below = centre - z[z <= centre]
    spread = max(1.4826 * float(np.median(below)), 1e-6)
    return norm.sf((z - centre) / spread)
