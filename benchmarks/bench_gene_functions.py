"""Gene functions: hidden members of gene families, found by their neighbours.

Families by symbol on `visium_mouse_embryo`. Cross-validated AUROC of neighbour voting in the
embedding, beside the same vote, with the same folds, by plain co-expression (correlation of
log-normalised gene images) and in PCA of those images. Mean of seeds of the folds.
"""

from __future__ import annotations

import argparse
import re

import numpy as np
from _common import table, timed, tissue

import omicllm as ol
from omicllm._core import inputs
from omicllm.stats.coexpression import log_normalized, unit_images
from omicllm.stats.gene_sets import membership
from omicllm.stats.voting import cross_validated_votes, fold_of_members

FAMILIES = {
    "Rpl/Rps": r"^Rp[ls]\d+[axyl]?\d*$",
    "Mrpl/Mrps": r"^Mrp[ls]\d+[a-z]?$",
    "Nduf": r"^Nduf",
    "Col": r"^Col\d+a\d",
    "Krt": r"^Krt\d",
    "Hb": r"^Hb[abgd][-0-9a-z]*",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", default="visium_mouse_embryo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pca", type=int, default=128)
    args = parser.parse_args()
    adata = tissue(args.set)
    sets = {
        name: [g for g in adata.var_names if re.match(pattern, g)]
        for name, pattern in FAMILIES.items()
    }
    ol.tl.sigel(adata)
    row: dict = {}
    found = []
    with timed(row):
        for seed in range(args.seeds):
            ol.tl.gene_functions(adata, gene_sets=sets, rng=seed)
            found.append(ol.get.table(adata, "gene_functions", table="sets").set_index("set"))
    mean = sum(f[["auroc", "auroc_coexpression"]] for f in found) / len(found)
    genes = np.flatnonzero(~adata.var["sigel_empty"])
    names = adata.var_names.to_numpy()
    members = membership({s: sets[s] for s in mean.index}, names, np.ones(len(names), bool))[genes]
    images = unit_images(log_normalized(inputs.gene_major(adata.X)), genes)
    from sklearn.decomposition import PCA

    Z = PCA(args.pca, random_state=0).fit_transform(images)
    pca = [
        cross_validated_votes(
            Z, members, fold_of_members(members, 5, np.random.default_rng(seed)), 15
        )[1]
        for seed in range(args.seeds)
    ]
    rows = [
        {
            "family": s, "genes": int(found[0].loc[s, "size"]),
            "AUROC, tl.gene_functions": float(mean.loc[s, "auroc"]),
            "co-expression": float(mean.loc[s, "auroc_coexpression"]),
            f"PCA-{args.pca}": float(np.mean(pca, axis=0)[i]),
        }
        for i, s in enumerate(mean.index)
    ]  # fmt: skip
    names = list(rows[0])[2:]
    rows.append({"family": "mean", "genes": 0, **{n: np.mean([r[n] for r in rows]) for n in names}})
    table(rows)
    absent = [s for s in sets if s not in mean.index]
    print("not on the panel:", absent, f"({row['wall s']:.0f} s for {args.seeds} runs)")


if __name__ == "__main__":
    main()
