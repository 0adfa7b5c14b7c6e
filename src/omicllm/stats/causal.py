"""How well scores of variants tell causal ones from others of the same gene."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def causal_auroc(
    scores: np.ndarray, causal: np.ndarray, genes: np.ndarray, *, n_draws: int = 100, rng: int = 0
) -> float:
    """Area under the ROC curve of causal against other variants, matched by gene.

    A variant's score is its percentile, by absolute value, among the variants of its gene. In each
    draw every causal variant meets one other variant of its gene, and the area is that of all
    causal against all drawn ones.

    Parameters
    ----------
    scores
        Effect of each variant on its gene, (n,); 0 where a model has none.
    causal
        (n,): 1 or True for causal variants, 0 or False for others, NaN for variants of neither
        kind, which still take part in the percentiles.
    genes
        Gene of each variant, (n,).
    n_draws
        Draws of the other variants.
    rng
        Seed of the draws.

    Returns
    -------
    Mean area over draws: .5 for scores without information, 1 for perfect ones; NaN where no gene
    has both kinds.

    Raises
    ------
    ValueError
        Arrays of different lengths, scores that are not finite, no draws.

    Examples
    --------
    >>> import numpy as np
    >>> import omicllm as ol
    >>> genes = np.repeat(["a", "b"], 3)
    >>> ol.metrics.causal_auroc(
    ...     np.array([3.0, 1, 0, 0, -2, 1]), np.array([1, 0, 0, 0, 1, 0]), genes
    ... )
    1.0
    """
    values, genes = np.abs(np.asarray(scores, dtype=np.float64)), np.asarray(genes)
    kind = np.asarray(causal, dtype=np.float64)
    if not values.shape == kind.shape == genes.shape or values.ndim != 1:
        msg = (
            "scores, causal and genes must be of one length, not "
            f"{values.shape}, {kind.shape} and {genes.shape}."
        )
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "scores hold NaN or infinite values: take 0 where a model has no effect."
        raise ValueError(msg)
    if n_draws < 1:
        msg = f"n_draws must be at least 1, not {n_draws}."
        raise ValueError(msg)
    percentile = np.zeros(len(values))
    positive: list[float] = []
    others: list[np.ndarray] = []
    for gene in dict.fromkeys(genes.tolist()):
        inside = np.flatnonzero(genes == gene)
        percentile[inside] = rankdata(values[inside]) / len(inside)
        yes, no = inside[kind[inside] == 1], inside[kind[inside] == 0]
        if len(no):
            positive += percentile[yes].tolist()
            others += [percentile[no]] * len(yes)
    if not positive:
        return float("nan")
    generator = np.random.default_rng(rng)
    n = len(positive)
    areas = []
    for _ in range(n_draws):
        drawn = [p[generator.integers(len(p))] for p in others]
        ranks = rankdata(np.concatenate([positive, drawn]))
        areas.append((ranks[:n].sum() - n * (n + 1) / 2) / n**2)
    return float(np.mean(areas))
