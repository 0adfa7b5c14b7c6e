"""Dealing rows to parts of given sizes: row by row within strata, or by whole groups."""

from __future__ import annotations

import numpy as np

#: Random orders of groups that are tried; the one nearest the sizes asked for is kept.
_TRIES = 200


def by_rows(strata: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal single rows to parts, each stratum in the same shares.

    Parameters
    ----------
    strata
        Stratum of each row, whole numbers from 0.
    shares
        Share of each part; they sum to 1.
    rng
        Draws who goes where.

    Returns
    -------
    int64 (n,): part of each row. What rounding takes from a part in one stratum is given back in
    the next, so totals are right to within one row.
    """
    out = np.zeros(len(strata), dtype=np.int64)
    owed = np.zeros(len(shares))
    for stratum in rng.permutation(np.unique(strata)):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        want = len(rows) * shares + owed
        n_rows = np.floor(want + 1e-9).clip(0).astype(np.int64)
        while n_rows.sum() > len(rows):
            n_rows[np.argmax(n_rows - want)] -= 1
        order = np.lexsort((rng.random(len(shares)), -np.round(want - n_rows, 9)))
        n_rows[order[: len(rows) - n_rows.sum()]] += 1
        owed = want - n_rows
        out[rows] = np.repeat(np.arange(len(shares)), n_rows)
    return out


def by_groups(
    groups: np.ndarray, strata: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Deal whole groups to parts, so that sizes and strata come out as near as they can.

    Groups are dealt in random orders, each to the part that lacks most; of several orders the
    best is kept. No part stays empty.

    Parameters
    ----------
    groups, strata
        Group and stratum of each row, whole numbers from 0.
    shares
        Share of each part; they sum to 1.
    rng
        Draws the orders.

    Returns
    -------
    int64 (n,): part of each row.

    Raises
    ------
    ValueError
        Fewer groups than parts.
    """
    n_groups, n_parts = int(groups.max()) + 1, len(shares)
    if n_groups < n_parts:
        msg = f"{n_groups} groups cannot fill {n_parts} parts."
        raise ValueError(msg)
    table = np.zeros((n_groups, int(strata.max()) + 1))
    np.add.at(table, (groups, strata), 1)
    sizes = table.sum(axis=1)
    target = np.outer(shares, table.sum(axis=0))
    best, chosen = np.inf, np.zeros(n_groups, dtype=np.int64)
    for _ in range(max(1, min(_TRIES, 200_000 // n_groups))):
        part = np.zeros(n_groups, dtype=np.int64)
        filled, empty = np.zeros(n_parts), n_parts
        for left, g in zip(range(n_groups, 0, -1), rng.permutation(n_groups), strict=True):
            lack = shares * len(groups) - filled
            if left <= empty:
                lack[filled > 0] = -np.inf
            part[g] = p = int(np.argmax(lack))
            empty -= filled[p] == 0
            filled[p] += sizes[g]
        got = np.zeros_like(target)
        np.add.at(got, part, table)
        # Sizes count as much as all strata together; a stratum that a part should have and lacks
        # altogether counts as another row of each part.
        off = np.abs(got.sum(axis=1) - target.sum(axis=1)).sum() + np.abs(got - target).sum()
        off += len(groups) * ((got == 0) & (target > 0)).sum() / target.size
        if off < best:
            best, chosen = off, part
    return chosen[groups]


def spatial_blocks(coords: np.ndarray, sections: np.ndarray, n_blocks: int) -> np.ndarray:
    """Cut each section into about `n_blocks` squares that hold observations.

    Parameters
    ----------
    coords
        Coordinates (n, 2).
    sections
        Section of each observation.
    n_blocks
        Squares per section; the side follows from the extent of the section.

    Returns
    -------
    int64 (n,): block of each observation; no block spans two sections.
    """
    tile = np.zeros((len(coords), 3), dtype=np.int64)
    tile[:, 0] = sections
    for s in np.unique(sections):
        rows = np.flatnonzero(sections == s)
        low = coords[rows].min(axis=0)
        extent = np.maximum(coords[rows].max(axis=0) - low, 0)
        area = max(extent[0] * extent[1], extent.max() ** 2 / n_blocks, 1e-300)
        counts = np.maximum(np.rint(extent / np.sqrt(area / n_blocks)), 1)
        side = np.where(extent > 0, extent / counts, 1.0)
        tile[rows, 1:] = np.minimum((coords[rows] - low) / side, counts - 1)
    return np.unique(tile, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def deal_contigs(contigs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Deal genes to classes by whole contigs, the largest first, to the class that lacks most.

    Parameters
    ----------
    contigs
        Contig of each gene, whole numbers from 0.
    shares
        Share of the genes of each class; a class with a share of 0 gets none, every other one at
        least one contig where there are enough.

    Returns
    -------
    int64 (n_genes,): class of each gene.
    """
    size = np.bincount(contigs)
    filled = np.zeros(len(shares))
    out = np.zeros(len(size), dtype=np.int64)
    order = np.argsort(-size, kind="stable")
    for left, contig in zip(range(len(order), 0, -1), order, strict=True):
        lack = np.where(shares > 0, shares * len(contigs) - filled, -np.inf)
        empty = (shares > 0) & (filled == 0)
        if empty.sum() >= left:
            lack[~empty] = -np.inf
        out[contig] = best = int(np.argmax(lack))
        filled[best] += size[contig]
    return out[contigs]
