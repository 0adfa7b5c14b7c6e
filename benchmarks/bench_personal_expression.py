"""Strategies of PersonalExpression on a simulated cis effect, beside linear models.

200 people; genes with a window of 1,024 bp that holds copies of one motif of 8 bp and 20 variants
in linkage, some of which break a copy. Expression is the number of whole copies on both haplotypes
times an effect that all genes share, plus noise (heritability .5). A fifth of people tests, a fifth
validates; a last set of genes is never trained. The trunk is a small Enformer from random weights.
Bar: pairwise training reaches .8 of the correlation of linear models on held-out people.

Strategies with other data get 400 sequences of another random genome with copies of the motif,
whose first track counts copies per bin (Poisson), or 2,000 variants on a reporter of 200 bases,
half of which break a copy. `--ablations` runs pairwise regression with fewer people, without rare
variants, with frozen convolutions and with heads first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import torch
from _common import table
from scipy import sparse

import omicllm as ol

MOTIF = "TGACTCAT"
STRATEGIES = ["pair_regression", "pair_counts", "pair_classification", "single_z", "single_counts"]
JOINT = ["pair_regression_tracks", "pair_classification_tracks", "pair_regression_mpra"]
#: Name -> arguments of the class and of its `train`.
ABLATIONS = {
    "20 % of people": ({}, {"train_fraction": 0.2}),
    "40 % of people": ({}, {"train_fraction": 0.4}),
    "80 % of people": ({}, {"train_fraction": 0.8}),
    "alleles of .1 and more": ({"min_af": 0.1}, {}),
    "alleles of .3 and more": ({"min_af": 0.3}, {}),
    "frozen convolutions": ({"freeze": "cnn"}, {}),
    "heads first": ({}, {"heads_first": 2}),
}
LINEAR = ["top1", "enet", "blup"]


def simulate(folder: Path, n_genes: int, n: int = 200, length: int = 1024, h2: float = 0.5,
             seed: int = 0):  # fmt: skip
    """Genome, MuData with windows, and the true genetic values."""
    rng = np.random.default_rng(seed)
    bases = rng.choice(list("ACGT"), n_genes * 2 * length)
    haplotypes, rows, truth = [], [], np.zeros((n, n_genes))
    for g in range(n_genes):
        start = g * 2 * length + length // 2
        sites = start + length // 2 + rng.choice(np.arange(-16, 16), 6, replace=False) * 12
        for at in sites:
            bases[at : at + 8] = list(MOTIF)
        causal = sites[:3] + rng.integers(0, 8, 3)
        inside = {at + i for at in sites for i in range(8)}
        free = [p for p in range(start + 20, start + length - 20) if p not in inside]
        pos = np.sort(np.concatenate([causal, rng.choice(free, 17, replace=False)]))
        # Haplotypes are those of eight founders, one in twenty a mosaic of two.
        founders = rng.random((8, 20)) < rng.uniform(0.15, 0.5, 20)
        carried = np.zeros((2 * n, 20), dtype=bool)
        for i in range(2 * n):
            one, other = founders[rng.integers(0, 8, 2)]
            at = int(rng.integers(1, 20)) if rng.random() < 0.05 else 20
            carried[i] = np.where(np.arange(20) < at, one, other)
        broken = carried[:, np.isin(pos, causal)].sum(axis=1)
        truth[:, g] = -(broken[:n] + broken[n:])
        haplotypes.append(carried)
        rows += [(g, p) for p in pos]
    ref = [bases[p] for _, p in rows]
    alt = [rng.choice([b for b in "ACGT" if b != r]) for r in ref]
    (folder / "genome.fa").write_text(">c\n" + "".join(bases) + "\n")
    var = pd.DataFrame({"chrom": "c", "pos": [p + 1 for _, p in rows], "ref": ref, "alt": alt})
    var.index = var.index.astype(str)
    both = np.hstack(haplotypes).astype(np.int8)
    people = pd.DataFrame(index=[f"p{i}" for i in range(n)])
    geno = ad.AnnData(sparse.csc_matrix(both[:n] + both[n:]), obs=people, var=var)
    geno.layers["hap1"], geno.layers["hap2"] = (
        sparse.csc_matrix(both[:n]), sparse.csc_matrix(both[n:])
    )  # fmt: skip
    noise = truth.std(axis=0) * np.sqrt((1 - h2) / h2) * rng.normal(size=truth.shape)
    genes = pd.DataFrame({"chrom": "c", "strand": "+",
                          "tss": [g * 2 * length + length + 1 for g in range(n_genes)]},
                         index=[f"gene{g}" for g in range(n_genes)])  # fmt: skip
    # A level and spread like those of log expression.
    Y = 3 + 0.4 * (truth + noise - truth.mean())
    rna = ad.AnnData(Y.astype(np.float32), obs=people.copy(), var=genes)
    ol.pp.gene_windows(rna, length=length)
    return md.MuData({"rna": rna, "geno": geno}), folder / "genome.fa", truth


def other_data(folder: Path, seed: int, n: int = 400, length: int = 1024):
    """Sequences with tracks, and a reporter assay, of a genome with the same motif."""
    rng = np.random.default_rng([seed, 1])
    bases = rng.choice(list("ACGT"), n * length)
    sites = rng.choice(np.arange(1, n * length // 64), n * 5, replace=False) * 64
    for at in sites:
        bases[at : at + 8] = list(MOTIF)
    whole = "".join(bases)
    counts = np.zeros(n * length // 16)
    np.add.at(counts, sites // 16, 1)
    per_bin = counts.reshape(n, -1)[:, 8:-8]
    rates = np.stack([0.1 + 4 * per_bin, np.full_like(per_bin, 0.5)], axis=2)
    obs = pd.DataFrame({"sequence": [whole[i : i + length] for i in range(0, len(whole), length)],
                        "split": np.where(np.arange(n) < 0.9 * n, "train", "val")})  # fmt: skip
    obs["bin_size"] = 16
    obs.index = obs.index.astype(str)
    tracks = ad.AnnData(np.zeros((n, 2), np.float32), obs=obs)
    tracks.obsm["tracks"] = rng.poisson(rates).astype(np.float16)
    inside = rng.choice(sites[(sites > 200) & (sites < len(whole) - 200)], 1000, replace=False)
    place = np.concatenate([inside + rng.integers(0, 8, 1000),
                            rng.integers(200, len(whole) - 200, 1000)])  # fmt: skip
    lines = ["variant,skew"]
    for at in np.unique(place):
        alt = rng.choice([b for b in "ACGT" if b != bases[at]])
        broken = any(whole[s : s + 8] == MOTIF for s in range(at - 7, at + 1))
        lines.append(f"o:{at + 1}:{bases[at]}:{alt},{rng.normal() * 0.5 - broken}")
    (folder / "mpra.csv").write_text("\n".join(lines))
    (folder / "other.fa").write_text(f">o\n{whole}\n")
    mpra = ol.io.read_mpra({"cell": folder / "mpra.csv"}, genome=folder / "other.fa")
    mpra.obs["split"] = np.where(rng.random(mpra.n_obs) < 0.9, "train", "val")
    return {"tracks": tracks, "mpra": mpra}


def run(args, seed: int) -> list[dict]:
    """Rows of one simulation."""
    with tempfile.TemporaryDirectory() as name:
        mdata, genome, truth = simulate(Path(name), args.genes + args.unseen, seed=seed)
        rna = mdata["rna"]
        rng = np.random.default_rng(seed)
        part = rng.permutation(np.arange(rna.n_obs) % 5)
        codes = np.select([part == 0, part == 1], [2, 1], 0).astype(np.int8)
        rna.layers["split"] = np.repeat(codes[:, None], rna.n_vars, axis=1)
        test, seen = codes == 2, np.arange(rna.n_vars) < args.genes
        Y = np.asarray(rna.X)
        rows = []

        def score(model: str, predicted: np.ndarray, seconds: float) -> None:
            r = np.nan_to_num([
                np.corrcoef(predicted[test, g], Y[test, g])[0, 1] if predicted[test, g].std() else 0
                for g in range(rna.n_vars)
            ])  # fmt: skip
            rows.append({"model": model, "r": float(r[seen].mean()),
                         "r, unseen genes": float(r[~seen].mean()) if (~seen).any() else np.nan,
                         "CPU s": seconds})  # fmt: skip

        score("truth", truth, 0.0)
        start = time.process_time()
        ol.tl.twas(mdata, model=LINEAR)
        seconds = (time.process_time() - start) / len(LINEAR)
        for m in LINEAR:
            score(m, np.where(seen, rna.layers[f"twas_{m}"], 0), seconds)
        rna.layers["split"][:, ~seen] = 2
        personal = ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=1024)
        others = other_data(Path(name), seed)
        runs = [(s, s, {}, {}) for s in args.strategies]
        if args.ablations:
            runs += [(n, "pair_regression", *more) for n, more in ABLATIONS.items()]
        for label, strategy, model_args, train_args in runs:
            torch.manual_seed(seed)
            trunk = ol.nn.Enformer(
                dim=args.dim, depth=1, heads=4, dim_divisible_by=args.dim // 4,
                num_downsamples=4, attn_dim_key=16,
                output_heads={"human": 2} if strategy.endswith("_tracks") else {},
            )  # fmt: skip
            wanted = strategy.rpartition("_")[2]
            if wanted in others:
                model_args = {**model_args, wanted: others[wanted]}
                train_args = {**train_args, "joint_batch_size": args.joint_batch_size}
            ol.model.PersonalExpression.setup_anndata(rna)
            model = ol.model.PersonalExpression(
                rna, personal, trunk=trunk, strategy=strategy, n_centre_bins=args.bins,
                batch_norm=args.batch_norm, **model_args,
            )  # fmt: skip
            start = time.process_time()
            model.train(
                args.epochs, pairs_per_gene=250, lr=args.lr, warmup=100, patience=args.patience,
                gradient_clip=1.0, rng=seed, **train_args,
            )  # fmt: skip
            score(label, model.predict().to_numpy(), time.process_time() - start)
            print({k: (round(v, 3) if isinstance(v, float) else v) for k, v in rows[-1].items()},
                  len(model.history_["train_loss"]), flush=True)  # fmt: skip
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--genes", type=int, default=16)
    parser.add_argument("--unseen", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--dim", type=int, default=48)
    parser.add_argument("--bins", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch-norm", default="train", choices=["train", "frozen"])
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--strategies", nargs="*", default=STRATEGIES, choices=STRATEGIES + JOINT)
    parser.add_argument("--joint-batch-size", type=int, default=8)
    parser.add_argument("--ablations", action="store_true")
    args = parser.parse_args()
    found = [run(args, args.first_seed + seed) for seed in range(args.seeds)]
    rows = []
    for same in zip(*found, strict=True):
        row = {k: v if isinstance(v, str) else float(np.mean([s[k] for s in same]))
               for k, v in same[0].items()}  # fmt: skip
        rows.append(row)
    best = max(r["r"] for r in rows if r["model"] in LINEAR)
    for row in rows:
        row["of the best linear model"] = row["r"] / best
    table(rows)


if __name__ == "__main__":
    main()
