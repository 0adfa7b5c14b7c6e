"""Changed patterns: genes whose maps are swapped in one condition, made from real sections.

`blocks`: `st_hippo1` against `st_hippo2`, one section per condition. `sections`: the four serial
sections of `breast_cancer_layers_bcl`, two against two. In one condition the columns of 25 pairs
of genes are swapped; pairs are drawn at random among genes with enough counts, both of about the
same level, whatever their patterns (the swap of two genes of one pattern changes nothing). AUROC
of the 50 genes, beside two plain scores: 1 - correlation of a gene's correlations with all other
genes (no account of noise), and the change of mean expression. Below: nothing swapped, shares of
small p values for ways to deal the conditions.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import table, timed, tissue, totals

import omicllm as ol
from omicllm._core import inputs
from omicllm.stats.coexpression import log_normalized, unit_images
from omicllm.stats.scores import auroc


def sections(kind: str):
    """Joined object with columns `slide` and `condition`."""
    import anndata as ad

    if kind == "blocks":
        both = {n: tissue(n) for n in ("st_hippo1", "st_hippo2")}
        adata = ad.concat(both, label="slide", index_unique="-")
        adata.obs["condition"] = np.where(adata.obs["slide"] == "st_hippo1", "a", "b")
    else:
        adata = tissue("breast_cancer_layers_bcl")
        adata.obs["slide"] = adata.obs["layer_section"].astype(str)
        names = sorted(set(adata.obs["slide"]))
        first = adata.obs["slide"].isin([names[0], names[2]])
        adata.obs["condition"] = np.where(first, "a", "b")
    return adata


def swapped(adata, seed: int, least: int):
    """The object with 25 pairs of genes swapped in condition b, and which genes they are."""
    rng = np.random.default_rng(seed)
    total = np.min(
        [totals(adata[adata.obs["slide"] == s]) for s in set(adata.obs["slide"])], axis=0
    )
    able = np.flatnonzero(total >= least)
    able = able[np.argsort(totals(adata)[able], kind="stable")]
    first = rng.choice(len(able) // 2, 25, replace=False) * 2
    a, b = able[first], able[first + 1]
    out = adata.copy()
    X = out.X.toarray()
    rows = np.flatnonzero(out.obs["condition"] == "b")
    X[np.ix_(rows, a)], X[np.ix_(rows, b)] = X[np.ix_(rows, b)], X[np.ix_(rows, a)].copy()
    out.X = X
    changed = np.zeros(adata.n_vars, dtype=bool)
    changed[a] = changed[b] = True
    return out, changed


def plain(adata, tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - correlation of correlations, and absolute change of log mean expression."""
    maps, means = [], []
    for condition in ("a", "b"):
        part = adata[adata.obs["condition"] == condition]
        X = log_normalized(inputs.gene_major(part.X))
        images = unit_images(X, tested, part.obs["slide"].to_numpy())
        maps.append(images @ images.T)
        means.append(np.asarray(X.mean(axis=0)).ravel()[tested])
    a, b = (m - m.mean(axis=1, keepdims=True) for m in maps)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return 1 - (a * b).sum(axis=1) / norm, np.abs(np.log(means[0] / means[1]))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--least", type=int, default=200, help="counts in every section")
    args = parser.parse_args()
    keys = {"batch_key": "slide", "condition_key": "condition"}
    rows, empty = [], []
    for kind in ("sections", "blocks"):
        adata = sections(kind)
        for seed in range(args.seeds):
            one, changed = swapped(adata, seed, args.least)
            row = {"test": kind, "seed": seed}
            with timed(row):
                ol.tl.compare_genes(one, **keys, rng=seed)
            tested = np.flatnonzero(one.var["compare_score"].notna())
            score, q = one.var["compare_score"].to_numpy(), one.var["compare_qval"].to_numpy()
            row["genes tested"] = len(tested)
            row["AUROC"] = auroc(score[tested], changed[tested])
            for name, other in zip(
                ("correlations", "mean expression"), plain(one, tested), strict=True
            ):
                row[f"AUROC, {name}"] = auroc(other, changed[tested])
            row["found at q < .05"] = f"{np.sum(q[changed] < 0.05)} of 50"
            row["false at q < .05"] = int(np.sum(q[tested][~changed[tested]] < 0.05))
            rows.append(row)
        names = sorted(set(adata.obs["slide"]))
        splits = [(0, 2)] if kind == "blocks" else [(0, 1), (0, 2), (0, 3)]
        for split in splits:
            chosen = [names[i] for i in split if i < len(names)]
            in_a = adata.obs["slide"].isin(chosen)
            adata.obs["condition"] = np.where(in_a, "a", "b")
            ol.tl.compare_genes(adata, **keys)
            p, q = adata.var["compare_pval"].dropna(), adata.var["compare_qval"].dropna()
            empty.append(
                {"test": kind, "condition a": "+".join(chosen),
                 "p < .05": float(np.mean(p < 0.05)), "p < .5": float(np.mean(p < 0.5)),
                 "q < .05": int(np.sum(q < 0.05))}
            )  # fmt: skip
    table(rows)
    print()
    table(empty)


if __name__ == "__main__":
    main()
