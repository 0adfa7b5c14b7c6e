"""Personal haplotypes: the rules of bcftools consensus, by hand and against the program."""

import numpy as np
import pytest
from made_genome import installed, random_records
from scipy import sparse

from omicllm.genome import tokens
from omicllm.genome.haplotypes import Alleles, Window, build, centred

REFERENCE = "AAAACCCCGGGGTTTTACGTACGT"


def alleles(records, unphased=None):
    """Alleles from (pos from 1, ref, alt, genotypes like 0|1)."""
    pairs = np.array([[g.replace("/", "|").split("|") for g in r[3]] for r in records])
    numbers = np.where(pairs == ".", "-1", pairs).astype(np.int8)
    layers = [sparse.csc_matrix(numbers[:, :, side].T) for side in (0, 1)]
    flags = [[("/" in g and g[0] != g[2] and set(g) & set("123")) for g in r[3]] for r in records]
    flags = sparse.csc_matrix(np.array(flags, dtype=bool).T.astype(np.int8))
    return Alleles(
        np.array([r[0] for r in records]), [r[1] for r in records], [r[2] for r in records],
        *layers, flags if unphased else None,
    )  # fmt: skip


def both(records, start, end, reference=REFERENCE, people=1, **kwargs):
    window = Window("c", start, end, kwargs.pop("strand", "+"))
    here = tokens.encode(reference[start:end])
    unphased = kwargs.pop("unphased", None)
    made = alleles(records, unphased) if records else None
    out = build(made, here, window, n_people=people, **kwargs)
    return out, [[tokens.decode(out.tokens[i]) for i in pair] for pair in out.index]


def one(*records, start=6, end=20):
    """The first haplotype of one person who carries these records."""
    return both([(p, r, a, ["1|0"]) for p, r, a in records], start, end)[1][0][0]


def test_reference_alone():
    out, text = both([], 6, 20, people=2)
    assert out.tokens.shape == (1, 14) and out.tokens.dtype == np.int8
    assert text == [[REFERENCE[6:20]] * 2] * 2
    assert out.index.dtype == np.int32 and (out.index == 0).all()


@pytest.mark.parametrize(
    "records,wanted",
    [
        ([(10, "G", "T")], "CCGTGGTTTTACGT"),
        ([(10, "G", "GTA")], "CCGGTAGGTTTTACGT"),
        ([(10, "GGG", "G")], "CCGGTTTTACGT"),
        ([(10, "GG", "TC")], "CCGTCGTTTTACGT"),
        ([(10, "GGG", "TA")], "CCGTATTTTACGT"),
        # edges of the window (20 bases in, the next is A)
        ([(5, "CCCCG", "C")], "GGGTTTTACGT"),
        ([(6, "C", "CTT")], "CCGGGGTTTTACGT"),
        ([(6, "CCC", "TTT")], "TTGGGGTTTTACGT"),
        ([(6, "CC", "CTAAA")], "TAAACGGGGTTTTACGT"),
        ([(19, "GTACG", "G")], "CCGGGGTTTTACG"),
        ([(20, "TAC", "GGG")], "CCGGGGTTTTACGG"),
        ([(20, "T", "TAAA")], "CCGGGGTTTTACGTAAA"),
        ([(20, "TA", "TAAA")], "CCGGGGTTTTACGT"),
        ([(21, "A", "T")], "CCGGGGTTTTACGT"),
        ([(6, "C", "A")], "CCGGGGTTTTACGT"),
        # records that overlap
        ([(5, "CCCCG", "C"), (9, "G", "T")], "GGGTTTTACGT"),
        ([(5, "CCCCG", "C"), (9, "G", "GT")], "TGGGTTTTACGT"),
        ([(10, "G", "GA"), (10, "G", "GT")], "CCGGAGGTTTTACGT"),
        ([(10, "G", "A"), (10, "G", "GT")], "CCGATGGTTTTACGT"),
        ([(10, "G", "GT"), (10, "G", "A")], "CCGGTGGTTTTACGT"),
        ([(10, "GG", "G"), (10, "G", "GTT")], "CCGGGTTTTACGT"),
        ([(10, "GGG", "G"), (12, "G", "GTT")], "CCGGTTTTTTACGT"),
        ([(10, "GGG", "G"), (12, "GT", "G")], "CCGGTTTACGT"),
        ([(10, "G", "T"), (10, "GGG", "G")], "CCGTTTTTACGT"),
        ([(10, "G", "T"), (10, "GGG", "GA")], "CCGTGGTTTTACGT"),
        ([(10, "GGG", "G"), (11, "G", "T")], "CCGGTTTTACGT"),
        # what is no sequence is left out; a base deleted upstream is not known
        ([(10, "G", "<INS>"), (13, "T", "A")], "CCGGGGATTTACGT"),
        ([(10, "G", "G]c:3]")], "CCGGGGTTTTACGT"),
        ([(10, "G", "*")], "CCGNGGTTTTACGT"),
    ],
)
def test_rules_of_bcftools(records, wanted):
    assert one(*records) == wanted


def test_order_in_the_file_does_not_matter():
    records = [(13, "T", "A"), (10, "GGG", "G"), (8, "C", "T")]
    assert one(*records) == one(*records[::-1]) == "CTGGATTTACGT"


def test_people_alleles_and_padding():
    records = [
        (8, "C", "T,A", ["1|2", "0|.", "2|2"]),
        (12, "G", "GAA", ["0|1", "0|0", "1|1"]),
    ]
    out, text = both(records, 6, 20, people=3)
    assert text == [
        ["CTGGGGTTTTACGT", "CAGGGGAATTTTACGT"],
        ["CCGGGGTTTTACGT"] * 2,
        ["CAGGGGAATTTTACGT"] * 2,
    ]
    assert len(out.tokens) == 3, "each sequence once"
    lengths = (out.tokens >= 0).sum(axis=1)
    for row, n in zip(out.tokens, lengths, strict=True):
        assert (row[n:] == tokens.PAD).all() and (row[:n] >= 0).all()
    every, again = both(records, 6, 20, people=3, deduplicate=False)
    assert again == text and len(every.tokens) == 6
    np.testing.assert_array_equal(every.index, np.arange(6).reshape(3, 2))


def test_other_alleles_with_the_same_sequence_are_one():
    records = [(9, "GG", "G", ["1|0"]), (11, "GG", "G", ["0|1"])]
    out, text = both(records, 6, 20)
    assert len(out.tokens) == 1 and text[0][0] == text[0][1]


def test_minus_strand_and_length():
    records = [(12, "G", "GAA", ["0|1"])]
    _, plus = both(records, 6, 20)
    out, minus = both(records, 6, 20, strand="-")
    complement = str.maketrans("ACGT", "TGCA")
    assert minus == [[s.translate(complement)[::-1] for s in plus[0]]]
    assert (out.tokens[:, :14] >= 0).all(), "padding comes last"
    cut, text = both(records, 6, 20, length=12)
    assert cut.tokens.shape == (2, 12)
    assert text == [[plus[0][0][1:13], plus[0][1][2:14]]]
    wide, _ = both(records, 6, 20, length=20)
    np.testing.assert_array_equal((wide.tokens < 0).sum(axis=1), [6, 4])
    np.testing.assert_array_equal(centred(np.array([1, 2], dtype=np.int8), 5), [-1, 1, 2, -1, -1])


def test_codes_for_unphased_genotypes():
    records = [
        (8, "C", "T", ["0/1", "1/1", "0|1", "./1"]),
        (10, "GG", "G", ["0|0", "0/1", "0/0", "0|0"]),
        (13, "T", "TAC", ["0/1", "0|0", "0/0", "0|0"]),
    ]
    _, text = both(records, 6, 20, people=4, unphased=True)
    assert text == [
        ["CYGGGGTACTTTACGT"] * 2,
        ["CTGGGTTTTACGT"] * 2,
        ["CCGGGGTTTTACGT", "CTGGGGTTTTACGT"],
        ["CTGGGGTTTTACGT"] * 2,
    ]


def bcftools(folder, reference, records, start, end, phase):
    """Haplotypes by bcftools consensus."""
    import pysam
    import pysam.bcftools
    from made_genome import write_vcf

    people = [f"p{i}" for i in range(len(records[0][4]))]
    vcf = write_vcf(folder / "a.vcf", records, people)
    pysam.tabix_compress(str(vcf), str(vcf) + ".gz", force=True)
    pysam.tabix_index(str(vcf) + ".gz", preset="vcf", force=True)
    (folder / "w.fa").write_text(f">c:{start + 1}-{end}\n{reference[start:end]}\n")
    out = []
    for person in people:
        pair = []
        for side in ("1", "2"):
            how = side if phase == "|" else f"{side}pIu"
            files = ("-f", str(folder / "w.fa"), str(folder / "a.vcf.gz"))
            text = pysam.bcftools.consensus("-H", how, "-s", person, *files)
            pair.append("".join(text.split("\n")[1:]))
        out.append(pair)
    return out


@installed("pysam")
@pytest.mark.parametrize("seed", range(24))
def test_equals_bcftools_on_random_records(seed, tmp_path, capfd):
    phase = "|" if seed % 3 else ""
    reference, records = random_records(seed, phase=phase)
    # 1.24 crashes on some records across the left edge, so only the right one is cut here.
    start, end = 0, (60 if seed % 2 else 40)
    wanted = bcftools(tmp_path, reference, records, start, end, phase)
    records = [(p, r, a, g) for _, p, r, a, g in records]
    assert both(records, start, end, reference, 3, unphased=not phase)[1] == wanted
