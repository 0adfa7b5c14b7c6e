"""`omicllm.tl.sample_size`: accuracy of linear models against the number of training people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger, progress
from omicllm.genome.dosage import HAPLOID
from omicllm.stats.people import agreement, resampled_agreement
from omicllm.tl import _twas_fit as linear
from omicllm.tl._twas_inputs import _FEWEST, read_cohort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from omicllm.tl._twas_inputs import Cohort


@docs.fill()
def sample_size(
    mdata: MuData,
    *,
    model: str | Sequence[str] = ("top1", "enet", "blup"),
    fractions: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0),
    n_draws: int = 5,
    layer: str | None = None,
    window: int | None = None,
    window_key: str = "window",
    variants: Literal["snp", "all"] = "snp",
    min_af: float = 0.05,
    haploid: Literal["double", "single"] = "double",
    heritability: Literal["reml", "he"] = "reml",
    n_folds: int = 5,
    n_iter: int = 600,
    n_boot: int = 1000,
    split_key: str = "split",
    rna: str = "rna",
    geno: str = "geno",
    rng: int | np.random.Generator | None = 0,
    show_progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Fit linear models on shares of the training people, to see what more people would bring.

    Test people are the same throughout.

    Parameters
    ----------
    mdata
        As for :func:`omicllm.tl.twas`.
    model
        Models of :func:`omicllm.tl.twas`.
    fractions
        Shares of each gene's training people.
    n_draws
        Draws of people at each share; all people are drawn once. People of a smaller share are
        among those of a larger one of the same draw.
    layer, window, window_key, variants, min_af, haploid, heritability, n_folds, n_iter, split_key
        As for :func:`omicllm.tl.twas`; frequencies are those among the people drawn.
    n_boot
        Bootstrap draws of the interval.
    rna, geno
        Names of the modalities.
    {rng}
    {show_progress}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``mdata["rna"].uns["sample_size"]["table"]`` : DataFrame
        Per model, ``fraction``, ``draw`` and gene: ``n_people`` (training people) and ``pearson``
        over test people, NaN for a constant prediction.
    ``mdata["rna"].uns["sample_size"]["summary"]`` : DataFrame
        Per model and ``fraction``: ``n_people`` (mean over genes), ``n_draws``, ``mean_pearson``
        over genes and draws with constants as 0, ``low`` and ``high`` (95 % interval over test
        people and draws), ``sd_draws`` (standard deviation of the mean over draws).

    Raises
    ------
    KeyError, ValueError
        As :func:`omicllm.tl.twas`; shares that leave a gene fewer than 20 training people; nobody
        in test.

    Notes
    -----
    The interval resamples test people (the same for all genes) and draws; genes are not
    resampled, so that it says how sure the curve of these genes is. Networks are put beside with
    :func:`omicllm.pl.sample_size`.
    """
    how = linear.settings(
        model, min_af=min_af, heritability=heritability, n_folds=n_folds, n_iter=n_iter
    )
    checks.one_of("variants", variants, ("snp", "all"))
    checks.one_of("haploid", haploid, HAPLOID)
    checks.whole_number("n_draws", n_draws)
    checks.whole_number("n_boot", n_boot)
    if window is not None:
        checks.whole_number("window", window)
    shares = sorted({checks.share("fractions", float(f)) for f in fractions})
    cohort, genotypes = read_cohort(
        mdata, rna, geno, layer=layer, split_key=split_key, windows=[window],
        window_key=window_key, snps=variants == "snp", haploid=haploid,
    )  # fmt: skip
    _enough(cohort, shares)
    generator = rngs.generator(rng)
    cases = [(s, d) for s in shares for d in range(n_draws if s < 1 else 1)]
    n_people, n_genes = cohort.Y.shape
    # One order of people per draw: a larger share of it holds the smaller ones.
    orders = [generator.permutation(n_people) for _ in range(n_draws)]
    rows: list[tuple[Any, ...]] = []
    P = {m: np.zeros((len(cases), n_people, n_genes), dtype=np.float32) for m in how.models}
    for g in progress(range(n_genes), what="Sample size", show_progress=show_progress):
        train, test, y = cohort.train[:, g], cohort.test[:, g], cohort.Y[:, g]
        for c, (share, draw) in enumerate(cases):
            order = orders[draw][train[orders[draw]]]
            some = np.zeros(n_people, dtype=bool)
            some[order[: round(share * len(order))]] = True
            _, dosage = genotypes.of_gene(g, some, min_af)
            fits, _ = linear.fit_gene(dosage[some], y[some], how, generator)
            for m, fit in fits.items():
                predicted = fit.predict(dosage)
                P[m][c, :, g] = predicted
                r = agreement(predicted[test], y[test])[0]
                rows.append((m, share, draw, cohort.genes[g], int(some.sum()), r))
    names = ["model", "fraction", "draw", "gene", "n_people", "pearson"]
    table = pd.DataFrame(rows, columns=names, index=[str(i) for i in range(len(rows))])
    summary = _summary(table, P, cases, cohort, n_boot, generator)
    params = {
        "model": how.models, "fractions": shares, "n_draws": n_draws, "layer": layer,
        "window": window, "window_key": window_key, "variants": variants, "min_af": min_af,
        "haploid": haploid,
        "heritability": heritability, "n_folds": n_folds, "n_iter": n_iter, "n_boot": n_boot,
        "split_key": split_key, "rna": rna, "geno": geno, "rng": rngs.recorded(rng),
    }  # fmt: skip
    arrays = {"table": cohort.as_in_object(table), "summary": summary}
    result = results.Result("tl.sample_size", {}, params, arrays, key_added)
    return results.write(mdata, result, mod=rna, copy=copy)


def _enough(cohort: Cohort, shares: Sequence[float]) -> None:
    if not shares:
        msg = "fractions holds no share of the training people."
        raise ValueError(msg)
    fewest = int(cohort.train.sum(axis=0).min())
    if round(shares[0] * fewest) < _FEWEST:
        msg = (
            f"fractions={shares[0]:g} of {fewest} training people are fewer than {_FEWEST}: start "
            f"at {min(1.0, np.ceil(100 * _FEWEST / fewest) / 100):g}."
        )
        raise ValueError(msg)
    if not cohort.test.any():
        msg = "Nobody is in test: there is nothing to compare predictions with."
        raise ValueError(msg)


def _summary(
    table: pd.DataFrame, P: dict[str, np.ndarray], cases: Sequence[tuple[float, int]],
    cohort: Cohort, n_boot: int, rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """Means over genes and draws, with intervals."""
    scored = np.flatnonzero(cohort.test.any(axis=0))
    times = rng.multinomial(len(cohort.Y), np.full(len(cohort.Y), 1 / len(cohort.Y)), size=n_boot)
    rows = []
    filled = table.assign(pearson=table["pearson"].fillna(0.0))
    filled = filled[filled["gene"].isin(cohort.genes[scored])]
    for m, predictions in P.items():
        for share in dict.fromkeys(s for s, _ in cases):
            block = filled[(filled["model"] == m) & (filled["fraction"] == share)]
            means = block.groupby("draw")["pearson"].mean()
            at = [c for c, (s, _) in enumerate(cases) if s == share]
            # (draw, bootstrap): mean over genes, test people resampled
            r = np.stack([
                np.mean([
                    resampled_agreement(
                        predictions[c, :, g], cohort.Y[:, g], cohort.test[:, g], times
                    ) for g in scored
                ], axis=0) for c in at
            ])  # fmt: skip
            drawn = rng.integers(len(at), size=(len(at), n_boot))
            boot = np.take_along_axis(r, drawn, axis=0).mean(axis=0)
            low, high = np.quantile(boot, (0.025, 0.975))
            sd = float(means.std(ddof=1)) if len(means) > 1 else np.nan
            rows.append((m, share, float(block["n_people"].mean()), len(at),
                         float(means.mean()), float(low), float(high), sd))  # fmt: skip
            logger.info("%s, %.0f people: mean r %.3f", m, rows[-1][2], rows[-1][4])
    names = ["model", "fraction", "n_people", "n_draws", "mean_pearson", "low", "high", "sd_draws"]
    return pd.DataFrame(rows, columns=names, index=[str(i) for i in range(len(rows))])
