"""BED files."""

import gzip

import numpy as np
import pandas as pd
import pytest

from omicllm.genome import bed


def test_overlap_is_that_of_a_plain_search(tmp_path, monkeypatch):
    monkeypatch.setattr(bed, "_LINES", 7)  # several batches
    rng = np.random.default_rng(0)
    low = rng.integers(0, 900, 60)
    regions = [("ab"[i % 2], int(s), int(s + rng.integers(0, 12))) for i, s in enumerate(low)]
    lines = ["# made", "track name=x", *(f"{c}\t{s}\t{e}\tname\t0\t+" for c, s, e in regions), ""]
    with gzip.open(tmp_path / "r.bed.gz", "wt") as file:
        file.write("\n".join(lines))
    chrom = rng.choice(list("abc"), 300)
    start = rng.integers(0, 920, 300)
    end = start + rng.integers(1, 5, 300)
    wanted = [
        any(c == r[0] and s < r[2] and e > r[1] and r[2] > r[1] for r in regions)
        for c, s, e in zip(chrom, start, end, strict=True)
    ]
    found, n = bed.inside_regions(tmp_path / "r.bed.gz", chrom, start, end)
    assert found.tolist() == wanted and n == 60 and 20 < sum(wanted) < 280
    frame = pd.DataFrame(regions, columns=["chrom", "start", "end"])
    again, _ = bed.inside_regions(frame, chrom, start, end)
    assert again.tolist() == wanted


@pytest.mark.parametrize("line", ["c\t5", "c\tx\t9", "c\t9\t5", "c\t-1\t5", "c;1;2", "c\t1.5\t2"])
def test_malformed_lines_are_numbered(tmp_path, line):
    (tmp_path / "a.bed").write_text(f"#h\nc\t1\t2\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.bed, line 3: .* is no region"):
        list(bed.read_bed(tmp_path / "a.bed"))


def test_bad_files(tmp_path):
    one = (np.array(["chr1"]), np.array([0]), np.array([1]))
    with pytest.raises(FileNotFoundError, match="no BED file"):
        bed.inside_regions(tmp_path / "none.bed", *one)
    (tmp_path / "e.bed").write_text("#only\n")
    with pytest.raises(ValueError, match=r"e\.bed holds no regions"):
        bed.inside_regions(tmp_path / "e.bed", *one)
    (tmp_path / "n.bed").write_text("1\t0\t5\n")
    with pytest.raises(KeyError, match="'chr1' is not in the contigs of n.bed.*mean '1'"):
        bed.inside_regions(tmp_path / "n.bed", *one)
    packed = gzip.compress(b"".join(b"1\t%d\t%d\n" % (i, i + 5) for i in range(5000)))
    (tmp_path / "t.bed.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="truncated"):
        bed.inside_regions(tmp_path / "t.bed.gz", *one)
    with pytest.raises(KeyError, match="'end' is not in the columns of regions"):
        bed.inside_regions(pd.DataFrame({"chrom": ["a"], "start": [1]}), *one)
    with pytest.raises(ValueError, match="Row 0 .* ends before"):
        bed.inside_regions(pd.DataFrame({"chrom": ["a"], "start": [3], "end": [1]}), *one)
