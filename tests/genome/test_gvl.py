"""Haplotypes of genvarloader: what is handed over, and the same sequences."""

import numpy as np
import pandas as pd
import pytest
from made_genome import installed, random_records, write_fasta, write_vcf

import omicllm as ol
from omicllm.genome.gvl import _carried
from omicllm.genome.haplotypes import Window, build
from omicllm.genome.tokens import decode, encode

PEOPLE = ["p", "q", "r"]


@pytest.fixture(params=range(6))
def made(request, tmp_path):
    """A genome with records of every kind, and windows that cut them."""
    seed = request.param
    bases, records = random_records(seed, n=14)
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": bases}))
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", records, PEOPLE))
    places = [(0, 60, "+"), (0, 25, "+"), (7, 40, "-"), (21, 58, "+"), (58, 60, "+")]
    windows = pd.DataFrame(places, columns=["start", "end", "strand"]).assign(chrom="c")
    windows.index = [f"w{i}" for i in range(len(places))]
    return genome, geno, windows


@installed("cyvcf2")
def test_records_are_plain_and_make_the_sequences(made):
    """Applied one by one, without any rule about overlaps, they make the same haplotypes."""
    genome, geno, windows = made
    personal = ol.pp.haplotypes(geno, genome=genome, windows=windows)
    for row in windows.itertuples():
        window = Window("c", row.start, row.end)
        reference = genome.tokens(*window[:3])
        alleles = personal._alleles["c"]
        carried = _carried(alleles, reference, window)
        wanted = build(alleles, reference, window, n_people=3)
        text = "N" + decode(reference)
        for pos, ref, alt in carried:
            assert text[pos - 1 : pos - 1 + len(ref)] == ref != alt
            assert min(len(ref), len(alt)) == 1 and (len(ref) == len(alt) or ref[0] == alt[0])
        for h in range(6):
            out, end = list(text), 0
            for (pos, ref, alt), who in sorted(carried.items()):
                if h in who:
                    assert pos - 1 >= end or (len(ref) == 1 and pos == end), "no overlap"
                    end = pos - 1 + len(ref)
                    out[pos - 1 : end] = [alt] + [""] * (len(ref) - 1)
            tokens = encode("".join(out[1:]) if out[0] == "N" else "".join(out)[1:])
            own = wanted.tokens[wanted.index[h // 2, h % 2]]
            np.testing.assert_array_equal(tokens, own[own >= 0])


@installed("cyvcf2")
@installed("genvarloader")
@pytest.mark.parametrize("deduplicate", [True, False])
def test_same_tokens(made, deduplicate):
    genome, geno, windows = made
    args = {"genome": genome, "windows": windows, "deduplicate": deduplicate}
    wanted = ol.pp.haplotypes(geno, **args)
    found = ol.pp.haplotypes(geno, backend="gvl", **args)
    cut = ol.pp.haplotypes(geno, backend="gvl", length=30, **args)
    for i, name in enumerate(windows.index):
        np.testing.assert_array_equal(
            found[name].tokens[found[name].index], wanted[name].tokens[wanted[name].index]
        )
        assert len(found[i].tokens) == len(wanted[i].tokens)
        assert cut[-1 - i].tokens.shape[1] == 30


@installed("cyvcf2")
def test_refused(tmp_path):
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": "ACGTACGT"}))
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", [("c", 1, "A", "G", ["0|1"])], ["p"]))
    windows = pd.DataFrame({"chrom": ["c"], "start": [0], "end": [8]})
    args = {"genome": genome, "windows": windows}
    with pytest.raises(ValueError, match="backend must be one of 'numpy', 'gvl'"):
        ol.pp.haplotypes(geno, backend="bcftools", **args)
    with pytest.raises(ValueError, match="writes no IUPAC codes"):
        ol.pp.haplotypes(geno, backend="gvl", unphased="iupac", **args)


@installed("cyvcf2")
def test_absent(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "genvarloader", None)
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": "ACGTACGT"}))
    geno = ol.io.read_vcf(write_vcf(tmp_path / "a.vcf", [("c", 1, "A", "G", ["0|1"])], ["p"]))
    windows = pd.DataFrame({"chrom": ["c"], "start": [0], "end": [8]})
    with pytest.raises(ImportError, match=r"pip install 'omicllm\[gvl\]'"):
        ol.pp.haplotypes(geno, backend="gvl", genome=genome, windows=windows)
