"""Pattern search: simulated graded genes among real ones, each looked for by its levels.

Twenty genes are added to `dlpfc_151510_500genes`: random percentiles for the seven cortical
regions of `obs["layer"]`, spread over 5 to 65 as in the publication, negative-binomial draws with
the mean-variance relation of the data. Two kinds: draws handed out by the spots' total (`sorted`)
and at random (`plain`). Rank of each gene in its own query, beside plain co-expression with the
region means (Pearson correlation of log-normalised expression with the levels).
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import table, timed, tissue

import omicllm as ol
from omicllm._core import inputs
from omicllm.spatial import patterns
from omicllm.stats.coexpression import log_normalized, unit_images


def simulated(adata, n: int, kind: str, seed: int):
    """Object with `n` further genes, and the levels of each."""
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(seed)
    X = inputs.gene_major(adata.X)
    text = adata.obs["layer"].astype(str).to_numpy()
    regions = sorted(set(text) - {"nan"})
    members = {r: np.flatnonzero(text == r) for r in regions}
    mean = np.asarray(X.mean(axis=0)).ravel()
    square = np.asarray(X.multiply(X).mean(axis=0)).ravel()
    trend = patterns.dispersion_trend(mean, square - mean**2)
    depth = np.asarray(X.sum(axis=1)).ravel()
    strength = depth if kind == "sorted" else np.zeros(len(depth))
    grades = np.linspace(5, 65, len(regions))
    levels, columns = [], []
    for i in range(n):
        order = np.arange(len(regions)) if i == 0 else rng.permutation(len(regions))
        order = order[::-1] if i == 1 else order
        levels.append({r: float(grades[o]) for r, o in zip(regions, order, strict=True)})
        means = patterns.level_means(X, members, levels[-1])
        draw = patterns.graded_counts(means, members, trend, strength, rng)
        columns.append(np.nan_to_num(draw))
    wider = ad.AnnData(
        sparse.hstack([X, sparse.csc_matrix(np.array(columns).T)]).tocsr().astype(np.float32),
        obs=adata.obs,
        var=pd.DataFrame(index=[*adata.var_names, *(f"simulated{i}" for i in range(n))]),
        obsm={"spatial": adata.obsm["spatial"]},
    )
    return wider, levels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--n", type=int, default=20)
    args = parser.parse_args()
    rows = []
    for kind in ("sorted", "plain"):
        for seed in range(args.seeds):
            adata, levels = simulated(tissue("dlpfc_151510_500genes"), args.n, kind, seed)
            images = unit_images(
                log_normalized(inputs.gene_major(adata.X)), np.arange(adata.n_vars)
            )
            ours, plain, q = [], [], []
            row: dict = {}
            with timed(row):
                for i, level in enumerate(levels):
                    ol.tl.pattern_genes(adata, levels=level, groupby="layer", rng=seed)
                    rank = adata.var["pattern_score"].rank(ascending=False)
                    ours.append(int(rank[f"simulated{i}"]))
                    q.append(float(adata.var["pattern_qval"].iloc[500 + i]))
                    grade = -adata.obs["layer"].astype(str).map(level).to_numpy(dtype=float)
                    grade = np.where(np.isfinite(grade), grade, np.nanmean(grade))
                    score = images @ (grade - grade.mean())
                    plain.append(int((score >= score[500 + i]).sum()))
            for name, ranks in (("tl.pattern_genes", ours), ("correlation with the levels", plain)):
                rows.append(
                    {
                        "draws": kind, "seed": seed, "search": name, "worst rank": max(ranks),
                        "in the top 5": f"{np.sum(np.array(ranks) <= 5)} of {args.n}",
                        "largest q": max(q) if ranks is ours else "",
                        "s per query": row["wall s"] / args.n if ranks is ours else "",
                    }
                )  # fmt: skip
    table(rows)


if __name__ == "__main__":
    main()
