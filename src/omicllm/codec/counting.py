"""Counts of keys that add over blocks, and the rank order of the keys."""

from __future__ import annotations

from typing import Any

import numpy as np


def by_value(keys: Any, counts: np.ndarray) -> np.ndarray:
    """Positions of keys by count, descending, then by value, ascending.

    The order does not depend on that of the data, so counts of blocks can be added in any order.
    """
    keys = np.asarray(keys)
    if keys.dtype == object:
        counted = counts.tolist()
        order = sorted(range(len(keys)), key=lambda i: (-counted[i], keys[i]))
        return np.array(order, dtype=np.int64)
    return np.lexsort((keys, -counts))


class History:
    """Counts and rank order as the published code has them after every instance.

    There, keys are sorted by count (stable, descending) after each instance, so that keys with
    equal counts stay in the order they had before. Two tied keys were last told apart by the
    latest instance in which they gained unequally, and the one that gained fewer was ahead. It is
    thus enough to compare, once per block, what tied keys gained in its instances from the last
    one backwards; keys that never differ keep their order, new keys that of first appearance.

    Parameters
    ----------
    order
        Keys (small non-negative integers) in rank order.
    counts
        Counts of all keys, by key.
    """

    def __init__(self, order: np.ndarray, counts: np.ndarray) -> None:
        self.order = np.asarray(order, dtype=np.int64)
        self.counts = np.asarray(counts, dtype=np.int64)

    def add(self, keys: np.ndarray, instance: np.ndarray) -> None:
        """Add a block: keys in the order they occur, and the number of the instance of each."""
        if not len(keys):
            return
        keys = np.asarray(keys, dtype=np.int64)
        n = max(len(self.counts), int(keys.max()) + 1)
        known = np.zeros(n, dtype=bool)
        known[self.order] = True
        counts = np.bincount(keys, minlength=n)
        order = self.order
        unknown = keys[~known[keys]]
        if unknown.size:
            new, first = np.unique(unknown, return_index=True)
            order = np.concatenate([order, new[np.argsort(first)]])
        counts[: len(self.counts)] += self.counts
        order = order[np.argsort(-counts[order], kind="stable")]
        self.order, self.counts = self._untied(order, counts, keys, np.asarray(instance)), counts

    @staticmethod
    def _untied(
        order: np.ndarray, counts: np.ndarray, keys: np.ndarray, instance: np.ndarray
    ) -> np.ndarray:
        total = counts[order]
        starts = np.flatnonzero(np.r_[True, total[1:] != total[:-1]])
        stops = np.r_[starts[1:], len(order)]
        groups = [(a, b) for a, b in zip(starts, stops, strict=True) if b - a > 1]
        if not groups:
            return order
        tied = np.zeros(len(counts), dtype=bool)
        for a, b in groups:
            tied[order[a:b]] = True
        of_tied = tied[keys]
        last = int(instance.max())
        pair, gained = np.unique(
            keys[of_tied] * (last + 1) + (last - instance[of_tied]), return_counts=True
        )
        key, back = np.divmod(pair, last + 1)
        # One string of bytes per key: (instance, gain) from the last instance backwards. Their
        # lexicographic order is the rank order: who gained in a later instance comes after.
        record = np.stack([last - back, gained], axis=1).astype(">u4").tobytes()
        begin = np.flatnonzero(np.diff(key, prepend=-1))
        end = np.append(begin[1:], len(key))[: len(begin)]
        story = {int(key[a]): record[8 * a : 8 * b] for a, b in zip(begin, end, strict=True)}
        out = order.copy()
        for a, b in groups:
            out[a:b] = sorted(order[a:b].tolist(), key=lambda k: story.get(k, b""))
        return out
