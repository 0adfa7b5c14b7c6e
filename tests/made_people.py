"""A small cohort with sequences: genes on one contig, phased variants, expression."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from made_genome import write_fasta
from scipy import sparse
from torch import nn

import omicllm as ol

#: Training of a second or two.
FAST = {
    "pairs_per_gene": 60,
    "val_pairs_per_gene": 60,
    "lr": 3e-3,
    "patience": None,
    "batch_size": 16,
}


class Bins(nn.Module):
    """A small network of someone else's."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 8, stride=8)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.norm(self.conv(x))


class Shares(nn.Module):
    """Mean of one-hot rows over bins of eight bases; counts the sequences it is given."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def forward(self, x):
        self.n += len(x)
        return x.unflatten(-1, (-1, 8)).mean(dim=-1)


def counted():
    """A trunk without weights that counts."""
    return ol.nn.ModuleTrunk(Shares(), dim=4, bin_size=8, gives="channels", name="shares")


def tiny_trunk(seed: int = 0, **more):
    """An Enformer whose bins have 8 bases."""
    import torch

    torch.manual_seed(seed)
    return ol.nn.Enformer(dim=24, depth=1, heads=4, dim_divisible_by=12, num_downsamples=3,
                          attn_dim_key=8, **{"output_heads": {"human": 2}, **more})  # fmt: skip


def cohort(folder, n: int = 40, seed: int = 0, length: int = 64, indel: bool = True):
    """Three genes (the second on ``-``); each follows the dosage of one variant."""
    rng = np.random.default_rng(seed)
    bases = "".join(rng.choice(list("ACGT"), 800))
    genome = ol.io.Genome(write_fasta(folder / "made.fa", {"c": bases}, width=50))
    pos = np.sort(rng.choice(np.arange(150, 700), 60, replace=False)) + 1
    ref = np.array([bases[p - 1] for p in pos], dtype=object)
    alt = np.array([rng.choice([b for b in "ACGT" if b != r]) for r in ref], dtype=object)
    if indel:
        alt[5] = ref[5] + "GA"
    pool = rng.random((8, 60)) < rng.uniform(0.2, 0.5, 60)
    hap = pool[rng.integers(0, 8, (2, n))].astype(np.int8)
    var = pd.DataFrame({"chrom": "c", "pos": pos, "ref": ref, "alt": alt})
    var.index = [f"v{i}" for i in range(60)]
    people = [f"p{i}" for i in range(n)]
    geno = ad.AnnData(sparse.csc_matrix(hap.sum(axis=0)), obs=pd.DataFrame(index=people), var=var)
    geno.layers["hap1"], geno.layers["hap2"] = map(sparse.csc_matrix, hap)
    genes = pd.DataFrame({"chrom": "c", "tss": [201, 401, 601], "strand": ["+", "-", "+"]},
                         index=["P", "Q", "R"])  # fmt: skip
    dosage = hap.sum(axis=0).astype(float)
    Y = rng.normal(size=(n, 3)) * 0.3
    for g, tss in enumerate(genes["tss"]):
        inside = np.flatnonzero(np.abs(pos - tss) < length // 2 - 4)
        Y[:, g] += dosage[:, inside[len(inside) // 2]] + 5
    rna = ad.AnnData(Y.astype(np.float32), obs=pd.DataFrame(index=people), var=genes)
    rna.obs["split"] = pd.Categorical(
        np.select([np.arange(n) % 5 == 0, np.arange(n) % 5 == 1], ["test", "val"], "train")
    )
    ol.pp.gene_windows(rna, length=length)
    return md.MuData({"rna": rna, "geno": geno}), genome


def tracks_of(genome, n: int = 24, n_tracks: int = 2, length: int = 64, seed: int = 0):
    """Sequences with tracks that follow their share of G and C; the last third validates."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 800 - length, n)
    sequences = [genome.fetch("c", s, s + length) for s in starts]
    gc = np.array([[np.isin(list(q[i : i + 8]), ["G", "C"]).mean() for i in range(16, 48, 8)]
                   for q in sequences])  # fmt: skip
    obs = pd.DataFrame({"sequence": sequences, "bin_size": 8,
                        "split": np.where(np.arange(n) < n * 2 // 3, "train", "val")},
                       index=[f"s{i}" for i in range(n)])  # fmt: skip
    adata = ad.AnnData(np.zeros((n, n_tracks), np.float32), obs=obs)
    adata.obsm["tracks"] = (gc[:, :, None] * 8 ** np.arange(n_tracks)).astype(np.float16)
    return adata


def mpra_of(genome, folder, n: int = 90, seed: int = 0):
    """A reporter assay of two cell types read from files; effects follow G and C gained."""
    rng = np.random.default_rng(seed)
    files, whole = {}, genome.fetch("c", 0, 800)
    for cell, sign in (("K562", 1), ("HepG2", -1)):
        lines = ["variant,skew"]
        for pos in rng.choice(np.arange(120, 680), n, replace=False):
            ref = whole[pos - 1]
            alt = str(rng.choice([b for b in "ACGT" if b != ref]))
            gained = (alt in "GC") * 1.0 - (ref in "GC")
            lines.append(f"c:{pos}:{ref}:{alt},{sign * gained + rng.normal() * 0.1}")
        files[cell] = folder / f"{cell}.csv"
        files[cell].write_text("\n".join(lines))
    out = ol.io.read_mpra(files, genome=genome, length=20)
    out.obs["split"] = np.where(rng.random(out.n_obs) < 0.7, "train", "val")
    return out
