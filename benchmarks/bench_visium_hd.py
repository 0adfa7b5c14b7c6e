"""`tl.sigel` on a simulated Visium HD section, read from disk: time and peak memory.

600,000 bins of 8 um on a square lattice x 2,000 genes, about 100 counts a bin. Half of the genes
follow one of 20 smooth programs, the others are scattered; the depth of bins follows the tissue.
The object is written once, then embedded by another process that opens it with ``backed="r"``.
Bars: 20 minutes and 6 GB on two cores. Right neighbours: share of the ten nearest genes of a gene
with a program that have the same one, beside PCA of log-normalised expression (of 20,000 bins).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import peak_gib, table

import omicllm as ol

N_PROGRAMS = 20


def simulate(path: Path, n_bins: int, n_genes: int, depth: float, seed: int = 0) -> None:
    """Write a section in blocks of rows."""
    import anndata
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_bins)))
    row, col = np.divmod(np.arange(n_bins), side)
    x, y = row / side, col / side
    centre = rng.random((N_PROGRAMS, 2))
    width = rng.uniform(0.05, 0.15, N_PROGRAMS)
    program = np.where(np.arange(n_genes) % 2, -1, np.arange(n_genes) // 2 % N_PROGRAMS)
    abundance = rng.gamma(0.6, size=n_genes) + 0.02
    blocks = []
    for start in range(0, n_bins, 20_000):
        at = slice(start, start + 20_000)
        away = (x[at, None] - centre[:, 0]) ** 2 + (y[at, None] - centre[:, 1]) ** 2
        level = 0.3 + 4 * np.exp(-away / (2 * width**2))
        rate = np.where(program >= 0, level[:, program], 1.0) * abundance
        total = depth * rng.gamma(4.0, 0.25, len(rate)) * (0.6 + 0.8 * y[at])
        rate *= (total / rate.sum(axis=1))[:, None]
        blocks.append(sparse.csr_matrix(rng.poisson(rate), dtype=np.float32))
    adata = anndata.AnnData(
        sparse.vstack(blocks, format="csr"),
        obs=pd.DataFrame(
            {"array_row": row, "array_col": col}, index=[f"b{i}" for i in range(n_bins)]
        ),
        var=pd.DataFrame({"program": program}, index=[f"g{i}" for i in range(n_genes)]),
        obsm={"spatial": np.stack([col, row], axis=1) * 8.0},
    )  # fmt: skip
    adata.write_h5ad(path)


def embed(path: Path) -> None:
    """What the timed process does."""
    import anndata

    adata = anndata.read_h5ad(path, backed="r")
    ol.tl.sigel(adata)  # loads the packages, and is part of what a user waits for
    program = adata.var["program"].to_numpy()
    out = {"right neighbours": right_neighbours(adata.varm["X_sigel"], program)}
    print("RESULT", peak_gib(), out["right neighbours"], adata.X.shape)


def right_neighbours(Z: np.ndarray, program: np.ndarray, k: int = 10) -> float:
    """Share of the nearest genes that have the gene's program."""
    Z = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    near = Z @ Z.T
    np.fill_diagonal(near, -2)
    found = np.argsort(-near, axis=1)[:, :k]
    mine = program >= 0
    return float((program[found[mine]] == program[mine][:, None]).mean())


def baseline(path: Path, n: int = 20_000) -> float:
    """The same of PCA of log-normalised expression of some bins."""
    import anndata
    import scanpy as sc
    from sklearn.decomposition import PCA

    backed = anndata.read_h5ad(path, backed="r")
    rows = np.sort(np.random.default_rng(0).permutation(backed.n_obs)[:n])
    adata = backed[rows].to_memory()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    X = adata.X.toarray().T
    X = (X - X.mean(axis=1, keepdims=True)) / np.maximum(X.std(axis=1, keepdims=True), 1e-9)
    return right_neighbours(
        PCA(32, random_state=0).fit_transform(X), adata.var["program"].to_numpy()
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bins", type=int, default=600_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--depth", type=float, default=100.0)
    parser.add_argument("--embed", type=Path, help="used by the script itself")
    args = parser.parse_args()
    if args.embed:
        embed(args.embed)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hd.h5ad"
        simulate(path, args.bins, args.genes, args.depth)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--embed", str(path)], check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        wall = time.perf_counter() - start
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = next(ln for ln in done.stdout.splitlines() if ln.startswith("RESULT")).split()
        table([{
            "bins": args.bins, "genes": args.genes, "file MB": path.stat().st_size / 2**20,
            "wall s": wall, "CPU s": spent.ru_utime + spent.ru_stime,
            "peak GiB": float(line[1]), "right neighbours": float(line[2]),
            "PCA, 20,000 bins": baseline(path),
        }])  # fmt: skip


if __name__ == "__main__":
    main()
