"""`omicllm.tl.spatially_variable_genes`: genes whose images are no scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.spatial.energy import pattern_energy
from omicllm.spatial.images import join_spots
from omicllm.spatial.moran import benjamini_hochberg, morans_i
from omicllm.tl._graph import spatial_graph

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

#: Level (Bonferroni) at which an axis counts as spatial.
_AXIS_LEVEL = 0.01


@docs.fill()
def spatially_variable_genes(
    adata: AnnData | MuData,
    *,
    method: Literal["sigel", "moran"] = "sigel",
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    connectivity_key: str = "spatial_connectivities",
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    n_null: int = 100,
    n_jobs: int = 1,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Score genes by how far their image is from chance.

    ``method="moran"``: Moran's I of every gene in closed form as sparse products over blocks of
    genes, with p values from the exact permutation moments (Pearson type III), calibrated by
    permuted images for genes found in few spots.

    ``method="sigel"``: squared distance, in the space of the SIGEL encoder, between a gene and
    null images made of the same residuals at permuted pixels. Axes count by their weight in the
    encoder times their own Moran's I, and only if that is significant, so that co-expression that
    does not follow the tissue scores nothing. Where no axis is spatial, Moran's I of the residuals
    is reported instead.

    Parameters
    ----------
    {adata}
        For ``"moran"``, ``X`` (or `layer`) is scored as given, usually log-normalised; ``"sigel"``
        takes counts.
    method
        ``"sigel"`` or ``"moran"``.
    {layer}
    input
        What ``X`` holds, for ``"sigel"``: ``"counts"`` or non-negative ``"values"``.
    connectivity_key
        Spatial graph in `obsp` (:func:`squidpy.gr.spatial_neighbors`). When the default is not
        there, squidpy makes six-neighbour connectivities in memory.
    {spatial_key}
    {batch_key}
    n_null
        Null images per gene (``"sigel"``).
    n_jobs
        Threads.
    {rng}
    {mod}
    {key_added}
        By default the method's name.
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields (``moran_...`` for ``"moran"``):

    ``adata.var["sigel_svg_score"]`` : float64
        Squared distance to null images, or Moran's I. NaN for genes that do not vary.
    ``adata.var["sigel_svg_pval"]``, ``adata.var["sigel_svg_qval"]`` : float64
        One-sided p value under permutation of spots, and Benjamini-Hochberg q value.
    ``adata.var["sigel_svg_rank"]`` : int64
        1 is the most variable; genes that do not vary come last.
    ``adata.uns["sigel_svg"]``
        ``params``, and ``n_axes``, the number of spatial axes (``"sigel"``).

    Raises
    ------
    KeyError
        No such layer, graph, coordinates or section column.
    ValueError
        Values that are not finite, or (``"sigel"``) negative or not counts.

    Notes
    -----
    Moran (1950); moments under permutation: Siemiatycki (1978), Mielke (1979). The distance to
    null images is SIGEL's (Genome Biology 26:287, 2025); weights and p values are ours.
    """
    source = inputs.resolve(adata, mod)
    checks.one_of("method", method, ("sigel", "moran"))
    checks.one_of("input", input, ("counts", "values"))
    checks.whole_number("n_null", n_null, at_least=10)
    checks.whole_number("n_jobs", n_jobs)
    names = inputs.gene_names(source)
    X = inputs.matrix(source, layer)
    generator = rngs.generator(rng)
    graph = spatial_graph(
        source, connectivity_key, spatial_key=spatial_key, batch_key=batch_key
    )
    extra: dict[str, Any] = {}
    if method == "moran":
        score, p = moran_of(X, graph, names, layer, n_jobs, generator)
    else:
        setup = {
            "layer": layer, "input": input, "grid_key": "spatial_grid", "batch_key": batch_key,
            "spatial_key": spatial_key,
        }  # fmt: skip
        score, p, extra["n_axes"] = _sigel(source, setup, graph, n_null, n_jobs, generator)
    values = {
        "var:{root}_svg_score": score,
        "var:{root}_svg_pval": p,
        "var:{root}_svg_qval": benjamini_hochberg(p),
        "var:{root}_svg_rank": _rank(score, p),
    }
    params = {
        "method": method, "layer": layer, "input": input, "connectivity_key": connectivity_key,
        "spatial_key": spatial_key, "batch_key": batch_key, "n_null": n_null,
        "rng": rngs.recorded(rng),
    }  # fmt: skip
    result = results.Result(
        "tl.spatially_variable_genes", values, params, extra, key_added or method
    )
    return results.write(adata, result, mod=mod, copy=copy)


def _rank(score: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Rank by p value, ties by score; NaN last."""
    order = np.lexsort((-np.nan_to_num(score, nan=-np.inf), np.nan_to_num(p, nan=2.0)))
    rank = np.empty(len(score), dtype=np.int64)
    rank[order] = np.arange(1, len(score) + 1)
    return rank


def moran_of(
    X: Any,
    graph: sparse.csr_matrix,
    names: np.ndarray,
    layer: str | None,
    n_jobs: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Moran's I and p of every gene of a matrix in any storage."""
    kind = inputs.storage(X)
    if kind == "dense":
        if not np.isfinite(X).all():
            inputs.check_expression(inputs.gene_major(X), names, counts=False, layer=layer)
        return morans_i(lambda genes: X[:, genes], X.shape[1], graph, n_jobs=n_jobs, rng=rng)
    columns = inputs.gene_columns(X)
    if not np.isfinite(columns.data).all():
        inputs.check_expression(
            inputs.gene_major(X), names, counts=False, layer=layer
        )
    return morans_i(lambda genes: columns[:, genes], X.shape[1], graph, n_jobs=n_jobs, rng=rng)


def _sigel(
    adata: AnnData,
    setup: dict[str, Any],
    graph: sparse.csr_matrix,
    n_null: int,
    n_jobs: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    from omicllm.model import _sigel_encoders as encoders
    from omicllm.model import _sigel_parts as parts

    images, pixel_of_spot = parts.images_and_pixels(adata, setup, parts.DEFAULTS["max_pixels"])
    totals = images.gene_total
    genes = np.flatnonzero(totals >= parts.DEFAULTS["min_count"])
    genes = genes if len(genes) >= 8 else np.flatnonzero(totals > 0)
    if len(genes) < 2:
        msg = f"At least two genes with counts are needed; there are {len(genes)}."
        raise ValueError(msg)
    clip = parts.DEFAULTS["clip"]
    spectrum = encoders.spectrum_of(images, genes, parts.DEFAULTS["n_axes"], clip)
    joined = join_spots(len(pixel_of_spot), pixel_of_spot, images.n_pixels)
    pixel_graph = joined @ graph @ joined.T
    index, level = morans_i(
        lambda s: spectrum.axes[:, s], spectrum.axes.shape[1], pixel_graph, rng=rng
    )
    spatial = (level * len(level) < _AXIS_LEVEL) & (index > 0)
    share = encoders.depth_shares(images)

    def residual(chosen: np.ndarray) -> np.ndarray:
        return encoders.section_residuals(images, images.dense(chosen), share, clip)

    if not spatial.any():
        logger.info("no axis follows the tissue: Moran's I of residuals is reported")
        score, p = morans_i(
            lambda s: residual(np.arange(images.n_genes)[s]).T, images.n_genes, pixel_graph,
            n_jobs=n_jobs, rng=rng,
        )  # fmt: skip
        return np.where(totals > 0, score, np.nan), np.where(totals > 0, p, np.nan), 0
    trust = (spectrum.signal_to_noise + parts.DEFAULTS["gain_floor"]) ** (
        2 * parts.DEFAULTS["gain_power"]
    )
    n_values = np.diff(images.counts.indptr)
    score, p = pattern_energy(
        residual, images.n_genes, n_values, spectrum.axes[:, spatial], (trust * index)[spatial],
        n_null=n_null, rng=rng,
    )  # fmt: skip
    return np.where(np.isfinite(p), score, np.nan), p, int(spatial.sum())
