"""Single predictors of unmeasured genes: what cells of a reference say about cells of a tissue.

All take the genes that both data sets measure ("shared") and give z-scores of others ("targets"),
at their natural scale: a gene that cannot be predicted has predictions near zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from omicllm.stats.neighbors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Largest absolute z-score, so that a single cell cannot decide.
CLIP = 5.0
#: Predictors of `CellPredictors`, in the order of the stack.
PREDICTORS = (
    "attention",
    "attention_profile",
    "gene_attention",
    "ridge_0.3",
    "ridge_3",
    "kernel_ridge",
    "knn",
    "mean_z",
)
#: Sharpness of the softmax over reference cells, over genes, and of the kernel of kernel ridge.
_SHARPNESS, _GENE_SHARPNESS, _KERNEL = 5.0, 10.0, 3.0
_KERNEL_PENALTY = 3.0


def scale_of(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / standard deviation of columns, float32; 0 for constant columns."""
    mean, sd = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    inverse = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 1e-6)
    return mean.astype(np.float32), inverse.astype(np.float32)


def standardised(
    X: np.ndarray, scale: tuple[np.ndarray, np.ndarray] | None = None, *, clip: float = CLIP
) -> np.ndarray:
    """Z-scores of columns, float32, clipped; constant columns are 0."""
    mean, inverse = scale_of(X) if scale is None else scale
    Z = (np.asarray(X, dtype=np.float32) - mean) * inverse
    return np.clip(Z, -clip, clip, out=Z)


class CellPredictors:
    """The predictors that `omicllm.stats.imputation` joins.

    ``attention``: softmax of cosine over reference cells (their z-scores are keys, the target
    genes values). ``attention_profile``: the same on profiles scaled to unit length first.
    ``gene_attention``: softmax of correlation in the reference over shared genes, whose z-scores
    in the tissue are joined (a memory of genes, as in SIGEL's generator, without training).
    ``ridge_*``: ridge regression on shared genes in the reference. ``kernel_ridge``: with the
    kernel exp(3 (cosine - 1)). ``knn``: nearest reference cells in principal components of both
    data sets. ``mean_z``: mean z-score of the shared genes (size of the cell).

    Parameters
    ----------
    tissue
        Shared genes (n, p) in the cells that tissue-side means and deviations are taken from.
    reference, target
        Shared (m, p) and target genes (m, q) in the reference.
    n_neighbors, n_pcs
        Of ``knn``.
    """

    def __init__(
        self,
        tissue: np.ndarray,
        reference: np.ndarray,
        target: np.ndarray,
        *,
        n_neighbors: int = 50,
        n_pcs: int = 20,
    ) -> None:
        self.scale = scale_of(tissue)
        r, self.values = standardised(reference), standardised(target)
        m = len(r)
        self.keys = unit_rows(r)
        self.profile_scale = scale_of(unit_rows(tissue))
        self.profile_keys = unit_rows(standardised(unit_rows(reference)))
        r64, t64 = r.astype(np.float64), self.values.astype(np.float64)
        spectrum, axes = linalg.eigh(r64.T @ r64 / m)
        cross = axes.T @ (r64.T @ t64 / m)
        self.maps = {
            f"ridge_{penalty:g}": (
                axes @ (cross / (np.maximum(spectrum, 0)[:, None] + penalty))
            ).astype(np.float32)
            for penalty in (0.3, 3.0)
        }
        alike = unit_rows(r.T) @ unit_rows(self.values.T).T
        read = np.exp(_GENE_SHARPNESS * (alike - 1.0))
        self.maps["gene_attention"] = read / read.sum(axis=0)
        kernel = np.exp(_KERNEL * (self.keys @ self.keys.T - 1.0)).astype(np.float64)
        kernel[np.diag_indices(m)] += _KERNEL_PENALTY
        self.dual = linalg.solve(kernel, t64, assume_a="pos", overwrite_a=True).astype(np.float32)
        self.k = min(n_neighbors, m)
        centred = np.asarray(reference - reference.mean(axis=0), dtype=np.float64)
        self.centre = tissue.mean(axis=0, dtype=np.float64).astype(np.float32)
        around = np.asarray(tissue - self.centre, dtype=np.float64)
        joint = around.T @ around + centred.T @ centred
        self.axes = linalg.eigh(joint)[1][:, ::-1][:, :n_pcs].astype(np.float32)
        self.pc_keys = unit_rows(centred.astype(np.float32) @ self.axes)

    def predict(
        self, tissue: np.ndarray, names: Sequence[str] = PREDICTORS
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Walk over predictors.

        Parameters
        ----------
        tissue
            Shared genes (rows, p) of some cells.
        names
            Predictors wanted.

        Yields
        ------
        Name, and float32 (rows, q).
        """
        s = standardised(tissue, self.scale)
        wanted = set(names)
        if wanted & {"attention", "kernel_ridge"}:
            similarity = unit_rows(s) @ self.keys.T
            if "attention" in wanted:
                yield "attention", self._read(similarity)
            if "kernel_ridge" in wanted:
                similarity -= 1.0
                similarity *= _KERNEL
                yield "kernel_ridge", np.exp(similarity, out=similarity) @ self.dual
        if "attention_profile" in wanted:
            profile = standardised(unit_rows(tissue), self.profile_scale)
            yield "attention_profile", self._read(unit_rows(profile) @ self.profile_keys.T)
        for name, weights in self.maps.items():
            if name in wanted:
                yield name, s @ weights
        if "knn" in wanted:
            query = unit_rows((tissue - self.centre) @ self.axes)
            yield "knn", neighbor_mean(query, self.pc_keys, self.values, self.k)
        if "mean_z" in wanted:
            yield "mean_z", np.repeat(s.mean(axis=1, keepdims=True), self.values.shape[1], axis=1)

    def _read(self, similarity: np.ndarray) -> np.ndarray:
        """Softmax read of the values, at the sharpness of attention."""
        weight = np.exp(_SHARPNESS * (similarity - 1.0))
        return (weight @ self.values) / weight.sum(axis=1, keepdims=True)


def neighbor_mean(query: np.ndarray, keys: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Mean of `values` over the `k` keys nearest to each query by cosine (unit rows)."""
    from scipy import sparse

    similarity = query @ keys.T
    if k < len(keys):
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    else:
        nearest = np.broadcast_to(np.arange(len(keys)), similarity.shape)
    n = len(query)
    pick = sparse.csr_matrix(
        (
            np.full(n * k, 1.0 / k, dtype=np.float32),
            np.sort(nearest, axis=1).ravel(),
            np.arange(0, n * k + 1, k),
        ),
        shape=(n, len(keys)),
    )
    return np.asarray(pick @ values)


class NeighborBaseline:
    """Plain kNN: mean over the nearest reference cells, by cosine of principal components.

    Components are those of the z-scored shared genes of the reference; cells of the tissue are
    z-scored with their own means and deviations. Parameters as in :class:`CellPredictors`.
    """

    def __init__(
        self,
        tissue: np.ndarray,
        reference: np.ndarray,
        target: np.ndarray,
        *,
        n_neighbors: int = 50,
        n_pcs: int = 20,
    ) -> None:
        self.scale = scale_of(tissue)
        r = standardised(reference)
        r64 = r.astype(np.float64)
        self.axes = linalg.eigh(r64.T @ r64)[1][:, ::-1][:, :n_pcs].astype(np.float32)
        self.keys = unit_rows(r @ self.axes)
        self.values = standardised(target, clip=np.inf)
        self.k = min(n_neighbors, len(r))

    def predict(self, tissue: np.ndarray) -> np.ndarray:
        """Z-scores of the targets, float32 (rows, q), for shared genes (rows, p)."""
        query = unit_rows(standardised(tissue, self.scale) @ self.axes)
        return neighbor_mean(query, self.keys, self.values, self.k)
