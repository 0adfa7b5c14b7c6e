"""Planted programs: share of nearest genes with the same program, and k-means ARI.

`planted_programs_600` as it is and with counts thinned to 5 %, default call, mean of seeds, beside
PCA-32 of standardised log images (library-normalised, and not).
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import log_images, pca, table, tissue
from sklearn.cluster import KMeans

import omicllm as ol


def thinned(adata, share: float, seed: int):
    """Counts kept by coins."""
    out = adata.copy()
    rng = np.random.default_rng(seed)
    out.X.data = rng.binomial(out.X.data.astype(int), share).astype(np.float32)
    out.X.eliminate_zeros()
    return out


def plain_images(adata) -> np.ndarray:
    """log(1 + count), standardised per gene, without library normalisation."""
    X = np.log1p(adata.X.toarray().T)
    X = X - X.mean(axis=1, keepdims=True)
    sd = X.std(axis=1, keepdims=True)
    return X / np.where(sd > 0, sd, 1)


def scores(Z: np.ndarray, program: np.ndarray, kmeans_seeds: range) -> tuple[float, float]:
    """Recall@10 among all genes, and ARI of k-means over patterned genes."""
    patterned = program >= 0
    unit = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    found = [
        ol.metrics.ari(
            program[patterned],
            KMeans(20, n_init=10, random_state=s).fit_predict(unit[patterned]),
        )
        for s in kmeans_seeds
    ]
    recall = ol.metrics.neighbor_recall(Z, program, k=10, rows=patterned)
    return recall, float(np.mean(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kmeans-seeds", type=int, default=4)
    args = parser.parse_args()
    planted = tissue("planted_programs_600")
    program = planted.var["program"].to_numpy()
    rows = []
    for share in (1.0, 0.05):
        results: dict[str, list] = {}
        for seed in range(args.seeds):
            adata = planted.copy() if share == 1 else thinned(planted, share, seed)
            ol.tl.sigel(adata, rng=seed)
            found = {
                "tl.sigel (default)": np.asarray(adata.varm["X_sigel"]),
                "PCA-32, log library-normalised": pca(log_images(adata), 32, seed),
                "PCA-32, log": pca(plain_images(adata), 32, seed),
            }
            for name, Z in found.items():
                results.setdefault(name, []).append(scores(Z, program, range(args.kmeans_seeds)))
        for name, values in results.items():
            mean, sd = np.mean(values, axis=0), np.std(values, axis=0)
            rows.append(
                {
                    "counts kept": f"{share:.0%}", "embedding": name,
                    "recall@10": float(mean[0]), "sd ": float(sd[0]),
                    "ARI": float(mean[1]), "sd": float(sd[1]),
                }
            )  # fmt: skip
    table(rows)


if __name__ == "__main__":
    main()
