"""Impute genes of a reference in the cells of a tissue: stacked predictors, on arrays.

Everything that is chosen is chosen on the shared genes: they are hidden in turn, predicted from
the others, and compared with their measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg
from scipy.optimize import nnls

from omicllm.stats.cell_predictors import (
    PREDICTORS,
    CellPredictors,
    NeighborBaseline,
    standardised,
)
from omicllm.stats.conformal import Intervals, calibrated, gene_folds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scipy import sparse

#: Bytes of held-out predictions that are kept to fit the stack.
_STACK_BYTES = 512 * 2**20
#: Cells that the weights of held-out predictions are fitted on, at most.
_WEIGHT_CELLS = 2000


@dataclass
class Imputation:
    """Imputed genes, and what was measured on the way.

    Attributes
    ----------
    values, lower, upper
        float32 (n, q).
    heldout, heldout_knn
        float32 (cells, p): predictions of shared genes made without them, ours and plain kNN.
    cells
        Rows of the tissue that `heldout` is of.
    weights
        Weight of each predictor in the stack.
    signal
        float64 (q,): standard deviation of the prediction, in units of the gene's.
    intervals
        The calibrated intervals.
    """

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    heldout: np.ndarray
    heldout_knn: np.ndarray
    cells: np.ndarray
    signal: np.ndarray
    intervals: Intervals
    weights: dict[str, float] = field(default_factory=dict)


def impute(
    tissue: np.ndarray,
    reference: np.ndarray,
    target: np.ndarray,
    averages: Sequence[sparse.csr_matrix] = (),
    *,
    rng: np.random.Generator,
    method: str = "sigel",
    n_folds: int = 5,
    coverage: float = 0.9,
    n_neighbors: int = 50,
    n_pcs: int = 20,
    max_cells: int = 20_000,
    block_bytes: int = 256 * 2**20,
) -> Imputation:
    """Impute the target genes in the cells of a tissue.

    Parameters
    ----------
    tissue
        Shared genes (n, p), float32, log scale.
    reference, target
        Shared (m, p) and target genes (m, q) in the reference, float32, log scale.
    averages
        Sparse (n, n) row-normalised averages over tissue neighbours.
    rng
        Generator.
    method
        ``"sigel"`` (the stack) or ``"knn"`` (the baseline alone).
    n_folds
        Parts that the shared genes are cut into.
    coverage
        Share of cells that intervals are to hold.
    n_neighbors, n_pcs
        Of the nearest-neighbour predictors.
    max_cells
        Cells that weights, intervals and scores are taken from, at most.
    block_bytes
        Largest dense block.
    """
    n, p = tissue.shape
    names = (*PREDICTORS, *(f"tissue_{i}" for i in range(len(averages))))
    most = min(max_cells, max(2000, _STACK_BYTES // (4 * p * len(names))))
    cells = np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))
    tissue_sample = tissue[cells]
    options = {"n_neighbors": n_neighbors, "n_pcs": n_pcs}
    rows = max(16, block_bytes // (4 * (3 * len(reference) + 6 * max(p, target.shape[1]))))
    folds = gene_folds(p, n_folds, rng)
    plain = np.zeros((len(cells), p), dtype=np.float32)
    for test in folds:
        train = np.setdiff1d(np.arange(p), test)
        baseline = NeighborBaseline(
            tissue_sample[:, train], reference[:, train], reference[:, test], **options
        )
        for block in _blocks(len(cells), rows):
            plain[block, test] = baseline.predict(tissue_sample[block][:, train])
    if method == "sigel":
        study = _HiddenGenes(tissue, reference, averages, cells, rows, options)
        stack = np.zeros((len(cells), p, len(names)), dtype=np.float32)
        for test in folds:
            stack[:, test] = study.predict(test, cells)
        z = standardised(tissue_sample)
        weights = stack_weights(*_products(stack, z))
        inner: np.ndarray = np.empty(z.shape, dtype=np.float32)
        few = cells
        if len(cells) > _WEIGHT_CELLS:
            few = np.sort(rng.choice(cells, _WEIGHT_CELLS, replace=False))
        for test, w in zip(folds, _nested_weights(study, z, folds, few), strict=True):
            inner[:, test] = stack[:, test] @ w.astype(np.float32)
        del stack
        of_target = _stacked_target(
            tissue, tissue_sample, reference, target, averages, weights, rows, options
        )
    else:
        weights, inner = np.zeros(0), plain
        of_target = _plain_target(tissue, tissue_sample, reference, target, rows, options)
    signal = of_target.std(axis=0, dtype=np.float64)
    moments, left_out = moment_model(reference, tissue_sample, target)
    floor = tissue_sample.min()
    lowest = tissue_sample.min(axis=0)
    floor_without = np.where(np.arange(p) == lowest.argmin(), np.partition(lowest, 1)[1], floor)
    scaled = [np.maximum(left_out[0] + left_out[1] * Z, floor_without) for Z in (inner, plain)]
    heldout, heldout_knn = (Z.astype(np.float32) for Z in scaled)
    intervals = calibrated(heldout, tissue_sample, rng, coverage=coverage)
    mean, sd = (m.astype(np.float32) for m in moments)
    of_target *= sd
    of_target += mean
    np.maximum(of_target, floor, out=of_target)
    lower, upper = np.empty_like(of_target), np.empty_like(of_target)
    for block in _blocks(n, max(1, block_bytes // (32 * of_target.shape[1]))):
        lower[block], upper[block] = intervals.bounds(of_target[block])
    return Imputation(
        of_target,
        lower,
        upper,
        heldout,
        heldout_knn,
        cells,
        signal,
        intervals,
        {n: float(w) for n, w in zip(names, weights, strict=False)},
    )


def _blocks(n: int, rows: int) -> Iterator[slice]:
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def _attended(model: CellPredictors, tissue: np.ndarray, rows: int) -> np.ndarray:
    """The attention predictor for all cells, float32 (n, q)."""
    out = np.empty((len(tissue), model.values.shape[1]), dtype=np.float32)
    for block in _blocks(len(tissue), rows):
        (_, out[block]) = next(model.predict(tissue[block], ("attention",)))
    return out


def _plain_target(
    tissue: np.ndarray,
    tissue_sample: np.ndarray,
    reference: np.ndarray,
    target: np.ndarray,
    rows: int,
    options: dict[str, int],
) -> np.ndarray:
    """The kNN baseline for the targets, in all cells."""
    model = NeighborBaseline(tissue_sample, reference, target, **options)
    out = np.empty((len(tissue), target.shape[1]), dtype=np.float32)
    for block in _blocks(len(tissue), rows):
        out[block] = model.predict(tissue[block])
    return out


def _stacked_target(
    tissue: np.ndarray,
    tissue_sample: np.ndarray,
    reference: np.ndarray,
    target: np.ndarray,
    averages: Sequence[sparse.csr_matrix],
    weights: np.ndarray,
    rows: int,
    options: dict[str, int],
) -> np.ndarray:
    """The stack for the targets, in all cells; predictors without weight are skipped."""
    model = CellPredictors(tissue_sample, reference, target, **options)
    weight = dict(zip(PREDICTORS, weights, strict=False))
    used = [name for name in PREDICTORS if weight[name] > 0]
    out = np.zeros((len(tissue), target.shape[1]), dtype=np.float32)
    smoothed = [(w, a) for w, a in zip(weights[len(PREDICTORS) :], averages, strict=True) if w > 0]
    if smoothed:
        attended = _attended(model, tissue, rows)
        for block in _blocks(len(tissue), rows):
            for w, average in smoothed:
                out[block] += np.float32(w) * (average[block] @ attended)
        del attended
    for block in _blocks(len(tissue), rows):
        for name, predicted in model.predict(tissue[block], used):
            out[block] += np.float32(weight[name]) * predicted
    out -= out.mean(axis=0, dtype=np.float64).astype(np.float32)
    return out


class _HiddenGenes:
    """Every predictor's prediction of shared genes from the shared genes that are not hidden."""

    def __init__(
        self,
        tissue: np.ndarray,
        reference: np.ndarray,
        averages: Sequence[sparse.csr_matrix],
        cells: np.ndarray,
        rows: int,
        options: dict[str, int],
    ) -> None:
        self.tissue, self.reference, self.averages = tissue, reference, averages
        self.cells, self.rows, self.options = cells, rows, options

    def predict(self, hidden: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Predict `hidden` genes in `cells`, float32 (cells, hidden, predictors), centred."""
        known = np.setdiff1d(np.arange(self.tissue.shape[1]), hidden)
        model = CellPredictors(
            self.tissue[np.ix_(self.cells, known)],
            self.reference[:, known],
            self.reference[:, hidden],
            **self.options,
        )
        n_predictors = len(PREDICTORS) + len(self.averages)
        out = np.zeros((len(cells), len(hidden), n_predictors), dtype=np.float32)
        for block in _blocks(len(cells), self.rows):
            for name, predicted in model.predict(self.tissue[np.ix_(cells[block], known)]):
                out[block, :, PREDICTORS.index(name)] = predicted
        if self.averages:
            weights = [average[cells] for average in self.averages]
            near = np.unique(np.concatenate([w.indices for w in weights]))
            attended = _attended(model, self.tissue[np.ix_(near, known)], self.rows)
            for i, w in enumerate(weights):
                out[:, :, len(PREDICTORS) + i] = w[:, near] @ attended
        out -= out.mean(axis=0)
        return out


def _products(stack: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products of predictors (k, k) and with the z-scores (k,), summed over cells and genes."""
    k = stack.shape[2]
    gram, cross = np.zeros((k, k)), np.zeros(k)
    for gene in range(stack.shape[1]):
        P = stack[:, gene].astype(np.float64)
        gram += P.T @ P
        cross += P.T @ z[:, gene].astype(np.float64)
    return gram, cross


def _nested_weights(
    study: _HiddenGenes, z: np.ndarray, folds: Sequence[np.ndarray], few: np.ndarray
) -> list[np.ndarray]:
    """Weights for each fold that have seen nothing of its genes.

    They are fitted on predictions of the other folds, made without that fold and this one: each
    pair of folds is hidden together once. Weights are few numbers, so some cells do (`few`).
    """
    k = len(PREDICTORS) + len(study.averages)
    gram, cross = np.zeros((len(folds), k, k)), np.zeros((len(folds), k))
    measured = z[np.searchsorted(study.cells, few)]
    for i, j in combinations(range(len(folds)), 2):
        predicted = study.predict(np.concatenate([folds[i], folds[j]]), few)
        n = len(folds[i])
        for of, genes, part in (
            (j, folds[i], predicted[:, :n]),
            (i, folds[j], predicted[:, n:]),
        ):
            products = _products(part, measured[:, genes])
            gram[of] += products[0]
            cross[of] += products[1]
    return [stack_weights(*pair) for pair in zip(gram, cross, strict=True)]


def stack_weights(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Stacking weights: non-negative least squares of hidden genes on predictions (Breiman 1996).

    Parameters
    ----------
    gram, cross
        Products of predictors (k, k), and of predictors with measured z-scores (k,), summed over
        cells and hidden genes.
    """
    norm = np.sqrt(np.diag(gram) + 1e-12)
    L = linalg.cholesky(gram / norm[:, None] / norm + 1e-8 * np.eye(len(gram)), lower=True)
    return nnls(L.T, linalg.solve_triangular(L, cross / norm, lower=True))[0] / norm


Moments = tuple[np.ndarray, np.ndarray]


def moment_model(
    reference: np.ndarray, tissue: np.ndarray, target: np.ndarray, penalty: float = 1.0
) -> tuple[Moments, Moments]:
    """Predict the mean and standard deviation that genes have in the tissue.

    Ridge regression over shared genes of both on those in the reference; predictions stay in the
    range of shared genes.

    Returns
    -------
    Mean and deviation of the targets, and of each shared gene by a model without it.
    """
    F, wanted = _moments(reference), _moments(target)
    centre, scale = F.mean(axis=0), F.std(axis=0) + 1e-9
    F, wanted = (F - centre) / scale, np.clip((wanted - centre) / scale, -3, 3)
    Y = _moments(tissue)

    def fit(F: np.ndarray, Y: np.ndarray, new: np.ndarray) -> np.ndarray:
        y, f = Y.mean(axis=0), F.mean(axis=0)
        gram = (F - f).T @ (F - f) + penalty * np.eye(F.shape[1])
        return y + (new - f) @ np.linalg.solve(gram, (F - f).T @ (Y - y))

    def bounded(out: np.ndarray, seen: np.ndarray) -> np.ndarray:
        mean = np.maximum(out[:, 0], seen[:, 0].min())
        sd = np.exp(np.clip(out[:, 1], seen[:, 1].min(), seen[:, 1].max()))
        return np.column_stack([mean, sd])

    p = len(F)
    without = [np.arange(p) != g for g in range(p)]
    left_out = np.concatenate([bounded(fit(F[o], Y[o], F[~o]), Y[o]) for o in without])
    of_target = bounded(fit(F, Y, wanted), Y)
    return (of_target[:, 0], of_target[:, 1]), (left_out[:, 0], left_out[:, 1])


def _moments(X: np.ndarray) -> np.ndarray:
    """Mean and log standard deviation of columns, (genes, 2)."""
    sd = X.std(axis=0, dtype=np.float64)
    return np.column_stack([X.mean(axis=0, dtype=np.float64), np.log(sd + 1e-3)])
