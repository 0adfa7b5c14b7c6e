"""K-mer tokens and counts against plain Python."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import omicllm as ol
from omicllm.genome import kmers


def words(sequence: str, k: int) -> list[str]:
    return [sequence[i : i + k] for i in range(len(sequence) - k + 1)]


@pytest.mark.parametrize("k,size", [(3, 69), (4, 261), (5, 1029), (6, 4101)])
def test_vocabulary_is_that_of_dnabert(k, size):
    tokenizer = ol.genome.KmerTokenizer(k)
    expected = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    expected += ["".join(w) for w in product("ATCG", repeat=k)]
    assert tokenizer.vocabulary == expected
    assert len(tokenizer) == size
    joined = "N".join(expected[5:])
    assert tokenizer.encode(joined)[:: k + 1].tolist() == list(range(5, size))


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", min_size=9, max_size=300), st.integers(1, 9))
def test_ids_are_those_of_the_words(sequence, k):
    tokenizer = ol.genome.KmerTokenizer(k)
    number = {w: 5 + sum("ATCG".index(b) * 4**i for i, b in enumerate(w[::-1])) for w in
              {w for w in words(sequence, k) if "N" not in w}}  # fmt: skip
    ids = tokenizer.encode(sequence)
    assert ids.tolist() == [number.get(w, 1) for w in words(sequence, k)]


def test_blocks_do_not_show(monkeypatch):
    sequence = "".join(np.random.default_rng(0).choice(list("ACGTN"), 500))
    whole = kmers.KmerTokenizer(6).encode(sequence)
    monkeypatch.setattr(kmers, "_BLOCK", 7)
    np.testing.assert_array_equal(kmers.KmerTokenizer(6).encode(sequence), whole)


@settings(max_examples=40, deadline=None)
@given(st.text("ACGTN", max_size=120), st.integers(1, 6), st.integers(1, 30))
def test_counts_of_every_length(sequence, k, block):
    counter = ol.genome.KmerCounter(k)
    codes = kmers.base_codes(sequence)
    for start in range(0, len(codes), block):
        counter.add(codes[start : start + block])
    for j, counts in enumerate(counter.finish(), start=1):
        expected = Counter(words(sequence, j))
        assert counts.tolist() == [expected[w] for w in kmers.kmer_names(j)]
    assert all(not c.any() for c in counter.finish()), "the next contig starts from nothing"


@settings(max_examples=40, deadline=None)
@given(st.text("ACGT", min_size=6, max_size=80), st.integers(1, 6))
def test_decode_and_reverse_complement(sequence, k):
    tokenizer = ol.genome.KmerTokenizer(k)
    assert tokenizer.decode(tokenizer.encode(sequence, special_tokens=True)) == sequence
    codes = kmers.base_codes(sequence)
    other = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    np.testing.assert_array_equal(kmers.reverse_complement(codes), kmers.base_codes(other))


def test_batch_pads_splits_and_truncates():
    tokenizer = ol.genome.KmerTokenizer(3)
    ids, real, owner = tokenizer.encode_batch(["ACGTA", "AAACCCG"])
    assert ids.tolist() == [
        [2, *tokenizer.encode("ACGTA"), 3, 0, 0],
        [2, *tokenizer.encode("AAACCCG"), 3],
    ]
    np.testing.assert_array_equal(real, ids != 0)
    assert owner.tolist() == [0, 1]
    ids, real, owner = tokenizer.encode_batch(["ACGTA", "AAACCCG"], max_tokens=2, too_long="split")
    assert owner.tolist() == [0, 0, 1, 1, 1]
    assert [tokenizer.decode(row) for row in ids] == ["ACGT", "GTA", "AAAC", "ACCC", "CCG"]
    ids, _, owner = tokenizer.encode_batch(["ACGTA", "AAACCCG"], max_tokens=2, too_long="truncate")
    assert [tokenizer.decode(row) for row in ids] == ["ACGT", "AAAC"] and owner.tolist() == [0, 1]


def test_soft_masking_and_odd_letters_are_choices():
    T = ol.genome.KmerTokenizer
    np.testing.assert_array_equal(T(3).encode("acgtn"), T(3).encode("ACGTN"))
    assert T(3, lower="unknown").encode("ACGt").tolist() == [*T(3).encode("ACG"), 1]
    assert T(3, other="unknown").encode("ACGR").tolist() == [*T(3).encode("ACG"), 1]
    with pytest.raises(ValueError, match="'c' at position 1 .*lower='upper'"):
        T(3, lower="refuse").encode("AcGT")
    with pytest.raises(ValueError, match="'R' at position 3 .*other='unknown'"):
        T(3).encode("ACGR")
    with pytest.raises(ValueError, match="write T for U"):
        T(3).encode("ACGU")
    with pytest.raises(ValueError, match="Sequence 1 holds 'X' at position 2"):
        T(3).encode_batch(["ACGT", "ACXT"])


def test_bad_input():
    T = ol.genome.KmerTokenizer
    for k in (0, 13, 2.0, True):
        with pytest.raises(ValueError, match="k must be a whole number"):
            T(k)
    with pytest.raises(ValueError, match="2 bases has no 3-mer"):
        T(3).encode("AC")
    with pytest.raises(ValueError, match=r"Sequence 1 has 2 bases, fewer than k=3 \(1 such\)"):
        T(3).encode_batch(["ACGT", "AC"])
    with pytest.raises(ValueError, match="takes 2. Choose too_long='split' or 'truncate'"):
        T(3).encode_batch(["ACGTA"], max_tokens=2)
    with pytest.raises(ValueError, match="lower must be one of"):
        T(3, lower="no")
    with pytest.raises(ValueError, match="does not continue"):
        T(3).decode([*T(3).encode("ACG"), *T(3).encode("TTT")])
