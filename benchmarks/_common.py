"""What the benchmark scripts share: where the data are, tables, memory, baselines."""

from __future__ import annotations

import os
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("OMICLLM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def tissue(name: str):
    """Read one tissue set."""
    import anndata

    return anndata.read_h5ad(DATA / "tissue" / f"{name}.h5ad")


def table(rows: list[dict]) -> None:
    """Print rows as a Markdown table."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |")


@contextmanager
def timed(into: dict, name: str = "wall s"):
    """Measure wall time."""
    start = time.perf_counter()
    yield
    into[name] = time.perf_counter() - start


def peak_gib() -> float:
    """Largest memory this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def totals(adata) -> np.ndarray:
    """Counts of each gene."""
    return np.asarray(adata.X.sum(axis=0)).ravel()


def log_images(adata) -> np.ndarray:
    """Log-normalised expression, each gene standardised: float32 (n_genes, n_obs)."""
    import scanpy as sc

    work = adata.copy()
    sc.pp.normalize_total(work)
    sc.pp.log1p(work)
    X = work.X.toarray().T if hasattr(work.X, "toarray") else np.asarray(work.X).T
    X = X - X.mean(axis=1, keepdims=True)
    sd = X.std(axis=1, keepdims=True)
    return (X / np.where(sd > 0, sd, 1)).astype(np.float32)


def pca(images: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """PCA scores of gene images (n_genes, k)."""
    from sklearn.decomposition import PCA

    return PCA(k, random_state=seed).fit_transform(images)


def residual_images(adata) -> np.ndarray:
    """Analytic Pearson residuals by scanpy, genes x spots."""
    import scanpy as sc

    work = adata.copy()
    work.X = np.asarray(work.X.toarray(), dtype=np.float32)
    sc.experimental.pp.normalize_pearson_residuals(work)
    return np.nan_to_num(np.asarray(work.X)).T
