"""`omicllm.tl.spatial_domains`: regions of a tissue with alike expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from omicllm._bridges import r, spagcn
from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.spatial import positions
from omicllm.spatial.sections import staggered_sections
from omicllm.stats.depth_pca import weighted_scores
from omicllm.stats.scores import ari
from omicllm.tl._domain_ensemble import by_size, domain_ensemble
from omicllm.tl._domain_genes import expression
from omicllm.tl._graph import spatial_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

#: Fewest spots that a mixture is fitted to.
_FEWEST_SPOTS = 20


@docs.fill()
def spatial_domains(
    adata: AnnData | MuData,
    *,
    n_domains: int,
    method: Literal["builtin", "spagcn"] = "builtin",
    use_rep: str | None = None,
    genes: str | Sequence[str] | None = None,
    n_genes: int = 2000,
    gene_key: str = "sigel",
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    connectivity_key: str = "spatial_connectivities",
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    dims: Sequence[int] = (15, 30),
    factors: Sequence[float] = (1.0, 2.0),
    n_starts: int = 6,
    cross_check: Literal["mclust"] | None = None,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Cut tissue into a given number of domains.

    ``method="builtin"``: genes are chosen by name, the best-scoring share of each gene cluster;
    principal components of their square-rooted counts, spots weighted by depth, are smoothed over
    the sparse spatial graph, by the amount that generalised cross-validation picks; Gaussian
    mixtures with one covariance for all domains are fitted from several starts, and a majority
    vote of them is taken. Nothing of size n_obs x n_obs is dense.

    ``method="spagcn"``: the SpaGCN package on the same genes, with its refinement.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds counts as read from the file. It is not read with `use_rep`.
    n_domains
        Number of domains.
    method
        ``"builtin"`` or ``"spagcn"`` (at most 10,000 spots; ``pip install 'omicllm[spagcn]'``).
    use_rep
        Entry of `obsm` with components to use instead of principal components made here, best
        first, for example of an integration of sections (``"builtin"`` only).
    genes
        Genes to use, by name; chosen by score when None.
    n_genes
        Number of genes to choose. All are used where there are no more.
    gene_key
        Root of the gene clusters (``var["<root>_cluster"]``, :func:`omicllm.tl.sigel`) and scores
        (``var["<root>_svg_score"]``, :func:`omicllm.tl.spatially_variable_genes`) to choose by.
        What is not there is made in memory: Moran's I as score, and clusters of genes by their
        correlation with smoothed components.
    {layer}
    input
        What ``X`` holds: ``"counts"``, or non-negative ``"values"`` that are normalised already;
        these are used as they are, and spots count alike.
    connectivity_key
        Spatial graph in `obsp` (:func:`squidpy.gr.spatial_neighbors`). When the default is not
        there, squidpy makes six-neighbour connectivities in memory.
    {spatial_key}
    {batch_key}
        Components are centred in each section.
    dims
        Numbers of leading components that mixtures are fitted to.
    factors
        Amounts of smoothing, as multiples of what cross-validation picks.
    n_starts
        Starts for each number of components and amount.
    cross_check
        ``"mclust"``: also fit model EEE of R's mclust to the smoothed components, and keep its
        agreement with the domains. Needs R.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.obs["spatial_domain"]`` : categorical
        Domain, ``"0"`` the largest.
    ``adata.obs["spatial_domain_confidence"]`` : float32
        Share of the starts that agree (``"builtin"``), or SpaGCN's probability.
    ``adata.uns["spatial_domain"]``
        Parameters, ``genes`` and ``gene_source`` (``"all"``, ``"genes"``, ``"builtin"`` or the
        columns of `var`); for ``"builtin"``, ``dims`` and ``amounts`` of smoothing of each member
        of the ensemble, and ``mclust_ari`` with `cross_check`.

    Raises
    ------
    KeyError
        No such entry, layer, gene, graph, coordinates or section column.
    ValueError
        Fewer than 20 observations, `n_domains` below 2 or above their number, values that are not
        finite, or too many spots for SpaGCN.
    ImportError
        SpaGCN, or R or mclust, is missing.

    Notes
    -----
    Fewer domains than asked for come back, with a warning, only where no start kept them all.
    Confidence measures agreement between starts. It is not the probability of being right.

    References
    ----------
    Scrucca et al. (2016), The R Journal 8:289 (model EEE); Craven and Wahba (1979) for
    cross-validation; Hu et al. (2021), Nature Methods 18:1342 (SpaGCN).
    """
    source, order = inputs.by_name(inputs.resolve(adata, mod))
    _check(source, method, input, n_domains, n_genes, dims, factors, n_starts, cross_check)
    if use_rep is not None and (method == "spagcn" or genes is not None):
        msg = "use_rep= replaces genes: it goes with method='builtin' and without genes=."
        raise ValueError(msg)
    idle = {
        "with use_rep=, which replaces genes": (
            () if use_rep is None else ("n_genes", "gene_key", "layer", "input")
        ),
        "with genes=": () if genes is None else ("n_genes", "gene_key"),
        "with method='spagcn'": ("dims", "factors", "n_starts") if method == "spagcn" else (),
    }
    for why, unheard in idle.items():
        checks.no_effect(spatial_domains, locals(), unheard, because=why)
    given = None if use_rep is None else _representation(source, use_rep)
    groups, _ = inputs.sections(source, batch_key)
    generator, seed = rngs.generator(rng), rngs.seed_of(rng)
    coords = _spagcn_ready(source, spatial_key, batch_key) if method == "spagcn" else None
    if cross_check is not None:
        r.connect("mclust")
    graph = _graph(source, connectivity_key, spatial_key, batch_key)
    arrays: dict[str, Any] = {}
    P: Any = given
    weights = None
    if P is None:
        used = expression(
            source, graph, groups, layer=layer, kind=input, genes=genes, n_genes=n_genes,
            gene_key=gene_key, seed=seed, rng=generator,
        )  # fmt: skip
        arrays = {
            "genes": list(source.var_names[order.genes(used.genes)]),
            "gene_source": used.source,
        }
        weights = used.weights
        if coords is None:
            P = weighted_scores(used.Y, max(dims), weights, groups)
    if coords is not None:
        # Logarithms as in SpaGCN's tutorial; counts come as roots of their scaled values.
        Y = used.Y.toarray()
        names = inputs.sections(source, batch_key)[1]
        hexagonal = bool(staggered_sections(source, coords, groups, names, spatial_key).all())
        label, confidence = spagcn.spagcn_domains(
            np.log1p(Y**2) if input == "counts" else Y, coords, groups, n_domains,
            hexagonal=hexagonal, seed=seed,
        )  # fmt: skip
        label = by_size(label)
    else:
        found = domain_ensemble(
            P, graph, n_domains, generator, weights=weights, dims=tuple(dims),
            factors=tuple(factors), n_starts=n_starts,
        )  # fmt: skip
        label, confidence = found.label, found.confidence
        arrays |= {"dims": found.dims, "amounts": found.amounts}
        if cross_check is not None:
            other = r.mclust(found.smoothed, n_domains, seed=seed).argmax(axis=1)
            arrays["mclust_ari"] = ari(label, other)
    n_found = int(label.max()) + 1
    if n_found < n_domains:
        logger.warning(
            "%d domains were found instead of %d: the others came out empty.", n_found, n_domains
        )
    import pandas as pd

    categories = [str(i) for i in range(n_found)]
    result = results.Result(
        "tl.spatial_domains",
        order.restore({
            "obs:{root}": pd.Categorical.from_codes(label, categories=categories),
            "obs:{root}_confidence": confidence.astype(np.float32),
        }),
        {
            "n_domains": n_domains, "method": method, "use_rep": use_rep, "n_genes": n_genes,
            "gene_key": gene_key, "layer": layer, "input": input,
            "connectivity_key": connectivity_key, "spatial_key": spatial_key,
            "batch_key": batch_key, "dims": list(dims), "factors": list(factors),
            "n_starts": n_starts, "cross_check": cross_check, "rng": rngs.recorded(rng),
        },
        arrays,
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _check(
    adata: AnnData,
    method: str,
    kind: str,
    n_domains: int,
    n_genes: int,
    dims: Sequence[int],
    factors: Sequence[float],
    n_starts: int,
    cross_check: str | None,
) -> None:
    checks.one_of("method", method, ("builtin", "spagcn"))
    checks.one_of("input", kind, ("counts", "values"))
    if cross_check is not None:
        checks.one_of("cross_check", cross_check, ("mclust",))
        if method != "builtin":
            msg = "cross_check= belongs to method='builtin'."
            raise ValueError(msg)
    checks.whole_number("n_domains", n_domains, at_least=2)
    checks.whole_number("n_genes", n_genes, at_least=2)
    checks.whole_number("n_starts", n_starts)
    if not len(dims) or not len(factors):
        msg = "dims and factors need one value at least."
        raise ValueError(msg)
    for d in dims:
        checks.whole_number("dims", d)
    for f in factors:
        if not f > 0 or not np.isfinite(f):
            msg = f"factors must be positive numbers, not {f!r}."
            raise ValueError(msg)
    if adata.n_obs < _FEWEST_SPOTS:
        msg = f"Domains need at least {_FEWEST_SPOTS} observations; there are {adata.n_obs}."
        raise ValueError(msg)
    if n_domains > adata.n_obs:
        msg = f"n_domains={n_domains} is more than the {adata.n_obs} observations."
        raise ValueError(msg)


def _representation(adata: AnnData, key: str) -> np.ndarray:
    """Components of `obsm` as float64, or an error."""
    if key not in adata.obsm:
        raise checks.missing(
            key,
            "adata.obsm",
            adata.obsm,
            hint="Name an entry with use_rep=, or leave it out to have components made here.",
        )
    P = inputs.vectors(adata.obsm[key], f"adata.obsm[{key!r}]").astype(np.float64)
    if P.shape[1] < 1:
        msg = f"adata.obsm[{key!r}] must have one row of components per observation."
        raise ValueError(msg)
    bad = ~np.isfinite(P).all(axis=1)
    if bad.any():
        msg = f"adata.obsm[{key!r}] holds NaN or infinite values in {int(bad.sum())} rows."
        raise ValueError(msg)
    if np.ptp(P, axis=0).max() <= 0:
        msg = f"adata.obsm[{key!r}] is the same in all observations."
        raise ValueError(msg)
    return P


def _graph(
    adata: AnnData, connectivity_key: str, spatial_key: str, batch_key: str | None
) -> sparse.csr_matrix:
    """Symmetric spatial graph without loops, checked."""
    graph = spatial_graph(adata, connectivity_key, spatial_key=spatial_key, batch_key=batch_key)
    graph = graph.astype(np.float64)
    if not np.isfinite(graph.data).all() or (graph.data < 0).any():
        msg = f"adata.obsp[{connectivity_key!r}] holds negative, NaN or infinite weights."
        raise ValueError(msg)
    edges = graph.maximum(graph.T).tocoo()
    keep = (edges.row != edges.col) & (edges.data > 0)
    graph = sparse.csr_matrix(
        (edges.data[keep], (edges.row[keep], edges.col[keep])), shape=graph.shape
    )
    if graph.nnz == 0:
        msg = "The spatial graph has no edges."
        raise ValueError(msg)
    return graph


def _spagcn_ready(adata: AnnData, spatial_key: str, batch_key: str | None) -> np.ndarray:
    """Coordinates for SpaGCN, once it is known that it can run."""
    spagcn.check_size(adata.n_obs)
    coords = positions.section_coordinates(
        adata, spatial_key, batch_key, plane=False,
        hint="SpaGCN needs coordinates: name their entry with spatial_key=.",
    )  # fmt: skip
    spagcn.load()
    return coords
