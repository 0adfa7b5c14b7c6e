"""Properties of the transforms and tables."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from omicllm.codec import LookupTable, image, series, text
from omicllm.codec.code_points import reference_code_points, safe_code_points
from omicllm.codec.distances import hamming, indel, level, levenshtein

quick = settings(max_examples=40, deadline=None)
profiles = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 21)), elements=st.floats(-20, 20)
)
plain = st.text(st.characters(exclude_characters="\x1d\x1e\x1f", exclude_categories=["Cs"]))


def by_formula(x, bits, mu, M):
    y = np.clip(np.asarray(x, dtype=np.float64) / M, -1, 1)
    return np.trunc((1 << bits) * (np.sign(y) * (np.log(1 + mu * np.abs(y)) / np.log(1 + mu))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint16])
@pytest.mark.parametrize("bits,mu,M", [(8, 255.0, 65536.0), (8, 256.0, 1.0), (3, 0.5, 3.3),
                                       (12, 100.0, 5.0), (16, 255.0, 4.0)])  # fmt: skip
def test_levels_are_those_of_the_formula_in_float64(dtype, bits, mu, M):
    rng = np.random.default_rng(0)
    x = rng.normal(scale=3, size=200_000)
    x[:1000] *= 1e4
    x[1000:1100] = M
    x[1100:1200] = 0
    # Values at and next to every step, where a guess in single precision goes wrong.
    steps = ((1 + mu) ** (np.arange(1, (1 << min(bits, 12)) + 1) / (1 << bits)) - 1) / mu * M
    x = np.concatenate([x, steps, np.nextafter(steps, 0), -np.nextafter(steps, np.inf)])
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.abs(x).astype(dtype) if np.dtype(dtype).kind == "u" else x.astype(dtype)
    mine = series.levels(x, bits=bits, mu=mu, max_value=M)
    np.testing.assert_array_equal(mine, by_formula(x, bits, mu, M))


def test_levels_refuse_nan_and_saturate():
    with pytest.raises(ValueError, match="NaN"):
        series.levels([0.0, np.nan])
    np.testing.assert_array_equal(series.levels([np.inf, -np.inf, 1e300]), [256, -256, 256])
    assert series.levels(np.empty((0, 3))).shape == (0, 3)


@quick
@given(profiles, st.sampled_from([4, 8, 13]), st.sampled_from(["trunc", "nearest"]))
def test_decoded_values_are_close(X, bits, rounding):
    code = {"bits": bits, "mu": 255.0, "max_value": 20.0}
    level = series.levels(X, **code, rounding=rounding)
    decoded = series.values(level, **code)
    assert (np.abs(level) <= 1 << bits).all()
    if rounding == "trunc":
        assert (np.abs(decoded) <= np.abs(X) * (1 + 1e-9)).all()
    # A step is the slope of the expansion over 2^bits: at most M ln(1+mu)(1/mu + |x|/M) / 2^bits.
    step = np.log(256) * (20 / 255 + np.abs(X)) / 2**bits
    step *= 256 ** (1 / 2**bits)
    assert (np.abs(decoded - X) <= step * (0.51 if rounding == "nearest" else 1.001) + 1e-9).all()


@quick
@given(profiles, st.sampled_from([None, 1, 4, 8]), st.sampled_from(["safe", "reference"]))
def test_strings_go_there_and_back(X, patch_size, codepoints):
    table = LookupTable.fit(X, max_value=20.0, patch_size=patch_size, codepoints=codepoints)
    strings = table.encode(X)
    n, m = X.shape
    words = 1 if patch_size is None else -(-m // patch_size)
    length = m if patch_size is None else words * (patch_size + 1) - 1
    assert len(strings) == n and all(len(s) == length for s in strings)
    decoded = np.stack(table.decode(strings))[:, :m]
    code = {"bits": 8, "mu": 255.0, "max_value": 20.0}
    np.testing.assert_array_equal(decoded, series.values(series.levels(X, **code), **code))
    # From a list of profiles, one at a time, and from sparse storage: the same strings.
    assert [s for x in X for s in table.encode([x])] == strings
    assert table.encode(list(X)) == strings
    assert table.encode(sparse.csr_matrix(X)) == table.encode(sparse.csc_matrix(X)) == strings
    assert table.encode(X.tolist()) == strings


@quick
@given(profiles, st.integers(0, 5), st.sampled_from(["value", "reference"]))
def test_counts_add_over_blocks(X, cut, tie_break):
    whole = LookupTable.fit(X, max_value=20.0, tie_break=tie_break)
    parts = LookupTable.fit(X[:cut], max_value=20.0, tie_break=tie_break)
    parts.update(sparse.csr_matrix(X[cut:]))
    np.testing.assert_array_equal(parts.levels, whole.levels)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.counts.sum() == len(X) * (-(-X.shape[1] // 8) * 8)
    if tie_break == "value":
        merged = LookupTable.fit(X[cut:], max_value=20.0).merge(
            LookupTable.fit(X[:cut], max_value=20.0)
        )
        np.testing.assert_array_equal(merged.levels, whole.levels)
        shuffled = LookupTable.fit(X[::-1], max_value=20.0)
        np.testing.assert_array_equal(shuffled.levels, whole.levels)


@quick
@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=9), min_size=1, max_size=8))
def test_reference_order_is_a_stable_sort_after_every_instance(instances):
    table = LookupTable.fit(
        [np.array(i, dtype=float) for i in instances], bits=2, mu=1e-9, max_value=4.0,
        patch_size=1, tie_break="reference",
    )  # fmt: skip
    counts: dict[int, int] = {}
    for instance in instances:
        for value in instance:
            key = int(series.levels([value], bits=2, mu=1e-9, max_value=4.0)[0])
            counts[key] = counts.get(key, 0) + 1
        counts = dict(sorted(counts.items(), key=lambda item: -item[1]))
    assert list(zip(table.levels.tolist(), table.counts.tolist(), strict=True)) == list(
        counts.items()
    )


def test_merge_in_reference_order_and_of_other_transforms():
    a = LookupTable([0, 5, -10, 20], [7, 9, 3, 1], tie_break="reference")
    b = LookupTable([99, 0], [3, 3], tie_break="reference")
    assert a.levels.tolist() == [5, 0, -10, 20]
    a.merge(b)
    assert list(zip(a.levels.tolist(), a.counts.tolist(), strict=True)) == [
        (0, 10), (5, 9), (-10, 3), (99, 3), (20, 1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="max_value: 65536.0 and 1.0"):
        a.merge(LookupTable([0], [1], max_value=1.0))


def test_unseen_values():
    given = {"max_value": 10.0, "patch_size": 1}
    assert LookupTable([0, 100, 200], [3, 2, 1], unseen="next").lookup([101, 201, -5]) == [
        LookupTable([0, 100, 200], [3, 2, 1]).characters[i] for i in (2, 2, 0)
    ]
    near = LookupTable([0, 100, 200], [3, 2, 1], unseen="nearest")
    assert near.lookup([101, 149, 151, 300]) == [near.characters[i] for i in (1, 1, 2, 2)]
    strict = LookupTable.fit([[0.0, 1.0]], unseen="raise", **given)
    with pytest.raises(ValueError, match="1 level.s. are not in the table .for example 2"):
        strict.encode([[0.0, 9.9]])
    with pytest.raises(ValueError, match="are not in the table"):
        strict.encode(sparse.csr_matrix([[0.0, 9.9]]))
    words = LookupTable.fit(["abc"], method="text")
    with pytest.raises(ValueError, match="token.s. are not in the table"):
        words.encode(["xyz"])


def test_unknown_characters_and_wrong_words():
    X = np.array([[0.0, 1.0, 2.0, 3.0]])
    table = LookupTable.fit(X, max_value=3.0, patch_size=4)
    good = table.encode(X)[0]
    bad = good[:-1] + "\u2603"
    with pytest.raises(ValueError, match=r"1 character.s. are not in the table .*U\+2603"):
        table.decode([bad])
    with pytest.raises(ValueError, match="A word has 3 characters; words of this table have 4"):
        table.decode([good[:-1]])
    for unknown, last in (("max", 3.0), ("nan", np.nan)):
        other = LookupTable.fit(X, max_value=3.0, patch_size=4, unknown=unknown)
        np.testing.assert_array_equal(other.decode([bad])[0][-1], last)
    assert table.decode([""])[0].size == 0
    assert table.decode([]) == [] and table.encode([]) == []
    # Mixed lengths are decoded one by one.
    a, b = table.decode([good, good + " " + good])
    assert a.size == 4 and b.size == 8


def test_an_empty_table_says_so():
    for table in (LookupTable([], []), LookupTable.fit([])):
        for call in (lambda t: t.encode([[1.0]]), lambda t: t.decode(["a"])):
            with pytest.raises(ValueError, match="The lookup table is empty: fit it"):
                call(table)


def test_bad_parameters():
    for name, value, message in (
        ("bits", 0, "bits must be a whole number"),
        ("bits", 21, "at most 20"),
        ("mu", 0.0, "mu must be a positive number"),
        ("max_value", float("inf"), "max_value must be a positive"),
        ("patch_size", 0, "patch_size must be a whole"),
        ("separator", "ab", "one character"),
        ("tie_break", "random", "tie_break must be one of 'value', 'reference'"),
        ("method", "sound", "method must be one of"),
        ("unseen", "guess", "unseen must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            LookupTable.fit([[1.0]], **{name: value})
    with pytest.raises(ValueError, match="no nearest value"):
        LookupTable.fit(["a"], method="text", unseen="nearest")
    with pytest.raises(ValueError, match="is for method='series'"):
        LookupTable.fit(["a"], method="text", patch_size=None)
    with pytest.raises(ValueError, match="occurs more than once"):
        LookupTable([1, 1], [2, 3])
    with pytest.raises(ValueError, match="levels beyond -256 to 256"):
        LookupTable([500], [1]).update([[1.0]])
    with pytest.raises(ValueError, match="Images need shapes="):
        LookupTable.fit([np.eye(8)], method="image").decode(["a"])


# -- code points ----------------------------------------------------------------------------


def test_safe_characters_survive_handling():
    codes = safe_code_points(60_000, offset=33, separator=" ")
    assert len(set(codes.tolist())) == 60_000 and (np.diff(codes.astype(int)) > 0).all()
    joined = "".join(map(chr, codes))
    for form in ("NFC", "NFKC"):
        assert unicodedata.normalize(form, joined) == joined
    assert joined.encode("utf-8").decode() == joined
    assert not {unicodedata.category(c)[0] for c in joined} & set("CZM")
    first = "".join(map(chr, codes[:600]))
    assert not set(first) & set("<>!?.,'\" \t\r\n\x1e\xa0\xad")
    assert first.split() == [first] == first.splitlines() and first.strip() == first


def test_safe_characters_suffice_for_sixteen_bits():
    codes = safe_code_points(2**17 + 1, offset=33, separator=" ")
    assert len(np.unique(codes)) == 2**17 + 1
    assert not ((codes >= 0xD800) & (codes <= 0xDFFF)).any()


def test_shared_characters_are_told(caplog):
    table = LookupTable(np.arange(60), np.arange(60)[::-1], codepoints="reference", offset=0xD7F0)
    with caplog.at_level("WARNING", logger="omicllm"):
        assert table.characters.count("?") == 44
    assert "43 values share the character" in caplog.text


def test_reference_characters():
    codes = reference_code_points(60_000, offset=33, separator=" ")
    assert codes[0] == 33 and (codes[0xD800 - 33 : 0xE000 - 33] == ord("?")).all()
    with pytest.raises(ValueError, match="beyond the last one"):
        reference_code_points(30, offset=0x10FFF0, separator=" ")
    with pytest.raises(ValueError, match=r"gives the separator U\+0020"):
        reference_code_points(30, offset=20, separator=" ")


# -- images and texts -----------------------------------------------------------------------


def test_images():
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(16.0), np.arange(24.0)) / 40
    # With all coefficients kept and fine rounding the image comes back, scale and all.
    given = {"patch_size": 8, "max_coefficients": 8}
    kept = image.coefficients(smooth, **given, precision=6)
    assert kept.dtype == np.float16 and kept.shape == (6, 64)
    back = image.pixels(kept, smooth.shape, **given, rescale=False)
    np.testing.assert_allclose(back, smooth, atol=0.01)
    colour = rng.random((13, 9, 3)).astype(np.float32)
    table = LookupTable.fit([smooth, colour], method="image", patch_size=4, max_coefficients=2)
    strings = table.encode([smooth, colour])
    a, b = table.decode(strings, [smooth.shape, colour.shape])
    assert a.shape == smooth.shape and b.shape == colour.shape
    assert a.min() == 0 and a.max() == 1 and table.quality([smooth])[0] > 25
    constant = np.full((8, 8), 3.0)
    table = LookupTable.fit([constant], method="image")
    assert (table.decode(table.encode([constant]), [(8, 8)])[0] == 0).all()
    for bad, message in ((np.ones(4), "An image is"), (np.full((8, 8), np.nan), "NaN or inf")):
        with pytest.raises(ValueError, match=message):
            image.coefficients(bad)
    with pytest.raises(ValueError, match="has 4 patches of 9 coefficients"):
        image.pixels(np.zeros((3, 9)), (16, 16))


@quick
@given(plain, st.sampled_from([1, 3, 8, 300]))
def test_any_text_comes_back(words, patch_size):
    chunks = text.tokens(words, patch_size=patch_size)
    assert text.joined(chunks) == words
    table = LookupTable.fit([words, "x"], method="text", patch_size=patch_size)
    assert table.decode(table.encode([words])) == [words]


def test_long_chunks_and_runs():
    rng = np.random.default_rng(0)
    words = "".join(rng.choice(list("ACGT\n"), 3000))
    naive = sorted((words + "\x1d")[i:] + (words + "\x1d")[:i] for i in range(len(words) + 1))
    assert text.last_column(words) == "".join(row[-1] for row in naive)
    assert text.tokens("aab") == [["1b", "1\x1d", "2a"]] or text.joined(text.tokens("aab")) == "aab"
    assert text.tokens("") == [] and text.joined([]) == ""
    assert text.joined([["12a", "1\x1d"]]) == "a" * 12
    for bad in ("a\x1d", "\x1e", "b\x1f"):
        with pytest.raises(ValueError, match="which the transform uses"):
            text.tokens(bad)
    with pytest.raises(TypeError, match="Expected a str"):
        text.tokens(3)


# -- distances ------------------------------------------------------------------------------


def edit_table(a, b, *, replace):
    """Edit distance by the textbook table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            cost = row[j - 1] + (0 if x == y else (1 if replace else 2))
            new.append(min(row[j] + 1, new[-1] + 1, cost))
        row = new
    return row[-1]


@quick
@given(st.lists(st.text("abcd\u4e00", max_size=80), min_size=2, max_size=4))
def test_edit_distances(strings):
    pairs = [(a, b) for i, a in enumerate(strings) for b in strings[i + 1 :]]
    wanted = [edit_table(a, b, replace=True) / max(len(a), len(b), 1) for a, b in pairs]
    np.testing.assert_allclose(levenshtein(strings), wanted)
    wanted = [edit_table(a, b, replace=False) / max(len(a) + len(b), 1) for a, b in pairs]
    np.testing.assert_allclose(indel(strings), wanted)


@pytest.mark.parametrize("distance", [hamming, levenshtein, indel])
def test_distances_of_few_or_empty_strings(distance):
    assert distance([]).shape == distance(["a"]).shape == (0,)
    assert distance(["", ""]).tolist() == [0.0]
    assert distance(["\U00020000b", "\U00020000c"]).dtype == np.float64


def test_hamming_and_level_distances():
    X = np.array([[0.0, 1.0, 2.0], [0.0, -1.0, 2.0], [3.0, 3.0, 3.0]])
    table = LookupTable.fit(X, max_value=3.0, patch_size=2)
    strings = table.encode(X)
    words = [s.replace(" ", "") for s in strings]
    wanted = [np.mean([a != b for a, b in zip(words[i], words[j], strict=True)])
              for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
    np.testing.assert_allclose(hamming(words), wanted)
    levels = series.levels(np.hstack([X, X[:, 2:]]), max_value=3.0).astype(float)
    wanted = [np.linalg.norm(levels[i] - levels[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(level(strings, table), wanted)
    with pytest.raises(ValueError, match="strings of one length"):
        hamming(["a", "ab"])
    with pytest.raises(ValueError, match="profiles of one length"):
        level(["a", "ab"], table)
