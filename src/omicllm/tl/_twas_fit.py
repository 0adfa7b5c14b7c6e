"""Linear models of one gene, for `omicllm.tl.twas` and `omicllm.tl.sample_size`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm.genome import linear_models
from omicllm.genome.bslmm import bslmm
from omicllm.stats.people import agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("top1", "lasso", "enet", "blup", "bslmm")
#: Share of the absolute value in the penalty of the elastic net.
_L1_RATIO = {"lasso": 1.0, "enet": 0.5}


@dataclass
class Settings:
    """How to fit: arguments of :func:`omicllm.tl.twas` of the same names."""

    models: list[str]
    min_af: float
    heritability: str
    n_folds: int
    n_iter: int


def settings(
    model: str | Sequence[str], *, min_af: float, heritability: str, n_folds: int, n_iter: int
) -> Settings:
    """Check the arguments and gather them.

    Raises
    ------
    ValueError
        A value that is not allowed.
    """
    models = [model] if isinstance(model, str) else list(dict.fromkeys(model))
    for name in models:
        checks.one_of("model", name, MODELS)
    checks.one_of("heritability", heritability, ("reml", "he"))
    checks.share("min_af", min_af, high=0.5)
    checks.whole_number("n_folds", n_folds, at_least=2)
    checks.whole_number("n_iter", n_iter, at_least=30)
    return Settings(models, min_af, heritability, n_folds, n_iter)


@dataclass
class Fit:
    """One model of one gene.

    Attributes
    ----------
    effect
        Effects per allele (k,).
    intercept
        Prediction without any allele.
    rhat
        Convergence of BSLMM; 1 for others.
    """

    effect: np.ndarray
    intercept: float
    rhat: float = 1.0

    def predict(self, dosage: np.ndarray) -> np.ndarray:
        """Expression of people from their dosages (n, k)."""
        return self.intercept + dosage @ self.effect


def fit_gene(
    dosage: np.ndarray, y: np.ndarray, how: Settings, rng: np.random.Generator
) -> tuple[dict[str, Fit], linear_models.Heritability | None]:
    """Fit every model on training people, and estimate the heritability.

    Parameters
    ----------
    dosage
        Alleles of the training people (n, k).
    y
        Their expression (n,).
    how
        Models and their settings.
    rng
        Draws folds and chains.

    Returns
    -------
    Fits by model, and the heritability; None without variants, or when `y` is constant.
    """
    level = float(y.mean())
    centred = y - level
    k = dosage.shape[1]
    sd = dosage.std(axis=0)
    varies = np.flatnonzero(sd > 1e-9)
    if not len(varies) or not centred.any():
        return {m: Fit(np.zeros(k), level) for m in how.models}, None
    mean, sd = dosage[:, varies].mean(axis=0), sd[varies]
    X = np.asfortranarray((dosage[:, varies] - mean) / sd)
    related = linear_models.Relatedness(X)
    of_y = related.reml if how.heritability == "reml" else related.haseman_elston
    estimate = of_y(centred)
    folds = np.arange(len(y)) % how.n_folds
    fits = {}
    for m in how.models:
        rhat = 1.0
        if m == "top1":
            effect = linear_models.top_variant(X, centred)
        elif m == "blup":
            effect = related.blup(centred, estimate.h2)
        elif m == "bslmm":
            found = bslmm(X, centred, rng=rng, n_iter=how.n_iter, n_burn=how.n_iter // 3)
            effect, rhat = found.effects, found.rhat
        else:
            effect = linear_models.elastic_net(
                X, centred, l1_ratio=_L1_RATIO[m], folds=rng.permutation(folds)
            )
        effects = np.zeros(k)
        effects[varies] = effect / sd
        fits[m] = Fit(effects, level - float(mean @ effects[varies]), rhat)
    return fits, estimate


def held_out_r(
    dosage: np.ndarray, y: np.ndarray, how: Settings, rng: np.random.Generator
) -> dict[str, float]:
    """Mean correlation over folds inside the training people; a constant prediction counts as 0.

    Every choice of a model (penalty, heritability, variant) is made anew in each fold, from the
    people outside of it.
    """
    folds = rng.permutation(np.arange(len(y)) % how.n_folds)
    r: dict[str, list[float]] = {m: [] for m in how.models}
    for fold in range(how.n_folds):
        out = folds == fold
        fits, _ = fit_gene(dosage[~out], y[~out], how, rng)
        for m, fit in fits.items():
            r[m].append(agreement(fit.predict(dosage[out]), y[out])[0])
    return {m: float(np.mean(np.nan_to_num(values))) for m, values in r.items()}


def columns_of(n_genes: int, names: Sequence[str]) -> dict[str, Any]:
    """Columns of genes, of NaN."""
    return {name: np.full(n_genes, np.nan, dtype=np.float32) for name in names}
