"""Lookup tables on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest

import omicllm as ol
from omicllm.codec import LookupTable


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_published_tables_come_out_byte_for_byte(data_dir, tmp_path):
    found = sorted((data_dir / "ult").glob("*/occurrences.json"))
    found += sorted((data_dir / "ult").glob("lut-*.json"))
    assert found
    for path in found:
        ol.io.write_lut(ol.io.read_lut(path), tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
        first = ol.io.read_lut(path)
        again = ol.io.read_lut(tmp_path / "again.json")
        assert again.parameters == first.parameters
        assert again.characters == first.characters
        (tmp_path / "again.parameters.json").unlink()


def test_name_of_the_published_table_gives_its_parameters(tmp_path):
    content = {"mapping": {"256": 5, "-3": 4, "7": 4}, "key_type": "int"}
    path = write(tmp_path / "lut-rna-42-series-p10cm15mu256.json", content)
    table = ol.io.read_lut(path)
    p = table.parameters
    assert (p.patch_size, p.max_value, p.mu, p.bits) == (10, 1.5, 256.0, 8)
    assert (p.codepoints, p.tie_break, p.unseen) == ("reference", "reference", "next")
    assert table.levels.tolist() == [256, -3, 7] and table.characters == '!"#'
    assert ol.io.read_lut(path, mu=100, codepoints="safe").parameters.mu == 100
    assert ol.io.read_lut(path, codepoints="safe").characters[0] == "#"


def test_parameters_are_kept_beside_the_table(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 7))
    table = LookupTable.fit(X, bits=5, mu=9.0, max_value=2.0, patch_size=3, unseen="raise")
    ol.io.write_lut(table, tmp_path / "t.json")
    assert set(json.loads((tmp_path / "t.json").read_text())) == {"mapping", "key_type"}
    again = ol.io.read_lut(tmp_path / "t.json")
    assert again.parameters == table.parameters and again.encode(X) == table.encode(X)
    # An entry "params" in the file itself serves too, and arguments win over both.
    content = json.loads((tmp_path / "t.json").read_text())
    content["params"] = {"mu": 3.0, "max_value": 4.0, "someone_elses": 1}
    inside = ol.io.read_lut(write(tmp_path / "inside.json", content), max_value=5.0)
    assert (inside.parameters.mu, inside.parameters.max_value) == (3.0, 5.0)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ol.io.write_lut(table, tmp_path / "t.json", overwrite=False)


@pytest.mark.parametrize("method", ["series", "image", "text"])
def test_every_kind_of_key(method, tmp_path):
    data = {"series": [[0.5, -3.0]], "image": [np.eye(16)], "text": ["a\u2192b, \U0001f9ec"]}
    table = LookupTable.fit(data[method], method=method, tie_break="reference")
    ol.io.write_lut(table, tmp_path / "t.json")
    again = ol.io.read_lut(tmp_path / "t.json", method=method)
    np.testing.assert_array_equal(again.levels, table.levels)
    np.testing.assert_array_equal(again.counts, table.counts)
    ol.io.write_lut(again, tmp_path / "u.json")
    assert (tmp_path / "t.json").read_bytes() == (tmp_path / "u.json").read_bytes()


def test_nothing_in_a_file_is_executed(tmp_path):
    trap = tmp_path / "executed"
    for key_type in (f"__import__('pathlib').Path({str(trap)!r}).touch() or int", "eval", "", 3):
        path = write(tmp_path / "t.json", {"mapping": {"1": 1}, "key_type": key_type})
        with pytest.raises(ValueError, match="has the key type .* Nothing of it was executed"):
            ol.io.read_lut(path)
    assert not trap.exists()


def test_bad_files(tmp_path):
    for content, message in (
        ("{", "is not JSON"),
        ([1], "is no lookup table"),
        ({"mapping": {"1": 1}}, "lacks 'mapping' or 'key_type'"),
        ({"mapping": {"1": -1}, "key_type": "int"}, "whole number of at least 0"),
        ({"mapping": {"1": 1.5}, "key_type": "int"}, "whole number of at least 0"),
        ({"mapping": {"a": 1}, "key_type": "int"}, "is not of key type 'int'"),
        ('{"mapping": {"1": 1, "1": 2}, "key_type": "int"}', "more than once"),
    ):
        with pytest.raises(ValueError, match=message):
            ol.io.read_lut(write(tmp_path / "t.json", content))
    path = write(tmp_path / "t.json", {"mapping": {"1": 1}, "key_type": "int"})
    with pytest.raises(ValueError, match="a table for series, not text"):
        ol.io.read_lut(path, method="text")
    with pytest.raises(TypeError, match="Unknown parameter"):
        ol.io.read_lut(path, compression=3)
    with pytest.raises(FileNotFoundError):
        ol.io.read_lut(tmp_path / "nowhere.json")
    # An empty table is read; using it says what is wrong.
    empty = ol.io.read_lut(write(tmp_path / "t.json", {"mapping": {}, "key_type": "int"}))
    with pytest.raises(ValueError, match="table is empty"):
        empty.encode([[1.0]])
