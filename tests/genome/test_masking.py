"""Span masking against the schemes spelt out token by token."""

from __future__ import annotations

import numpy as np
import pytest

import omicllm as ol
from omicllm.genome import masking

OFFSETS = {3: (-1, 1), 4: (-1, 2), 5: (-2, 2), 6: (-2, 3)}


def made(n=6, width=64, k=6, seed=0):
    """Rows in [CLS] ... [SEP], some with pads, and ranks by token id."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 5 + 4**k, (n, width))
    ids[:, 0] = 2
    for i in range(n):
        end = width - 1 - 7 * i
        ids[i, end] = 3
        ids[i, end + 1 :] = 0
    ranks = np.concatenate([np.zeros(5), 1 + rng.permutation(4**k)])
    return ids, ranks


def spelt_out(ids, centres, ranks, k, by):
    """GeneMask as described, one row at a time."""
    low, high = OFFSETS[k]
    out = np.zeros(ids.shape, dtype=bool)
    ranks = ranks.copy()
    ranks[:5] = 0
    for r, row in enumerate(ids):
        end = np.flatnonzero(row >= 5).max()
        found = []
        for c in np.flatnonzero(centres[r] & (row >= 5)):
            window = [p for p in range(c + low, c + high + 1) if 1 <= p <= end]
            out[r, window] = True
            value = {p: ranks[row[p] if by == "token" else p] for p in window}
            best = min(window, key=lambda p: value[p])
            found.append((value[best], best))
        found.sort(key=lambda f: f[0])
        half = -(-len(found) // 2)
        for _, p in found if half < 5 else found[:half]:
            out[r, max(1, p - k + 1) : min(end, p + k - 1) + 1] = True
    return out


class Fixed(np.random.Generator):
    """Draws the given centres first, then random numbers."""

    def __init__(self, centres):
        super().__init__(np.random.PCG64(0))
        self.centres = centres

    def random(self, size=None, dtype=np.float64, out=None):
        if self.centres is not None:
            first, self.centres = np.where(self.centres, 0, 1).astype(dtype), None
            return first
        return super().random(size, dtype)


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("by", ["token", "position"])
@pytest.mark.parametrize("p", [0.03, 0.15])
def test_genemask_is_as_spelt_out(k, by, p):
    ids, ranks = made(k=k)
    centres = np.random.default_rng(1).random(ids.shape) < p
    _, labels = ol.genome.mask_tokens(ids, ranks=ranks, k=k, rank_by=by, rng=Fixed(centres.copy()))
    np.testing.assert_array_equal(labels >= 0, spelt_out(ids, centres, ranks, k, by))


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_dnabert_masks_windows(k):
    ids, _ = made(k=k)
    centres = np.random.default_rng(1).random(ids.shape) < 0.02
    _, labels = ol.genome.mask_tokens(ids, masking="dnabert", k=k, rng=Fixed(centres.copy()))
    expected = np.zeros(ids.shape, dtype=bool)
    low, high = OFFSETS[k]
    for r, c in zip(*np.nonzero(centres & (ids >= 5)), strict=True):
        expected[r, max(0, c + low) : c + high + 1] = True
    np.testing.assert_array_equal(labels >= 0, expected & (ids >= 5))


def test_shares_and_labels():
    ids = np.random.default_rng(0).integers(5, 4101, (600, 512))
    ids[:, 0], ids[:, -1] = 2, 3
    ranks = np.concatenate([np.zeros(5), 1 + np.random.default_rng(1).permutation(4096)])
    for scheme, share in (("genemask", 0.152), ("dnabert", 0.1405), ("random", 0.152)):
        out, labels = ol.genome.mask_tokens(ids, masking=scheme, ranks=ranks, rng=0)
        masked = labels >= 0
        assert masked[:, 1:-1].mean() == pytest.approx(share, abs=0.003)
        np.testing.assert_array_equal(labels[masked], ids[masked])
        np.testing.assert_array_equal(out[~masked], ids[~masked])
        assert (out[masked] == 4).mean() == pytest.approx(0.8, abs=0.01)
        assert (out[masked] == ids[masked]).mean() == pytest.approx(0.1, abs=0.01)
        assert ((out >= 5) | (out == 4) | (ids < 5)).all(), "no special token is put in"
        assert not masked[ids < 5].any()


def test_curriculum_ends_in_genemask():
    ids, ranks = made(9, 4000)
    plain = ol.genome.mask_tokens(ids, ranks=ranks, rng=5)[1]
    np.testing.assert_array_equal(
        ol.genome.mask_tokens(ids, ranks=ranks, rng=5, curriculum=1.0)[1], plain
    )
    start = ol.genome.mask_tokens(ids, ranks=ranks, rng=5, curriculum=0.0)[1]

    best, worst = (ids >= 5) & (ranks[ids] <= 410), ranks[ids] > 3686

    def hidden(labels):
        """No base of the token can be read off a neighbour."""
        masked = np.pad(labels >= 0, ((0, 0), (5, 5)))
        return np.lib.stride_tricks.sliding_window_view(masked, 11, axis=1).all(axis=2)

    assert hidden(plain)[best].mean() > 3 * hidden(start)[best].mean()
    assert hidden(plain)[worst].mean() < hidden(start)[worst].mean() / 3


def test_seeds_shapes_and_types():
    ids, ranks = made()
    one, two = (ol.genome.mask_tokens(ids, ranks=ranks, rng=7) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    before = ids.copy()
    out, labels = ol.genome.mask_tokens(ids[0].astype(np.int16), ranks=ranks, rng=0)
    assert out.shape == labels.shape == ids[0].shape
    assert out.dtype == np.int16 and labels.dtype == np.int64
    np.testing.assert_array_equal(ids, before)
    empty, labels = ol.genome.mask_tokens(np.full((2, 5), 0), ranks=ranks)
    assert not empty.any() and (labels == -100).all()


def test_ranks_by_name():
    ranks = masking.token_ranks({"AAA": 2, "CCC": 1}, 3)
    tokenizer = ol.genome.KmerTokenizer(3)
    assert ranks[tokenizer.encode("AAA")[0]] == 2 and ranks[tokenizer.encode("CCC")[0]] == 1
    assert (np.delete(ranks, [*tokenizer.encode("AAA"), *tokenizer.encode("CCC")]) == 3).all()
    with pytest.raises(ValueError, match="of 3-mers, but hold 'AAAA'"):
        masking.token_ranks({"AAAA": 1}, 3)
    with pytest.raises(ValueError, match="one value per token id"):
        masking.token_ranks(np.arange(10), 3)


def test_bad_input():
    ids, ranks = made()
    for kwargs, message in (
        ({"masking": "no"}, "masking must be one of"),
        ({"rank_by": "no", "ranks": ranks}, "rank_by must be one of"),
        ({}, r"needs ranks=.*read_kmer_ranks"),
        ({"masking": "dnabert", "k": 3}, "3-mers have 0 to 68"),
        ({"masking": "dnabert", "centre_share": 2}, "centre_share must lie"),
        ({"masking": "dnabert", "mask_share": 0.8, "random_share": 0.3}, "must lie"),
    ):
        with pytest.raises(ValueError, match=message):
            ol.genome.mask_tokens(ids, **kwargs)
    with pytest.raises(ValueError, match="whole numbers"):
        ol.genome.mask_tokens(ids.astype(float), masking="dnabert")
