"""How well predicted expression agrees with measured, per gene, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from omicllm.stats.agreement import gene_pearson

#: Scores per gene, in this order wherever they are stacked.
SCORES = ("pearson", "spearman", "mse", "mae", "rvd")
_GENES_AT_ONCE = 512


@dataclass
class Sums:
    """Sums over blocks of spots, from which every score follows for any weights of the blocks.

    Attributes
    ----------
    count
        (b,) spots.
    values
        (b, 11, g): prediction, truth, their squares and product; the same of ranks; absolute
        error.
    """

    count: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, pred: np.ndarray, truth: np.ndarray, blocks: np.ndarray) -> Sums:
        """Sum predictions and truths (n, g) by block (n,)."""
        from scipy.stats import rankdata

        _, code = np.unique(blocks, return_inverse=True)
        code = code.ravel()
        n_blocks, g = int(code.max()) + 1, pred.shape[1]
        values = np.zeros((n_blocks, 11, g))
        for start in range(0, g, _GENES_AT_ONCE):
            genes = slice(start, start + _GENES_AT_ONCE)
            p, t = (np.asarray(v[:, genes], dtype=np.float64) for v in (pred, truth))
            # Both less the mean truth: differences stay, and squares keep their digits.
            middle = t.mean(axis=0)
            ranks = [rankdata(v, axis=0) / len(v) - 0.5 for v in (p, t)]
            for half, (a, b) in enumerate(((p - middle, t - middle), tuple(ranks))):
                for k, v in enumerate((a, b, a * a, b * b, a * b)):
                    _add(values[:, 5 * half + k, genes], code, v)
            _add(values[:, 10, genes], code, np.abs(p - t))
        return cls(np.bincount(code, minlength=n_blocks).astype(np.float64), values)

    def scores(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Scores (w, 5, g) in the order of :data:`SCORES`, for weights (w, b) of the blocks.

        A gene without variance in the truth has no correlation (NaN); one without variance in
        the prediction has 0.
        """
        weights = np.ones((1, len(self.count))) if weights is None else weights
        n = np.maximum(weights @ self.count, 1.0)[:, None]
        flat = self.values.reshape(len(self.count), -1)
        mean = (weights @ flat).reshape(len(weights), 11, -1) / n[:, None]
        pearson, vp, vt = _correlation(mean[:, :5])
        spearman, _, _ = _correlation(mean[:, 5:10])
        mse = mean[:, 2] + mean[:, 3] - 2 * mean[:, 4]
        with np.errstate(divide="ignore", invalid="ignore"):
            rvd = np.where(vt > 0, ((vp - vt) / vt) ** 2, np.nan)
        return np.stack([pearson, spearman, np.maximum(mse, 0), mean[:, 10], rvd], axis=1)


#: A variance below this share of the mean square is rounding of a constant.
_TINY = 1e-12


def _add(into: np.ndarray, code: np.ndarray, values: np.ndarray) -> None:
    """Add rows to their blocks."""
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(into)))
    into += np.add.reduceat(values[order], starts, axis=0)


class _Correlation(NamedTuple):
    """Correlation of predictions with truths, and the variance of each."""

    r: np.ndarray
    of_prediction: np.ndarray
    of_truth: np.ndarray


def _correlation(mean: np.ndarray) -> _Correlation:
    """Correlation and variances from means of p, t, pp, tt, pt (w, 5, g)."""
    p, t, pp, tt, pt = (mean[:, i] for i in range(5))
    vp, vt = (np.where(v - m * m > _TINY * v, v - m * m, 0.0) for v, m in ((pp, p), (tt, t)))
    size = np.sqrt(vp * vt)
    r = np.where(size > 0, (pt - p * t) / np.where(size > 0, size, 1.0), 0.0)
    return _Correlation(np.where(vt > 0, r.clip(-1, 1), np.nan), vp, vt)


def bootstrap_weights(n_blocks: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each block is drawn in each resample, (n_boot, n_blocks)."""
    return rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_boot).astype(float)


def gene_means(sums: list[Sums], weights: np.ndarray) -> np.ndarray:
    """Mean over genes of each score, (w, 5), NaN without any; the whole table is never made."""
    g = sums[0].values.shape[2]
    total, n = np.zeros((len(weights), len(SCORES))), np.zeros((len(weights), len(SCORES)))
    for start in range(0, g, _GENES_AT_ONCE):
        genes = slice(start, start + _GENES_AT_ONCE)
        part = [Sums(s.count, s.values[:, :, genes]) for s in sums]
        for first in range(0, len(weights), 64):
            rows = slice(first, first + 64)
            scores = _scores(part, weights[rows])
            total[rows] += np.nansum(scores, axis=2)
            n[rows] += np.isfinite(scores).sum(axis=2)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def within_folds(values: np.ndarray, sections: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Values (n, g) with the mean of each fold of a section moved to the mean of the section.

    Where regions of a section are held out in turn, training rows are high where the region is
    low: pooled over regions, a constant prediction would correlate negatively. A column that is
    constant in a fold, up to rounding of float32, is exactly constant afterwards.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(np.unique(folds)) < 2:
        return values
    out = np.empty(values.shape)
    for s in np.unique(sections):
        rows = np.flatnonzero(sections == s)
        middle = values[rows].mean(axis=0)
        for f in np.unique(folds[rows]):
            part = rows[folds[rows] == f]
            change = values[part] - values[part].mean(axis=0)
            size = np.abs(values[part]).max(axis=0)
            flat = np.ptp(values[part], axis=0) <= 4 * np.finfo(np.float32).eps * size
            out[part] = middle + np.where(flat, 0.0, change)
    return out


def held_out_pearson(
    truth: np.ndarray, guess: np.ndarray, sections: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Correlation (g,) within sections, and within the groups of each that were held out."""
    codes = [np.unique(v, return_inverse=True)[1].ravel() for v in (sections, groups)]
    part = codes[0] * (int(codes[1].max()) + 1) + codes[1]
    return gene_pearson(*(within_folds(v, np.zeros(len(v)), part) for v in (truth, guess)))


def section_scores(
    predictions: dict[str, np.ndarray],
    truth: np.ndarray,
    sections: np.ndarray,
    blocks: np.ndarray,
    *,
    n_boot: int,
    level: float,
    rng: np.random.Generator,
    versus: str | None = None,
    folds: np.ndarray | None = None,
) -> tuple[list[dict[str, object]], dict[str, np.ndarray]]:
    """Scores of several predictions of the same values, by section and over all.

    Parameters
    ----------
    predictions
        Name -> (n, g); a gene with NaN in a section is not scored there.
    truth
        (n, g).
    sections
        (n,) names. A score of "all" is the mean of the sections'; "pooled" takes all spots
        together, so that differences between sections count too.
    blocks
        (n,) what the bootstrap draws within each section: spatial blocks, since neighbouring
        spots are not independent.
    n_boot
        Resamples; 0 leaves intervals out.
    level
        Share of resamples inside the interval.
    rng
        Draws the resamples, the same ones for every prediction.
    versus
        Prediction that the others are compared with, resample by resample.
    folds
        (n,) in which division each row was held out. Correlations and variances are then taken
        within the divisions of a section (:func:`within_folds`); errors are of values as they are.

    Returns
    -------
    Rows (dicts) by prediction and section; and, by prediction, scores (5, g) as the mean of the
    sections.
    """
    sections = np.asarray(sections).astype(str)
    folds = sections if folds is None else np.asarray(folds).astype(str)
    names = [str(s) for s in np.unique(sections)]
    weights = {}
    for s in names:
        n_blocks = len(np.unique(blocks[sections == s]))
        weights[s] = bootstrap_weights(n_blocks, n_boot, rng)
    rows: list[dict[str, object]] = []
    per_gene: dict[str, np.ndarray] = {}
    resampled: dict[tuple[str, str], np.ndarray] = {}
    for method, pred in predictions.items():
        by_section, drawn = [], []
        for s in names:
            mine = sections == s
            part = (sections[mine], folds[mine])
            sums, score = _scored(pred[mine], truth[mine], blocks[mine], *part)
            by_section.append(score)
            boot = gene_means(sums, weights[s])
            drawn.append(boot)
            resampled[method, s] = boot
            rows.append(_row(method, s, int(mine.sum()), score))
        per_gene[method] = _mean_of(np.stack(by_section))
        resampled[method, "all"] = _mean_of(np.stack(drawn))
        rows.append(_row(method, "all", len(truth), per_gene[method]))
        means = _mean_of(np.stack([_gene_mean(v) for v in by_section]))
        rows[-1].update(dict(zip(SCORES, means.tolist(), strict=True)))
        if len(names) > 1:
            one = np.zeros(len(truth), dtype=np.int64)
            pooled = _scored(pred, truth, one, sections, folds)[1]
            rows.append(_row(method, "pooled", len(truth), pooled))
    for row in rows:
        key = (str(row["method"]), str(row["section"]))
        _intervals(row, resampled.get(key), level)
        if versus is not None:
            _difference(row, resampled.get(key), resampled.get((versus, key[1])), level)
    return rows, per_gene


def _scored(
    pred: np.ndarray,
    truth: np.ndarray,
    blocks: np.ndarray,
    sections: np.ndarray,
    folds: np.ndarray,
) -> tuple[list[Sums], np.ndarray]:
    """Sums over the genes that were predicted everywhere, and scores (5, g), NaN for the others.

    The sums are those of values, and, where a section has several folds, those within folds.
    """
    known = np.isfinite(pred).all(axis=0)
    scores = np.full((len(SCORES), pred.shape[1]), np.nan)
    if not known.all():
        pred, truth = pred[:, known], truth[:, known]
    sums = [Sums.of(pred, truth, blocks)]
    if any(len(np.unique(folds[sections == s])) > 1 for s in np.unique(sections)):
        within = [within_folds(v, sections, folds) for v in (pred, truth)]
        sums.append(Sums.of(within[0], within[1], blocks))
    scores[:, known] = _scores(sums, None)[0]
    return sums, scores


#: Scores of how values vary, which are taken within folds.
_SHAPE = [SCORES.index(name) for name in ("pearson", "spearman", "rvd")]


def _scores(sums: list[Sums], weights: np.ndarray | None) -> np.ndarray:
    """Scores (w, 5, g): errors by the first sums, correlations and variances by the last."""
    out = sums[0].scores(weights)
    if len(sums) > 1:
        out[:, _SHAPE] = sums[1].scores(weights)[:, _SHAPE]
    return out


def _mean_of(scores: np.ndarray) -> np.ndarray:
    """Mean over the first axis without NaN, NaN where there is nothing else."""
    n = np.isfinite(scores).sum(axis=0)
    return np.where(n > 0, np.nansum(scores, axis=0) / np.maximum(n, 1), np.nan)


def _gene_mean(scores: np.ndarray) -> np.ndarray:
    return _mean_of(scores.T)


def _row(method: str, section: str, n: int, scores: np.ndarray) -> dict[str, object]:
    """One row of the table: means over genes, and how the correlations are spread."""
    r = scores[0][np.isfinite(scores[0])]
    row: dict[str, object] = {"method": method, "section": section, "n_obs": n, "n_genes": len(r)}
    row |= dict(zip(SCORES, _gene_mean(scores).tolist(), strict=True))
    row["pearson_median"] = float(np.median(r)) if len(r) else float("nan")
    row["share_above_0.3"] = float((r > 0.3).mean()) if len(r) else float("nan")
    return row


def _difference(
    row: dict[str, object], boot: np.ndarray | None, base: np.ndarray | None, level: float
) -> None:
    """Add the interval of the difference in Pearson correlation from another prediction."""
    low = high = float("nan")
    if boot is not None and base is not None and len(boot):
        tail = (1 - level) / 2
        low, high = _bounds((boot - base)[:, 0], tail)
    row["over_ridge_low"], row["over_ridge_high"] = low, high


def _intervals(row: dict[str, object], boot: np.ndarray | None, level: float) -> None:
    """Add bootstrap intervals of Pearson correlation and squared error."""
    tail = (1 - level) / 2
    for i, name in ((0, "pearson"), (2, "mse")):
        low = high = float("nan")
        if boot is not None and len(boot):
            low, high = _bounds(boot[:, i], tail)
        row[f"{name}_low"], row[f"{name}_high"] = low, high


def _bounds(values: np.ndarray, tail: float) -> tuple[float, float]:
    """Quantiles of the resamples that have a score."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
