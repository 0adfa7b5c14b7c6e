"""Every sampler on real cohorts: means of `ol.tl.augment_quality` over stratified splits.

The row "real" of the same run is the baseline: its accuracy is that of the classifier trained on
the real training rows. Signatures for the crossovers are the genes highest in each class against
the rest (t statistic of log values), chosen on the training rows of each split.
"""

from __future__ import annotations

import argparse

import anndata as ad
import numpy as np
import pandas as pd
from _common import DATA, table

import omicllm as ol


def signatures(adata: ad.AnnData, key: str, n: int = 50) -> dict[str, list[str]]:
    """Genes highest in each class, from the training rows."""
    train = adata[(adata.obs["split"] == "train") & adata.obs[key].notna()]
    values, label = np.log1p(train.X), train.obs[key].astype(str).to_numpy()
    out = {}
    for name in np.unique(label):
        a, b = values[label == name], values[label != name]
        t = (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(a.var(axis=0) + b.var(axis=0) + 0.1)
        out[name] = list(adata.var_names[np.argsort(-t)[:n]])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    n_splits = parser.parse_args().splits
    adata = ad.read_h5ad(DATA / "bulk" / "tcga_coadread_cms.h5ad")
    found = []
    for seed in range(n_splits):
        ol.pp.split(adata, labels_key="CMS", test_size=0.3, val_size=0, rng=seed)
        ol.tl.augment_quality(
            adata, labels_key="CMS", signatures=signatures(adata, "CMS"), rng=seed
        )
        found.append(ol.get.table(adata, "augment_quality"))
    mean = pd.concat(found).groupby("sampler", sort=False).mean().reset_index()
    error = pd.concat(found).groupby("sampler", sort=False)["accuracy"].sem()
    mean["s.e. of accuracy"] = error.to_numpy()
    print(f"tcga_coadread_cms, {n_splits} splits, 100 rows per class\n")
    table(mean.to_dict("records"))


if __name__ == "__main__":
    main()
