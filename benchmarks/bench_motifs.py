"""Motifs: planted ones found on held-out halves, shuffled labels, and the usual in-sample p value.

Simulated: 1,000 sequences of 200 bases, 400 with the motif on either strand (exact, or drawn from
a matrix), against 1,000 without; the same with labels shuffled. The baseline is the most enriched
6-mer with its p value on the very sequences it was chosen on, corrected for the number of words,
or not. By a model: a tiny GeneMaskLM is fine-tuned on 400 sequences, half of which hold the motif,
and the motif is sought by its attention and its attributions in 400 others, 30, 50 or 80 % of whose
positives hold it; half of these are held out. Real sets: what is found on promoters and enhancers,
with the held-out q value.
"""

from __future__ import annotations

import argparse

import numpy as np
from _common import DATA, table, timed

import omicllm as ol

MOTIF = "TGACTCAGC"
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def planted(seed: int, *, sharpness: float = 1.0, n: int = 1000, k: int = 400, length: int = 200):
    import anndata
    import pandas as pd

    rng = np.random.default_rng(seed)
    drawn = ["".join(rng.choice(list("ACGT"), length)) for _ in range(2 * n)]
    for i in range(k):
        word = "".join(
            b if rng.random() < sharpness else str(rng.choice(list("ACGT"))) for b in MOTIF
        )
        if rng.random() < 0.5:
            word = word[::-1].translate(COMPLEMENT)
        at = rng.integers(0, length - len(word))
        drawn[i] = drawn[i][:at] + word + drawn[i][at + len(word) :]
    obs = pd.DataFrame(
        {"sequence": drawn, "label": (np.arange(2 * n) < n).astype(int)},
        index=[f"s{i}" for i in range(2 * n)],
    )
    return anndata.AnnData(obs=obs)


def best_word(adata) -> float:
    """Smallest p value of any 6-mer, in-sample, not corrected."""
    from scipy.stats import hypergeom

    X = ol.pp.kmer_counts(adata, k=6).X > 0
    y = adata.obs["label"].to_numpy() == 1
    a, b = (np.asarray(X[s].sum(axis=0)).ravel() for s in (y, ~y))
    return float(hypergeom.sf(a - 1, len(y), a + b, y.sum()).min())


def by_model(seeds: int) -> list[dict]:
    """Runs in which attention, attributions and the plain search find the motif."""
    rows = []
    for seed in range(seeds):
        train = planted(seed, n=200, k=200, length=60)
        model = ol.model.GeneMaskLM(
            k=4, d_model=32, n_layers=2, n_heads=2, d_ff=64, dropout=0.0, seed=seed
        )
        model.fit(
            train.obs["sequence"].tolist(), train.obs["label"], max_epochs=20, batch_size=16,
            lr=3e-3, rng=seed, show_progress=False,
        )  # fmt: skip
        for k in (60, 100, 160):
            adata = planted(100 + seed, n=200, k=k, length=60)
            adata.obs["new"] = np.arange(adata.n_obs) % 2 == 0
            for method in ("denovo", "attention", "attribution"):
                ol.tl.motifs(
                    adata, method=method, model=None if method == "denovo" else model,
                    held_out="new",
                )  # fmt: skip
                found = ol.get.table(adata, "motifs")
                hit = found["consensus"].isin([MOTIF, MOTIF[::-1].translate(COMPLEMENT)])
                rows.append(
                    {
                        "method": method, "with motif": f"{k} of 200",
                        "q": float(found["q"].min()) if len(found) else 1.0,
                        "exact": bool((hit & (found["q"] < 0.01)).any()),
                    }
                )  # fmt: skip
    import pandas as pd

    return [
        {
            "method": method,
            "with motif": share,
            "runs": len(own),
            "found, q < .01": int((own["q"] < 0.01).sum()),
            "largest q": own["q"].max(),
            "consensus exact": int(own["exact"].sum()),
        }
        for (method, share), own in pd.DataFrame(rows).groupby(["method", "with motif"], sort=False)
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--only-model", action="store_true")
    args = parser.parse_args()
    table(by_model(args.seeds))
    if args.only_model:
        return
    print()
    rows = []
    for name, sharpness in (("exact", 1.0), ("80 % a base", 0.8), ("60 % a base", 0.6)):
        q, words, row = [], [], {"planted": name, "runs": args.seeds}
        with timed(row):
            for seed in range(args.seeds):
                adata = planted(seed, sharpness=sharpness)
                ol.tl.motifs(adata, rng=seed)
                found = ol.get.table(adata, "motifs")
                q.append(found["q"].min() if len(found) else 1.0)
                words.append(found["consensus"].iloc[0] if len(found) else "-")
        row["found, q < .01"] = int(np.sum(np.array(q) < 0.01))
        rows.append(row | {"largest q": float(np.max(q)), "first run": words[0]})
    table(rows)
    print()
    held, plain, corrected = [], [], []
    adata = planted(0)
    rng = np.random.default_rng(0)
    for seed in range(args.shuffles):
        adata.obs["label"] = rng.permutation(adata.obs["label"].to_numpy())
        ol.tl.motifs(adata, rng=seed)
        held.append(bool((ol.get.table(adata, "motifs")["q"] < 0.05).any()))
        p = best_word(adata)
        plain.append(p < 0.05)
        corrected.append(p * 4096 < 0.05)
    table(
        [
            {
                "labels": "shuffled", "runs": args.shuffles, "ours, q < .05": int(np.sum(held)),
                "best 6-mer in-sample, p < .05": int(np.sum(plain)),
                "the same, Bonferroni": int(np.sum(corrected)),
            }
        ]
    )  # fmt: skip
    rows = []
    for name, split in (("Prom-core", "train1000"), ("Cohn-enh", "train500")):
        path = DATA / "dna" / f"{name}.tsv.gz"
        if not path.exists():
            print(f"{path} is absent: skipped")
            continue
        adata = ol.io.read_sequences(path)
        adata = adata[adata.obs["split"] == split].copy()
        row = {"set": name}
        with timed(row):
            ol.tl.motifs(adata)
        found = ol.get.table(adata, "motifs")
        row |= {"motifs": len(found), "q < .01": int((found["q"] < 0.01).sum())}
        rows.append(row | {"consensus": ", ".join(found["consensus"])})
    if rows:
        print()
        table(rows)


if __name__ == "__main__":
    main()
