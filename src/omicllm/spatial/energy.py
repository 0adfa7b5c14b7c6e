r"""How far genes lie from images without a pattern, in a space of axes that follow the tissue.

With axes scaled by the root of their weights, :math:`y_g = A^\top r_g` are the coordinates of the
residual image of a gene. The squared distance to a null image is, on average over null images,
:math:`|y_g|^2 + E|y_0|^2`. What noise alone adds to it is :math:`\sum_i |A_i|^2 r_{gi}^2`, so

.. math:: Q_g = |A^\top r_g|^2 - \sum_i |A_i|^2 r_{gi}^2 = \sum_{i \ne j} A_i^\top A_j r_{gi} r_{gj}

is 0 on average for independent noise of any variance, as Moran's I is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm.spatial.count_null import draw_permuted, draw_zinb, fit_depth
from omicllm.spatial.permutation import (
    graph_sums,
    low_rank_sums,
    permutation_moments,
    symmetric_weights,
    upper_tail,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scipy import sparse

    from omicllm.spatial.permutation import GraphSums

Null = Literal["zinb", "permuted", "spots"]
_BLOCK_BYTES = 2**24
#: Classes of genes of about equal abundance, and classes on each side that lend null images.
_CLASSES, _AROUND = 50, 2
#: Genes found in fewer pixels get no p value below the resolution of the null images.
_HANDFUL = 10


class Scorer:
    r"""Quadratic form :math:`r^\top K r` of residual images, K without diagonal, and its moments.

    Parameters
    ----------
    share
        Share of its section's counts in each pixel (n_pixels,).
    bounds
        First pixel of each section, and the end.
    free
        Whether depth has an exponent per gene, see :func:`fit_depth`.
    """

    #: What the form is divided by to give a score.
    scale: float
    sums: GraphSums

    def __init__(self, share: np.ndarray, bounds: np.ndarray, *, free: bool) -> None:
        self.share, self.bounds, self.free = share, bounds, free

    def form(self, r: np.ndarray) -> np.ndarray:
        """Value of the form for residual images (n_genes, n_pixels)."""
        raise NotImplementedError

    def fit(self, x: np.ndarray) -> Any:
        """Expected counts of some genes."""
        return fit_depth(x, self.share, self.bounds, free=self.free)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Q, its standard score and skewness under permutation, float64 (3, n_genes); NaN if flat.

        Parameters
        ----------
        x
            Counts, float32 (n_genes, n_pixels).
        """
        return self.of_residuals(self.fit(x).residuals(x))

    def of_residuals(self, r: np.ndarray) -> np.ndarray:
        """The same of residual images."""
        q = self.form(r)
        r2 = r * r
        r3 = r2 * r
        power = np.zeros((7, len(r)))
        power[0], power[2] = r.shape[1], r2.sum(axis=1, dtype=np.float64)
        pairs = {3: (r, r2), 4: (r2, r2), 5: (r2, r3), 6: (r3, r3)}
        for k, (a, b) in pairs.items():
            power[k] = np.einsum("ij,ij->i", a, b, dtype=np.float64)
        mean, variance, third = permutation_moments(self.sums, power)
        flat = (power[2] < 0.5 * r.shape[1]) | ~(variance > 0)
        sd = np.sqrt(np.where(flat, 1.0, variance))
        return np.where(flat, np.nan, [q, (q - mean) / sd, third / sd**3])


class PatternScorer(Scorer):
    r"""Form over axes, :math:`K = A A^\top`; `axes` (n_pixels, k), `weights` (k,) positive."""

    def __init__(
        self, share: np.ndarray, bounds: np.ndarray, axes: np.ndarray, weights: np.ndarray,
        *, free: bool,
    ) -> None:  # fmt: skip
        super().__init__(share, bounds, free=free)
        self.scaled = (axes * np.sqrt(weights)).astype(np.float32)
        self.length = np.einsum("ij,ij->i", self.scaled, self.scaled)
        self.scale = float(self.length.sum())
        self.sums = low_rank_sums(self.scaled)

    def form(self, r: np.ndarray) -> np.ndarray:
        """Squared length along the axes, less what noise gives."""
        along = r @ self.scaled
        return np.einsum("ij,ij->i", along, along, dtype=np.float64) - (r * r) @ self.length


class GraphScorer(Scorer):
    """Form over a spatial graph, :math:`K = W`: the score is Moran's I of the residuals."""

    def __init__(
        self, share: np.ndarray, bounds: np.ndarray, graph: sparse.csr_matrix, *, free: bool
    ) -> None:
        super().__init__(share, bounds, free=free)
        W = symmetric_weights(graph)
        self.sums, self.scale = graph_sums(W), float(W.sum())
        self.weights = W.astype(np.float32)

    def form(self, r: np.ndarray) -> np.ndarray:
        """Sum over edges of the products of residuals."""
        return np.einsum("ij,ji->i", r, self.weights @ r.T, dtype=np.float64)


def pattern_energy(
    counts: sparse.csc_matrix,
    scorer: Scorer,
    *,
    nulls: Sequence[Null],
    n_null: int,
    rng: np.random.Generator,
    n_jobs: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Score genes against null images.

    Parameters
    ----------
    counts
        csc (n_pixels, n_genes).
    scorer
        The form that is tested, and depth.
    nulls
        Kinds of null images: ``"zinb"`` (counts drawn from the zero-inflated negative binomial of
        a gene), ``"permuted"`` (its counts at random pixels) or ``"spots"`` (its residuals at
        random pixels: counts and depth move together). With several, the largest p counts.
    n_null
        Null images for each of (at most) fifty classes of genes of about equal abundance.
    rng
        Generator.
    n_jobs
        Threads.

    Returns
    -------
    score
        Value of the form over its scale. For axes: mean squared distance to null images over the
        mean squared length of null images, less what noise gives; 0 is chance. float64 (n_genes,);
        NaN for flat genes.
    p
        Probability of a larger score. Standard scores are centred and scaled by those of null
        images of about equal abundance; above 0.01 p is their share of larger ones, below it the
        tail of Pearson type III with the exact skewness under permutation.
    """
    q, z, skewness = _in_blocks(counts, np.arange(counts.shape[1]), scorer, n_jobs)
    score = q / scorer.scale
    n_values = np.diff(counts.indptr)
    p = np.full(len(q), np.nan)
    known = np.flatnonzero(np.isfinite(q))
    if len(known) == 0:
        return score, p
    total = np.asarray(counts.sum(axis=0)).ravel()[known]
    order = known[np.argsort(total, kind="stable")]
    classes = np.array_split(order, max(1, min(_CLASSES, len(order) // 10)))
    p[known] = 0.0
    for null in nulls:
        drawn = _null_scores(counts, classes, scorer, null, n_null, rng, n_jobs)
        for c, genes in enumerate(classes):
            near = np.concatenate(drawn[max(0, c - _AROUND) : c + _AROUND + 1])
            near = np.sort(near[np.isfinite(near)])
            larger = _pvalues(z[genes], skewness[genes], n_values[genes], near)
            p[genes] = np.maximum(p[genes], larger)
    return score, p


def _pvalues(
    z: np.ndarray, skewness: np.ndarray, n_values: np.ndarray, null: np.ndarray
) -> np.ndarray:
    tail = upper_tail((z - null.mean()) / max(null.std(), 1e-12), skewness)
    above = len(null) - np.searchsorted(null, z, side="left")
    body = (1.0 + above) / (1.0 + len(null))
    trusted = max(0.01, 1.0 / (1.0 + len(null)))
    # A handful of values has a few discrete scores, and no tail that a curve could follow.
    curve = np.where(n_values < _HANDFUL, body, np.minimum(tail, trusted))
    return np.where(body > trusted, body, curve)


def _null_scores(
    counts: sparse.csc_matrix,
    classes: list[np.ndarray],
    scorer: Scorer,
    null: Null,
    n_null: int,
    rng: np.random.Generator,
    n_jobs: int,
) -> list[np.ndarray]:
    """Standard scores of null images of each class."""
    # One generator per class: the same numbers for any number of threads.
    jobs = list(zip(classes, rng.spawn(len(classes)), strict=True))

    def work(job: tuple[np.ndarray, np.random.Generator]) -> np.ndarray:
        genes, own = job
        models = own.choice(genes, n_null)
        step = _step(counts)
        parts = []
        for start in range(0, n_null, step):
            x = _dense(counts, models[start : start + step])
            fit = scorer.fit(x)
            if null == "spots":
                r = draw_permuted(fit.residuals(x), scorer.bounds, own)
                parts.append(scorer.of_residuals(r)[1])
            elif null == "permuted":
                parts.append(scorer(draw_permuted(x, scorer.bounds, own))[1])
            else:
                parts.append(scorer(draw_zinb(x, fit, own))[1])
        return np.concatenate(parts)

    return list(_map(work, jobs, n_jobs))


def _in_blocks(
    counts: sparse.csc_matrix, genes: np.ndarray, scorer: Scorer, n_jobs: int
) -> np.ndarray:
    step = _step(counts)
    starts = range(0, len(genes), step)
    blocks = _map(lambda s: scorer(_dense(counts, genes[s : s + step])), starts, n_jobs)
    return np.concatenate(list(blocks), axis=1)


def _step(counts: sparse.csc_matrix) -> int:
    return max(1, min(1024, _BLOCK_BYTES // (4 * counts.shape[0])))


def _dense(counts: sparse.csc_matrix, genes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(counts[:, genes].T.toarray(), dtype=np.float32)


def _map(work: Callable[[Any], Any], jobs: Any, n_jobs: int) -> Any:
    if n_jobs == 1:
        return map(work, jobs)
    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(work, jobs))
