"""`omicllm.tl.gene_interactions`: pairs of genes, from known ones or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.stats import pairs as pairing
from omicllm.stats.coexpression import level_bins, log_normalized, unit_images
from omicllm.stats.neighbors import cosine_neighbors, unit_rows
from omicllm.tl._pair_network import network

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData
    from mudata import MuData

_FEWEST_PAIRS = 20


@docs.fill()
def gene_interactions(
    adata: AnnData | MuData,
    *,
    known_pairs: pd.DataFrame | Iterable[tuple[str, str]] | None = None,
    key: str = "sigel",
    n_neighbors: int = 10,
    n_folds: int = 3,
    n_repeats: int = 5,
    n_bootstraps: int = 20,
    min_count: int = 50,
    batch_key: str | None = None,
    condition_key: str | None = None,
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    spatial_key: str = "spatial",
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Score pairs of genes by their embeddings: learn from known pairs, or rank a network.

    With `known_pairs`, a regularised logistic regression on cosine, difference and product of the
    embeddings learns what known pairs have in common. It is judged on pairs of genes that it has
    not seen, against as many other pairs of the same genes and expression levels, beside plain
    co-expression on the very same pairs.

    Without them, each gene is joined with its nearest genes, and spatial blocks of spots are drawn
    again to see which of these edges stay.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) gives expression levels, co-expression and bootstraps.
    known_pairs
        Pairs of gene names: a list, or a DataFrame whose first two columns (or ``source`` and
        ``target``) hold them. Order and repeats do not matter; pairs with genes that are not in
        the object are left out.
    key
        Root of the embedding: ``varm["X_<key>"]``.
    n_neighbors
        Edges per gene; with `known_pairs`, neighbours of their genes that are proposed.
    n_folds, n_repeats
        Parts that genes are cut into for cross-validation, and how often.
    n_bootstraps
        Draws of spatial blocks.
    min_count
        Genes with fewer counts get no edges and are not proposed: two genes with one count each,
        in one spot, look the same.
    {batch_key}
        The network then combines the sections' own embeddings, which
        ``ol.tl.sigel(adata, batch_key=...)`` left in ``uns["<key>"]["X_sections"]``, and says how
        much they differ.
    condition_key
        Column of `obs` with one of two conditions per section: edges are also compared between
        them. Needs `batch_key`.
    {layer}
    input
        ``"counts"``, or ``"values"`` for non-negative normalised data (known pairs only).
    {spatial_key}
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["gene_interactions"]["table"]`` : DataFrame
        One row per pair, best first: ``gene_a``, ``gene_b``, ``score``, ``coexpression``. With
        known pairs ``score`` is a probability (for known ones, from models that saw neither gene;
        missing where that never came about) and ``known`` tells them from those proposed. In a
        network ``score`` is the cosine (mean over sections) and ``stability`` the share of
        bootstraps in which the pair are neighbours; with `batch_key` also ``n_sections``,
        ``score_sd``, ``i2``, ``heterogeneity_pval``, ``heterogeneity_qval``; with `condition_key`
        also ``change`` (second condition less first), ``change_pval``, ``change_qval``.
    ``adata.uns["gene_interactions"]["baseline"]``
        With known pairs: cross-validated ``auc``, that of ``cosine`` alone, that of
        ``coexpression``, and ``n_test``.
    ``adata.var["gene_interactions_degree"]`` : int32
        Pairs of the gene with a stability (network) or a score (known pairs) of at least a half.

    Raises
    ------
    KeyError
        No embedding, no per-section embeddings, no such column, or no gene of the known pairs.
    ValueError
        Too few known pairs; a condition key without sections, or not two conditions.

    Notes
    -----
    Read the table with :func:`omicllm.get.table`. Bootstraps project the drawn
    blocks onto trusted axes of the whole section. ``i2`` and its p value are Cochran's, with the
    bootstrap errors of the sections; the p value of ``change`` takes the larger of these errors
    and the spread between the sections of a condition. With one section per condition it does not
    cover variation between sections.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    name = f"X_{key}"
    if name not in source.varm:
        raise checks.missing(
            name, "adata.varm", source.varm, hint=f"Make it with ol.tl.{key}(adata)."
        )
    checks.one_of("input", input, ("counts", "values"))
    checks.whole_number("n_folds", n_folds, at_least=2)
    checks.whole_number("n_bootstraps", n_bootstraps, at_least=2)
    checks.whole_number("min_count", min_count, at_least=0)
    for argument, value in (("n_neighbors", n_neighbors), ("n_repeats", n_repeats)):
        checks.whole_number(argument, value)
    if condition_key is not None and batch_key is None:
        msg = "condition_key= compares sections: say which spot is in which with batch_key=."
        raise ValueError(msg)
    names = inputs.gene_names(source)
    Z = unit_rows(inputs.vectors(source.varm[name], f"adata.varm[{name!r}]"))
    genes = np.flatnonzero(np.abs(Z).sum(axis=1) > 0)
    if len(genes) <= n_neighbors:
        msg = (
            f"n_neighbors={n_neighbors} needs more than {n_neighbors} genes with an embedding; "
            f"there are {len(genes)}."
        )
        raise ValueError(msg)
    known = None
    if known_pairs is not None:
        if batch_key is not None:
            msg = "known_pairs= scores pairs by the joint embedding: leave out batch_key=."
            raise ValueError(msg)
        known = _known(known_pairs, names, genes)
    elif input != "counts":
        msg = "The bootstraps of a network need counts: name their layer with layer=."
        raise ValueError(msg)
    generator = rngs.generator(rng)
    X = inputs.by_gene(source, layer)
    inputs.check_expression(
        X, names, counts=input == "counts", layer=layer, source=source, has_input=True
    )
    total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()
    extra: dict[str, Any] = {}
    if known is not None:
        table, extra["baseline"] = _learned(
            X, Z[genes], names[genes], genes, known, input, n_neighbors, n_folds, n_repeats,
            total[genes], min_count, generator,
        )  # fmt: skip
        strong = table["score"] >= 0.5
    else:
        genes = genes[total[genes] >= min_count]
        if len(genes) <= n_neighbors:
            msg = (
                f"{len(genes)} genes with an embedding have at least "
                f"min_count={min_count} counts; more than n_neighbors={n_neighbors} are needed. "
                "Lower min_count=."
            )
            raise ValueError(msg)
        table, extra = network(
            source, X, Z, genes, names, key=key, k=n_neighbors, n_bootstraps=n_bootstraps,
            batch_key=batch_key, condition_key=condition_key, spatial_key=spatial_key,
            rng=generator,
        )  # fmt: skip
        strong = table["stability"] >= 0.5
    ends = pd.concat([table.loc[strong, "gene_a"], table.loc[strong, "gene_b"]])
    degree = ends.value_counts().reindex(names, fill_value=0).to_numpy(dtype=np.int32)
    table.index = pd.Index([str(i) for i in range(len(table))])
    extra["table"] = table
    result = results.Result(
        "tl.gene_interactions",
        order.restore({"var:{root}_degree": degree}),
        {
            "key": key, "n_neighbors": n_neighbors, "n_folds": n_folds, "n_repeats": n_repeats,
            "n_bootstraps": n_bootstraps, "min_count": min_count, "batch_key": batch_key,
            "condition_key": condition_key, "layer": layer, "input": input,
            "spatial_key": spatial_key,
            "n_known": None if known is None else len(known), "rng": rngs.recorded(rng),
        },
        extra,
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _known(pairs: Any, names: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Known pairs as numbers among the genes with an embedding, each once, smaller first."""
    from omicllm._core.names import positions

    if hasattr(pairs, "columns"):
        columns = ["source", "target"] if {"source", "target"} <= set(pairs.columns) else None
        pairs = pairs[columns] if columns else pairs.iloc[:, :2]
        pairs = list(pairs.itertuples(index=False, name=None))
    pairs = [tuple(p) for p in pairs]
    if any(len(p) != 2 for p in pairs):
        msg = "known_pairs must hold pairs: two gene names each."
        raise ValueError(msg)
    index = {str(names[g]): i for i, g in enumerate(genes)}
    found = {
        pairing.ordered(index[str(a)], index[str(b)])
        for a, b in pairs
        if str(a) in index and str(b) in index and str(a) != str(b)
    }
    if not found and pairs:
        positions(list(dict.fromkeys(str(g) for p in pairs for g in p)), names,
                  argument="known_pairs")  # fmt: skip
    if len(found) < _FEWEST_PAIRS:
        msg = (
            f"{len(found)} of {len(pairs)} known pairs have two genes with an embedding; at "
            f"least {_FEWEST_PAIRS} are needed to learn from."
        )
        raise ValueError(msg)
    logger.info("%d of %d known pairs are used", len(found), len(pairs))
    return np.array(sorted(found), dtype=np.int64)


def _learned(
    X: Any, Z: np.ndarray, names: np.ndarray, genes: np.ndarray, known: np.ndarray, input: str,
    k: int, n_folds: int, n_repeats: int, total: np.ndarray, min_count: int,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, dict[str, Any]]:  # fmt: skip
    """Known pairs and proposed ones with their scores, and how good the scores are."""
    bins = level_bins(total, max(1, min(10, len(genes) // 20)))
    logged = log_normalized(X) if input == "counts" else X

    def plain(pairs: np.ndarray) -> np.ndarray:
        used, place = np.unique(pairs, return_inverse=True)
        rows = unit_images(logged, genes[used])
        place = place.reshape(pairs.shape)
        out = np.empty(len(pairs))
        for start in range(0, len(pairs), 4096):
            a, b = place[start : start + 4096].T
            out[start : start + 4096] = np.einsum("ij,ij->i", rows[a], rows[b])
        return out

    scores, unseen = pairing.cross_validated_pairs(
        Z, plain, known, bins, n_folds=n_folds, n_repeats=n_repeats, rng=rng
    )
    if not scores["n_folds_tested"]:
        msg = (
            "No fold has known pairs of unseen genes on both sides: give more pairs, or lower "
            "n_folds=."
        )
        raise ValueError(msg)
    have = {pairing.ordered(int(a), int(b)) for a, b in known}
    strength = pairing.chosen_strength(Z, known, have, bins, rng)
    model = pairing.PairClassifier(strength).fit(Z, *pairing.labelled(known, have, bins, rng))
    members = np.unique(known)
    index = cosine_neighbors(Z, k)[0]
    edges = pairing.edges_of(index)
    touching = np.isin(edges, members).any(axis=1)
    old = np.isin(pairing.edge_codes(edges, len(Z)), pairing.edge_codes(known, len(Z)))
    enough = (total >= min_count)[edges].all(axis=1)
    new = edges[touching & ~old & enough]
    score = np.concatenate([unseen, model.predict(Z, new) if len(new) else np.empty(0)])
    both = np.concatenate([known, new])
    table = pd.DataFrame(
        {
            "gene_a": names[both[:, 0]], "gene_b": names[both[:, 1]], "score": score,
            "coexpression": plain(both), "known": np.arange(len(both)) < len(known),
        }
    ).sort_values("score", ascending=False, kind="stable")  # fmt: skip
    logger.info("AUC %.3f, co-expression %.3f", scores["auc"], scores["coexpression"])
    return table, {**scores, "strength": strength}
