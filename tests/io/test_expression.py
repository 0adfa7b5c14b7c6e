"""`ol.io.read_expression`, `read_mpra`: each published layout."""

import gzip

import numpy as np
import pandas as pd
import pytest
from helpers import round_trip
from made_genome import write_fasta

import omicllm as ol

VALUES = np.array([[1.5, -2.0, 0.25], [0.0, 3.0, -1.0]])


def write(path, header, rows, separator="\t", packed=False):
    text = "\n".join(separator.join(map(str, r)) for r in [header, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_fastqtl_bed(tmp_path, packed):
    header = ["#Chr", "start", "end", "TargetID", "HG1", "HG2", "HG3"]
    rows = [[22, 99, 100, "ENSG1.1", *VALUES[0]], [22, 199, 200, "ENSG2.1", *VALUES[1]]]
    adata = ol.io.read_expression(write(tmp_path / "a.bed", header, rows, packed=packed))
    np.testing.assert_array_equal(adata.X, VALUES.T.astype(np.float32))
    assert adata.X.dtype == np.float32
    assert list(adata.obs_names) == ["HG1", "HG2", "HG3"]
    assert list(adata.var_names) == ["ENSG1.1", "ENSG2.1"]
    assert adata.var["chrom"].tolist() == ["22", "22"]
    assert adata.var["tss"].tolist() == [100, 200]
    round_trip(adata, tmp_path)


def test_qtltools_bed_has_strands(tmp_path):
    header = ["#chr", "start", "end", "pid", "gid", "strand", "HG1", "HG2", "HG3"]
    rows = [["chr1", 99, 150, "p1", "g1", "+", *VALUES[0]],
            ["chrX", 99, 150, "p2", "g2", "-", *VALUES[1]]]  # fmt: skip
    adata = ol.io.read_expression(write(tmp_path / "a.bed", header, rows))
    assert adata.var["tss"].tolist() == [100, 150]
    assert adata.var["strand"].tolist() == ["+", "-"]
    assert adata.var["gene_id"].tolist() == ["g1", "g2"]
    assert adata.shape == (3, 2)


def test_rpkm_table(tmp_path):
    people = ["HG1.1.M_111124_6", "HG2.4.M_120208_1", "HG3.7.M_120219_5"]
    header = ["TargetID", "Gene_Symbol", "Chr", "Coord", *people]
    rows = [["ENSG1.1", "ENSG1.1", 1, 500, *VALUES[0]], ["ENSG2.1", "B", "X", 9, *VALUES[1]]]
    adata = ol.io.read_expression(write(tmp_path / "a.txt", header, rows))
    assert list(adata.obs_names) == ["HG1", "HG2", "HG3"]
    assert adata.obs["assay"].tolist() == people
    assert adata.var["tss"].tolist() == [500, 9] and adata.var["chrom"].tolist() == ["1", "X"]
    assert adata.var["symbol"].tolist() == ["ENSG1.1", "B"]
    header[5] = "HG1.2.M_120208_1"
    adata = ol.io.read_expression(write(tmp_path / "a.txt", header, rows))
    assert list(adata.obs_names) == header[4:], "somebody was assayed twice"
    assert adata.obs["individual"].tolist() == ["HG1", "HG1", "HG3"]


def test_annotated_csv(tmp_path):
    header = ["", "Gene_Symbol", "Chr", "Coord", "HG1", "HG2", "HG3", "stable_id",
              "gencode_v12_gene_name", "our_gene_name", "EUR_eGene", "YRI_eGene",
              "top_EUR_eqtl_rsid", "top_EUR_eqtl_distance"]  # fmt: skip
    rows = [
            ["ENSG1.1", "S", 1, 500, *VALUES[0], "ENSG1", "A", "a", True, False, "rs1", 120.0],
            ["ENSG2.1", "S", 2, 600, *VALUES[1], "ENSG2", "B", "b", False, False, "", ""],
    ]  # fmt: skip
    adata = ol.io.read_expression(write(tmp_path / "a.csv.gz", header, rows, ",", packed=True))
    np.testing.assert_array_equal(adata.X, VALUES.T.astype(np.float32))
    assert adata.var["EUR_eGene"].tolist() == [True, False]
    assert adata.var["our_gene_name"].tolist() == ["a", "b"]
    assert adata.var["top_EUR_eqtl_distance"].iloc[0] == 120
    assert list(adata.var_names) == ["ENSG1.1", "ENSG2.1"]


def test_bad_tables(tmp_path):
    bed = ["#Chr", "start", "end", "TargetID", "HG1", "HG2"]
    row = [1, 1, 2, "g", 0.5, 0.25]
    for header, rows, message in (
        (["gene", "HG1"], [["g", 1]], "is no expression table: expected .*found 'gene', 'HG1'"),
        (bed, [row, row], "a gene more than once .'g'"),
        (bed, [[*row[:5], "high"]], "a.bed, line 2, column 'HG2': 'high' is no number"),
        (bed[:4], [row[:4]], "no columns with people"),
    ):
        with pytest.raises(ValueError, match=message):
            ol.io.read_expression(write(tmp_path / "a.bed", header, rows))
    path = write(tmp_path / "a.bed.gz", bed, [[1, 1, 2, f"g{i}", 1, 2] for i in range(999)],
                 packed=True)  # fmt: skip
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        ol.io.read_expression(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        ol.io.read_expression(tmp_path / "none")
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        ol.io.read_expression(tmp_path / "empty")


def test_real_table(data_dir):
    path = data_dir / "genome" / "comt" / "geuvadis_chr22_expression_373.tsv.gz"
    adata = ol.io.read_expression(path)
    assert adata.shape == (373, 364)
    frame = pd.read_csv(path, sep="\t").set_index("TargetID")
    gene, person = "ENSG00000093010.7", "HG00097"
    assert adata[person, gene].X.item() == pytest.approx(frame.loc[gene, person], rel=1e-6)
    assert adata.var["tss"][gene] == frame.loc[gene, "end"]


def test_mpra(tmp_path):
    header = ["ID", "SNP", "chr", "snp_pos", "ref_allele", "alt_allele", "LogSkew"]
    k562 = [["x", "a", "chr1", 10, "A", "G", 1.0], ["x", "b", "chr1", 20, "C", "T", 3.0]]
    more = [["x", "b", "chr1", 20, "C", "T", 5.0]]
    hepg2 = [["1:20:C:T", 0.5], ["1:30:G:GA", -0.5], ["1:40:G:A", ""]]
    files = {
        "K562": [
            write(tmp_path / "k1.tsv", header, k562),
            write(tmp_path / "k2.tsv", header, more),
        ],
        "HepG2": write(tmp_path / "h.csv", ["variant", "Log2Skew"], hepg2, ",", packed=True),
    }
    adata = ol.io.read_mpra(files)
    assert list(adata.var_names) == ["K562", "HepG2"]
    assert list(adata.obs_names) == ["chr1:10:A:G", "chr1:20:C:T", "1:20:C:T", "1:30:G:GA"]
    np.testing.assert_array_equal(
        adata.layers["skew"], [[1, np.nan], [4, np.nan], [np.nan, 0.5], [np.nan, -0.5]]
    )
    np.testing.assert_allclose(
        adata.X, [[-1, np.nan], [1, np.nan], [np.nan, 1], [np.nan, -1]], atol=1e-6
    )
    assert adata.obs["pos"].tolist() == [10, 20, 20, 30] and adata.obs["alt"].iloc[3] == "GA"
    raw = ol.io.read_mpra(files, zscore=False)
    np.testing.assert_array_equal(raw.X, raw.layers["skew"])
    long = [["1_20_C_T", "K562", 2.0], ["1_20_C_T", "HepG2", 1.0]]
    path = write(tmp_path / "l.tsv", ["variant", "cell_type", "skew"], long)
    assert ol.io.read_mpra(path, zscore=False)["1:20:C:T", "K562"].X.item() == 2
    round_trip(adata, tmp_path)


def test_bad_mpra(tmp_path):
    path = write(tmp_path / "a.tsv", ["variant", "effect"], [["1:2:A:G", 1]])
    with pytest.raises(KeyError, match="'log2skew' is not in the columns of the file.s. of K562"):
        ol.io.read_mpra({"K562": path})
    with pytest.raises(KeyError, match="'cell_type' is not in"):
        ol.io.read_mpra(path)
    path = write(tmp_path / "b.tsv", ["variant", "skew"], [["rs12", 1]])
    with pytest.raises(ValueError, match="'rs12' is not named chrom:pos:ref:alt"):
        ol.io.read_mpra({"K562": path})


def test_sequences_on_the_reporter(tmp_path):
    bases = "".join(np.random.default_rng(0).choice(list("ACGT"), 60))
    genome = ol.io.Genome(write_fasta(tmp_path / "g.fa", {"chr1": bases}))
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}
    snp = (30, bases[29], other[bases[29]])
    insertion = (41, bases[40], bases[40] + "GG")
    deletion = (21, bases[20:23], bases[20])
    edge = (2, bases[1], other[bases[1]])
    names = [":".join(map(str, ("chr1", *v))) for v in (snp, insertion, deletion, edge)]
    path = write(
        tmp_path / "a.tsv", ["variant", "skew"], [[n, 0.5 + i] for i, n in enumerate(names)]
    )
    adata = ol.io.read_mpra({"K562": path}, genome=genome, length=10)
    ref, alt = adata.obs["ref_sequence"], adata.obs["alt_sequence"]
    assert (ref.str.len() == 10).all() and (alt.str.len() == 10).all()
    assert ref.iloc[0] == bases[25:35] and alt.iloc[0] == bases[25:29] + snp[2] + bases[30:35]
    assert ref.iloc[1] == bases[36:46]
    assert alt.iloc[1] == bases[37:41] + "GG" + bases[41:45]
    assert ref.iloc[2] == bases[17:27]
    assert alt.iloc[2] == bases[16:20] + bases[20] + bases[23:28]
    assert ref.iloc[3] == "NNN" + bases[:7] and alt.iloc[3][4] == edge[2]
    round_trip(adata, tmp_path)
    assert "ref_sequence" not in ol.io.read_mpra({"K562": path}).obs
    wrong = write(tmp_path / "b.tsv", ["variant", "skew"],
                  [[names[0], 1], [f"chr1:31:{other[bases[30]]}:N", 2]])  # fmt: skip
    with pytest.raises(ValueError, match="alleles of 1 of 2 variants are not those of g.fa"):
        ol.io.read_mpra({"K562": wrong}, genome=genome)
    wrong = write(tmp_path / "c.tsv", ["variant", "skew"], [["1:30:A:C", 1]])
    with pytest.raises(KeyError, match="Did you mean 'chr1'"):
        ol.io.read_mpra({"K562": wrong}, genome=genome)
    wrong = write(tmp_path / "d.tsv", ["variant", "skew"], [[f"chr1:30:{snp[1]}:<DEL>", 1]])
    with pytest.raises(ValueError, match="'<DEL>' of .* is no sequence of at most 200"):
        ol.io.read_mpra({"K562": wrong}, genome=genome)


@pytest.mark.parametrize(
    ("header", "row", "wanted"),
    [
        ("SNP", "chr1_KI270706v1_random_1000_a_g", ("chr1_KI270706v1_random", 1000, "A", "G")),
        ("SNP", "HLA-A:1000:A:GT:b38", ("HLA-A", 1000, "A", "GT")),
        ("SNP", "1-1000-C-T", ("1", 1000, "C", "T")),
        ("chrom\tpos\tref\talt", "HLA:1\t1000\tA\tG", ("HLA:1", 1000, "A", "G")),
        ("chrom\tpos\tref\talt", "22.0\t1000.0\tA\tG", ("22", 1000, "A", "G")),
        ("SNP", "1:1000:A:-", None),
        ("SNP", "1:1000:.:T", None),
        ("chrom\tpos\tref\talt", "1\t1,000\tA\tG", None),
    ],
)
def test_names_of_variants_of_an_mpra(header, row, wanted, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(f"{header}\tskew\n{row}\t0.5\n")
    if wanted is None:
        with pytest.raises(ValueError, match="is not named chrom:pos:ref:alt"):
            ol.io.read_mpra({"K": path})
        return
    obs = ol.io.read_mpra({"K": path}).obs
    assert tuple(obs[["chrom", "pos", "ref", "alt"]].iloc[0]) == wanted


@pytest.mark.parametrize("paths", [{}, {"K": []}])
def test_an_mpra_without_files(paths):
    with pytest.raises(ValueError, match="paths names no file"):
        ol.io.read_mpra(paths)
