"""`_core.text_files`: tables whose names stay as they are written."""

import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pytest

import omicllm as ol
from omicllm._core.text_files import read_table, typed

ODD = ["NA", "nan", "None", "True", "1e5", "007", "1", "01", "N/A", "null", "1.0", " a", "é"]


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_text_stays_text(tmp_path, separator, end, packed):
    rows = [["name", "value"], *([n, str(i)] for i, n in enumerate(ODD)), ["", "NA"]]
    text = "\ufeff" + end.join(separator.join(r) for r in rows) + end * 2
    (tmp_path / "t.csv").write_bytes(packed(text.encode()))
    frame = read_table(tmp_path / "t.csv", numbers=["value"])
    assert frame["name"].tolist() == [*ODD, ""]
    np.testing.assert_array_equal(frame["value"], [*range(len(ODD)), np.nan])
    assert frame.index.tolist() == list(range(2, len(ODD) + 3))


def test_quoted_fields_and_lines(tmp_path):
    text = 'a,"b ""c"" d"\n"x,1","two\nlines"\n\n5" long,"NA"\n'
    (tmp_path / "t.csv").write_text(text)
    frame = read_table(tmp_path / "t.csv")
    assert frame.columns.tolist() == ["a", 'b "c" d']
    assert frame.to_numpy().tolist() == [["x,1", "two\nlines"], ['5" long', "NA"]]
    assert frame.index.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\ta\n1\t2\t3\n", "header.*more than once .'a'"),
        ("a\tb\n1\t2\n1\t2\t3\n", "line 3: .* 3 field.*header has 2"),
        ("a\tb\n1\t2\t3\n4\t5\t6\n", "line 2: .* 3 field"),
        ("a\tb\n1\n", "line 2: .* 1 field"),
        ("a\tb\n1\tx\n", "line 2, column 'b': 'x' is no number"),
        ('a\tb\n"q\nr"\t1\n1\tx\n', "line 4, column 'b': 'x'"),
        ('a\tb\n1\t"2\n', "line 2: a quoted field begins"),
        ("a\tb\t\n1\t2\t3\n", "column 3.*no name"),
    ],
)
def test_refused(tmp_path, text, message):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(ValueError, match="t.tsv.*" + message):
        read_table(tmp_path / "t.tsv", numbers=["b"])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "0"], [1, 0]), (["01", "1"], ["01", "1"]), (["NA", "b"], ["NA", "b"]),
        (["1", ""], [1, pd.NA]), (["1", "NA"], [1, pd.NA]), (["0.5", "NA"], [0.5, np.nan]),
        (["a", ""], ["a", None]), (["True", "False"], [True, False]), (["1", "a"], ["1", "a"]),
        (["-3", "1e2"], [-3.0, 100.0]), (["9" * 30, "1"], ["9" * 30, "1"]),
        (["-", "."], ["-", "."]),
    ],
)  # fmt: skip
def test_typed(cells, expected):
    out = typed(pd.Series(cells)).tolist()
    for got, want in zip(out, expected, strict=True):
        assert type(got) is type(want) and (pd.isna(got) if pd.isna(want) else got == want)


GENES = ["NA", "nan", "True", "007", "1e5"]


def test_names_through_every_reader(tmp_path):
    def table(name, rows, separator="\t"):
        path = tmp_path / name
        path.write_text("".join(separator.join(map(str, r)) + "\n" for r in rows))
        return path

    rows = [["TargetID", "Gene_Symbol", "Chr", "Coord", "P.1", "02"]]
    rows += [[g, g, 22, 5 + i, i, 2 * i] for i, g in enumerate(GENES)] + [["G", "G", "", "", 1, 2]]
    adata = ol.io.read_expression(table("e.tsv", rows))
    assert adata.obs_names.tolist() == ["P.1", "02"] and list(adata.var_names) == [*GENES, "G"]
    assert adata.var["chrom"].tolist() == ["22"] * 5 + [""]
    assert adata.var["symbol"].tolist() == [*GENES, "G"]
    np.testing.assert_array_equal(adata.var["tss"], [5, 6, 7, 8, 9, np.nan])
    ol.pp.gene_windows(adata, length=4, missing="skip")
    assert adata.var["window_start"].tolist() == [2, 3, 4, 5, 6, -1]

    rows = [["gene", "rsid", "chrom", "pos", "eff_allele", "ref_allele", "weight"]]
    rows += [[g, g, 22, 5, "A", "G", 1] for g in GENES] + [["G", "01", "", "", "A", "G", 2]]
    weights = ol.io.read_twas_weights(table("w.tsv", rows))
    assert weights["gene"].tolist() == [*GENES, "G"]
    assert weights["variant"].tolist() == [*GENES, "01"]
    assert weights["chrom"].tolist() == ["22"] * 5 + [""]

    rows = [["cell_id", "patch_path"], *([g, f"{g}.png"] for g in GENES)]
    assert ol.io.read_patch_map(table("p.csv", rows, ","))["id"].tolist() == GENES

    rows = [["id", "sequence", "label"], *([g, "ACGT", g] for g in GENES)]
    sequences = ol.io.read_sequences(table("s.tsv", rows))
    assert sequences.obs["id"].tolist() == GENES == sequences.obs["label"].tolist()

    rows = [["cell_type", "variant", "skew"], *([g, "1:5:a:g", i] for i, g in enumerate(GENES))]
    mpra = ol.io.read_mpra(table("m.tsv", rows), zscore=False)
    assert list(mpra.var_names) == GENES and list(mpra.obs_names) == ["1:5:A:G"]

    (tmp_path / "cohort").mkdir()
    for part in ("train", "test"):
        rows = [["", "1", "01", "NA"], *([f"{part[1]}{g}", i, 1, 2] for i, g in enumerate(GENES))]
        table(f"cohort/{part}_df.csv", rows, ",")
        table(
            f"cohort/{part}_labels.csv", [["id", "label"], *([r[0], "01"] for r in rows[1:])], ","
        )
    cohort = ol.io.read_cohort(tmp_path / "cohort")
    assert list(cohort.var_names) == ["1", "01", "NA"]
    assert list(cohort.obs_names) == [f"{p}{g}" for p in "re" for g in GENES]
    assert set(cohort.obs["label"]) == {"01"}


@pytest.mark.parametrize("how", ["frame", "csv", "tsv"])
def test_gene_tables_of_biomart(tmp_path, how):
    """Numbers beside missing values are fractions in pandas and in what it writes."""
    import anndata as ad

    frame = pd.DataFrame({
        "gene_name": ["NA", "B", "C"], "chrom": [22, 1, np.nan], "strand": [1, -1, np.nan],
        "start": [100, 200, np.nan], "end": [150, 250, np.nan],
    })  # fmt: skip
    table = frame
    if how != "frame":
        table = tmp_path / f"t.{how}"
        frame.to_csv(table, sep="\t" if how == "tsv" else ",", index=False)
    adata = ad.AnnData(np.zeros((1, 3), np.float32), var=pd.DataFrame(index=["NA", "B", "C"]))
    ol.pp.gene_windows(adata, table=table, upstream=10, downstream=5, missing="skip")
    assert adata.var["window_chrom"].tolist() == ["22", "1", ""]
    assert adata.var["window_strand"].tolist()[:2] == ["+", "-"]
    assert adata.var["window_start"].tolist() == [89, 245, -1]
