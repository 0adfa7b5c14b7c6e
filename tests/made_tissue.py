"""Made sections with image features that do, or do not, go with expression."""

from __future__ import annotations

import numpy as np


def made_section(name="s1", *, seed=0, side=12, n_genes=30, n_features=10, link=True, depth=800.0):
    """A square section: three smooth fields drive genes and, with `link`, image features."""
    import anndata as ad
    from scipy import sparse

    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)  # what is the same in every section
    loadings = fixed.normal(size=(3, n_genes))
    mix = fixed.normal(size=(3, n_features))
    base = fixed.uniform(-1.5, 1.5, n_genes)
    y, x = np.divmod(np.arange(side * side), side)
    xy = np.stack([x, y], axis=1).astype(float)
    waves = rng.normal(size=(3, 6, 2)) * 0.35
    phase = rng.uniform(0, 2 * np.pi, (3, 6))
    fields = np.sin(np.einsum("fwd,nd->nfw", waves, xy) + phase).sum(2) / np.sqrt(3)
    shown = fields if link else rng.normal(size=fields.shape)
    features = shown @ mix + 0.7 * rng.normal(size=(len(xy), n_features)) + rng.normal(size=10)
    rate = np.exp(base + 0.6 * fields @ loadings)
    rate /= rate.sum(axis=1, keepdims=True)
    total = depth * rng.lognormal(0, 0.2, len(xy))
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(total[:, None] * rate).astype(np.float32)))
    adata.obs_names = [f"{name}-{i}" for i in range(len(xy))]
    adata.var_names = [f"Gene{i}" for i in range(n_genes)]
    adata.obs["section"] = name
    adata.obsm["spatial"] = xy * 100.0
    adata.obsm["X_classical"] = features.astype(np.float32)
    return adata


def made_sections(names=("s1", "s2"), **kwargs):
    """Several sections in one object."""
    import anndata as ad

    return ad.concat([made_section(n, seed=i + 1, **kwargs) for i, n in enumerate(names)])
