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
