"""Sets of genes: read, matched with the genes there are, tested against groups of genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core.text_files import lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def read_gene_sets(gene_sets: Any) -> dict[str, list[str]]:
    """Turn any of the accepted forms into name -> genes, each gene once, in the order given.

    Parameters
    ----------
    gene_sets
        Mapping of names to genes; path of a GMT file (name, description, genes, separated by
        tabs); or a table with columns ``source`` and ``target``, as decoupler uses.

    Raises
    ------
    FileNotFoundError
        No such file.
    KeyError
        A table without these columns.
    TypeError
        Something else, or a set that is one string.
    ValueError
        A line of the file with fewer than three fields, a set named twice, or no set at all.
    """
    if isinstance(gene_sets, (str, Path)):
        pairs: Iterable[tuple[str, Any]] = _gmt(Path(gene_sets))
    elif hasattr(gene_sets, "columns"):
        pairs = _net(gene_sets)
    elif hasattr(gene_sets, "items"):
        pairs = gene_sets.items()
    else:
        msg = (
            "gene_sets must be a dict of name -> genes, the path of a GMT file, or a DataFrame "
            f"with columns 'source' and 'target', not {type(gene_sets).__name__}."
        )
        raise TypeError(msg)
    out: dict[str, list[str]] = {}
    for name, genes in pairs:
        if isinstance(genes, str):
            msg = f"The gene set {name!r} is one string; a list of genes is needed."
            raise TypeError(msg)
        if str(name) in out:
            msg = f"gene_sets names the set {str(name)!r} twice."
            raise ValueError(msg)
        out[str(name)] = list(dict.fromkeys(str(g) for g in genes))
    if not out:
        msg = "gene_sets holds no set."
        raise ValueError(msg)
    return out


def _gmt(path: Path) -> list[tuple[str, list[str]]]:
    if not path.exists():
        msg = f"gene_sets={str(path)!r}: there is no such file (the path of a GMT file is needed)."
        raise FileNotFoundError(msg)
    pairs = []
    for number, line in lines(path, what="GMT file"):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 3:
            msg = (
                f"{path}, line {number}: a GMT line holds a name, a description and genes, "
                f"separated by tabs; this one has {len(fields)} field(s)."
            )
            raise ValueError(msg)
        pairs.append((fields[0], [f for f in fields[2:] if f]))
    if not pairs:
        msg = f"{path} holds no gene set."
        raise ValueError(msg)
    return pairs


def _net(net: Any) -> list[tuple[str, list[str]]]:
    columns = [str(c) for c in net.columns]
    if not {"source", "target"} <= set(columns):
        msg = f"gene_sets as a DataFrame needs columns 'source' and 'target'; it has {columns}."
        raise KeyError(msg)
    sets: dict[str, list[str]] = {}
    for source, target in zip(net["source"], net["target"], strict=True):
        sets.setdefault(str(source), []).append(str(target))
    return list(sets.items())


def membership(
    sets: Mapping[str, list[str]], names: np.ndarray, usable: np.ndarray
) -> sparse.csc_matrix:
    """Mark which gene is in which set: csc float32 (n_genes, n_sets).

    Genes that are not `usable` are in none.
    """
    index = {str(name): i for i, name in enumerate(names) if usable[i]}
    gene_rows = [[index[g] for g in genes if g in index] for genes in sets.values()]
    rows = np.array([i for genes in gene_rows for i in genes], dtype=np.int64)
    columns = np.repeat(np.arange(len(gene_rows)), [len(g) for g in gene_rows])
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.csc_matrix((ones, (rows, columns)), shape=(len(names), len(sets)))


def matched_enrichment(
    members: sparse.csc_matrix, groups: np.ndarray, bins: np.ndarray
) -> dict[str, np.ndarray]:
    """Test each group of genes for each set, given the expression level of the genes.

    Under the null, the genes of a set fall on the genes of each level bin at random, as many in
    each bin as the set has there. The overlap of a group with a set is then a sum of independent
    hypergeometric numbers, one per bin; its distribution is computed exactly, by convolution.
    With one bin this is Fisher's exact test, with several its stratified form.

    Parameters
    ----------
    members
        csc (n_genes, n_sets) of 0 and 1, over the genes that are the universe.
    groups
        Group of each gene, 0 to n_groups - 1 (n_genes,); -1 for genes in no group.
    bins
        Level bin of each gene, int (n_genes,).

    Returns
    -------
    Arrays (n_groups, n_sets): ``overlap``, ``expected``, and ``pval`` (one-sided, enrichment).
    """
    from scipy.stats import hypergeom

    n_groups, n_bins = int(groups.max()) + 1, int(bins.max()) + 1
    in_group = groups >= 0
    size = np.zeros((n_groups, n_bins), dtype=np.int64)
    np.add.at(size, (groups[in_group], bins[in_group]), 1)
    per_bin = np.bincount(bins, minlength=n_bins)
    overlap = np.zeros((n_groups, members.shape[1]), dtype=np.int64)
    expected, p = np.zeros(overlap.shape), np.ones(overlap.shape)
    for s in range(members.shape[1]):
        genes = members.indices[members.indptr[s] : members.indptr[s + 1]]
        drawn = np.bincount(bins[genes], minlength=n_bins)
        hit = groups[genes]
        overlap[:, s] = np.bincount(hit[hit >= 0], minlength=n_groups)
        expected[:, s] = (size * (drawn / np.maximum(per_bin, 1))).sum(axis=1)
        tested = np.flatnonzero(overlap[:, s])
        density = np.ones((len(tested), 1))
        for b in np.flatnonzero(drawn):
            k = np.arange(drawn[b] + 1)
            one = hypergeom.pmf(k[None], per_bin[b], size[tested, b][:, None], drawn[b])
            joined = np.zeros((len(tested), density.shape[1] + drawn[b]))
            for j in k:
                joined[:, j : j + density.shape[1]] += density * one[:, [j]]
            density = joined
        tail = np.cumsum(density[:, ::-1], axis=1)[:, ::-1]
        p[tested, s] = np.minimum(tail[np.arange(len(tested)), overlap[tested, s]], 1.0)
    return {"overlap": overlap, "expected": expected, "pval": p}
