"""`omicllm.tl.spatially_variable_genes`: genes whose images are no scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.gene_groups import gene_groups, not_finite
from omicllm._core.log import logger
from omicllm.spatial.energy import GraphScorer, Null, PatternScorer, pattern_energy
from omicllm.spatial.images import join_spots
from omicllm.spatial.moran import morans_i, within
from omicllm.stats.scores import benjamini_hochberg
from omicllm.stats.spectrum import cross_validated_axes
from omicllm.tl._graph import spatial_graph

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

    from omicllm.spatial.image_set import ImageSet

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
    null: Literal["zinb", "permuted"] | None = None,
    n_null: int = 200,
    n_jobs: int = 1,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Score genes by how far their image is from chance.

    ``method="moran"``: Moran's I of every gene in closed form, with p values from the exact
    permutation moments (Pearson type III), calibrated by permuted images for genes found in few
    spots. Backed and dask matrices are read group by group of genes.

    ``method="sigel"``: squared distance, in the space of the SIGEL encoder, between a gene and
    null images, less what noise alone gives. Axes count by their weight in the encoder times their
    own Moran's I, and only if that is significant, so that co-expression that does not follow the
    tissue scores nothing; each half of the genes is scored on axes found by the other half. Where
    no axis is spatial, Moran's I of the residuals takes the place of the distance.

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
    null
        Null images of ``"sigel"``. ``"zinb"`` (default for counts): a zero-inflated negative
        binomial per gene whose mean follows the depth of spots. ``"permuted"`` (default for
        values): the counts of a gene at random spots; depth then enters with a fitted exponent, so
        that genes that follow depth and genes that ignore it both count as without a pattern; of
        the p values against either kind of null image the larger counts.
    n_null
        Null images of ``"sigel"`` for each of fifty classes of genes of about equal abundance.
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
        Distance to null images beyond chance, in units of the squared length of null images (0 is
        chance), or Moran's I. NaN for genes that do not vary.
    ``adata.var["sigel_svg_pval"]``, ``adata.var["sigel_svg_qval"]`` : float64
        One-sided p value (null images; for ``"moran"`` permuted spots), and Benjamini-Hochberg q
        value.
    ``adata.var["sigel_svg_rank"]`` : int64
        1 is the most variable; genes that do not vary come last.
    ``adata.uns["sigel_svg"]``
        ``params``, and ``n_axes``, the number of spatial axes each half of the genes is scored on
        (``"sigel"``; 0: Moran's I of residuals).

    Raises
    ------
    KeyError
        No such layer, graph, coordinates or section column.
    ValueError
        Values that are not finite, or (``"sigel"``) negative or not counts.

    Notes
    -----
    With `batch_key`, ``"moran"`` centres and permutes within sections and averages I over them,
    weighted by their edges; ``"sigel"`` takes residuals within sections and axes over all of them.

    Moran (1950); moments under permutation: Siemiatycki (1978), Mielke (1979). The distance to
    null images is SIGEL's (Genome Biology 26:287, 2025); weights, halves and p values are ours.
    """
    source = inputs.resolve(adata, mod)
    order = inputs.NameOrder(np.arange(source.n_obs), np.arange(source.n_vars))
    if method == "sigel":  # Moran's I draws nothing, and reads the genes block by block
        source, order = inputs.by_name(source)
    checks.one_of("method", method, ("sigel", "moran"))
    checks.one_of("input", input, ("counts", "values"))
    checks.one_of("null", null, (None, "zinb", "permuted"))
    if method == "moran":
        idle = ("input", "null", "n_null")
        checks.no_effect(spatially_variable_genes, locals(), idle, because="with method='moran'")
    if input == "values" and null == "zinb":
        msg = "null='zinb' draws counts; with input='values' only null='permuted' is possible."
        raise ValueError(msg)
    checks.whole_number("n_null", n_null, at_least=10)
    checks.whole_number("n_jobs", n_jobs)
    names = inputs.gene_names(source)
    if not len(names):
        msg = "adata has no genes: there is nothing to score."
        raise ValueError(msg)
    X = inputs.matrix(source, layer)
    generator = rngs.generator(rng)
    graph = spatial_graph(source, connectivity_key, spatial_key=spatial_key, batch_key=batch_key)
    extra: dict[str, Any] = {}
    if method == "moran":
        codes, sections = inputs.sections(source, batch_key)
        section_of = codes if len(sections) > 1 else None
        score, p = moran_of(X, graph, names, layer, n_jobs, generator, section_of)
    else:
        null = null or ("zinb" if input == "counts" else "permuted")
        setup = {
            "layer": layer, "input": input, "grid_key": "spatial_grid", "batch_key": batch_key,
            "spatial_key": spatial_key,
        }  # fmt: skip
        score, p, extra["n_axes"] = _sigel(source, setup, graph, null, n_null, n_jobs, generator)
    values = {
        "var:{root}_svg_score": score,
        "var:{root}_svg_pval": p,
        "var:{root}_svg_qval": benjamini_hochberg(p),
        "var:{root}_svg_rank": _rank(score, p),
    }
    params = {
        "method": method, "layer": layer, "connectivity_key": connectivity_key,
        "spatial_key": spatial_key, "batch_key": batch_key, "rng": rngs.recorded(rng),
        **({} if method == "moran" else {"input": input, "null": null, "n_null": n_null}),
    }  # fmt: skip
    result = results.Result(
        "tl.spatially_variable_genes", order.restore(values), params, extra, key_added or method
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
    sections: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Moran's I and p of every gene of a matrix in any storage."""
    where = inputs.place(layer)

    def check(part: Any, start: int) -> None:
        bad = not_finite(part)
        if len(bad):
            msg = (
                f"{where} holds NaN or infinite values, first in "
                f"{checks.listed(names[start + bad], most=3)}. Fill or drop them first."
            )
            raise ValueError(msg)
        inputs.refuse_large(part.data if hasattr(part, "indptr") else part, where)

    return morans_i(
        gene_groups(X), X.shape[1], graph, sections=sections, n_jobs=n_jobs, rng=rng, check=check
    )


def _sigel(
    adata: AnnData,
    setup: dict[str, Any],
    graph: sparse.csr_matrix,
    null: Literal["zinb", "permuted"],
    n_null: int,
    n_jobs: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from omicllm.model import _sigel_encoders as encoders
    from omicllm.model._sigel import DEFAULTS
    from omicllm.model._sigel_images import images_and_pixels

    images, pixel_of_spot = images_and_pixels(adata, setup, DEFAULTS["max_pixels"])
    totals = images.gene_total
    if (totals > 0).sum() < 2:
        msg = f"At least two genes with counts are needed; there are {int((totals > 0).sum())}."
        raise ValueError(msg)
    joined = join_spots(len(pixel_of_spot), pixel_of_spot, images.n_pixels)
    pixel_graph = joined @ graph @ joined.T
    section_of = images.section_of if len(images.sections) > 1 else None
    share = encoders.depth_shares(images)
    bounds = np.array([s.start for s in images.sections] + [images.n_pixels])
    free = null == "permuted"
    nulls: tuple[Null, ...] = (
        ("zinb", "permuted") if free and setup["input"] == "counts" else (null,)
    )
    # A gene is scored on axes that it did not help to find, which would lean towards it.
    half = rng.permutation(images.n_genes) % 2
    axes = []
    for part in (0, 1):
        finders = np.flatnonzero((half != part) & (totals >= DEFAULTS["min_count"]))
        if len(finders) < 8:
            finders = np.flatnonzero((half != part) & (totals > 0))
        axes.append(_spatial_axes(images, finders, pixel_graph, section_of, n_jobs, rng))
    if not all(len(weights) for _, weights in axes):
        logger.info("no axis follows the tissue: Moran's I of residuals is reported")
        if section_of is not None:
            pixel_graph = within(pixel_graph, section_of)
        fallback = GraphScorer(share, bounds, pixel_graph, free=free)
        score, p = pattern_energy(
            images.counts, fallback, nulls=("spots",), n_null=n_null, rng=rng, n_jobs=n_jobs
        )
        return score, p, np.zeros(2, dtype=int)
    score, p = np.empty((2, images.n_genes))
    for part, (found, weights) in enumerate(axes):
        genes = np.flatnonzero(half == part)
        scorer = PatternScorer(share, bounds, found, weights, free=free)
        score[genes], p[genes] = pattern_energy(
            images.counts[:, genes], scorer, nulls=nulls, n_null=n_null, rng=rng, n_jobs=n_jobs
        )
    return score, p, np.array([len(weights) for _, weights in axes])


def _spatial_axes(
    images: ImageSet,
    genes: np.ndarray,
    graph: sparse.csr_matrix,
    section_of: np.ndarray | None,
    n_jobs: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Axes of the residual images of some genes that follow the tissue, and their weights."""
    from omicllm.model import _sigel_encoders as encoders
    from omicllm.model._sigel import DEFAULTS

    if len(genes) < 2:
        return np.empty((images.n_pixels, 0)), np.empty(0)
    defaults, share = DEFAULTS, encoders.depth_shares(images)

    def residual(chosen: np.ndarray) -> np.ndarray:
        shown = images.dense(genes[chosen])
        return encoders.section_residuals(images, shown, share, defaults["clip"])

    spectrum = cross_validated_axes(
        residual, len(genes), images.n_pixels, defaults["n_axes"], folds=2
    )
    k = spectrum.axes.shape[1]
    index, level = morans_i(
        [(slice(0, k), spectrum.axes)], k, graph, sections=section_of, n_jobs=n_jobs, rng=rng
    )
    trust = (spectrum.signal_to_noise + defaults["gain_floor"]) ** (2 * defaults["gain_power"])
    spatial = (level * k < _AXIS_LEVEL) & (index > 0)
    return spectrum.axes[:, spatial], (trust * index)[spatial]
