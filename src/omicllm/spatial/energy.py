r"""How far gene images lie from images of the same values at random places.

:math:`Q = \sum_k w_k (v_k^\top r)^2 / \sigma_r^2` is the squared length of a gene's coordinates on
spatial axes; its null distribution comes from permuted images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm.spatial.moran import upper_tail

if TYPE_CHECKING:
    from collections.abc import Callable

_PER_BIN = 500


def pattern_energy(
    residual: Callable[[np.ndarray], np.ndarray],
    n_genes: int,
    n_values: np.ndarray,
    axes: np.ndarray,
    weights: np.ndarray,
    *,
    n_null: int,
    rng: np.random.Generator,
    block: int = 1024,
) -> tuple[np.ndarray, np.ndarray]:
    """Score genes against permuted images of themselves.

    Parameters
    ----------
    residual
        Takes gene numbers, returns residual images (n, n_pixels).
    n_genes
        Number of genes.
    n_values
        Pixels each gene is found in; null distributions are pooled over genes alike in this.
    axes, weights
        (n_pixels, k) and (k,), weights positive.
    n_null
        Permuted images per gene.
    rng
        Generator.

    Returns
    -------
    score
        Mean squared distance between the coordinates of a gene and those of its null images,
        divided by the variance of its values: float64 (n_genes,); 0 for genes that do not vary.
    p
        Probability of a larger energy under permutation (Pearson type III through the first three
        moments of pooled null energies); NaN for genes that do not vary.
    """
    n = len(axes)
    scaled = (axes * np.sqrt(weights)).astype(np.float32)
    shuffled = [scaled[rng.permutation(n)] for _ in range(n_null)]
    energy, cross = np.zeros(n_genes), np.zeros(n_genes)
    null = np.zeros((n_null, n_genes))
    varies = np.zeros(n_genes, dtype=bool)
    for start in range(0, n_genes, block):
        genes = np.arange(start, min(start + block, n_genes))
        r = residual(genes)
        r = r - r.mean(axis=1, keepdims=True)
        sd = r.std(axis=1, keepdims=True)
        varies[genes] = sd[:, 0] > 0
        r /= np.where(sd > 0, sd, 1.0)
        own = r @ scaled
        energy[genes] = (own**2).sum(axis=1)
        mean = np.zeros_like(own)
        for draw, other in enumerate(shuffled):
            y = r @ other
            null[draw, genes] = (y**2).sum(axis=1)
            mean += y / n_null
        cross[genes] = (own * mean).sum(axis=1)
    p = np.full(n_genes, np.nan)
    known = np.flatnonzero(varies)
    order = known[np.argsort(n_values[known], kind="stable")]
    for group in np.array_split(order, max(1, len(order) // _PER_BIN)) if len(order) else ():
        drawn = null[:, group]
        centre, spread = drawn.mean(), drawn.std()
        skewness = ((drawn - centre) ** 3).mean() / max(spread**3, 1e-30)
        p[group] = upper_tail((energy[group] - centre) / max(spread, 1e-15), skewness)
    score = energy + null.mean(axis=0) - 2 * cross
    return np.where(varies, score, 0.0), p
