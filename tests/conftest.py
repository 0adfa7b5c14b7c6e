"""Data for tests: bundled sections, small made-up sets, and larger real sets where present."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The arrays of the tests are too small to share out; threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the larger real sets (environment variable OMICLLM_DATA)."""
    folder = Path(os.environ.get("OMICLLM_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "tissue").exists():
        pytest.skip(f"the larger data sets are not at {folder} (set OMICLLM_DATA)")
    return folder


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures that a test opened are closed after it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def mob():
    """The bundled section 1."""
    import omicllm as ol

    return ol.datasets.mouse_olfactory_bulb()


@pytest.fixture
def tiny():
    """120 spots on a hexagonal array x 40 genes in four patterns, two genes empty."""
    return make_tiny()


def make_tiny(n_genes: int = 40, seed: int = 0, depth: float = 6.0):
    """Make counts of `n_genes` genes in four planted patterns; genes 3 and 4 are zero."""
    import anndata as ad
    from scipy import sparse

    rng = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(120), 10)
    array_col = 2 * col + row % 2
    x, y = col / 9, row / 11
    patterns = np.stack([x, 1 - x, np.exp(-8 * (y - 0.5) ** 2), (x > 0.5) * (y > 0.5)], axis=1)
    program = np.arange(n_genes) % 4
    mean = depth * (0.05 + patterns[:, program]) * rng.uniform(0.5, 2, n_genes)
    counts = rng.poisson(mean).astype(np.float32)
    counts[:, 3:5] = 0
    adata = ad.AnnData(sparse.csr_matrix(counts))
    adata.obs_names = [f"spot{i}" for i in range(120)]
    adata.var_names = [f"Gene{i}" for i in range(n_genes)]
    adata.obs["array_row"], adata.obs["array_col"] = row, array_col
    adata.obsm["spatial"] = np.stack([array_col * 50.0, row * 87.0], axis=1)
    adata.var["program"] = program
    return adata
