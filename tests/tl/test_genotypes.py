"""Haploid calls and dosages in every verb that reads genotypes."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from made_genome import installed, write_fasta, write_vcf
from made_people import cohort, counted, tiny_trunk
from scipy import sparse

import omicllm as ol
from omicllm.genome.tokens import decode

MEN = np.arange(40) % 2 == 0


def of_sexes(folder, style):
    """The cohort of `made_people`; men have one haplotype, written once or twice."""
    mdata, genome = cohort(folder)
    geno = mdata["geno"]
    first, second = (geno.layers[h].toarray() for h in ("hap1", "hap2"))
    second[MEN] = first[MEN]
    X = first + second
    if style == "haploid":
        second[MEN], X[MEN] = -1, first[MEN]
    geno.X, geno.layers["hap2"] = sparse.csc_matrix(X), sparse.csc_matrix(second)
    geno.layers["haploid"] = sparse.csc_matrix((second < 0).astype(np.int8))
    return mdata, genome


def sample_size(mdata, genome, **more):
    mdata["rna"].obs["split"] = np.where(np.arange(40) % 5, "train", "test")
    ol.tl.sample_size(mdata, model=["top1"], fractions=[0.7, 1], n_draws=2, n_boot=20, **more)
    return mdata["rna"].uns["sample_size"]["table"]["pearson"]


def embed_people(mdata, genome, **more):
    ol.tl.embed_people(mdata, model=counted(), genome=genome, genes="P", **more)
    return mdata["rna"].obsm["X_shares"]


def personal_expression(mdata, genome, **more):
    ol.tl.personal_expression(
        mdata,
        genome=genome,
        trunk=tiny_trunk(),
        strategy="baseline",
        model_args={"track": 0},
        **more,
    )
    rna = mdata["rna"]
    assert rna.var["personal_baseline_baseline"].notna().any(), "the linear model ran"
    return np.vstack([rna.layers["personal_baseline"], rna.var["personal_baseline_baseline"]])


def linearize(mdata, genome, **more):
    effects(mdata)
    ol.tl.linearize(mdata, prediction="P", effects_key="made", **more)
    return mdata["rna"].layers["linearized"]


def variant_drivers(mdata, genome, **more):
    effects(mdata)
    ol.tl.variant_drivers(mdata, prediction="P", effects_key="made", min_gain=0.0, **more)
    # Frequencies count alleles, of which a haploid call has one.
    table = mdata["geno"].uns["variant_drivers"]["table"].drop(columns="af")
    return table.select_dtypes("number")


def effects(mdata):
    """Made up, with a prediction that follows the alleles of both haplotypes."""
    geno, rna = mdata["geno"], mdata["rna"]
    W = np.random.default_rng(0).normal(size=(geno.n_vars, 3))
    geno.varm["made"] = sparse.csr_matrix(W)
    geno.uns["made"] = {"genes": np.array(list("PQR"), dtype=object)}
    hap1, hap2 = (geno.layers[h].toarray() for h in ("hap1", "hap2"))
    rna.layers["P"] = ((hap1 > 0) + (np.where(hap2 < 0, hap1, hap2) > 0).astype(float)) @ W


VERBS = [sample_size, embed_people, personal_expression, linearize, variant_drivers]


@pytest.mark.parametrize("verb", VERBS)
def test_a_haploid_call_is_as_two_of_its_allele(verb, tmp_path):
    one, other = (verb(*of_sexes(tmp_path, style)) for style in ("haploid", "diploid"))
    assert np.asarray(one).size and np.isfinite(np.asarray(one, dtype=float)).any()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("verb", VERBS)
def test_a_haploid_call_counted_once(verb, tmp_path):
    """As if the second haplotype of men were the reference."""
    mdata, genome = of_sexes(tmp_path, "haploid")
    one = verb(mdata, genome, haploid="single")
    reference, _ = of_sexes(tmp_path, "haploid")
    geno = reference["geno"]
    geno.layers["hap2"] = geno.layers["hap2"].maximum(0)
    del geno.layers["haploid"]
    if verb is variant_drivers:
        effects(reference)
        kept = reference["rna"].layers["P"]
        effects(mdata)
        mdata["rna"].layers["P"] = kept
        ol.tl.variant_drivers(
            mdata, prediction="P", effects_key="made", min_gain=0.0, haploid="single"
        )
        one = mdata["geno"].uns["variant_drivers"]["table"].drop(columns="af")
        one = one.select_dtypes("number")
    np.testing.assert_allclose(one, verb(reference, genome), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="haploid must be one of 'double', 'single'"):
        verb(mdata, genome, haploid="both")


def as_text(var, column):
    return var[column].astype(str)


#: Places of variants as tables bring them: column and what becomes of it.
PLACES = {
    "positions as text": ("pos", as_text),
    "positions as fractions": ("pos", lambda var, c: var[c].astype(float)),
    "contigs as fractions": ("chrom", lambda var, c: np.full(len(var), 22.0)),
    "contigs as numbers": ("chrom", lambda var, c: np.full(len(var), 22)),
    "contigs as categories": ("chrom", lambda var, c: pd.Categorical(["22"] * len(var))),
}


def on_22(folder):
    """The cohort of `made_people` on contig 22."""
    mdata, genome = cohort(folder)
    bases = genome.fetch("c", 0, genome.lengths["c"])
    mdata["geno"].var["chrom"] = "22"
    for column in ("chrom", "window_chrom"):
        mdata["rna"].var[column] = "22"
    return mdata, ol.io.Genome(write_fasta(folder / "22.fa", {"22": bases}, width=50))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("places", PLACES)
def test_places_of_variants_however_a_table_brought_them(verb, places, tmp_path):
    wanted = verb(*on_22(tmp_path))
    mdata, genome = on_22(tmp_path)
    column, changed = PLACES[places]
    var = mdata["geno"].var
    var[column] = changed(var, column)
    np.testing.assert_array_equal(verb(mdata, genome), wanted)


@pytest.mark.parametrize("verb", [sample_size, embed_people, personal_expression])
def test_positions_that_are_none_are_named(verb, tmp_path):
    mdata, genome = cohort(tmp_path)
    mdata["geno"].var["pos"] = [np.nan, *mdata["geno"].var["pos"][1:]]
    with pytest.raises(ValueError, match="'pos'. must hold whole numbers, but 1 of 60 are none"):
        verb(mdata, genome)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("side", ["rna", "geno"])
def test_people_named_twice_are_refused(verb, side, tmp_path):
    mdata, genome = cohort(tmp_path)
    mdata[side].obs_names = ["p0", "p0", *mdata[side].obs_names[2:]]
    with pytest.raises(ValueError, match=rf"mdata\['{side}'\] names people twice \('p0'\)"):
        verb(mdata, genome)


@pytest.mark.parametrize("verb", [sample_size, linearize, variant_drivers])
@pytest.mark.parametrize("code", [-1, -9, 3, 255, np.inf])
def test_codes_of_missing_calls_are_no_dosages(verb, code, tmp_path):
    mdata, genome = cohort(tmp_path)
    X = mdata["geno"].X.toarray().astype(np.float32)
    X[3, 7] = code
    mdata["geno"].X = X
    with pytest.raises(ValueError, match="geno.X must hold 0 to 2 alleles.* at 'v7'"):
        verb(mdata, genome)


CALLS = [
    ("c", 3, "A", "G", ["1", "0|1"]),
    ("c", 6, "C", "T,G", ["2", "1|2"]),
    ("c", 9, "GT", "G", [".", "1|1"]),
    ("c", 12, "T", "TAA", ["1", "0|0"]),
]


@installed("cyvcf2")
@installed("pysam")
def test_haplotypes_of_haploid_calls(tmp_path):
    """``"single"`` is what bcftools writes; ``"double"`` has the first haplotype twice."""
    import pysam.bcftools

    bases = "AAAACCCCGTTTTACGTACG"
    fasta = write_fasta(tmp_path / "a.fa", {"c": bases})
    path = write_vcf(tmp_path / "a.vcf", CALLS, ["man", "woman"])
    packed = pysam.tabix_index(str(path), preset="vcf", keep_original=True)
    geno = ol.io.read_vcf(path)
    windows = pd.DataFrame({"chrom": ["c"], "start": [0], "end": [20], "strand": ["+"]})
    wanted = {}
    for person in ("man", "woman"):
        for side in (1, 2):
            text = pysam.bcftools.consensus("-f", str(fasta), "-H", str(side), "-s", person, packed)
            wanted[person, side] = "".join(text.split("\n")[1:])
    for how in ("single", "double"):
        tokens, index = ol.pp.haplotypes(geno, genome=fasta, windows=windows, haploid=how)[0]
        text = [[decode(tokens[i]) for i in pair] for pair in index]
        assert text[1] == [wanted["woman", 1], wanted["woman", 2]]
        assert text[0] == [wanted["man", 1], wanted["man", 1 if how == "double" else 2]]


def test_verbs_on_sequences_ask_for_genotypes(tmp_path):
    mdata, genome = of_sexes(tmp_path, "diploid")
    geno = mdata["geno"]
    names, var = geno.obs_names.to_frame()[[]], geno.var
    dosages = ad.AnnData(geno.X.astype(np.float32), obs=names, var=var)
    both = md.MuData({"rna": mdata["rna"], "geno": dosages})
    for call in (
        lambda: ol.pp.haplotypes(dosages, genome=genome, windows=mdata["rna"]),
        lambda: ol.tl.embed_people(both, model=counted(), genome=genome),
        lambda: ol.tl.personal_expression(
            both, genome=genome, trunk=tiny_trunk(), strategy="baseline"
        ),
    ):
        with pytest.raises(KeyError, match=r"'hap1' is not in geno.layers .*field GT"):
            call()
