"""Replicate agreement: the neighbours of genes in two sections that are embedded apart.

Mean overlap of the 20 nearest genes (cosine) between `st_hippo1` and `st_hippo2`, over the genes
with at least 100 counts in both, beside PCA of gene images. Also: agreement between seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import log_images, pca, residual_images, table, timed, tissue, totals

import omicllm as ol


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pair", nargs=2, default=["st_hippo1", "st_hippo2"])
    parser.add_argument("--no-baseline", action="store_true")
    args = parser.parse_args()
    sections = [tissue(n) for n in args.pair]
    common = set.intersection(*(set(a.var_names[totals(a) >= 100]) for a in sections))
    names = [g for g in sections[0].var_names if g in common]
    index = [a.var_names.get_indexer(names) for a in sections]
    print(f"{len(names)} genes with at least 100 counts in both sections")

    def agreement(embeddings: list[np.ndarray]) -> float:
        return ol.metrics.neighbor_overlap(*(z[i] for z, i in zip(embeddings, index, strict=True)))

    rows = []
    if not args.no_baseline:
        for label, images in (("log, standardised", log_images), ("Pearson", residual_images)):
            stacks = [images(a) for a in sections]
            for k in (32, 64, 128):
                value = agreement([pca(s, k) for s in stacks])
                rows.append({"embedding": f"PCA of {label}", "d": k, "overlap@20": value})
    row = {"embedding": "tl.sigel (default)", "d": 0, "overlap@20": 0.0}
    with timed(row):
        for a in sections:
            ol.tl.sigel(a)
    row["d"] = sections[0].varm["X_sigel"].shape[1]
    row["overlap@20"] = agreement([a.varm["X_sigel"] for a in sections])
    first = {**row, "wall s": 0.0}
    rows = [{**first, **r, "wall s": r.get("wall s", float("nan"))} for r in [*rows, row]]
    table(rows)
    for a, name in zip(sections, args.pair, strict=True):
        print(name, "halves of the counts:", dict(a.uns["sigel"]["baseline"]))

    one = tissue(args.pair[0])
    one = one[:, totals(one) >= 100].copy()
    runs = []
    for seed in (0, 0, 1, 2):
        ol.tl.sigel(one, rng=seed)
        runs.append(one.varm["X_sigel"].copy())
    print("same seed, bit-identical:", bool(np.array_equal(runs[0], runs[1])))
    seeds = [ol.metrics.neighbor_overlap(runs[1], r) for r in runs[2:]]
    print("other seeds, overlap@20:", [round(s, 3) for s in seeds])


if __name__ == "__main__":
    main()
