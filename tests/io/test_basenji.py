"""`ol.io.read_basenji`, on records written by hand in TensorFlow's format."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from helpers import round_trip
from made_genome import write_fasta

import omicllm as ol
from omicllm.genome.tfrecord import read_records


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def record(**features):
    """An Example with features of bytes, framed; checksums are not read."""
    entries = b"".join(
        field(1, field(1, name.encode()) + field(2, field(1, field(1, value))))
        for name, value in features.items()
    )
    example = field(1, entries)
    return struct.pack("<Q", len(example)) + b"\0" * 4 + example + b"\0" * 4


@pytest.fixture
def folder(tmp_path):
    """Five sequences of 16 bases with 2 bins of 3 tracks; four train, in two files."""
    rng = np.random.default_rng(0)
    bases = rng.choice(list("ACGT"), 200)
    genome = write_fasta(tmp_path / "genome.fa", {"chr1": "".join(bases)})
    starts, splits = [0, 40, 80, 120, 184], ["train", "train", "valid", "train", "train"]
    targets = rng.normal(size=(5, 2, 3)).astype(np.float16)
    (tmp_path / "tfrecords").mkdir()
    lines, data = [], {}
    for i, (start, split) in enumerate(zip(starts, splits, strict=True)):
        lines.append(f"chr1\t{start}\t{start + 16}\t{split}")
        one_hot = (bases[start : start + 16, None] == list("ACGT")).astype(np.uint8)
        file = f"{split}-0-{0 if i < 3 else 10}.tfr"
        made = record(sequence=one_hot.tobytes(), target=targets[i].tobytes())
        data[file] = data.get(file, b"") + made
    for name, content in data.items():
        (tmp_path / "tfrecords" / name).write_bytes(zlib.compress(content))
    (tmp_path / "sequences.bed").write_text("\n".join(lines) + "\n")
    (tmp_path / "statistics.json").write_text(
        json.dumps({"num_targets": 3, "seq_length": 16, "target_length": 2, "pool_width": 4})
    )
    (tmp_path / "targets.txt").write_text(
        "index\tidentifier\tdescription\n0\ta\tDNASE\n1\tb\tCAGE\n2\tc\tCHIP\n"
    )
    return tmp_path, "".join(bases), targets, genome


def test_reads_what_was_written(folder, tmp_path):
    path, bases, targets, genome = folder
    adata = ol.io.read_basenji(path)
    assert adata.shape == (4, 3) and adata.var["identifier"].tolist() == list("abc")
    assert adata.obs["start"].tolist() == [0, 40, 120, 184]
    assert (adata.obs["bin_size"] == 4).all()
    wanted = [bases[s : s + 16] for s in (0, 40, 120, 184)]
    assert adata.obs["sequence"].tolist() == wanted
    np.testing.assert_array_equal(adata.obsm["tracks"], targets[[0, 1, 3, 4]])
    np.testing.assert_allclose(adata.X, targets[[0, 1, 3, 4]].mean(axis=1, dtype=np.float32))
    some = ol.io.read_basenji(path, split="val", targets=[2, 0])
    np.testing.assert_array_equal(some.obsm["tracks"], targets[[2]][:, :, [2, 0]])
    assert some.obs["split"].tolist() == ["val"] and some.var["identifier"].tolist() == ["c", "a"]
    assert ol.io.read_basenji(path, n=3).n_obs == 3
    round_trip(adata, tmp_path)
    wide = ol.io.read_basenji(path, genome=genome, length=32)
    assert (wide.obs["end"] - wide.obs["start"] == 32).all() and wide.obs["start"].iloc[1] == 32
    first, second, *_, last = wide.obs["sequence"]
    assert second == bases[32:64]
    assert first == "N" * 8 + bases[:24] and last == bases[176:] + "N" * 8


def test_packing(tmp_path):
    made = record(a=b"x" * 300) + record(b=b"")
    for name, data in (("z", zlib.compress(made)), ("g", gzip.compress(made)), ("p", made)):
        (tmp_path / name).write_bytes(data)
        assert list(read_records(tmp_path / name)) == [{"a": b"x" * 300}, {"b": b""}]


def test_bad_files(folder):
    path = folder[0]
    file = path / "tfrecords" / "train-0-10.tfr"
    whole = file.read_bytes()
    for damaged in (whole[:-9], zlib.compress(zlib.decompress(whole)[:-3]), b"\x05" * 40):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="truncated or damaged"):
            ol.io.read_basenji(path)
    file.unlink()
    with pytest.raises(ValueError, match="lists 4 train sequences; 2 were found"):
        ol.io.read_basenji(path)
    file.write_bytes(zlib.compress(record(sequence=b"\1" * 8, target=b"")))
    with pytest.raises(ValueError, match="not of the size that statistics.json says"):
        ol.io.read_basenji(path)
    with pytest.raises(ValueError, match="split must be one of"):
        ol.io.read_basenji(path, split="valid")
    with pytest.raises(ValueError, match="targets must lie between 0 and 2"):
        ol.io.read_basenji(path, targets=[3])
    with pytest.raises(ValueError, match="length must be a whole number of at least 16"):
        ol.io.read_basenji(path, genome=folder[3], length=8)
    (path / "targets.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no targets.txt"):
        ol.io.read_basenji(path)
