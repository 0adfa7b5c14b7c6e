"""From genes back to cells: labelled sections, `tl.project_genes` beside PCA of the same width.

For each section: ARI of k-means with as many clusters as labels (mean of seeds) and share of the 10
nearest observations (Euclidean) that bear the observation's label. PCA is that of scanpy's recipe
(counts scaled to the median total, log, centred), of as many axes as the gene embedding; once as it
is and once with rows of unit length, since projected rows have it by default. `random` projects
random gene vectors. Observations without a label are dropped before scoring.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from _common import table, tissue

import omicllm as ol

SECTIONS = {
    "mob_rep11_layers": "layer",
    "dlpfc_151510_500genes": "layer",
    "her2st_B1": "pathologist",
    "her2st_D1": "pathologist",
    "her2st_E1": "pathologist",
    "starmap_mpfc_bz5": "domain",
}


def scores(F: np.ndarray, labels: np.ndarray, seeds: int) -> tuple[float, float]:
    """ARI of k-means and purity of the nearest neighbours."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score
    from sklearn.neighbors import NearestNeighbors

    k = len(set(labels))
    found = [KMeans(k, n_init=5, random_state=s).fit_predict(F) for s in range(seeds)]
    near = NearestNeighbors(n_neighbors=11).fit(F).kneighbors(F, return_distance=False)[:, 1:]
    ari = float(np.mean([adjusted_rand_score(labels, c) for c in found]))
    return ari, float((labels[near] == labels[:, None]).mean())


def unit(F: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return F / np.maximum(np.linalg.norm(F, axis=1, keepdims=True), 1e-12)


def main() -> None:
    """Print the table."""
    import scanpy as sc

    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=list(SECTIONS))
    args = parser.parse_args()
    rows = []
    for name in args.sets:
        adata = tissue(name)
        ol.tl.sigel(adata)
        rng = np.random.default_rng(0)
        adata.varm["X_random"] = rng.normal(size=adata.varm["X_sigel"].shape).astype(np.float32)
        for key in ("sigel", "random"):
            ol.tl.project_genes(adata, use_varm=f"X_{key}")
        ol.tl.project_genes(adata, unit_length=False, key_added="plain")
        work = adata.copy()
        sc.pp.normalize_total(work)
        sc.pp.log1p(work)
        width = min(adata.varm["X_sigel"].shape[1], *(s - 1 for s in adata.shape))
        sc.pp.pca(work, n_comps=width, random_state=0)
        labels = adata.obs[SECTIONS[name]].astype(str).to_numpy()
        kept = ~np.isin(labels, ["nan", "NA", "", "undetermined"])
        views = {
            "PCA": work.obsm["X_pca"],
            "PCA, leading 50 axes": work.obsm["X_pca"][:, :50],
            "PCA, unit rows": unit(work.obsm["X_pca"]),
            "random": adata.obsm["X_random_cells"],
            "projected": adata.obsm["X_sigel_cells"],
            "projected, unit_length=False": adata.obsm["X_plain_cells"],
        }
        for view, F in views.items():
            ari, purity = scores(np.asarray(F)[kept], labels[kept], args.seeds)
            rows.append(
                {"section": name, "n": int(kept.sum()), "labels": len(set(labels[kept])),
                 "axes": width, "embedding": view, "ARI": ari, "purity of 10 neighbours": purity}
            )  # fmt: skip
            print(list(rows[-1].values()), file=sys.stderr, flush=True)
    table(rows)
    print("\nmean of sections")
    table(
        [
            {"embedding": view,
             **{c: float(np.mean([r[c] for r in rows if r["embedding"] == view]))
                for c in ("ARI", "purity of 10 neighbours")}}
            for view in dict.fromkeys(r["embedding"] for r in rows)
        ]
    )  # fmt: skip


if __name__ == "__main__":
    main()
