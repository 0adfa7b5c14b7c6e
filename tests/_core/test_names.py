"""Gene names: exact match, and what the error says when most are not there."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm._core import names

MOUSE = ["Actb", "Gapdh", "Penk", "Doc2g", "Kctd12"]
ENSEMBL = [f"ENSMUSG0000002{i:04d}" for i in range(5)]


def test_positions_keep_the_order_asked():
    assert names.positions(["Penk", "Actb"], MOUSE).tolist() == [2, 0]
    assert names.positions("Penk", MOUSE).tolist() == [2]


@pytest.mark.parametrize(
    "wanted,available,message",
    [
        (["ACTB", "PENK"], MOUSE, "case only"),
        ([e + ".3" for e in ENSEMBL], ENSEMBL, "version suffix only"),
        (MOUSE, ENSEMBL, r"adata.var_names = adata.var\['gene_id'\]"),
        (["Nope1", "Nope2"], MOUSE, "There are .* Check the names"),
    ],
)
def test_the_error_names_the_fix(wanted, available, message):
    with pytest.raises(KeyError, match=message):
        names.positions(wanted, available)


def test_a_few_missing_names_are_listed():
    with pytest.raises(KeyError, match="1 of 3 genes not in adata.var_names: 'X'"):
        names.positions(["Actb", "Penk", "X"], MOUSE)


def test_unique():
    assert names.unique(MOUSE).tolist() == MOUSE
    with pytest.raises(ValueError, match=r"1 name\(s\) more than once \('Actb'\)"):
        names.unique([*MOUSE, "Actb"])


def test_describe():
    assert names.describe(["ENSG00000000003.14"] * 2) == "Ensembl ids with a version suffix"
    assert names.describe(["ACTB", "TP53"]).startswith("upper-case")
    assert names.describe(np.array([])) == "no names"


def test_a_typo_gets_close_matches_and_no_advice():
    available = ["Penk", "Plp1", "Mbp", "Gfap"]
    with pytest.raises(KeyError) as caught:
        names.positions(["PENKX"], ["PENK", *available])
    assert "Names like it: 'PENKX': 'PENK'" in str(caught.value)
    with pytest.raises(KeyError) as caught:
        names.positions(["CD3Ex"], ["CD3E", "CD3D", "CD8A"])
    assert "'CD3E'" in str(caught.value) and "Ids and symbols" not in str(caught.value)
    with pytest.raises(KeyError, match="Ids and symbols do not match"):
        names.positions(["ENSG00000141510"], available)


def test_a_name_that_is_there_twice_is_not_guessed():
    there = ["A", "B", "A", "C"]
    assert names.positions(["C", "B"], there).tolist() == [3, 1]
    with pytest.raises(ValueError, match=r"'A': asked for with genes.*more than once"):
        names.positions(["C", "A"], there)
