"""Moran's I at scale: speed and memory beside scanpy, exactness, and a matrix read from a file.

Simulated counts on random places with a six-neighbour graph. scanpy is run on some genes with one
thread and its time scaled to all genes. Every case runs in its own process, so that peaks are its
own; `over the data` is the peak of the call less what the process held before it, data included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import table
from scipy import sparse


def simulated(n_obs: int, n_genes: int, density: float):
    """Object with log counts in csr and a graph."""
    import anndata as ad
    from sklearn.neighbors import kneighbors_graph

    rng = np.random.default_rng(0)
    step = 500
    blocks = [
        sparse.random_array((n_obs, min(step, n_genes - s)), density=density, format="csr",
                            dtype=np.float32, rng=rng)
        for s in range(0, n_genes, step)
    ]  # fmt: skip
    adata = ad.AnnData(sparse.csr_matrix(sparse.hstack(blocks, format="csr")))
    graph = kneighbors_graph(rng.random((n_obs, 2)), 6, mode="connectivity")
    adata.obsp["spatial_connectivities"] = sparse.csr_matrix(graph, dtype=np.float64)
    return adata


def memory_gib() -> tuple[float, float]:
    """Memory this process holds now, and the most it has held since the last reset, GiB.

    Not from `getrusage`, whose peak a child inherits from the process that started it.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, most = (float(status[name].split()[0]) / 2**20 for name in ("VmRSS", "VmHWM"))
    return now, most


def case(path: str, how: str, n_jobs: int, n_scanpy: int) -> dict:
    """Run one case; called in a process of its own."""
    import anndata as ad

    import omicllm as ol

    adata = ad.read_h5ad(path, backed="r" if how == "backed" else None)
    if how in ("csc", "dense"):
        adata.X = adata.X.tocsc() if how == "csc" else adata.X.toarray()
    few = ad.AnnData(sparse.random_array((50, 9), density=0.5).tocsr())  # loads what it needs
    few.obsp["spatial_connectivities"] = sparse.eye_array(50, k=1).tocsr()
    ol.tl.spatially_variable_genes(few, method="moran")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of loading does not count
    before = memory_gib()[0]
    start, cpu = time.perf_counter(), time.process_time()
    ol.tl.spatially_variable_genes(adata, method="moran", n_jobs=n_jobs)
    row = {
        "storage": how, "n_jobs": n_jobs, "wall s": time.perf_counter() - start,
        "CPU s": time.process_time() - cpu, "peak GiB": memory_gib()[1],
        "over the data GiB": memory_gib()[1] - before,
    }  # fmt: skip
    if n_scanpy:
        import numba
        import scanpy as sc

        numba.set_num_threads(1)
        W = adata.obsp["spatial_connectivities"]
        genes = adata.X[:, :n_scanpy].T
        genes = genes.tocsr() if sparse.issparse(genes) else genes
        sc.metrics.morans_i(W, genes[:5])
        start, cpu = time.perf_counter(), time.process_time()
        wanted = sc.metrics.morans_i(W, genes)
        scale = adata.n_vars / n_scanpy
        row["scanpy wall s"] = (time.perf_counter() - start) * scale
        row["scanpy CPU s"] = (time.process_time() - cpu) * scale
        found = adata.var["moran_svg_score"].to_numpy()[:n_scanpy]
        row["largest difference"] = float(np.abs(found - wanted).max())
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n-obs", type=int, default=100_000)
    parser.add_argument("--n-genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--storages", nargs="+", default=["csr", "csc", "dense", "backed"])
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--n-scanpy", type=int, default=200)
    parser.add_argument("--one", nargs=2)
    args = parser.parse_args()
    if args.one:
        path, how = args.one
        n_scanpy = 0 if how == "backed" else args.n_scanpy
        print(json.dumps(case(path, how, args.n_jobs, n_scanpy)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.h5ad"
        simulated(args.n_obs, args.n_genes, args.density).write_h5ad(path)
        for how in args.storages:
            command = [
                sys.executable, __file__, "--one", path, how, "--n-jobs", str(args.n_jobs),
                "--n-scanpy", str(args.n_scanpy),
            ]  # fmt: skip
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    names = {name: "" for row in rows for name in row}
    table([names | row for row in rows])


if __name__ == "__main__":
    main()
