"""Gene embeddings of a section of mouse olfactory bulb, from counts to figures.

Usage: python demo.py [OUTDIR]     (default: demo_output)

Takes the section bundled with omicllm, embeds its genes with SIGEL, finds the neighbours of each
gene, and writes four figures and an h5ad into OUTDIR. Needs no download and no GPU.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np

import omicllm as ol

#: A gene of the granule cell layer, one of mitral and tufted cells, one of the nerve layer.
GENES = ("Penk", "Cdhr1", "Fabp7")


def nearest(adata, gene: str, n: int = 6) -> list[str]:
    """Names of the genes nearest to `gene`, by the graph that `ol.tl.gene_neighbors` wrote."""
    row = adata.varp["sigel_distances"][[adata.var_names.get_loc(gene)]]
    return list(adata.var_names[row.indices[np.argsort(row.data)[:n]]])


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("outdir", nargs="?", default="demo_output", type=Path)
    outdir = parser.parse_args().outdir
    outdir.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    adata = ol.datasets.mouse_olfactory_bulb()
    print(f"mouse olfactory bulb: {adata.n_obs} spots x {adata.n_vars} genes", flush=True)
    ol.tl.sigel(adata, umap=True)
    ol.tl.gene_neighbors(adata)

    near = {gene: nearest(adata, gene) for gene in GENES}
    images = [name for gene in GENES for name in (gene, *near[gene][:3])]
    figures = {
        "gene_images.png": ol.pl.gene_image(adata, images, ncols=4),
        "gene_embedding.png": ol.pl.gene_embedding(
            adata, labels=[*GENES, "Meis2", "Doc2g", "Calb2", "Ptgds"]
        ).figure,
        "gene_clusters.png": ol.pl.gene_heatmap(adata, n_groups=12, ncols=6),
        "history.png": ol.pl.training_history(adata),
    }
    for name, figure in figures.items():
        figure.savefig(outdir / name, dpi=150)
    adata.write_h5ad(outdir / "olfactory_bulb_sigel.h5ad")

    baseline = adata.uns["sigel"]["baseline"]
    k, width = int(baseline["n_neighbors"]), adata.varm["X_sigel"].shape[1]
    sizes = adata.var["sigel_cluster"].value_counts()
    print()
    print(f"neighbours (of {k}) that embeddings of two random halves of the counts share")
    print(f"  SIGEL, {width} dimensions                {float(baseline['sigel']):.3f}")
    print(f"  PCA of Pearson residuals, {width}        {float(baseline['pca']):.3f}")
    print(f"gene clusters                          {int((sizes > 0).sum())}")
    print("nearest genes")
    for gene, names in near.items():
        print(f"  {gene:<7} {', '.join(names)}")
    print()
    print(f"{time.perf_counter() - start:.0f} s; written to {outdir.resolve()}")
    for path in sorted(outdir.iterdir()):
        print(f"  {path.name}")


if __name__ == "__main__":
    main()
