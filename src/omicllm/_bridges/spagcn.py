"""SpaGCN (Hu et al. 2021, Nature Methods 18:1342), run as its authors published it."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np

from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm._core.optional import require

#: SpaGCN keeps several dense matrices of spots x spots: at this size, about 2 GB.
MAX_SPOTS = 10_000
_WHY = "method='spagcn'"


def load() -> Any:
    """Return the SpaGCN module.

    Raises
    ------
    ImportError
        When it, or the louvain package that starts it, cannot be imported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = require("SpaGCN", extra="spagcn", why=_WHY)
        require("louvain", extra="spagcn", why=_WHY)
    return module


def check_size(n_spots: int) -> None:
    """Raise ValueError where the dense distances of SpaGCN would not fit."""
    if n_spots > MAX_SPOTS:
        msg = (
            f"SpaGCN holds dense matrices of spots x spots: {n_spots} spots would take "
            f"{4e-9 * n_spots**2:.1f} GB each, and it is refused above {MAX_SPOTS}. "
            "Use method='builtin', which holds none."
        )
        raise ValueError(msg)


def spagcn_domains(
    values: np.ndarray,
    coords: np.ndarray,
    groups: np.ndarray,
    k: int,
    *,
    hexagonal: bool,
    seed: int,
    neighborhood: float = 0.5,
    max_epochs: int = 200,
) -> tuple[np.ndarray, np.ndarray]:
    """Spatial domains by SpaGCN without histology, refined.

    The recipe of its tutorial: length scale `l` for a share of expression from the neighbourhood
    of 0.5, Louvain start at the resolution that gives `k` clusters, training, refinement by the
    neighbours. Where no resolution gives `k`, or there are fewer than 50 genes or spots (its
    search takes 50 components), it starts from k-means.

    Parameters
    ----------
    values
        (n, p) log-normalised expression.
    coords
        (n, d) coordinates.
    groups
        (n,) section of each spot; spots of different sections are infinitely far apart.
    k
        Domains.
    hexagonal
        Whether refinement looks at 6 neighbours or at 4.
    seed
        For Python, numpy and torch, whose global states are restored.
    neighborhood
        SpaGCN's `p`.
    max_epochs
        Longest training.

    Returns
    -------
    Labels int64 (n,), and float64 (n,) the probability SpaGCN gave to that label.
    """
    check_size(len(values))
    module = load()
    distance = _distances(module, coords, groups)
    said = io.StringIO()
    with rngs.isolated(seed), warnings.catch_warnings(), contextlib.redirect_stdout(said):
        warnings.simplefilter("ignore")
        label, probability = _train(module, values, distance, k, seed, neighborhood, max_epochs)
        names = [str(i) for i in range(len(label))]
        refined = np.array(label, dtype=np.int64)
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            refined[rows] = module.refine(
                sample_id=[names[i] for i in rows],
                pred=label[rows],
                dis=distance[np.ix_(rows, rows)],
                shape="hexagon" if hexagonal else "square",
            )
    logger.debug("SpaGCN: %s", said.getvalue())
    return refined, probability[np.arange(len(refined)), refined].astype(np.float64)


def _distances(module: Any, coords: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Float32 (n, n) Euclidean distances by SpaGCN, infinite between sections."""
    distance = module.pairwise_distance(np.ascontiguousarray(coords, dtype=np.float32))
    distance[groups[:, None] != groups[None]] = np.inf
    return distance


def _train(
    module: Any,
    values: np.ndarray,
    distance: np.ndarray,
    k: int,
    seed: int,
    neighborhood: float,
    max_epochs: int,
) -> tuple[np.ndarray, np.ndarray]:
    import anndata

    # SpaGCN reads `X.A` of sparse matrices, which scipy no longer has.
    adata = anndata.AnnData(np.ascontiguousarray(values, dtype=np.float32))
    finite = distance[np.isfinite(distance)]
    longest = float(finite.max())
    scale = module.search_l(neighborhood, distance, start=1e-4 * longest, end=longest)
    if scale is None:
        msg = "SpaGCN found no length scale for these coordinates. Use method='builtin'."
        raise ValueError(msg)
    components = min(50, adata.n_vars, adata.n_obs)
    fixed = {"init_spa": True, "tol": 5e-3, "lr": 0.05}
    start: dict[str, Any] = {"init": "kmeans", "n_clusters": k}
    if components == 50:
        seeds = {"r_seed": seed, "t_seed": seed, "n_seed": seed % 2**32}
        resolution = module.search_res(
            adata, distance, scale, k, start=0.7, step=0.1, tol=5e-3, lr=0.05, max_epochs=20,
            **seeds,
        )  # fmt: skip
        if _n_clusters(module, adata, distance, scale, resolution, fixed, seed) == k:
            start = {"init": "louvain", "res": resolution}
    if start["init"] == "kmeans":
        logger.info("SpaGCN starts from k-means: no resolution of Louvain gave %d clusters", k)
    model = module.SpaGCN()
    model.set_l(scale)
    _seed(seed)
    model.train(adata, distance, num_pcs=components, max_epochs=max_epochs, **fixed, **start)
    return model.predict()


def _n_clusters(
    module: Any,
    adata: Any,
    distance: np.ndarray,
    scale: float,
    resolution: float,
    fixed: dict[str, Any],
    seed: int,
) -> int:
    """Clusters that a short training at this resolution ends with, as SpaGCN's search counts."""
    model = module.SpaGCN()
    model.set_l(scale)
    _seed(seed)
    model.train(adata, distance, init="louvain", res=resolution, max_epochs=20, **fixed)
    return len(np.unique(model.predict()[0]))


def _seed(seed: int) -> None:
    """Seed what SpaGCN draws from; only called where the global states are restored later."""
    import random

    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002, TID251
    torch.manual_seed(seed)
