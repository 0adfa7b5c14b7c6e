"""Known pairs: those of one planted program, told from others of the same levels.

`planted_programs_600`, as it is and with counts thinned to 20 % and 5 %. A random part of all
same-program pairs is given as known; AUC on pairs of unseen genes (folds split by gene), beside
the cosine of embeddings and plain co-expression (correlation of log-normalised images) on the
very same pairs. Mean of seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import table, timed, tissue
from bench_sigel_planted import thinned

import omicllm as ol


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=2000)
    args = parser.parse_args()
    planted = tissue("planted_programs_600")
    program = planted.var["program"].to_numpy()
    names = planted.var_names.to_numpy()
    a, b = np.triu_indices(len(names), 1)
    same = np.flatnonzero((program[a] == program[b]) & (program[a] >= 0))
    rows = []
    for share in (1.0, 0.2, 0.05):
        found, row = [], {"counts kept": f"{share:.0%}"}
        with timed(row):
            for seed in range(args.seeds):
                rng = np.random.default_rng(seed)
                chosen = rng.choice(same, min(args.pairs, len(same)), replace=False)
                pairs = list(zip(names[a[chosen]], names[b[chosen]], strict=True))
                adata = planted.copy() if share == 1 else thinned(planted, share, seed)
                ol.tl.sigel(adata, rng=seed)
                ol.tl.gene_interactions(adata, known_pairs=pairs, rng=seed)
                scores = adata.uns["gene_interactions"]["baseline"]
                found.append([scores[n] for n in ("auc", "cosine", "coexpression")])
        mean = np.mean(found, axis=0)
        row["known pairs"] = len(chosen)
        row |= {"AUC": float(mean[0]), "cosine": float(mean[1]), "co-expression": float(mean[2])}
        row["gain"] = row["AUC"] - row["co-expression"]
        rows.append(row)
    table(rows)


if __name__ == "__main__":
    main()
