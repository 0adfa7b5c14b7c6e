"""P values of Moran's I for genes found in few spots, from permuted images of such genes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

_DRAWS, _PER_BIN = 40_000, 4_000


class Draws:
    """Standard scores of genes whose values lie at random spots of their section.

    Parameters
    ----------
    X
        csc (n_obs, n_genes), values of genes found in few spots.
    W
        Weights without edges between sections.
    sections
        Section number of each spot, or None.
    mean, sd
        Moments of the statistic of each gene.
    """

    def __init__(
        self, X: sparse.csc_matrix, W: sparse.csr_matrix, sections: np.ndarray | None,
        mean: np.ndarray, sd: np.ndarray,
    ) -> None:  # fmt: skip
        n = X.shape[0]
        codes = np.zeros(n, dtype=np.int64) if sections is None else sections
        codes = np.unique(codes, return_inverse=True)[1]
        self.W, self.mean, self.sd = W, mean, sd
        self.order = np.argsort(codes, kind="stable")
        self.size = np.bincount(codes)
        self.start = np.cumsum(self.size) - self.size
        self.codes = codes
        local = np.empty(n, dtype=np.int64)
        local[self.order] = np.arange(n) - self.start[codes[self.order]]
        self.local = local
        member = sparse.csr_matrix((np.ones(n), (codes, np.arange(n))))
        degree = np.asarray(W.sum(axis=1)).ravel()
        self.degrees = member.multiply(degree[None]).tocsr()
        total = np.asarray((member @ X).todense())
        square = np.asarray((member @ X.multiply(X)).todense())
        size = self.size[:, None]
        square = square - total**2 / size
        # Sections add up as n z'Wz / z'z; a section in which a gene is constant adds nothing.
        varies = square > 1e-12 * np.maximum(total**2 / size, 1e-300)
        scale = np.sqrt(np.where(varies, size / np.where(varies, square, 1.0), 0.0))
        gene = np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
        data = X.data * scale[codes[X.indices], gene]
        self.X = sparse.csc_matrix((data, X.indices, X.indptr), shape=X.shape)
        centre = total * scale / size
        self.centre = centre
        self.constant = (centre**2 * np.asarray(self.degrees.sum(axis=1))).sum(axis=0)

    def draw(self, genes: slice, rng: np.random.Generator) -> np.ndarray:
        """Scores of one permuted image of each of some genes, independent of each other."""
        X = self.X[:, genes]
        shuffled = self.order.copy()
        for start, size in zip(self.start, self.size, strict=True):
            rng.shuffle(shuffled[start : start + size])
        # One permutation, entered at an offset of each gene's own: as good as one per gene.
        offset = np.repeat(rng.integers(X.shape[0], size=X.shape[1]), np.diff(X.indptr))
        code = self.codes[X.indices]
        moved = shuffled[self.start[code] + (self.local[X.indices] + offset) % self.size[code]]
        Y = sparse.csc_matrix((X.data, moved, X.indptr), shape=X.shape)
        Y.sort_indices()
        raw = np.asarray((self.W @ Y).multiply(Y).sum(axis=0)).ravel()
        cross = (np.asarray((self.degrees @ Y).todense()) * self.centre[:, genes]).sum(axis=0)
        return (raw - 2 * cross + self.constant[genes] - self.mean[genes]) / self.sd[genes]


def calibrated(
    p: np.ndarray,
    score: np.ndarray,
    n_values: np.ndarray,
    draws: Draws,
    rng: np.random.Generator,
) -> np.ndarray:
    """P values above 0.01 from pooled permuted scores of genes with about as many values."""
    repeats = int(np.clip(-(-_DRAWS // len(p)), 2, 200))
    drawn = np.empty((repeats, len(p)))
    for start in range(0, len(p), 128):
        genes = slice(start, start + 128)
        for r in range(repeats):
            drawn[r, genes] = draws.draw(genes, rng)
    order = np.argsort(n_values, kind="stable")
    out = p.copy()
    for group in np.array_split(order, max(1, len(p) * repeats // _PER_BIN)):
        null = np.sort(drawn[:, group].ravel())
        # Exact ties of a few discrete scores count as "at least as large".
        above = len(null) - np.searchsorted(null, score[group] - 1e-9, side="left")
        body = (1 + above) / (1 + len(null))
        out[group] = np.where(body > 0.01, body, np.minimum(p[group], 0.01))
    return out
