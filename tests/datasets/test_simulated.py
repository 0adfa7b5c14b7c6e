"""Made-up sets: what was planted is there, and the same seed gives the same set."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import same_object
from scipy import sparse

import omicllm as ol


def test_planted_programs_are_found():
    adata = ol.datasets.planted_programs(n_genes=200, n_programs=6, rng=1)
    assert adata.shape == (36 * 31, 200) and sparse.issparse(adata.X)
    assert np.array_equal(adata.X.data, np.rint(adata.X.data))
    assert 0.1 < (adata.var["program"] == -1).mean() < 0.3
    # Genes of one program resemble each other more than genes of two.
    follows = (adata.var["program"] >= 0).to_numpy()
    program = adata.var["program"].to_numpy()[follows]
    r = np.corrcoef(np.log1p(adata.X.toarray().T[follows]))
    same = program[:, None] == program
    other = r[~same].mean()
    assert r[same & ~np.eye(len(r), dtype=bool)].mean() > other + 0.1
    ol.pp.spatial_grid(adata)
    assert adata.uns["spatial_grid"]["method"] == "hex"


def test_people_and_their_haplotypes(tmp_path):
    mdata = ol.datasets.simulated_people(tmp_path / "new", n_people=50, n_genes=2, rng=3)
    rna, geno = mdata["rna"], mdata["geno"]
    assert rna.shape == (50, 2) and geno.shape == (50, 40)
    both = geno.layers["hap1"].toarray() + geno.layers["hap2"].toarray()
    assert np.array_equal(geno.X.toarray(), both)
    genome = ol.io.Genome(tmp_path / "new" / "genome.fa")
    ol.pp.gene_windows(rna, length=1024, genome=genome)
    personal = ol.pp.haplotypes(geno, genome=genome, windows=rna)
    # Whole copies of the motif on both haplotypes are what expression is made of.
    motif = ["ACGT".index(base) for base in "TGACTCAT"]
    for g, gene in enumerate(rna.var_names):
        tokens, index = personal[gene]
        places = np.lib.stride_tricks.sliding_window_view(tokens, 8, axis=1)
        copies = (places == motif).all(axis=2).sum(axis=1)[index].sum(axis=1)
        assert np.ptp(copies) > 0
        r = np.corrcoef(copies, rna.layers["genetic"][:, g])[0, 1]
        assert r == pytest.approx(1, abs=1e-6)
    share = rna.layers["genetic"].var(axis=0) / rna.X.var(axis=0)
    assert (share > 0.25).all() and (share < 0.8).all()


def test_genome_is_poor_in_cg(tmp_path):
    path = ol.datasets.simulated_genome(tmp_path / "made.fa", n_bases=20_000)
    genome = ol.io.Genome(path)
    assert genome.lengths == {"made": 20_000}
    bases = "".join(path.read_text().splitlines()[1:])
    c, g = bases.count("C"), bases.count("G")
    assert bases.count("CG") * len(bases) < 0.5 * c * g


def test_sequences_hold_the_motif():
    adata = ol.datasets.simulated_sequences(n=300, share=0.6)
    sequence = adata.obs["sequence"]
    assert set(sequence.str.len()) == {70}
    held = sequence.str.contains("TGACTCAT|ATGAGTCA")
    by_class = held.groupby(adata.obs["label"]).mean()
    assert by_class[0] < 0.05 and 0.5 < by_class[1] < 0.7
    assert set(adata.obs["split"]) == {"train", "test"}


def test_the_seed_decides(tmp_path):
    make = {
        "programs": lambda rng: ol.datasets.planted_programs(n_genes=20, shape=(6, 8), rng=rng),
        "sequences": lambda rng: ol.datasets.simulated_sequences(n=20, rng=rng),
        "rna": lambda rng: ol.datasets.simulated_people(tmp_path, n_people=9, rng=rng)["rna"],
    }
    for call in make.values():
        same_object(call(4), call(4))
        with pytest.raises(AssertionError):
            same_object(call(4), call(5))


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda path: ol.datasets.planted_programs(shape=(2, 31)), "shape"),
        (lambda path: ol.datasets.simulated_people(path, length=100), "too short for six motifs"),
        (lambda path: ol.datasets.simulated_people(path, heritability=0), "above 0"),
        (lambda path: ol.datasets.simulated_people(path, n_variants=2), "n_variants"),
        (lambda path: ol.datasets.simulated_genome(path / "g.fa", n_bases=10), "n_bases"),
        (lambda path: ol.datasets.simulated_sequences(motif="TGAX"), "motif must be of A, C"),
        (lambda path: ol.datasets.simulated_sequences(length=4), "at most length=4"),
    ],
)
def test_bad_numbers(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())
