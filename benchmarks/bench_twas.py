"""Linear models of expression: accuracy at COMT, controls, and speed.

COMT and TXNRD2 (Geuvadis, 358 people with genotypes, expression normalised by the authors): five
folds, each person predicted once, correlation with expression over everybody; the mean of the
folds is beside it. Then with COMT's expression permuted. Speed: 364 genes x 373 people, simulated
genotypes of 450 variants in linkage for each gene. Baseline: RidgeCV and LassoCV of scikit-learn.
The sweep of context: the same folds at COMT with several windows, one fixed for all folds against
the one that inner folds choose. Sample size: a third of the people as test, shares of the others.
"""

from __future__ import annotations

import argparse
import time

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from _common import DATA, table
from scipy import sparse
from scipy.stats import norm

import omicllm as ol

COMT = DATA / "genome" / "comt"
FOUR = ["top1", "lasso", "enet", "blup"]


def cohort(seed: int = 0, permute: bool = False):
    """MuData of two genes."""
    geno = ol.io.read_vcf(COMT / "comt.vcf.gz")
    frame = pd.read_csv(COMT / "geuvadis_expression.csv").set_index("sample")
    genes = pd.read_csv(COMT / "genes.csv").set_index("gene_id").loc[frame.columns]
    var = pd.DataFrame({"chrom": genes["chrom"], "tss": genes["tss_local_1based"]})
    rna = ad.AnnData(frame.to_numpy(dtype=np.float32), var=var)
    rna.obs_names, rna.var_names = frame.index, genes["symbol"].to_numpy()
    if permute:
        rna.X = rna.X[np.random.default_rng(seed).permutation(rna.n_obs)]
    return md.MuData({"rna": rna, "geno": geno[rna.obs_names].copy()})


def cross_validated(mdata, models, seed: int, **kwargs) -> dict:
    """Predictions of people in the fold that did not train, and correlation by fold."""
    n = mdata["rna"].n_obs
    fold = np.random.default_rng(seed).permutation(np.arange(n) % 5)
    held = {m: np.zeros((n, mdata["rna"].n_vars)) for m in models}
    by_fold = {m: [] for m in models}
    for k in range(5):
        mdata["rna"].obs["split"] = np.where(fold == k, "test", "train")
        ol.tl.twas(mdata, model=models, rng=seed, **{"window": 80_000, **kwargs})
        for m in models:
            held[m][fold == k] = mdata["rna"].layers[f"twas_{m}"][fold == k]
            by_fold[m].append(np.nan_to_num(mdata["rna"].var[f"twas_{m}_pearson"]))
    Y = np.asarray(mdata["rna"].X)
    pooled = {
        m: [np.corrcoef(held[m][:, g], Y[:, g])[0, 1] for g in range(Y.shape[1])] for m in models
    }
    return {m: (pooled[m], np.mean(by_fold[m], axis=0)) for m in models}


def accuracy(seeds: int, bslmm: bool) -> None:
    models = [*FOUR, "bslmm"] if bslmm else FOUR
    rows = []
    for m in models:
        rows.append({"model": m})
    for name, permute in (("", False), ("permuted ", True)):
        found = [cross_validated(cohort(s, permute), models, s) for s in range(seeds)]
        for row in rows:
            pooled = np.array([f[row["model"]][0] for f in found])
            folds = np.array([f[row["model"]][1] for f in found])
            row[f"{name}COMT"] = float(pooled[:, 0].mean())
            row[f"{name}COMT, mean of folds"] = float(folds[:, 0].mean())
            row[f"{name}COMT, sd over seeds"] = float(pooled[:, 0].std())
            if not permute:
                row["TXNRD2"] = float(pooled[:, 1].mean())
    table(rows)


def simulated(n_genes: int, n: int = 373, m: int = 450, seed: int = 0):
    """Genes on a contig of their own, variants in linkage, h2 .15 from two of them."""
    rng = np.random.default_rng(seed)
    dosage = np.zeros((n, n_genes * m), dtype=np.int8)
    Y = np.zeros((n, n_genes), dtype=np.float32)
    for g in range(n_genes):
        frequency = rng.uniform(0.05, 0.5, m)
        for _ in range(2):
            Z = rng.normal(size=(n, m))
            for j in range(1, m):
                Z[:, j] = 0.95 * Z[:, j - 1] + np.sqrt(1 - 0.95**2) * Z[:, j]
            dosage[:, g * m : (g + 1) * m] += norm.ppf(frequency) > Z
        D = dosage[:, g * m + rng.choice(m, 2)].astype(float)
        signal = (D - D.mean(axis=0)).sum(axis=1)
        Y[:, g] = 0.39 * signal / max(signal.std(), 1e-9) + 0.92 * rng.normal(size=n)
    chrom = np.repeat([f"g{g}" for g in range(n_genes)], m)
    pos = np.tile(np.arange(m) * 100 + 1, n_genes)
    var = pd.DataFrame({"chrom": chrom, "pos": pos, "ref": "A", "alt": "C"})
    var.index = var.index.astype(str)
    geno = ad.AnnData(sparse.csc_matrix(dosage), var=var)
    rna = ad.AnnData(Y, var=pd.DataFrame({"chrom": [f"g{g}" for g in range(n_genes)],
                     "tss": m * 50}, index=[f"gene{g}" for g in range(n_genes)]))  # fmt: skip
    rna.obs["split"] = np.where(np.arange(n) % 5 == 0, "test", "train")
    return md.MuData({"rna": rna, "geno": geno})


def speed(n_genes: int) -> None:
    mdata = simulated(n_genes)
    ol.tl.twas(simulated(2), model=FOUR)
    wall, cpu = time.perf_counter(), time.process_time()
    ol.tl.twas(mdata, model=FOUR)
    row = {"genes": n_genes, "wall s": time.perf_counter() - wall}
    row["CPU s"] = time.process_time() - cpu
    summary = mdata["rna"].uns["twas"]["summary"].set_index("model")["mean_pearson"]
    row |= {f"r {m}": float(summary[m]) for m in FOUR}
    row["mean h2"] = float(mdata["rna"].var["twas_h2"].mean())
    from sklearn.linear_model import LassoCV

    few = min(5, n_genes)
    start = time.process_time()
    train = (mdata["rna"].obs["split"] == "train").to_numpy()
    for g in range(few):
        D = mdata["geno"].X[:, g * 450 : (g + 1) * 450].toarray()[train].astype(float)
        LassoCV(cv=5).fit(D, np.asarray(mdata["rna"].X)[train, g])
    row["LassoCV alone, CPU s for as many"] = (time.process_time() - start) * n_genes / few
    table([row])


def sweep(seeds: int) -> None:
    """Each window alone, and the one chosen inside the training people."""
    lengths = [5_000, 10_000, 20_000, 40_000, 80_000]
    rows = []
    for window in [*lengths, lengths]:
        found = [cross_validated(cohort(s), FOUR, s, window=window) for s in range(seeds)]
        name = "chosen by inner folds" if window is lengths else f"{window:,} bp"
        rows.append({"window": name} | {
            m: float(np.mean([f[m][0][0] for f in found])) for m in FOUR
        })  # fmt: skip
    table(rows)


def people(seeds: int) -> None:
    """Accuracy at COMT against the number of training people, mean of divisions."""
    parts = []
    for seed in range(seeds):
        mdata = cohort(seed)
        order = np.random.default_rng(seed).permutation(mdata["rna"].n_obs)
        mdata["rna"].obs["split"] = np.where(order % 3 == 0, "test", "train")
        ol.tl.sample_size(mdata, model=FOUR, window=80_000, rng=seed)
        genes = ol.get.table(mdata, "sample_size", mod="rna")
        parts.append(genes[genes["gene"] == "COMT"].fillna({"pearson": 0.0}))
    mean = pd.concat(parts).groupby(["n_people", "model"])["pearson"].mean().unstack()
    table([{"people": n} | {m: float(row[m]) for m in FOUR} for n, row in mean.iterrows()])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--genes", type=int, default=364)
    parser.add_argument("--bslmm", action="store_true")
    parser.add_argument("--only", choices=["accuracy", "speed", "sweep", "people"])
    args = parser.parse_args()
    if args.only in (None, "accuracy"):
        accuracy(args.seeds, args.bslmm)
    if args.only in (None, "speed"):
        speed(args.genes)
    if args.only in (None, "sweep"):
        sweep(args.seeds)
    if args.only in (None, "people"):
        people(args.seeds)


if __name__ == "__main__":
    main()
