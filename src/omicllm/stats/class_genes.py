"""Genes that tell classes apart, from sums over blocks of rows, and linear weights of genes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class ClassMoments:
    """Counts, sums and sums of squares of every gene in every class, added up over blocks.

    Parameters
    ----------
    n_classes, n_genes
        Sizes.
    """

    n_classes: int
    n_genes: int
    counts: np.ndarray = field(init=False)
    sums: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.n_classes)
        self.sums = np.zeros((self.n_classes, self.n_genes))
        self.squares = np.zeros((self.n_classes, self.n_genes))

    def add(self, block: np.ndarray, codes: np.ndarray) -> None:
        """Add rows (n, n_genes); rows with a negative code are left out."""
        for c in np.unique(codes[codes >= 0]):
            rows = block[codes == c].astype(np.float64)
            self.counts[c] += len(rows)
            self.sums[c] += rows.sum(axis=0)
            self.squares[c] += (rows**2).sum(axis=0)

    @property
    def mean(self) -> np.ndarray:
        """Mean of each gene over all rows."""
        return self.sums.sum(axis=0) / max(self.counts.sum(), 1)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation (population) over all rows; 0 where constant but for rounding."""
        second = self.squares.sum(axis=0) / max(self.counts.sum(), 1)
        variance = second - self.mean**2
        return np.where(variance > 1e-12 * np.maximum(second, 1e-300), np.sqrt(variance.clip(0)), 0)

    def t_statistics(self) -> np.ndarray:
        """Moderated t of each class against the mean of the others, (n_classes, n_genes).

        The median standard deviation is added to each gene's own (the "fudge factor" of SAM), so
        that nearly constant genes do not win by chance. Constant genes get 0.

        References
        ----------
        Tusher, Tibshirani and Chu 2001, PNAS 98:5116.
        """
        present = np.flatnonzero(self.counts > 0)
        n = self.counts[present]
        means = self.sums[present] / n[:, None]
        within = self.squares[present].sum(axis=0) - (n[:, None] * means**2).sum(axis=0)
        s = np.sqrt(within.clip(0) / max(n.sum() - len(present), 1))
        varies = self.sd > 0
        s0 = np.median(s[varies]) if varies.any() else 1.0
        out = np.zeros((self.n_classes, self.n_genes))
        for i, c in enumerate(present):
            others = np.delete(means, i, axis=0).mean(axis=0) if len(present) > 1 else means[i]
            size = np.sqrt(1 / (1 / n[i] + 1 / max(n.sum() - n[i], 1)))
            out[c] = (means[i] - others) / np.maximum(s + s0, 1e-12) * size
        out[:, ~varies] = 0
        return out


def class_genes(t: np.ndarray, n: int, *, allowed: np.ndarray | None = None) -> np.ndarray:
    """Genes with the largest |t|, taken from the classes in turn so that each has its own.

    An F test would spend the genes on the classes that stand out most.

    Parameters
    ----------
    t
        (n_classes, n_genes) statistics.
    n
        Genes wanted.
    allowed
        bool (n_genes,): genes that may be chosen.

    Returns
    -------
    int64, at most `n` gene numbers: in the order of choice, best first.
    """
    may = np.ones(t.shape[1], dtype=bool) if allowed is None else np.asarray(allowed)
    lists = [np.argsort(-np.abs(row), kind="stable") for row in t]
    lists = [order[may[order]] for order in lists]
    taken: dict[int, None] = {}
    for turn in zip(*lists, strict=True):
        for gene in turn:
            if len(taken) < n:
                taken.setdefault(int(gene))
        if len(taken) >= n:
            break
    return np.array(list(taken), dtype=np.int64)


def ridge_weights(Z: np.ndarray, codes: np.ndarray, n_classes: int, strength: float) -> np.ndarray:
    """Weights (n_genes, n_classes) of regularised least squares on class indicators.

    Rows are weighted so that classes count the same. With K = Z Z^T and weights w, in the dual
    form, W = Z^T (K + strength * mean(diag K) * diag(1/w))^-1 (Y - 1/C). A large `strength` gives
    differences of class means.

    Parameters
    ----------
    Z
        (n, n_genes) standardised values.
    codes
        Class of each row.
    """
    Y = np.eye(n_classes)[codes]
    w = 1.0 / Y.sum(axis=0)[codes]
    w /= w.mean()
    K = Z @ Z.T
    K[np.diag_indices_from(K)] += strength * max(np.trace(K) / len(K), 1e-12) / w
    return Z.T @ np.linalg.solve(K, Y - 1.0 / n_classes)
