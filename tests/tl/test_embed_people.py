"""`ol.tl.embed_genes`, `embed_sequences`, `embed_people`: what is run, and what comes out."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import only_declared_written, round_trip, same_object, slots
from made_genome import installed
from made_people import cohort, counted

import omicllm as ol
from omicllm.genome import tokens


def test_genes_are_means_of_central_bins(tmp_path):
    mdata, genome = cohort(tmp_path, n=4)
    rna = mdata["rna"]
    trunk = counted()
    ol.tl.embed_genes(rna, model=trunk, genome=genome, n_bins=2)
    X = rna.varm["X_shares"]
    assert X.shape == (3, 4) and X.dtype == np.float32
    row = tokens.encode(genome.fetch("c", 168, 232))  # the first gene's window, on +
    middle = np.eye(4)[row[24:40]].mean(axis=0)
    np.testing.assert_allclose(X[0], (middle + middle[::-1]) / 2, atol=1e-6)
    ol.tl.embed_genes(rna, model=trunk, genome=genome, n_bins=2, both_strands=False)
    np.testing.assert_allclose(rna.varm["X_shares"][0], middle, atol=1e-6)
    ol.pp.attach_sequences(rna, genome=genome)
    before = slots(rna)
    ol.tl.embed_genes(rna, model=trunk, n_bins=2, key_added="again")
    only_declared_written(before, rna, "tl.embed_genes", key_added="again")
    np.testing.assert_allclose(rna.varm["X_again"], X)
    rna.var.loc[rna.var_names[1], "sequence"] = ""
    ol.tl.embed_genes(rna, model=trunk)
    assert np.isnan(rna.varm["X_shares"]).all(axis=1).tolist() == [False, True, False]


def test_repeated_sequences_run_once():
    obs = pd.DataFrame(
        {"sequence": ["ACGTACGT", "AAAA", "ACGTACGT", "CCCCCCCC"]}, index=list("abcd")
    )
    adata, trunk = ad.AnnData(obs=obs), counted()
    ol.tl.embed_sequences(adata, model=trunk, both_strands=False)
    assert trunk.module.n == 3
    wanted = [[0.25] * 4, [0.625, 0.125, 0.125, 0.125], [0.25] * 4, [0, 1, 0, 0]]
    np.testing.assert_allclose(adata.obsm["X_shares"], wanted)
    with pytest.raises(ValueError, match="have 12 bases, but shares takes multiples of 8"):
        ol.tl.embed_sequences(adata, model=trunk, length=12)
    with pytest.raises(KeyError, match="'seq' is not in adata.obs"):
        ol.tl.embed_sequences(adata, model=trunk, sequence_key="seq")
    trunk.max_len = 8
    with pytest.raises(ValueError, match="takes at most 8"):
        ol.tl.embed_sequences(adata, model=trunk, length=16)


def test_people_are_means_of_two_haplotypes(tmp_path):
    mdata, genome = cohort(tmp_path, n=12)
    before = {m: slots(mdata[m]) for m in mdata.mod}
    trunk = counted()
    gene = mdata["rna"].var_names[1]
    assert ol.tl.embed_people(mdata, model=trunk, genome=genome, genes=gene, n_bins=None) is None
    rna = mdata["rna"]
    only_declared_written(before["rna"], rna, "tl.embed_people", key_added="shares")
    found, index = ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)[gene]
    assert trunk.module.n == 2 * len(found) < 2 * 24, "both strands of each distinct haplotype"
    shares = np.stack([np.eye(5)[row][:, :4].mean(axis=0) for row in found])
    shares = (shares + shares[:, ::-1]) / 2
    np.testing.assert_allclose(rna.obsm["X_shares"], shares[index].mean(axis=1), atol=1e-6)
    entry = rna.uns["shares_people"]
    assert entry["genes"].tolist() == [gene] and entry["n_unique"].tolist() == [len(found)]
    assert entry["n_haplotypes"] == 24
    round_trip(rna, tmp_path)
    assert slots(mdata["geno"]) == before["geno"]


def test_several_genes_as_components(tmp_path):
    mdata, genome = cohort(tmp_path, n=12)
    ol.tl.embed_people(mdata, model=counted(), genome=genome, n_components=3)
    X, entry = mdata["rna"].obsm["X_shares"], mdata["rna"].uns["shares_people"]
    assert X.shape == (12, 3) and entry["genes"].tolist() == list(mdata["rna"].var_names)
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-6)
    assert (np.diff(entry["variance_ratio"]) <= 0).all()
    G = X.T @ X
    np.testing.assert_allclose(G - np.diag(np.diag(G)), 0, atol=1e-6)
    order = np.random.default_rng(0).permutation(12)
    import mudata as md

    other = md.MuData({"rna": mdata["rna"][:, :3].copy(), "geno": mdata["geno"][order].copy()})
    out = ol.tl.embed_people(other, model=counted(), genome=genome, n_components=3, copy=True)
    np.testing.assert_allclose(out["rna"].obsm["X_shares"], X, atol=1e-5)


def test_bad_input_leaves_the_object(tmp_path):
    mdata, genome = cohort(tmp_path, n=6)
    untouched = mdata["rna"].copy()
    trunk = counted()
    with pytest.raises(KeyError, match="genes not in"):
        ol.tl.embed_people(mdata, model=trunk, genome=genome, genes="nothing")
    with pytest.raises(ValueError, match=r"have 60 bases.*gene_windows\(..., length=\)"):
        ol.tl.embed_people(mdata, model=trunk, genome=genome, length=60)
    with pytest.raises(TypeError, match="ol.nn.ModuleTrunk"):
        ol.tl.embed_people(mdata, model=torch.nn.Linear(1, 1), genome=genome)
    with pytest.raises(KeyError, match="gene_windows"):
        ol.tl.embed_people(mdata, model=trunk, genome=genome, window_key="w")
    with pytest.raises(ValueError, match="accelerator='tpu' is not available"):
        ol.tl.embed_people(mdata, model=trunk, genome=genome, accelerator="tpu")
    import mudata as md

    fewer = md.MuData({"rna": mdata["rna"].copy(), "geno": mdata["geno"][1:].copy()})
    with pytest.raises(ValueError, match="1 of 6 people in mdata\\['rna'\\] are not in"):
        ol.tl.embed_people(fewer, model=trunk, genome=genome)
    same_object(mdata["rna"], untouched)


@installed("cyvcf2")
def test_comt_runs_62_of_866(data_dir):
    """The published locus: 866 haplotypes of 8,192 bp, 62 forward passes."""
    folder = data_dir / "genome" / "comt"
    geno = ol.io.read_vcf(folder / "comt.vcf.gz")
    genes = pd.read_csv(folder / "genes.csv").set_index("symbol")
    var = pd.DataFrame(
        {"chrom": genes["chrom"], "tss": genes["tss_local_1based"], "strand": genes["strand"]}
    ).loc[["COMT"]]
    rna = ad.AnnData(np.zeros((geno.n_obs, 1), dtype=np.float32), var=var)
    rna.obs_names = geno.obs_names
    ol.pp.gene_windows(rna, length=8192)
    import mudata as md

    mdata, trunk = md.MuData({"rna": rna, "geno": geno}), counted()
    fasta = next(f for f in sorted(folder.glob("*.fa*")) if f.suffix in (".fa", ".gz"))
    ol.tl.embed_people(mdata, model=trunk, genome=fasta, genes="COMT", both_strands=False)
    assert geno.n_obs == 433
    assert mdata["rna"].uns["shares_people"]["n_haplotypes"] == 866
    assert trunk.module.n == 62
