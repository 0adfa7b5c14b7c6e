"""`ol.pp.gene_windows` and `ol.pp.attach_sequences`."""

import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers import only_declared_written, round_trip, same_object, slots
from made_genome import write_fasta

import omicllm as ol

BASES = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
GENES = pd.DataFrame(
    {"chrom": ["c", "c", "d"], "tss": [101, 201, 51], "strand": ["+", "-", "-"]},
    index=["A", "B", "C"],
)
GTF = "\n".join(
    [
        "#!made up",
        'c\tx\tgene\t101\t150\t.\t+\t.\tgene_id "ENSG00000000001.2"; gene_name "A";',
        'c\tx\ttranscript\t120\t150\t.\t+\t.\tgene_id "ENSG00000000001.2"; gene_name "A";',
        'c\tx\tgene\t150\t201\t.\t-\t.\tgene_id "ENSG00000000002.1"; gene_name "B";',
        'd\tx\tgene\t10\t51\t.\t-\t.\tgene_id "ENSG00000000003.1"; gene_name "C";',
        "",
    ]
)


def with_window(adata):
    """The genes that have a window."""
    return ol.get.table(adata, "window").query("end > start")


def make(var=GENES):
    return ad.AnnData(np.zeros((2, len(var)), dtype=np.float32), var=var.copy())


@pytest.fixture
def genome(tmp_path):
    return ol.io.Genome(write_fasta(tmp_path / "g.fa", {"c": BASES[:300], "d": BASES[300:]}))


def test_published_window_on_both_strands():
    adata = make()
    before = slots(adata)
    ol.pp.gene_windows(adata, length=20)
    only_declared_written(before, adata, "pp.gene_windows")
    frame = ol.get.table(adata, "window")
    # [tss - 10, tss + 9] from 1
    assert frame["start"].tolist() == [90, 190, 40] and frame["end"].tolist() == [110, 210, 60]
    assert frame["chrom"].tolist() == ["c", "c", "d"]
    assert frame["strand"].tolist() == ["+", "-", "-"]
    assert list(frame.index) == ["A", "B", "C"]


def test_upstream_follows_the_gene(genome):
    adata = make()
    ol.pp.gene_windows(adata, upstream=8, downstream=3, genome=genome)
    ol.pp.attach_sequences(adata, genome=genome)
    for gene, row in adata.var.iterrows():
        sequence = row["sequence"]
        assert len(sequence) == 11
        first = genome.fetch(row["chrom"], row["tss"] - 1, row["tss"], strand=row["strand"])
        assert sequence[8] == first, gene
    assert adata.var["sequence"]["A"] == BASES[92:103]
    complement = str.maketrans("ACGT", "TGCA")
    assert adata.var["sequence"]["B"] == BASES[198:209].translate(complement)[::-1]


@pytest.mark.parametrize("names", [["A", "B", "C"], [f"ENSG0000000000{i}" for i in (1, 2, 3)],
                                   [f"ENSG0000000000{i}.9" for i in (1, 2, 3)]])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_gtf(names, packed, tmp_path):
    path = tmp_path / "a.gtf"
    path.write_bytes(gzip.compress(GTF.encode()) if packed else GTF.encode())
    adata, wanted = make(pd.DataFrame(index=names)), make()
    ol.pp.gene_windows(adata, gtf=path, length=20)
    ol.pp.gene_windows(wanted, length=20)
    for column in ("chrom", "start", "end", "strand"):
        assert adata.var[f"window_{column}"].tolist() == wanted.var[f"window_{column}"].tolist()


def test_gtf_without_gene_lines(tmp_path):
    path = tmp_path / "a.gtf"
    lines = [line for line in GTF.splitlines() if "\tgene\t" not in line]
    more = [line.replace("\ttranscript\t120", "\ttranscript\t110") for line in lines]
    path.write_text("\n".join(lines + more))
    adata = make(pd.DataFrame(index=["A"]))
    ol.pp.gene_windows(adata, gtf=path, length=20)
    assert adata.var["window_start"].tolist() == [99], "the outermost transcript"


def test_table(tmp_path):
    wanted = make()
    ol.pp.gene_windows(wanted, length=20)
    shuffled = GENES.iloc[::-1]
    GENES.rename_axis("gene_name").to_csv(tmp_path / "t.csv")
    ends = pd.DataFrame({"gene_id": ["A", "B", "C"], "chrom": GENES["chrom"].to_numpy(),
                         "start": [101, 150, 10], "end": [150, 201, 51],
                         "strand": ["+", "-", "-"]})  # fmt: skip
    for table in (shuffled, tmp_path / "t.csv", ends):
        adata = make(pd.DataFrame(index=["A", "B", "C"]))
        ol.pp.gene_windows(adata, table=table, length=20)
        assert adata.var["window_start"].tolist() == wanted.var["window_start"].tolist()


def test_genes_without_start_site(tmp_path):
    table = GENES.iloc[:2]
    adata = make(pd.DataFrame(index=["A", "B", "Q"]))
    untouched = adata.copy()
    with pytest.raises(ValueError, match="1 of 3 genes have no transcription start site .'Q'"):
        ol.pp.gene_windows(adata, table=table)
    same_object(adata, untouched)
    ol.pp.gene_windows(adata, table=table, length=20, missing="skip")
    assert adata.var["window_start"].tolist() == [90, 190, -1]
    assert list(with_window(adata).index) == ["A", "B"]
    round_trip(adata, tmp_path)
    with pytest.raises(KeyError, match="genes not in the table.*case"):
        ol.pp.gene_windows(make(pd.DataFrame(index=["a", "b"])), table=table)
    gone = GENES.copy()
    gone["tss"] = [101, np.nan, 51]
    with pytest.raises(ValueError, match="1 of 3 genes have no .*'B'"):
        ol.pp.gene_windows(make(gone))


def test_bad_input(genome, tmp_path):
    adata = make()
    with pytest.raises(ValueError, match="windows of 1 genes reach past .*'C'"):
        ol.pp.gene_windows(adata, length=110)
    with pytest.raises(ValueError, match="windows of 2 genes reach past .*'B', 'C'"):
        ol.pp.gene_windows(make(GENES.assign(tss=[101, 251, 51])), length=200, genome=genome)
    other = make(GENES.assign(chrom=["chrc", "chrc", "chrd"]))
    with pytest.raises(KeyError, match="'chrc' is not in .*Did you mean 'c'"):
        ol.pp.gene_windows(other, length=20, genome=genome)
    with pytest.raises(ValueError, match="Strands must be"):
        ol.pp.gene_windows(make(GENES.assign(strand="x")), length=20)
    with pytest.raises(KeyError, match="'chrom' is not in adata.var.*gtf="):
        ol.pp.gene_windows(make(GENES[["tss"]]))
    with pytest.raises(KeyError, match="'tss' is not in"):
        ol.pp.gene_windows(make(GENES[["chrom"]]))
    with pytest.raises(ValueError, match="not both"):
        ol.pp.gene_windows(adata, gtf="a", table="b")
    with pytest.raises(FileNotFoundError, match="no GTF file"):
        ol.pp.gene_windows(adata, gtf=tmp_path / "none.gtf")
    (tmp_path / "text.gtf").write_text("nothing\n")
    with pytest.raises(ValueError, match="is it a GTF file"):
        ol.pp.gene_windows(adata, gtf=tmp_path / "text.gtf")
    with pytest.raises(KeyError, match="'window_start' is not in adata.var.*gene_windows"):
        ol.pp.attach_sequences(adata, genome=genome)
    frame = pd.DataFrame({"chrom": ["c"], "start": [1], "end": [2]}, index=["Q"])
    with pytest.raises(KeyError, match="rows that are no genes: 'Q'"):
        ol.pp.attach_sequences(adata, genome=genome, windows=frame)


def test_copy_and_key_added(genome, tmp_path):
    adata = make()
    out = ol.pp.gene_windows(adata, length=20, key_added="near", copy=True)
    assert "near_start" not in adata.var and "near_start" in out.var
    ol.pp.attach_sequences(out, genome=genome, window_key="near", key_added="promoter")
    assert out.var["promoter"]["A"] == BASES[90:110]
    round_trip(out, tmp_path)


PAST = GENES.assign(chrom=["c", "c", "d"], strand=["+", "-", "+"], tss=[101, 11, 90])


def test_windows_past_the_ends_are_skipped(genome):
    """Contigs of 300 and 100 bases: B begins before the first, C ends after the last."""
    for given, left in ((genome, ["A"]), (None, ["A", "C"])):
        adata = make(PAST)
        ol.pp.gene_windows(adata, length=40, genome=given, missing="skip")
        assert with_window(adata).index.tolist() == left
        gone = adata.var[~adata.var_names.isin(left)]
        assert (gone[["window_start", "window_end"]] == -1).all(axis=None)
        assert (gone["window_chrom"] == "").all()
        ol.pp.attach_sequences(adata, genome=genome) if given else None
    assert "sequence" not in adata.var
    with pytest.raises(ValueError, match="windows of 2 genes reach past .*outside='pad'"):
        ol.pp.gene_windows(make(PAST), length=40, genome=genome)
    only = make(PAST.loc[["B", "C"]])
    with pytest.raises(ValueError, match="windows of 2 genes reach past"):
        ol.pp.gene_windows(only, length=40, genome=genome, missing="skip")


def test_windows_past_the_ends_are_padded(genome):
    padded = ol.io.Genome(genome.path, outside="pad")
    adata = make(PAST)
    ol.pp.gene_windows(adata, length=40, genome=padded)
    assert adata.var["window_start"].tolist() == [80, -10, 69]
    ol.pp.attach_sequences(adata, genome=padded)
    whole = {c: "N" * 99 + padded.fetch(c, 0, n) + "N" * 99 for c, n in padded.lengths.items()}
    for name, start in (("A", 80), ("B", -10), ("C", 69)):
        chrom, strand = PAST.loc[name, ["chrom", "strand"]]
        wanted = whole[chrom][start + 99 : start + 139]
        if strand == "-":
            wanted = wanted.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        assert adata.var.loc[name, "sequence"] == wanted
    with pytest.raises(ValueError, match="does not lie inside"):
        ol.pp.attach_sequences(adata, genome=genome)
    far = make(PAST.assign(tss=[101, 150, 500]))
    with pytest.raises(ValueError, match="windows of 1 genes reach past .*'C'"):
        ol.pp.gene_windows(far, length=40, genome=padded)


@pytest.mark.parametrize("where", ["var", "table", "windows"])
def test_words_for_strands(genome, where):
    words = {
        "+": ["plus", 1, 1.0, "1", ".", None, np.nan, "+"],
        "-": ["minus", -1, -1.0, "-1", "-"],
    }
    for strand, several in words.items():
        for word in several:
            table = pd.DataFrame(
                {"chrom": ["c"], "tss": [101], "strand": [word], "start": [90], "end": [110]},
                index=["A"],
            )
            if where == "windows":
                adata = make(GENES.iloc[:1])
                ol.pp.attach_sequences(adata, genome=genome, windows=table)
                assert adata.var["sequence"].iloc[0] == genome.fetch("c", 90, 110, strand=strand)
                continue
            adata = make(table if where == "var" else GENES.iloc[:1])
            ol.pp.gene_windows(adata, length=20, table=table if where == "table" else None)
            assert adata.var["window_strand"].tolist() == [strand], word
    bad = pd.DataFrame(
        {"chrom": ["c"], "tss": [101.5], "strand": ["+"], "start": [90.5], "end": [110]},
        index=["A"],
    )
    adata = make(bad if where == "var" else GENES.iloc[:1])
    with pytest.raises(ValueError, match="whole number"):
        {
            "windows": lambda: ol.pp.attach_sequences(adata, genome=genome, windows=bad),
            "table": lambda: ol.pp.gene_windows(adata, length=20, table=bad),
            "var": lambda: ol.pp.gene_windows(adata, length=20),
        }[where]()


@pytest.mark.parametrize("where", ["var", "table"])
def test_contigs_that_became_fractions(where, tmp_path):
    """A table of genes of which one has no place: pandas reads its contigs as 22.0."""
    text = "gene_id,chrom,tss,strand\nA,22,101,1\nB,,,\nC,7,51,-1\n"
    (tmp_path / "genes.csv").write_text(text)
    table = pd.read_csv(tmp_path / "genes.csv")
    assert table["chrom"].dtype == float and table["strand"].dtype == float
    if where == "table":
        adata = make(GENES[[]])
        ol.pp.gene_windows(adata, length=20, table=table, missing="skip")
    else:
        adata = make(table.set_index("gene_id"))
        ol.pp.gene_windows(adata, length=20, missing="skip")
    assert adata.var["window_chrom"].tolist() == ["22", "", "7"]
    assert adata.var["window_strand"].tolist() == ["+", "+", "-"]
    assert adata.var["window_start"].tolist() == [90, -1, 40]


def _sites(tmp_path, lines, genes):
    """Contig and start site (from 1) of the genes, from lines of a GTF."""
    path = tmp_path / "x.gtf"
    path.write_text("".join(
        f"{c}\tx\t{f}\t{s}\t{e}\t.\t{d}\t.\t{a}\n" for c, f, s, e, d, a in lines
    ))  # fmt: skip
    adata = ad.AnnData(np.zeros((1, len(genes)), np.float32), var=pd.DataFrame(index=genes))
    ol.pp.gene_windows(adata, gtf=path, upstream=0, downstream=1)
    return [(c, int(s) + 1) for c, s in adata.var[["window_chrom", "window_start"]].to_numpy()]


@pytest.mark.parametrize(
    "attributes",
    [
        'ref_gene_id "other"; gene_id "A";',
        'projection_parent_gene_id "other";gene_id "A"',
        'havana "gene_ida"; gene_id  "A"; ref_gene_name "B"; gene_name "a";',
        "gene_id A; transcript_id t",
    ],
)
def test_attributes_of_a_gtf_are_found_by_their_whole_name(attributes, tmp_path):
    lines = [("1", "gene", 1000, 2000, "-", attributes)]
    assert _sites(tmp_path, lines, ["A"]) == [("1", 2000)]


def test_a_name_in_several_places_is_no_one_gene(tmp_path, caplog):
    # Transcripts of UCSC: one name on both sex chromosomes.
    lines = [
        ("chrX", "transcript", 5000, 6000, "-", 'gene_id "A"; transcript_id "1";'),
        ("chrX", "transcript", 5500, 6200, "-", 'gene_id "A"; transcript_id "2";'),
        ("chrY", "transcript", 90_000, 91_000, "-", 'gene_id "A"; transcript_id "3";'),
        ("chrY", "transcript", 70, 90, "+", 'gene_id "B"; transcript_id "4";'),
    ]
    with caplog.at_level("WARNING"):
        assert _sites(tmp_path, lines, ["A", "B"]) == [("chrX", 6200), ("chrY", 70)]
    assert "1 genes lie in several places" in caplog.text and "'A'" in caplog.text


def test_gff3_is_told(tmp_path):
    with pytest.raises(ValueError, match="GFF3"):
        _sites(tmp_path, [("1", "gene", 1, 9, "+", "ID=gene:A;gene_id=A")], ["A"])


@pytest.mark.parametrize("column", ["tss", "start", "end"])
def test_positions_that_are_no_numbers_are_named(column):
    adata = ad.AnnData(np.zeros((1, 2), np.float32), var=pd.DataFrame(index=["a", "b"]))
    table = {"gene_id": ["a", "b"], "chrom": "1", "start": ["1", "2"], "end": ["5", "6"]}
    if column == "tss":
        table["tss"] = ["1", "2"]
    table[column] = ["7", "1,000"]
    with pytest.raises(ValueError, match=f"'{column}'.*'1,000'"):
        ol.pp.gene_windows(adata, table=pd.DataFrame(table), upstream=0, downstream=1)
