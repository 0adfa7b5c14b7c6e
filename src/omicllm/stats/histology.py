"""Plain baselines of predicting expression from image features, and how rows are held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omicllm.stats.ridge import (
    ALPHAS,
    Components,
    GroupedRidge,
    hest_ridge,
    knn_regression,
    mean_of_sections,
    section_means,
)

#: Baselines in the order of the tables.
METHODS = ("mean", "rgb", "knn", "ridge", "hest")


@dataclass(frozen=True)
class Fold:
    """One division into rows to train on and rows to test on.

    Attributes
    ----------
    name
        What is held out.
    train, test
        Positions of rows. Rows in neither are a buffer.
    """

    name: str
    train: np.ndarray
    test: np.ndarray


@dataclass
class Baselines:
    """The baselines on one division.

    Parameters
    ----------
    methods
        Some of :data:`METHODS`: ``mean`` (of training sections); ``rgb`` (ridge on the mean
        colour of the patch); ``knn`` (mean of the nearest training rows by cosine of principal
        components); ``ridge`` (:class:`~omicllm.stats.ridge.GroupedRidge`); ``hest``
        (:func:`~omicllm.stats.ridge.hest_ridge`).
    alphas, n_components, criterion, center
        Of the ridge.
    n_neighbors
        Of kNN.
    """

    methods: tuple[str, ...] = METHODS
    alphas: np.ndarray = field(default_factory=lambda: ALPHAS)
    n_components: int = 256
    criterion: str = "pearson"
    center: bool = True
    n_neighbors: int = 50

    def predict(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        sections: np.ndarray,
        groups: np.ndarray,
        new: np.ndarray,
        new_sections: np.ndarray,
        rgb: list[int] | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Fit on training rows and predict new ones, from their features alone.

        Parameters
        ----------
        X, Y, sections, groups
            Features (n, d), targets (n, p), section and inner group of training rows.
        new, new_sections
            Features (m, d) and sections of rows to predict.
        rgb
            Columns of the mean red, green and blue; without them ``rgb`` is left out.

        Returns
        -------
        Predictions (m, p) by method, and the penalty of each ridge.
        """
        out: dict[str, np.ndarray] = {}
        chosen: dict[str, float] = {}
        for method in self.methods:
            if method == "mean":
                mean = mean_of_sections(Y, sections)
                out[method] = np.broadcast_to(mean, (len(new), Y.shape[1])).copy()
            elif method == "hest":
                out[method] = hest_ridge(X, Y, new, n_components=self.n_components)
            elif method == "knn":
                out[method] = self._knn(X, Y, sections, new, new_sections)
            elif method == "ridge" or rgb:
                columns = rgb if method == "rgb" else slice(None)
                model = self.ridge().fit(X[:, columns], Y, sections, groups)
                out[method] = model.predict(new[:, columns], new_sections)
                chosen[method] = model.alpha_
        return out, chosen

    def ridge(self) -> GroupedRidge:
        """The tuned ridge with these options, not fitted."""
        return GroupedRidge(self.alphas, self.n_components, self.criterion, self.center)

    def _knn(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        sections: np.ndarray,
        new: np.ndarray,
        new_sections: np.ndarray,
    ) -> np.ndarray:
        """Mean of neighbours' targets, centred by section as the ridge is."""
        X, new, Y = (np.asarray(v, dtype=np.float64) for v in (X, new, Y))
        mean = mean_of_sections(Y, sections)
        if self.center:
            X, new = X - section_means(X, sections), new - section_means(new, new_sections)
            Y = Y - section_means(Y, sections)
        else:
            Y = Y - mean
        components = Components.of(X, self.n_components)
        return mean + knn_regression(components(X), Y, components(new), k=self.n_neighbors)


def variable_genes(values: Any, sections: np.ndarray, n: int) -> np.ndarray:
    """Positions (n,) of the genes of the largest variance within sections, ascending.

    Parameters
    ----------
    values
        (rows, p) training rows alone, dense or sparse.
    sections
        (rows,); each section counts once.
    n
        Number of genes.
    """
    total = np.zeros(values.shape[1])
    for s in np.unique(sections):
        section_values = values[np.flatnonzero(sections == s)]
        mean = np.asarray(section_values.mean(axis=0), dtype=np.float64).ravel()
        square = (
            section_values.multiply(section_values)
            if hasattr(section_values, "multiply")
            else section_values * section_values
        )
        total += np.asarray(square.mean(axis=0), dtype=np.float64).ravel() - mean**2
    return np.sort(np.argsort(-total, kind="stable")[:n])


def leave_group_out(groups: np.ndarray) -> list[Fold]:
    """One division for each group, which is held out."""
    return [
        Fold(str(g), np.flatnonzero(groups != g), np.flatnonzero(groups == g))
        for g in np.unique(groups)
    ]


def leave_block_out(
    coords: np.ndarray, sections: np.ndarray, blocks: np.ndarray, *, buffer: float
) -> list[Fold]:
    """One division for each spatial block; training rows nearer than `buffer` to it are left out.

    Parameters
    ----------
    coords
        (n, 2).
    sections, blocks
        (n,).
    buffer
        In units of the coordinates: patches that overlap would otherwise be on both sides.
    """
    from scipy.spatial import cKDTree

    folds = []
    for block in np.unique(blocks):
        test = np.flatnonzero(blocks == block)
        others = np.flatnonzero(blocks != block)
        near = np.zeros(len(others), dtype=bool)
        same_section = sections[others] == sections[test[0]]
        if same_section.any():
            distance, _ = cKDTree(coords[test]).query(coords[others[same_section]])
            near[same_section] = distance < buffer
        folds.append(Fold(str(block), others[~near], test))
    return folds


def neighbor_distance(coords: np.ndarray, sections: np.ndarray) -> float:
    """Median distance of an observation to its nearest neighbour in its section."""
    from scipy.spatial import cKDTree

    distances = []
    for s in np.unique(sections):
        places = coords[sections == s]
        if len(places) > 1:
            distances.append(cKDTree(places).query(places, k=2)[0][:, 1])
    return float(np.median(np.concatenate(distances))) if distances else 0.0
