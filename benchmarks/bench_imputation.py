"""Imputation: genes hidden from a tissue, against the kNN baseline in the same folds.

`osmfish`: 33 genes, single-cell reference. `merfish`: 134 genes, single-cell reference. Genes are
cut into 5 folds; each is removed from the tissue and imputed from the others. `hippo`: section
`st_hippo2` cut to 200 genes, 150 others imputed from section `st_hippo1`.

Scales: `log1p` of counts, and `normalised`: counts divided by the total of the genes that are
kept (hidden genes take no part), times the median total, then log1p; the same for the reference.
kNN: mean of 50 reference cells, cosine of 20 principal components of the shared genes.
Coverage is the share of measured values in the 90 % interval.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import peak_gib, table, timed, tissue

import omicllm as ol
from omicllm.spatial.sections import make_grid, section_grids
from omicllm.tl._impute_genes import section_ssim

PAIRS = {
    "osmfish": ("osmfish_cortex", "osmfish_scrna_reference"),
    "merfish": ("merfish_hypothalamus_mini", "merfish_hypothalamus_scrna_reference"),
    "hippo": ("st_hippo2", "st_hippo1"),
}


def on_scale(adata, genes: np.ndarray, kept: np.ndarray, scale: str):
    """Some genes of an object, on a log scale that does not know the genes that are not kept."""
    part = adata[:, genes].copy()
    X = part.X.toarray().astype(np.float64)
    if scale == "normalised":
        total = adata[:, kept].X.toarray().sum(axis=1)
        X *= (np.median(total[total > 0]) / np.maximum(total, 1))[:, None]
    part.X = np.log1p(X).astype(np.float32)
    return part


def splits(name: str, seed: int):
    """(both objects, names of shared genes, names of genes to impute), fold by fold."""
    a, b = (tissue(n) for n in PAIRS[name])
    genes = np.array([g for g in a.var_names if g in set(b.var_names)])
    rng = np.random.default_rng(seed)
    if name == "hippo":
        least = np.min([np.asarray(x[:, genes].X.sum(axis=0)).ravel() for x in (a, b)], axis=0)
        chosen = rng.permutation(genes[least >= 100])[:350]
        yield a, b, chosen[:200], chosen[200:]
        return
    for test in np.array_split(rng.permutation(len(genes)), 5):
        yield a, b, np.delete(genes, test), genes[test]


def compared(full, imputed, lower=None, upper=None) -> dict[str, float]:
    """Scores of one fold."""
    measured = full.X
    grids = section_grids(full, *make_grid(full, agg="mean"))
    out = {
        "Pearson": float(ol.metrics.gene_pearson(measured, imputed).mean()),
        "SSIM": float(np.nanmean(section_ssim(measured, imputed, np.arange(full.n_obs), grids))),
    }
    if lower is not None:
        inside = (measured >= lower - 1e-6) & (measured <= upper + 1e-6)
        out["coverage"] = float(inside.mean())
        out["coverage, measured > 0"] = float(inside[measured > 0].mean())
    return out


def verb(method: str):
    """`tl.impute_genes` as a function of a fold."""

    def run(a, b, hidden, seed):
        ol.tl.impute_genes(a, reference=b, genes=list(hidden), method=method, rng=seed)
        key = "sigel_imputed"
        return a.obsm[key], a.obsm[f"{key}_lower"], a.obsm[f"{key}_upper"]

    return run


def generator(weight: float):
    """`model.SIGELImputer` as a function of a fold."""

    def run(a, b, hidden, seed):
        ol.model.SIGELImputer.setup_anndata(a)
        model = ol.model.SIGELImputer(a, b, genes=list(hidden), seed=seed)
        model.train(adversarial_weight=weight, rng=seed)
        return (model.get_imputed().to_numpy(),)

    return run


METHODS = {
    "sigel": verb("sigel"),
    "knn": verb("knn"),
    "SIGELImputer": generator(0.01),
    "SIGELImputer, no critic": generator(0.0),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model-seeds", type=int, default=1, help="seeds of the trained models")
    parser.add_argument("--data", nargs="+", default=list(PAIRS))
    parser.add_argument("--large", type=int, default=0, help="cells of a size test, with 200 genes")
    args = parser.parse_args()
    if args.large:
        size(args.large)
        return
    rows = []
    for name in args.data:
        for scale in ("normalised", "log1p"):
            for method, run in METHODS.items():
                trained = method.startswith("SIGELImputer")
                seeds = args.model_seeds if trained else args.seeds
                means = []
                for seed in range(seeds):
                    folds = []
                    for a, b, shared, hidden in splits(name, seed):
                        tissue_part = on_scale(a, shared, shared, scale)
                        both = np.concatenate([shared, hidden])
                        reference = on_scale(b, both, shared, scale)
                        full = on_scale(a, hidden, shared, scale)
                        row: dict[str, float] = {}
                        with timed(row, "s per fold"):
                            made = run(tissue_part, reference, hidden, seed)
                        folds.append(compared(full, *made) | row)
                    means.append({k: np.mean([f[k] for f in folds]) for k in folds[0]})
                out = {"data": name, "scale": scale, "method": method}
                out["Pearson"] = round(float(np.mean([m["Pearson"] for m in means])), 3)
                out["per seed"] = " ".join(f"{m['Pearson']:.3f}" for m in means)
                for key in ("SSIM", "coverage", "coverage, measured > 0", "s per fold"):
                    known = [m[key] for m in means if key in m]
                    out[key] = f"{np.mean(known):.3f}" if known else "-"
                rows.append(out)
                print(out, flush=True)
    table(rows)


def size(n: int) -> None:
    """Time and memory of one call on simulated cells: 200 shared genes, 100 imputed."""
    import anndata as ad
    import pandas as pd

    rng = np.random.default_rng(0)
    programs = rng.gamma(0.3, 2.0, (12, 300))
    names = pd.Index([f"g{i}" for i in range(300)])

    def cells(m: int):
        mix = rng.dirichlet(np.full(12, 0.2), m).astype(np.float32)
        X = rng.poisson(mix @ programs.astype(np.float32)).astype(np.float32)
        return ad.AnnData(np.log1p(X), var=pd.DataFrame(index=names))

    reference, adata = cells(10_000), cells(n)[:, :200].copy()
    adata.obsm["spatial"] = rng.uniform(0, np.sqrt(n), (n, 2))
    row: dict = {"cells": n, "GiB before": peak_gib()}
    with timed(row):
        ol.tl.impute_genes(adata, reference=reference)
    row["GiB peak"] = peak_gib()
    row |= {k: adata.uns["sigel_imputed"]["baseline"][k] for k in ("pearson", "pearson_knn")}
    table([row])


if __name__ == "__main__":
    main()
