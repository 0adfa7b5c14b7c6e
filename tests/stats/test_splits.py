"""Dealing rows and groups to parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omicllm.stats import splits


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 2**31),
)
def test_rows_are_dealt_in_shares(sizes, weights, seed):
    strata = np.repeat(np.arange(len(sizes)), sizes)
    shares = np.array(weights) / sum(weights)
    part = splits.by_rows(strata, shares, np.random.default_rng(seed))
    assert len(part) == len(strata)
    # Each part is right to within a row overall, and to within two in each stratum.
    assert (np.abs(np.bincount(part, minlength=len(shares)) - len(part) * shares) < 1 + 1e-6).all()
    for s, n in enumerate(sizes):
        got = np.bincount(part[strata == s], minlength=len(shares))
        assert (np.abs(got - n * shares) < 2 + 1e-6).all()


def test_rows_are_dealt_at_random():
    strata = np.zeros(30, dtype=int)
    shares = np.array([0.5, 0.5])
    parts = [splits.by_rows(strata, shares, np.random.default_rng(s)) for s in range(400)]
    assert np.abs(np.mean(parts, axis=0) - 0.5).max() < 0.1  # no row has a fixed place


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 15), st.integers(0, 2**31))
def test_groups_stay_whole_and_no_part_is_empty(n_groups, seed):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 60)])
    strata = rng.integers(0, 3, len(groups))
    part = splits.by_groups(groups, strata, np.array([0.7, 0.1, 0.2]), rng)
    assert all(len(set(part[groups == g])) == 1 for g in range(n_groups))
    assert set(part) == {0, 1, 2}


def test_groups_balance_sizes_and_strata():
    groups = np.repeat(np.arange(20), 10)
    strata = (groups % 2).astype(int)  # ten groups of each label
    part = splits.by_groups(groups, strata, np.array([0.6, 0.2, 0.2]), np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(part), [120, 40, 40])
    for p, n in ((0, 60), (1, 20), (2, 20)):
        np.testing.assert_array_equal(np.bincount(strata[part == p]), [n, n])
    with pytest.raises(ValueError, match="2 groups cannot fill 3 parts"):
        splits.by_groups(
            np.array([0, 1]), np.zeros(2, int), np.ones(3) / 3, np.random.default_rng()
        )


def test_spatial_blocks():
    x, y = np.meshgrid(np.arange(12.0), np.arange(6.0))
    coords = np.stack([x.ravel(), y.ravel()], axis=1)
    both = np.concatenate([coords, coords])
    sections = np.repeat([0, 1], len(coords))
    block = splits.spatial_blocks(both, sections, 8)
    assert set(block[:72]).isdisjoint(block[72:])
    for b in np.unique(block):
        inside = both[block == b]
        assert (np.ptp(inside, axis=0) <= 3).all()  # squares of about 3 x 3
    assert len(np.unique(block[:72])) == 8
    assert len(np.unique(splits.spatial_blocks(np.zeros((4, 2)), np.zeros(4, int), 9))) == 1
    line = np.stack([np.arange(50.0), np.zeros(50)], axis=1)
    assert len(np.unique(splits.spatial_blocks(line, np.zeros(50, int), 5))) == 5
