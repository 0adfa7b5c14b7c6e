"""A whole transcriptome: time, memory, and whether the embedding is the expression level.

`visium_mouse_embryo`, 19,465 genes x 2,898 spots, default call. The baseline is PCA-64 of
standardised log images. The correlation is that of the first principal component of the
embedding, over expressed genes, with log mean expression.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import log_images, pca, peak_gib, table, timed, tissue, totals

import omicllm as ol


def level_correlation(Z: np.ndarray, mean: np.ndarray) -> float:
    """Absolute correlation of the first principal component with log mean expression."""
    keep = mean > 0
    first = pca(np.asarray(Z)[keep], 1)[:, 0]
    return float(abs(np.corrcoef(first, np.log(mean[keep]))[0, 1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", default="visium_mouse_embryo")
    args = parser.parse_args()
    adata = tissue(args.set)
    mean = totals(adata) / adata.n_obs
    row = {"embedding": "tl.sigel (default)", "wall s": 0.0, "peak GiB": 0.0}
    with timed(row):
        ol.tl.sigel(adata)
    row["peak GiB"] = peak_gib()
    row["abs. correlation with level"] = level_correlation(adata.varm["X_sigel"], mean)
    other = {"embedding": "PCA-64 of log images"}
    with timed(other):
        Z = pca(log_images(adata), 64)
    other["peak GiB"] = peak_gib()
    other["abs. correlation with level"] = level_correlation(Z, mean)
    table([row, other])
    print("halves of the counts:", dict(adata.uns["sigel"]["baseline"]))
    print("genes without counts:", int(adata.var["sigel_empty"].sum()))


if __name__ == "__main__":
    main()
