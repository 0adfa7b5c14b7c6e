"""`omicllm.tl.compare_genes`: genes whose pattern changed between conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.spatial.positions import coordinates
from omicllm.stats import pattern_change as change
from omicllm.stats.scores import benjamini_hochberg, upper_tail

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

#: Fewest genes that standing among genes can be judged with.
_FEWEST_GENES = 30


@docs.fill()
def compare_genes(
    adata: AnnData | MuData,
    *,
    batch_key: str,
    condition_key: str,
    layer: str | None = None,
    min_count: int = 50,
    n_anchors: int = 1000,
    n_permutations: int = 200,
    n_splits: int = 4,
    spatial_key: str = "spatial",
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Test which genes have another spatial pattern in one condition than in the other.

    Sections need no registration. Genes are embedded in each section by itself, and the embeddings
    are turned to common axes by anchor genes that are well measured everywhere (generalised
    orthogonal Procrustes); a gene whose pattern changed has moved. The score is its distance
    between conditions less that within them, standardised by genes as noisy as the gene: two
    binomial halves of its counts tell how noisy it is in each section.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds counts as read from the file.
    batch_key
        Column of `obs` that tells sections apart.
    condition_key
        Column of `obs` with the condition of each section; two conditions or more.
    {layer}
    min_count
        Genes with fewer counts in any section (or half of one, see Notes) are not tested.
    n_anchors
        Number of anchor genes (at most half the genes that are tested).
    n_permutations
        Most ways to deal the conditions to sections that p values come from.
    n_splits
        Random cuts of sections into halves, where there is one section per condition.
    {spatial_key}
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.var["compare_score"]`` : float32
        Change of pattern, in robust standard deviations of genes as noisy; NaN where not tested.
    ``adata.var["compare_pval"]``, ``adata.var["compare_qval"]`` : float32
        p value, and false discovery rate (Benjamini-Hochberg).
    ``adata.uns["compare"]``
        Parameters, ``sections`` and their ``conditions``, ``test`` (``"sections"`` or
        ``"blocks"``), and ``n_null``, the number of relabellings behind the p values.

    Raises
    ------
    KeyError
        No such column or layer.
    ValueError
        One section, one condition, a section in two conditions, or too few genes with counts in
        every section.

    Notes
    -----
    With several sections in a condition, p values are shares of null scores at or above a score,
    over all other ways to deal the conditions to the sections, pooled over genes (as in SAM:
    each relabelling is standardised by itself). With one section per condition no test over
    sections is possible; each section is then cut into two halves made of spatial blocks, and
    relabellings that part the halves of a section give the null, widened until the bulk of genes
    (up to the 90 % quantile) looks unchanged, as sections differ a little in all genes. This
    tells a change from variation within a section, not from variation between sections of one
    condition: that takes at least two sections of one of them. ``uns["compare"]["test"]`` says
    which was done.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    for name, value in (("n_anchors", n_anchors), ("n_splits", n_splits)):
        checks.whole_number(name, value)
    checks.whole_number("min_count", min_count)
    checks.whole_number("n_permutations", n_permutations)
    codes, sections = inputs.sections(source, batch_key)
    conditions, label = _conditions(source, condition_key, codes, sections)
    names = inputs.gene_names(source)
    generator = rngs.generator(rng)
    by_section = len(sections) > len(set(label.tolist()))
    coords = None
    if not by_section:
        coords = coordinates(
            source, spatial_key,
            hint="With one section per condition, coordinates are needed: name them with "
            "spatial_key=.",
        )  # fmt: skip
        logger.warning(
            "one section per condition: too few for a test over sections. p values come from "
            "spatial blocks and do not cover variation between sections of one condition."
        )
    X = inputs.by_gene(source, layer)
    inputs.check_expression(X, names, counts=True, layer=layer, source=source)
    members = [np.flatnonzero(codes == s) for s in range(len(sections))]
    genes = _testable(X, members, min_count if by_section else 2 * min_count)
    X = X[:, genes].tocsr()
    scores, n_null = [], 0
    for _ in range(1 if by_section else n_splits):
        rows, of_unit = members, label
        if coords is not None:
            halves = [change.block_halves(coords[m], generator) for m in members]
            rows = [m[h] for m, pair in zip(members, halves, strict=True) for h in pair]
            of_unit = np.repeat(label, 2)
        units = [change.embedded_unit(X[r].tocsc(), generator) for r in rows]
        places, trust = change.common_axes(units, min(n_anchors, len(genes) // 2))
        distance, noise = change.place_distances(places), 1.0 - trust.mean(axis=0)
        others = change.labelings(of_unit, n_permutations, generator)
        n_null = len(others)
        scores.append(
            [
                change.beyond_noise(change.contrast(distance, way), noise)
                for way in (of_unit, *others)
            ]
        )
    own, *null = np.mean(scores, axis=0)
    score, p = np.full((2, source.n_vars), np.nan)
    score[genes] = own
    pooled = np.concatenate(null)
    if not by_section:
        pooled = pooled * change.inflation(own, pooled)
    p[genes] = upper_tail(own, pooled)
    result = results.Result(
        "tl.compare_genes",
        order.restore({
            "var:{root}_score": score.astype(np.float32),
            "var:{root}_pval": p.astype(np.float32),
            "var:{root}_qval": benjamini_hochberg(p).astype(np.float32),
        }),
        {
            "batch_key": batch_key, "condition_key": condition_key, "layer": layer,
            "min_count": min_count, "n_anchors": n_anchors, "n_permutations": n_permutations,
            "n_splits": n_splits, "spatial_key": spatial_key, "rng": rngs.recorded(rng),
        },
        {
            "sections": sections, "conditions": [conditions[c] for c in label],
            "test": "sections" if by_section else "blocks", "n_null": n_null,
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _conditions(
    source: AnnData, key: str, codes: np.ndarray, sections: list[str]
) -> tuple[list[str], np.ndarray]:
    """Names of the conditions, and the number of each section's."""
    column = inputs.obs_column(source, key, argument="condition_key")
    text = np.array([str(v) for v in column], dtype=object)
    if len(sections) < 2:
        msg = (
            f"compare_genes needs at least two sections; there is one ({sections[0]!r}). "
            "Join sections with anndata.concat(..., label=) and name the column with batch_key=."
        )
        raise ValueError(msg)
    found = []
    for s, name in enumerate(sections):
        inside = sorted(set(text[codes == s]))
        if len(inside) > 1 or inside == ["nan"]:
            msg = (
                f"Section {name!r} must have one condition in adata.obs[{key!r}]; it has "
                f"{checks.listed(inside)}."
            )
            raise ValueError(msg)
        found.append(inside[0])
    names = sorted(set(found))
    if len(names) < 2:
        msg = (
            f"compare_genes needs at least two conditions; all {len(sections)} sections are "
            f"{names[0]!r} in adata.obs[{key!r}]."
        )
        raise ValueError(msg)
    return names, np.array([names.index(f) for f in found])


def _testable(X: sparse.csc_matrix, members: list[np.ndarray], least: int) -> np.ndarray:
    """Genes with enough counts in every section."""
    by_row = X.tocsr()
    total = np.min([np.asarray(by_row[m].sum(axis=0)).ravel() for m in members], axis=0)
    genes = np.flatnonzero(total >= least)
    if len(genes) < _FEWEST_GENES:
        msg = (
            f"{len(genes)} genes have at least {least} counts in every section; at least "
            f"{_FEWEST_GENES} are needed. Lower min_count=, or leave out poor sections."
        )
        raise ValueError(msg)
    return genes
