"""`omicllm.tl.gene_functions`: what gene clusters and unknown genes may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, memory, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm._core.names import positions
from omicllm.stats.coexpression import level_bins, log_normalized, unit_images
from omicllm.stats.gene_sets import matched_enrichment, membership, read_gene_sets
from omicllm.stats.scores import benjamini_hochberg
from omicllm.stats.voting import cross_validated_votes, fold_of_members, precision_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

#: Fewest genes in an expression level: with a handful, the level says which genes they are.
_GENES_PER_BIN = 20


@docs.fill()
def gene_functions(
    adata: AnnData | MuData,
    *,
    gene_sets: Mapping[str, Sequence[str]] | str | Path | pd.DataFrame,
    key: str = "sigel",
    groupby: str | None = None,
    n_neighbors: int = 15,
    n_folds: int = 5,
    n_proposed: int = 3,
    min_size: int = 5,
    max_size: int = 500,
    n_bins: int = 20,
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Test gene clusters for known functions, and propose functions from neighbouring genes.

    A cluster is tested for each set by the exact stratified form of Fisher's test: genes of the
    set are expected on the genes of each expression level at random, so that a cluster of strong
    genes is not called enriched for a set of strong genes.

    A gene is scored for a set by the votes of its neighbours in the embedding (members of the set
    among them, nearer ones counting more). How well this finds members that are hidden, a fold of
    the set at a time, is reported as AUROC, beside the same vote by plain co-expression
    (correlation of log-normalised gene images) with the same folds.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) gives the expression level and the co-expression.
    gene_sets
        Dict of name -> genes; path of a GMT file; or a DataFrame with columns ``source`` and
        ``target``, as decoupler uses. Genes that are not in the object are left out.
    key
        Root of the embedding: ``varm["X_<key>"]``.
    groupby
        Column of `var` with the clusters that are tested; ``"<key>_cluster"`` by default.
    n_neighbors
        Neighbours that vote, in effect: the width of the vote's kernel.
    n_folds
        Parts that the members of a set are cut into.
    n_proposed
        Functions proposed for each gene, at most.
    min_size, max_size
        Sets with fewer or more genes in the object are left out.
    n_bins
        Number of expression levels, with equally many genes in each; lowered where that leaves
        under 20 genes in one.
    {layer}
    input
        ``"counts"``, or ``"values"`` for non-negative normalised data, taken as they are.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["gene_functions"]["enrichment"]`` : DataFrame
        One row per cluster and set that overlap: ``cluster``, ``set``, ``overlap``, ``expected``
        (at the expression levels of the set), ``cluster_size``, ``set_size``, ``pval``, ``qval``
        (Benjamini-Hochberg over all clusters and sets).
    ``adata.uns["gene_functions"]["sets"]`` : DataFrame
        One row per set: ``set``, ``size``, ``auroc``, ``auroc_coexpression``.
    ``adata.uns["gene_functions"]["table"]`` : DataFrame
        Functions proposed: ``gene``, ``set``, ``rank``, ``score`` (share of the votes), ``fold``
        (over the share of the set among genes), ``precision`` (known members among genes that
        scored as high in cross-validation; a lower bound) and ``auroc`` of the set.
    ``adata.var["gene_functions"]`` : categorical
        Best function proposed for the gene, that it is not known for; missing where none.
    ``adata.var["gene_functions_score"]`` : float32
        Its share of the votes.

    Raises
    ------
    KeyError
        No embedding, no clusters, or none of the genes of the sets is in the object.
    ValueError
        No set of a usable size; a malformed file.
    MemoryError
        The images of all genes do not fit into memory.

    Notes
    -----
    Read the tables with :func:`omicllm.get.table`. Neighbour voting after Ballouz et al. 2017
    (EGAD), with a self-tuning kernel in place of ranks.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    name, column = f"X_{key}", groupby or f"{key}_cluster"
    if name not in source.varm:
        raise checks.missing(
            name, "adata.varm", source.varm, hint=f"Make it with ol.tl.{key}(adata)."
        )
    if column not in source.var:
        raise checks.missing(
            column,
            "adata.var",
            source.var,
            hint=f"Make it with ol.tl.{key}(adata), or name a column with groupby=.",
        )
    checks.one_of("input", input, ("counts", "values"))
    whole = {"n_neighbors": n_neighbors, "n_proposed": n_proposed, "n_bins": n_bins}
    for argument, value in whole.items():
        checks.whole_number(argument, value)
    checks.whole_number("n_folds", n_folds, at_least=2)
    checks.whole_number("min_size", min_size, at_least=2)
    checks.whole_number("max_size", max_size, at_least=min_size)
    names = inputs.gene_names(source)
    Z = inputs.vectors(source.varm[name], f"adata.varm[{name!r}]").astype(np.float32)
    universe = np.flatnonzero(np.abs(Z).sum(axis=1) > 0)
    if len(universe) <= n_neighbors:
        msg = (
            f"n_neighbors={n_neighbors} needs more than {n_neighbors} genes with an embedding; "
            f"there are {len(universe)}."
        )
        raise ValueError(msg)
    sets, members = _usable_sets(read_gene_sets(gene_sets), names, universe, min_size, max_size)
    memory.check(
        "ol.tl.gene_functions",
        {"images of all genes, for co-expression": ((2, len(universe), source.n_obs), "float32")},
        instead="Leave out genes, or pool observations: the images of all genes are dense.",
    )
    generator = rngs.generator(rng)
    X = inputs.by_gene(source, layer)
    inputs.check_expression(
        X, names, counts=input == "counts", layer=layer, source=source, has_input=True
    )
    total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()[universe]
    labels, codes = _clusters(source.var[column], universe)
    n_bins = max(1, min(n_bins, len(universe) // _GENES_PER_BIN))
    tested = matched_enrichment(members, codes, level_bins(total, n_bins))
    fold = fold_of_members(members, n_folds, generator)
    votes, area, hidden = cross_validated_votes(Z[universe], members, fold, n_neighbors)
    logged = log_normalized(X) if input == "counts" else X
    images = unit_images(logged, universe)
    plain = cross_validated_votes(images, members, fold, n_neighbors)[1]
    size = np.diff(members.indptr)
    summary = pd.DataFrame(
        {"set": sets, "size": size, "auroc": area, "auroc_coexpression": plain},
        index=_numbered(len(sets)),
    )
    table = _proposals(
        votes, hidden, members, names[universe], np.array(sets), area, n_proposed, n_folds
    )
    place = pd.Index(names[np.argsort(order.var)]).get_indexer(table["gene"])
    table = table.iloc[np.argsort(place, kind="stable")].set_axis(table.index)
    best = table[table["rank"] == 1]
    row = pd.Index(names).get_indexer(best["gene"])
    proposed = np.full(source.n_vars, None, dtype=object)
    proposed[row] = best["set"].to_numpy()
    score = np.full(source.n_vars, np.nan, dtype=np.float32)
    score[row] = best["score"]
    logger.info(
        "%d sets: mean AUROC %.3f (co-expression %.3f)", len(sets), area.mean(), plain.mean()
    )
    result = results.Result(
        "tl.gene_functions",
        order.restore({"var:{root}": pd.Categorical(proposed), "var:{root}_score": score}),
        {
            "key": key, "groupby": column, "n_neighbors": n_neighbors, "n_folds": n_folds,
            "n_proposed": n_proposed, "min_size": min_size, "max_size": max_size,
            "n_bins": n_bins, "layer": layer, "input": input, "rng": rngs.recorded(rng),
        },
        {
            "table": table,
            "enrichment": _enrichment(tested, labels, np.bincount(codes[codes >= 0]), sets, size),
            "sets": summary,
            "baseline": {"auroc": float(area.mean()), "coexpression": float(plain.mean())},
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _usable_sets(
    sets: dict[str, list[str]], names: np.ndarray, universe: np.ndarray, low: int, high: int
) -> tuple[list[str], sparse.csc_matrix]:
    """Sets of a usable size, and who is in them among the genes with an embedding."""
    usable = np.zeros(len(names), dtype=bool)
    usable[universe] = True
    members = membership(sets, names, usable)[universe]
    size = np.diff(members.indptr)
    kept = np.flatnonzero((size >= low) & (size <= high))
    if not len(kept):
        wanted = list(dict.fromkeys(g for genes in sets.values() for g in genes))
        if not size.any() and wanted:
            positions(wanted, names, argument="gene_sets")
        msg = (
            f"None of the {len(sets)} gene sets has between {low} and {high} genes with an "
            f"embedding (the largest has {int(size.max())}). Change min_size= or max_size=."
        )
        raise ValueError(msg)
    if len(kept) < len(sets):
        logger.info("left out %d of %d sets by their size", len(sets) - len(kept), len(sets))
    members = members[:, kept].tocsc()
    members.sort_indices()
    return [list(sets)[i] for i in kept], members


def _clusters(column: Any, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names of the clusters that hold any of the genes, and each gene's cluster (-1: none)."""
    values = pd.Series(np.asarray(column))[genes]
    text = values.astype(str).where(values.notna() & (values.astype(str) != "nan"))
    codes, labels = pd.factorize(text, sort=True)
    if not len(labels):
        msg = "No gene with an embedding is in a cluster."
        raise ValueError(msg)
    return np.asarray(labels, dtype=object), codes.astype(np.int64)


def _enrichment(
    tested: dict[str, np.ndarray], labels: np.ndarray, cluster_size: np.ndarray,
    sets: list[str], size: np.ndarray,
) -> pd.DataFrame:  # fmt: skip
    """Rows for clusters and sets that overlap, best first."""
    q = benjamini_hochberg(tested["pval"])
    c, s = np.nonzero(tested["overlap"])
    order = np.argsort(tested["pval"][c, s], kind="stable")
    c, s = c[order], s[order]
    return pd.DataFrame(
        {
            "cluster": labels[c], "set": np.array(sets, dtype=object)[s],
            "overlap": tested["overlap"][c, s], "expected": tested["expected"][c, s],
            "cluster_size": cluster_size[c], "set_size": size[s],
            "pval": tested["pval"][c, s], "qval": q[c, s],
        },
        index=_numbered(len(c)),
    )  # fmt: skip


def _proposals(
    votes: np.ndarray, hidden: np.ndarray, members: sparse.csc_matrix, genes: np.ndarray,
    sets: np.ndarray, area: np.ndarray, n_proposed: int, n_folds: int,
) -> pd.DataFrame:  # fmt: skip
    """The sets with most votes over their share of genes, for each gene that is not in them."""
    share = np.diff(members.indptr) / len(genes)
    fold = votes / share
    member = members.toarray() > 0
    fold[member] = 0.0
    n_proposed = min(n_proposed, len(sets))
    order = np.argsort(-fold, axis=1, kind="stable")[:, :n_proposed]
    gene, rank = np.divmod(np.arange(order.size), n_proposed)
    s = order.ravel()
    kept = fold[gene, s] > 1.0
    gene, rank, s = gene[kept], rank[kept], s[kept]
    precision = np.full(len(gene), np.nan)
    for j in np.unique(s):
        rows = s == j
        own = slice(members.indptr[j], members.indptr[j + 1])
        precision[rows] = precision_at(
            votes[gene[rows], j], hidden[own], votes[~member[:, j], j], 1.0 - 1.0 / n_folds
        )
    return pd.DataFrame(
        {
            "gene": genes[gene], "set": sets.astype(object)[s], "rank": rank + 1,
            "score": votes[gene, s], "fold": fold[gene, s].astype(np.float64),
            "precision": precision, "auroc": area[s],
        },
        index=_numbered(len(gene)),
    )  # fmt: skip


def _numbered(n: int) -> pd.Index:
    """Row names of a table in `uns`: strings, which every file format keeps."""
    return pd.Index([str(i) for i in range(n)])
