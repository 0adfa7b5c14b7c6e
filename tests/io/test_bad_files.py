"""Every reader of text x every way a file can be wrong: the error names the file."""

import gzip
import json

import pytest

import omicllm as ol
from omicllm._core.checks import ReadableKeyError
from omicllm.genome.bed import read_bed
from omicllm.genome.windows import read_gtf
from omicllm.stats.gene_sets import read_gene_sets


def gene_table(path):
    import anndata as ad
    import numpy as np

    adata = ad.AnnData(np.zeros((1, 1), np.float32))
    adata.var_names = ["A"]
    return ol.pp.gene_windows(adata, table=path, length=4)


#: Name of the file, what reads it, and a header of its layout (None: it has none).
READERS = {
    "expression": ("a.tsv", ol.io.read_expression, "TargetID\tGene_Symbol\tChr\tCoord\tP1\n"),
    "mpra": ("a.tsv", lambda p: ol.io.read_mpra({"K562": p}), "variant\tlog2skew\n"),
    "mpra_one": ("a.tsv", ol.io.read_mpra, "cell_type\tvariant\tlog2skew\n"),
    "ranks": ("a.csv", ol.io.read_kmer_ranks, "kmer,rank\n"),
    "lut": ("a.json", ol.io.read_lut, None),
    "patch_map": ("a.csv", ol.io.read_patch_map, "cell_id,patch_path\n"),
    "fasta": ("a.fa", ol.io.read_sequences, None),
    "tsv": ("a.tsv", ol.io.read_sequences, "sequence\tlabel\n"),
    "weights": ("a.tsv", ol.io.read_twas_weights, "gene\trsid\teff_allele\tref_allele\tweight\n"),
    "pos": ("a.pos", ol.io.read_twas_weights, None),
    "gtf": ("a.gtf", read_gtf, None),
    "bed": ("a.bed", lambda p: list(read_bed(p)), None),
    "genes": ("a.csv", gene_table, "gene_id,chrom,tss\n"),
    "gmt": ("a.gmt", read_gene_sets, None),
}
WRONG = {
    "empty": b"",
    "binary": bytes(range(256)) * 8,
    "NUL": b"sequence\tlabel\nAC\0GT\t1\n",
    "latin-1": "sequence\tlabel\nACGT\tcaf\xe9\n".encode("latin-1"),
    "utf-16": "sequence\tlabel\nACGT\t1\n".encode("utf-16"),
    "truncated": gzip.compress(b"sequence\tlabel\n" + b"ACGT\t1\n" * 999)[:-20],
    "zip": b"PK\x03\x04" + bytes(64),
    "other columns": b"x,y\n1,2\n",
    "quote without end": b'x,"y\n1,2\n',
}
#: What a user can act on; subclasses such as UnicodeDecodeError or EmptyDataError are not.
CLEAR = {ValueError, KeyError, ReadableKeyError, FileNotFoundError, IsADirectoryError}
#: An empty BED has no regions; any two columns are a patch map.
LEGAL = {("bed", "empty"), ("patch_map", "other columns")}


@pytest.mark.parametrize("wrong", ["missing", "folder", "header only", *WRONG])
@pytest.mark.parametrize("reader", READERS)
def test_the_error_names_the_file(tmp_path, reader, wrong):
    name, read, header = READERS[reader]
    path = tmp_path / name
    if wrong == "folder":
        path.mkdir()
    elif wrong == "header only":
        if header is None:
            pytest.skip("the layout has no header")
        path.write_text(header)
    elif wrong != "missing":
        path.write_bytes(WRONG[wrong])
    if (reader, wrong) in LEGAL:
        assert len(read(path)) == (reader == "patch_map")
        return
    with pytest.raises(Exception) as caught:
        read(path)
    assert type(caught.value) in CLEAR, repr(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "{}", '{"seq_length": 1e400}'])
def test_statistics_of_basenji(tmp_path, content):
    for file in ("sequences.bed", "targets.txt"):
        (tmp_path / file).write_text("")
    (tmp_path / "tfrecords").mkdir()
    (tmp_path / "statistics.json").write_text(content)
    with pytest.raises(ValueError, match="statistics.json") as caught:
        ol.io.read_basenji(tmp_path)
    assert type(caught.value) is ValueError


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    sizes = {"seq_length": 10**9, "target_length": 10**6, "num_targets": 1}
    (tmp_path / "statistics.json").write_text(json.dumps(sizes))
    (tmp_path / "targets.txt").write_text("index\tidentifier\n0\ta\n")
    (tmp_path / "sequences.bed").write_text("1\t0\t9\ttrain\n")
    (tmp_path / "tfrecords").mkdir()
    (tmp_path / "tfrecords" / "train-0-0.tfr").write_bytes(b"x" * 64)
    with pytest.raises(ValueError, match=r"statistics.json gives 4,002,000,000 bytes"):
        ol.io.read_basenji(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"mapping": {"' + "9" * 30 + '": 1}, "key_type": "int"}', "t.json.*too large"),
        ('{"mapping": {"9": ' + "9" * 30 + '}, "key_type": "int"}', "t.json.*2..63"),
        ('{"mapping": {"nan": 1}, "key_type": "float"}', "t.json.*not finite"),
        ('{"mapping": {"1": 1, "1": 2}, "key_type": "int"}', "t.json.*more than once"),
    ],
)
def test_lookup_tables(tmp_path, text, message):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        ol.io.read_lut(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("ranks", "message"),
    [("1e300", "line 3.*from 1 to 16"), ("1", "same 'rank'"), ("x", "line 3.*no number"),
     ("17", "1 to 16"), ("", "1 to 16"), ("0", "1 to 16")],
)  # fmt: skip
def test_ranks(tmp_path, ranks, message):
    (tmp_path / "k.csv").write_text(f"kmer,rank\nAA,1\nAC,{ranks}\n")
    with pytest.raises(ValueError, match=message):
        ol.io.read_kmer_ranks(tmp_path / "k.csv")


def test_a_gene_without_place_is_named(tmp_path):
    line = '1\tx\tgene\t{}\t9\t.\t+\t.\tgene_id "a"\n'
    (tmp_path / "g.gtf").write_text(line.format(5) + line.format("abc"))
    with pytest.raises(ValueError, match="g.gtf, line 2.*'abc'"):
        read_gtf(tmp_path / "g.gtf")
