"""Spatial domains of 350,000 simulated cells with 30 given components: time and peak memory.

Cells lie at random in a square cut into ten stripes; each stripe has its own mean in 30 components
under unit noise. Bars: 5 minutes, 4 GB. Dense distances of as many cells would take 490 GB in
single precision.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _common import peak_gib, table, timed

import omicllm as ol


def main() -> None:
    """Print the table."""
    import anndata
    import pandas as pd
    import squidpy as sq

    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=350_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    coords = rng.random((args.n, 2))
    truth = (coords[:, 0] * 10).astype(int)
    P = 0.4 * rng.normal(size=(10, 30))[truth] + rng.normal(size=(args.n, 30))
    adata = anndata.AnnData(
        obs=pd.DataFrame(index=[str(i) for i in range(args.n)]),
        obsm={"spatial": coords, "X_pca": P.astype(np.float32)},
    )
    watch: dict = {}
    with timed(watch, "graph s"):
        sq.gr.spatial_neighbors(adata, n_neighs=6, coord_type="generic")
    before = peak_gib()
    start = time.process_time()
    with timed(watch, "domains, wall s"):
        ol.tl.spatial_domains(adata, n_domains=10, use_rep="X_pca")
    watch["domains, CPU s"] = time.process_time() - start
    row = {
        "cells": args.n, **watch, "peak GiB": peak_gib(), "of it before the call": before,
        "ARI with the stripes": ol.metrics.ari(truth, adata.obs["spatial_domain"]),
    }  # fmt: skip
    table([row])


if __name__ == "__main__":
    main()
