"""`omicllm.tl.impute_genes`: genes of a reference in the cells of a tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.gene_pair import gene_pair
from omicllm._core.log import logger
from omicllm._core.settings import settings
from omicllm.spatial.averages import neighbor_average
from omicllm.spatial.images import rasterise
from omicllm.spatial.positions import has_coordinates, section_coordinates
from omicllm.spatial.sections import make_grid, section_grids
from omicllm.stats.agreement import gene_pearson, ssim
from omicllm.stats.imputation import impute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from omicllm.spatial.sections import SectionGrid
    from omicllm.stats.imputation import Imputation

#: Cells of the tissue that are averaged around each cell.
_AROUND = (15, 50)


@docs.fill()
def impute_genes(
    adata: AnnData | MuData,
    *,
    reference: AnnData,
    genes: str | Sequence[str] | None = None,
    method: Literal["sigel", "knn"] = "sigel",
    layer: str | None = None,
    reference_layer: str | None = None,
    n_folds: int = 5,
    coverage: float = 0.9,
    n_neighbors: int = 50,
    n_pcs: int = 20,
    max_reference: int = 3000,
    max_cells: int = 20_000,
    max_shared: int = 2000,
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Impute genes that were not measured in a tissue from a reference that has them.

    The reference is a data set of single cells, or another section, whose spots then serve as
    cells. Both measure some genes ("shared"), matched by name. Several simple predictors
    (attention over reference cells, ridge and kernel ridge regression, nearest neighbours, cell
    size, averages over the tissue) are stacked. Their weights, an interval for each value, and
    all scores come from shared genes that are hidden in turn; genes to impute take no part.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds values on a log scale, taken as they are.
    reference
        AnnData with the shared genes and those to impute, normalised the way `adata` is.
    genes
        Genes to impute; by default all of the reference that `adata` lacks. Measured genes may be
        named too: they are then predicted from the others, as if they were not measured.
    method
        ``"sigel"`` for the stack, ``"knn"`` for the baseline alone: mean of the nearest reference
        cells, by cosine of principal components of the shared genes.
    {layer}
    reference_layer
        Layer of the reference to use instead of its ``X``.
    n_folds
        Parts the shared genes are cut into, to be hidden in turn; at least 3, as the weights that
        score a part come from the others hidden in turn.
    coverage
        Share of values that intervals are to hold.
    n_neighbors, n_pcs
        Reference cells and principal components of the nearest-neighbour predictors.
    max_reference
        Most reference cells used (drawn at random).
    max_cells
        Most cells that weights, intervals and scores are taken from; all cells get values.
    max_shared
        Most shared genes used: those that vary most in both.
    spatial_key
        Entry of `obsm` with coordinates. Without coordinates there are no averages over the
        tissue and no SSIM.
    {batch_key}
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obsm["sigel_imputed"]`` : float32 (n_obs, n_genes)
        Imputed expression, on the scale of `adata`.
    ``adata.obsm["sigel_imputed_lower"]``, ``adata.obsm["sigel_imputed_upper"]``
        Bounds of the interval, same shape.
    ``adata.obsm["sigel_imputed_heldout"]`` : float32 (n_obs, n_shared)
        Shared genes as predicted while hidden; NaN in cells beyond `max_cells`.
    ``adata.uns["sigel_imputed"]``
        ``genes``, names of the columns; ``scores``, a DataFrame with a row per shared gene:
        ``gene``, ``pearson``, ``ssim``, ``pearson_knn``, ``ssim_knn`` (the kNN baseline, same
        folds) and ``coverage`` of its interval; ``baseline``, their means; ``weights`` of the
        predictors; ``signal``, for each imputed gene the standard deviation of its prediction in
        units of the gene's: it ranks genes by how well they can be predicted.

    Raises
    ------
    TypeError
        When the reference is no AnnData.
    KeyError
        A gene that is not in the reference; no such layer or column.
    ValueError
        Fewer than five shared genes, nothing to impute, NaN or infinite values.
    MemoryError
        What is read and imputed does not fit into memory.

    Notes
    -----
    Stacking: Breiman, Machine Learning 24:49 (1996). Intervals: conformal risk control over genes
    (Angelopoulos et al., ICLR 2024). Imputation by SIGEL (Genome Biology 26:287, 2025) trains a
    generator instead, which is :class:`omicllm.model.SIGELImputer` and measured weaker; see the
    user guide. Read the result with :func:`omicllm.get.imputed`.
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    checks.one_of("method", method, ("sigel", "knn"))
    checks.whole_number("n_folds", n_folds, at_least=3)
    checks.share("coverage", coverage, low=0.5, high=0.99)
    for name, value, least in (
        ("n_neighbors", n_neighbors, 1), ("n_pcs", n_pcs, 1), ("max_reference", max_reference, 10),
        ("max_cells", max_cells, 10), ("max_shared", max_shared, 5),
    ):  # fmt: skip
        checks.whole_number(name, value, at_least=least)
    codes, _ = inputs.sections(source, batch_key)
    coords = _coordinates(source, spatial_key, batch_key)
    grids = []
    if coords is not None and coords.shape[1] == 2:
        options: dict[str, Any] = {"spatial_key": spatial_key, "batch_key": batch_key}
        grids = section_grids(source, *make_grid(source, **options, agg="mean"))
        for grid in grids:
            grid.check_size()
    generator = rngs.generator(rng)
    pair = gene_pair(
        source, reference, genes, layer=layer, reference_layer=reference_layer,
        max_reference=max_reference, max_shared=max_shared, rng=generator,
    )  # fmt: skip
    averages = [] if coords is None else [neighbor_average(coords, k, codes) for k in _AROUND]
    made = impute(
        pair.tissue, pair.reference, pair.target, averages, rng=generator, method=method,
        n_folds=n_folds, coverage=coverage, n_neighbors=n_neighbors, n_pcs=n_pcs,
        max_cells=max_cells, block_bytes=settings.block_bytes,
    )  # fmt: skip
    scores = _scores(pair.shared, pair.tissue, made, grids)
    means = {c: float(np.nanmean(v)) for c, v in scores.items() if c != "gene" and v.notna().any()}
    heldout = made.heldout
    shared = _in_place(pair.shared, source, order)
    if len(made.cells) < source.n_obs:
        heldout = np.full((source.n_obs, len(pair.shared)), np.nan, dtype=np.float32)
        heldout[made.cells] = made.heldout
    scores = scores.iloc[shared].set_axis(scores.index)
    logger.info(
        "imputed %d genes from %d shared ones; hidden in turn, these have a mean Pearson of %.3f "
        "(kNN %.3f), and intervals hold %.3f of their values",
        len(pair.targets), len(pair.shared), means["pearson"], means["pearson_knn"],
        means["coverage"],
    )  # fmt: skip
    result = results.Result(
        "tl.impute_genes",
        order.restore({
            "obsm:{root}": made.values,
            "obsm:{root}_lower": made.lower,
            "obsm:{root}_upper": made.upper,
            "obsm:{root}_heldout": heldout[:, shared],
        }),
        {
            "method": method, "layer": layer, "reference_layer": reference_layer,
            "n_folds": n_folds, "coverage": coverage, "n_neighbors": n_neighbors, "n_pcs": n_pcs,
            "max_reference": max_reference, "max_cells": max_cells, "max_shared": max_shared,
            "spatial_key": spatial_key, "batch_key": batch_key, "rng": rngs.recorded(rng),
        },
        {
            "genes": [str(g) for g in pair.targets],
            "scores": scores,
            "baseline": {
                **means, "n_genes": len(pair.shared), "n_cells": len(made.cells),
                "n_reference": len(pair.reference),
            },
            "weights": made.weights,
            "signal": made.signal,
        },
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _in_place(shared: np.ndarray, source: AnnData, order: inputs.NameOrder) -> np.ndarray:
    """Numbers of the shared genes in the order which the object has them in."""
    return np.argsort(order.var[source.var_names.get_indexer(shared)])


def _coordinates(source: AnnData, spatial_key: str, batch_key: str | None) -> np.ndarray | None:
    """Coordinates of any dimension; None where there are none under the usual name."""
    if not has_coordinates(source, spatial_key):
        if spatial_key != "spatial":
            raise checks.missing(
                spatial_key, "adata.obsm", source.obsm, hint="Name another with spatial_key=."
            )
        logger.info("no coordinates: nothing is averaged over the tissue, and there is no SSIM")
        return None
    return section_coordinates(source, spatial_key, batch_key, plane=False)


def _scores(
    shared: np.ndarray, tissue: np.ndarray, made: Imputation, grids: list[SectionGrid]
) -> pd.DataFrame:
    """Agreement of each shared gene with its measurement, when hidden, and that of plain kNN."""
    measured = tissue[made.cells]
    table = pd.DataFrame(index=[str(i) for i in range(len(shared))])
    table["gene"] = [str(g) for g in shared]
    for suffix, predicted in (("", made.heldout), ("_knn", made.heldout_knn)):
        table[f"pearson{suffix}"] = gene_pearson(measured, predicted)
        table[f"ssim{suffix}"] = section_ssim(measured, predicted, made.cells, grids)
    table["coverage"] = made.intervals.coverage
    return table[["gene", "pearson", "ssim", "pearson_knn", "ssim_knn", "coverage"]]


def section_ssim(
    measured: np.ndarray, predicted: np.ndarray, cells: np.ndarray, grids: list[SectionGrid]
) -> np.ndarray:
    """SSIM of gene images, averaged over sections by their pixels; NaN without images.

    Parameters
    ----------
    measured, predicted
        Expression (n_cells, n_genes).
    cells
        Observation of each row.
    grids
        Grid of each section.
    """
    n_genes = measured.shape[1]
    total, weight = np.zeros(n_genes), np.zeros(n_genes)
    for grid in grids:
        _, inside, row = np.intersect1d(grid.rows, cells, return_indices=True)
        if not len(row):
            continue
        pixel = grid.pixel[inside]
        occupied = np.bincount(pixel, minlength=grid.shape[0] * grid.shape[1]) > 0
        step = max(1, settings.block_bytes // (16 * len(occupied)))
        for start in range(0, n_genes, step):
            genes = slice(start, start + step)
            a, b = (
                rasterise(X[row, genes], pixel, grid.shape, agg="mean")
                for X in (measured, predicted)
            )
            score = ssim(a, b, occupied.reshape(grid.shape))
            known = np.isfinite(score)
            total[genes] += np.where(known, score, 0) * occupied.sum()
            weight[genes] += known * occupied.sum()
    return np.divide(total, weight, out=np.full(n_genes, np.nan), where=weight > 0)
