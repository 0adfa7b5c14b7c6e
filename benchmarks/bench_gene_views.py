"""Views of genes: p values where nothing is shared, and power where little is.

Made-up views. *Independent*: Gaussian noise; p values should be at or below .1 in 10 % of the sets.
*Groups*: genes of a group are alike in both views, but what groups look like in one view has
nothing to do with the other (as with families of paralogues); once gene by gene and once with
`groupby`. *Planted*: one shared factor in views of falling spectra, of a share that leaves R² near
zero. Shares of sets with p <= .1, for R² (first from second) and for the first canonical axis.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import table

from omicllm.stats.gene_views import ViewOptions, compare_views


def independent(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise, 150 genes."""
    return rng.normal(size=(150, 10)), rng.normal(size=(150, 6)), np.arange(150)


def grouped(rng: np.random.Generator, low: int, high: int, n_groups: int, noise: float):
    """Groups of low to high - 1 genes that are alike in each view by itself."""
    group = np.repeat(np.arange(n_groups), rng.integers(low, high, n_groups))
    made = [
        rng.normal(size=(n_groups, d))[group] + noise * rng.normal(size=(len(group), d))
        for d in (8, 6)
    ]
    return *made, group


def planted(rng: np.random.Generator, n: int, share: float):
    """One factor in both views."""
    z = rng.normal(size=(n, 1))
    made = [
        rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -power
        + share * z @ rng.normal(size=(1, d))
        for d, power in ((64, 0.7), (40, 0.5))
    ]
    return *made, np.arange(n)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--permutations", type=int, default=49)
    args = parser.parse_args()
    designs = {
        "independent": (independent, False),
        "40 groups of 2-6, gene by gene": (lambda r: grouped(r, 2, 7, 40, 0.3), False),
        "40 groups of 2-6, groupby": (lambda r: grouped(r, 2, 7, 40, 0.3), True),
        "80 groups of 1-4, groupby": (lambda r: grouped(r, 1, 5, 80, 0.3), True),
        "20 groups of 20-49, groupby": (lambda r: grouped(r, 20, 50, 20, 2.0), True),
        "planted .05, 300 genes": (lambda r: planted(r, 300, 0.05), False),
        "planted .05, 1,000 genes": (lambda r: planted(r, 1000, 0.05), False),
    }
    options = ViewOptions(n_permutations=args.permutations, n_axes=5, n_neighbors=8)
    rows = []
    for name, (make, by_group) in designs.items():
        p, r2 = [], []
        for seed in range(args.sets):
            A, B, group = make(np.random.default_rng(seed))
            found = compare_views(
                [A, B], np.ones((2, len(A)), dtype=bool), np.random.default_rng(seed), options,
                group if by_group else None,
            )  # fmt: skip
            p.append([found.prediction["pval"][0], found.canonical["pval"][0]])
            r2.append(found.prediction["r2"][0])
        low = (np.array(p) <= 0.1).mean(axis=0)
        rows.append(
            {"views": name, "mean R²": float(np.mean(r2)), "p <= .1, R²": float(low[0]),
             "p <= .1, first canonical axis": float(low[1])}
        )  # fmt: skip
        print(list(rows[-1].values()), flush=True)
    table(rows)


if __name__ == "__main__":
    main()
