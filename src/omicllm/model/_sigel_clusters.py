"""Clusters of genes: a Student-t mixture on the leading axes of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.nn.student_t import StudentTMixture

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_AXES, _FEWEST_AXES = 16, 4


def number_of_axes(n_genes: int, n_clusters: int, n_latent: int) -> int:
    """Principal axes that the mixture sees: two for three genes in a component, 4 to 16.

    The prior of a component's variances is worth 2 D + 3 genes, so that in all dimensions of an
    embedding it would drown the few genes of a cluster.
    """
    wanted = 2 * n_genes // (3 * n_clusters)
    return max(1, min(_MOST_AXES, max(_FEWEST_AXES, wanted), n_latent, n_genes - 1))


def kmeans_centres(Z: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Start of the mixture: k-means, the best of several runs where that is cheap.

    EM moves little, so that its start decides; k-means++ alone merges patterns.
    """
    from sklearn.cluster import KMeans

    runs = 5 if len(Z) * k < 500_000 else 1
    found = KMeans(k, n_init=runs, max_iter=50, random_state=seed).fit(Z)
    return found.cluster_centers_.astype(np.float64)


class GeneClusters:
    """Student-t mixture on the principal axes of an embedding.

    Parameters
    ----------
    origin, axes
        Mean of the genes (d,) and axes (d, q).
    mixture
        Fitted on the coordinates along the axes.
    """

    def __init__(self, origin: np.ndarray, axes: np.ndarray, mixture: StudentTMixture) -> None:
        self.origin, self.axes, self.mixture = origin, axes, mixture

    @classmethod
    def fitted(cls, Z: np.ndarray, n_clusters: int, *, seed: int) -> GeneClusters:
        """Fit to the embeddings (n_genes, d) of expressed genes; a seed gives the start."""
        z = Z.astype(np.float64)
        origin = z.mean(0)
        z -= origin
        q = number_of_axes(len(z), n_clusters, z.shape[1])
        _, vectors = np.linalg.eigh(z.T @ z)
        axes = vectors[:, ::-1][:, :q]
        coordinates = z @ axes
        start = kmeans_centres(coordinates, n_clusters, seed)
        mixture = StudentTMixture(n_clusters, max_iter=50, rng=seed).fit(coordinates, init=start)
        return cls(origin, axes, mixture)

    @property
    def n_clusters(self) -> int:
        """Number of components."""
        return self.mixture.n_components

    def assign(self, Z: np.ndarray) -> np.ndarray:
        """Responsibilities (n, n_clusters); NaN in the rows of genes without counts (zeros)."""
        expressed = np.abs(Z).sum(axis=1) > 0
        out = np.full((len(Z), self.n_clusters), np.nan)
        if expressed.any():
            coordinates = (Z[expressed].astype(np.float64) - self.origin) @ self.axes
            out[expressed] = self.mixture.predict_proba(coordinates)
        return out

    def curve(self) -> Any:
        """Penalised log likelihood over the iterations of EM, as a history frame."""
        import pandas as pd

        values = self.mixture.history_
        return pd.DataFrame({"value": values}, index=pd.RangeIndex(len(values), name="iteration"))

    def get_state(self) -> dict[str, np.ndarray]:
        """All of it as arrays."""
        return {"origin": self.origin, "axes": self.axes} | self.mixture.get_state()

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> GeneClusters:
        """Clusters from what :meth:`get_state` returned."""
        rest = {k: v for k, v in state.items() if k not in ("origin", "axes")}
        return cls(state["origin"], state["axes"], StudentTMixture.from_state(rest))
