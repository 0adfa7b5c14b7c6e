"""`omicllm.tl.pattern_genes`: genes that follow a pattern one has in mind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm._core.names import positions
from omicllm.spatial import patterns
from omicllm.spatial.sections import GRID_KEY as _GRID
from omicllm.spatial.sections import section_grids, serving_grid
from omicllm.stats.neighbors import unit_rows
from omicllm.stats.pattern_test import excess_pvalues, likeness_pvalues
from omicllm.stats.scores import benjamini_hochberg
from omicllm.tl import _pattern_design as design
from omicllm.tl._sigel import _lend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

    from omicllm.model import SIGEL
    from omicllm.spatial.sections import SectionGrid

#: Smooth modes that surrogates are made of, per section.
_MODES = 168
#: Draws of a graded gene that are averaged.
_DRAWS = 20


@docs.fill()
def pattern_genes(
    adata: AnnData | MuData,
    *,
    like: str | None = None,
    region: str | None = None,
    groupby: str | None = None,
    levels: Mapping[str, float] | None = None,
    mask: np.ndarray | None = None,
    image: np.ndarray | Mapping[str, np.ndarray] | None = None,
    model: SIGEL | str | Path | None = None,
    key: str = "sigel",
    n_null: int = 500,
    layer: str | None = None,
    input: Literal["counts", "values"] = "counts",
    spatial_key: str = "spatial",
    batch_key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Find genes that follow a pattern: that of a gene, a region, graded regions, a mask, an image.

    The pattern is made into a gene that is seen by the encoder only, beside the real ones, and
    real genes are ranked by cosine with it, before any pull towards neighbouring genes. Say what
    to look for with one of `like`, `region`, `levels`, `mask` and `image`.

    Parameters
    ----------
    {adata}
        ``X`` (or `layer`) holds counts as read from the file.
    like
        A gene: others are ranked by cosine in ``varm["X_<key>"]``.
    region
        A category of ``obs[groupby]``: genes of this region.
    groupby
        Column of `obs` with regions, for `region` and `levels`.
    levels
        Percentile of each region: 5 puts the gene on a level with the strongest 5 % of the genes
        there, 95 with the weakest. Regions left out are neutral. Counts are simulated with the
        mean-variance relation of the data (see Notes).
    mask
        One bool per observation, or the name of a column of `obs` with them.
    image
        Array of the shape of the grid; with several sections, a dict of section -> array.
    model
        A trained :class:`omicllm.model.SIGEL`, or the folder of a saved one. By default the one
        that ``ol.tl.sigel(adata, save=...)`` saved; without one, an encoder with the default
        recipe is fitted in memory and forgotten.
    key
        Root of the embedding that `like` uses, and whose ``uns`` entry may name a model.
    n_null
        Random patterns that p values come from.
    {layer}
    input
        ``"counts"``, or ``"values"`` for non-negative normalised data.
    {spatial_key}
    {batch_key}
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.var["pattern_score"]`` : float32
        Cosine with the pattern; NaN for genes without counts.
    ``adata.var["pattern_qval"]`` : float32
        False discovery rate (Benjamini-Hochberg); NaN for genes without counts, and for the gene
        that the others were compared with.
    ``adata.var["pattern_pval"]`` : float32
        p value behind it.
    ``adata.uns["pattern"]``
        Parameters.

    Raises
    ------
    KeyError
        No such gene, column, region or layer; with `like`, no embedding.
    ValueError
        None or several patterns asked for; a pattern that is the same everywhere, or has the
        wrong shape; percentiles outside 0 to 100.

    Notes
    -----
    p values compare the cosine with those of random patterns of the same values and the same
    smoothness, made by rotations among the modes of the tissue of like smoothness (eigenmode
    resampling): what is asked is whether a gene follows this pattern, not whether it is spatial.
    With `like`, the null is the bulk of the other genes' cosines with the gene, on Fisher's z
    scale.

    Graded patterns: per region, the mean of the gene at the given percentile of the region's gene
    means; negative-binomial draws with ``cv2 = a0 + a1 / mean`` fitted over genes (Gamma
    regression), handed out by the spots' median expression (ties by total), 20 draws averaged. As
    real genes follow the depth of spots more or less, the levels alone, without depth, are looked
    for too; the score is the larger cosine, for random patterns as well.

    The order of observations and of genes matters a little: null patterns and simulated counts are
    drawn in it, and an encoder fitted here weighs axes by it.
    """
    source = inputs.resolve(adata, mod)
    asked = {"like": like, "region": region, "levels": levels, "mask": mask, "image": image}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        msg = (
            f"Say what to look for with one of {checks.listed(asked)}; "
            f"given: {checks.listed(given)}."
        )
        raise ValueError(msg)
    checks.one_of("input", input, ("counts", "values"))
    checks.whole_number("n_null", n_null, at_least=20)
    if like is not None:
        idle: tuple[str, ...] = (
            "model", "n_null", "layer", "input", "spatial_key", "batch_key", "rng", "groupby",
        )  # fmt: skip
        why = "with like=, which compares genes of the stored embedding"
        checks.no_effect(pattern_genes, locals(), idle, because=why)
    elif region is None and levels is None:
        why = "without region= or levels="
        checks.no_effect(pattern_genes, locals(), ("groupby",), because=why)
    if model is not None:
        checks.no_effect(pattern_genes, locals(), ("key",), because=checks.WITH_MODEL)
    generator = rngs.generator(rng)
    if like is not None:
        score, p = _like(source, like, key)
    else:
        score, p = _by_encoder(
            source, region=region, groupby=groupby, levels=levels, mask=mask, image=image,
            model=model, key=key, n_null=n_null, layer=layer, input=input,
            spatial_key=spatial_key, batch_key=batch_key, rng=generator,
            seed=rngs.seed_of(rng) if not isinstance(rng, np.random.Generator) else 0,
        )  # fmt: skip
    params: dict[str, Any] = {
        "like": like, "region": region, "groupby": groupby, "levels": levels,
        "mask": _recorded(mask), "image": None if image is None else "array",
        "model": model if isinstance(model, (str, Path)) else None, "key": key,
    }  # fmt: skip
    if like is None:
        params |= {
            "n_null": n_null, "layer": layer, "input": input, "spatial_key": spatial_key,
            "batch_key": batch_key, "rng": rngs.recorded(rng),
        }  # fmt: skip
    values = {
        "var:{root}_score": score.astype(np.float32),
        "var:{root}_pval": p.astype(np.float32),
        "var:{root}_qval": benjamini_hochberg(p).astype(np.float32),
    }
    result = results.Result("tl.pattern_genes", values, params, key_added=key_added)
    return results.write(adata, result, mod=mod, copy=copy)


def _recorded(mask: Any) -> str | None:
    return mask if mask is None or isinstance(mask, str) else "array"


def _like(source: AnnData, gene: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of all genes with one, and p values among genes at large."""
    name = f"X_{key}"
    if name not in source.varm:
        raise checks.missing(
            name, "adata.varm", source.varm, hint=f"Make it with ol.tl.{key}(adata)."
        )
    chosen = int(positions(gene, source.var_names, argument="genes of like=")[0])
    Z = unit_rows(inputs.vectors(source.varm[name], f"adata.varm[{name!r}]"))
    there = np.abs(Z).sum(axis=1) > 0
    if not there[chosen]:
        msg = f"like={gene!r} has no counts, and so no embedding to compare with."
        raise ValueError(msg)
    score = np.where(there, Z @ Z[chosen], np.nan)
    p = np.full(len(Z), np.nan)
    there[chosen] = False
    if there.any():
        p[there] = likeness_pvalues(score[there])
    return score, p


def _by_encoder(
    source: AnnData, *, model: Any, key: str, n_null: int, layer: str | None, input: str,
    spatial_key: str, batch_key: str | None, rng: np.random.Generator, seed: int, **asked: Any,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Cosine of all genes with a pattern that is made into a gene, and p values."""
    names = inputs.gene_names(source)
    position, arrays, _ = serving_grid(source, spatial_key=spatial_key, batch_key=batch_key)
    grids = section_grids(source, position, arrays)
    members = design.regions(source, asked["groupby"], asked["region"], asked["levels"])
    template = design.template(source, grids, position, members, asked)
    X = inputs.by_gene(source, layer)
    inputs.check_expression(
        X, names, counts=input == "counts", layer=layer, source=source, has_input=True
    )
    levels = asked["levels"]
    query = None
    if levels is not None:
        means = patterns.level_means(X, members, levels)
        if len(set(means.values())) < 2:
            msg = (
                "The levels give the same mean expression in every region "
                f"({next(iter(means.values())):.3g}): choose percentiles that lie further apart."
            )
            raise ValueError(msg)
        for name, mean in means.items():
            template[members[name]] = mean
        query = _graded(X, means, members, rng)
    for g in grids:  # what no region says anything about is neutral
        here = template[g.rows]
        told = np.isfinite(here)
        template[g.rows] = np.where(told, here, here[told].mean() if told.any() else 0.0)
        if query is not None:
            here = query[g.rows]
            query[g.rows] = np.where(told, here, here[told].mean() if told.any() else 0.0)
    made = np.concatenate([template[None], _null_patterns(template, grids, position, n_null, rng)])
    counts = _expected_counts(made, X, grids, by_depth=True)
    n_kinds = 1
    if query is not None:
        counts[0] = query
        counts = np.concatenate([counts, _expected_counts(made, X, grids, by_depth=False)])
        n_kinds = 2
    lent = _lend(source, X, names, position, arrays, batch_key)
    encoder = _encoder(model, source, key, lent, batch_key, input, seed)
    labels = np.concatenate([names, [f"pattern {i} (not a gene)" for i in range(len(counts))]])
    joined = sparse.csc_matrix(sparse.hstack([X, sparse.csc_matrix(counts.T.astype(np.float32))]))
    beside = _lend(source, joined, labels, position, arrays, batch_key)
    setup = {"layer": None, "batch_key": batch_key, "grid_key": _GRID, "input": "values"}
    # The pull towards known genes would move what is looked for.
    Z = encoder.embed(beside, setup=setup, pull=False)
    genes, made = Z[: len(names)], Z[len(names) :].reshape(n_kinds, n_null + 1, -1)
    there = np.abs(genes).sum(axis=1) > 0
    cosine = np.max([genes[there] @ kind.T for kind in made], axis=0)
    score, p = np.full(len(names), np.nan), np.full(len(names), np.nan)
    score[there] = cosine[:, 0]
    p[there] = excess_pvalues(cosine[:, 0], cosine[:, 1:])
    return score, p


def _graded(
    X: sparse.csc_matrix, means: dict[str, float], members: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Mean of simulated draws of a graded gene (n_obs,); NaN outside the regions."""
    mean = np.asarray(X.mean(axis=0), dtype=np.float64).ravel()
    square = np.asarray(X.multiply(X).mean(axis=0), dtype=np.float64).ravel()
    trend = patterns.dispersion_trend(mean, square - mean**2)
    by_row = sparse.csr_matrix(X[:, np.flatnonzero(np.diff(X.indptr))])
    total = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    strength = total / (2.0 * max(total.max(), 1.0))  # below 1: it decides between equal medians
    filled = np.diff(by_row.indptr)
    for i in np.flatnonzero(filled * 2 >= by_row.shape[1]):  # elsewhere the median is 0
        row = np.zeros(by_row.shape[1])
        row[: filled[i]] = by_row.data[by_row.indptr[i] : by_row.indptr[i + 1]]
        strength[i] += np.median(row)
    draws = [patterns.graded_counts(means, members, trend, strength, rng) for _ in range(_DRAWS)]
    return np.mean(draws, axis=0)


def _null_patterns(
    template: np.ndarray, grids: list[SectionGrid], position: np.ndarray, n: int,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Patterns of the same values and smoothness in each section (n, n_obs)."""
    out = np.empty((n, len(template)))
    for g in grids:
        modes = patterns.smooth_modes(position[g.rows].astype(np.float64), _MODES)
        out[:, g.rows] = patterns.surrogates(template[g.rows], modes, n, rng)
    return out


def _expected_counts(
    rates: np.ndarray, X: sparse.csc_matrix, grids: list[SectionGrid], *, by_depth: bool
) -> np.ndarray:
    """Counts expected of genes with these rates, as many as a median gene has.

    They follow the spots' depth, or the rates alone.

    All of them together hold under one percent of the counts there are, so that they leave the
    depth of the spots as it is.
    """
    depth = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()
    wanted = min(float(np.median(total[total > 0])), 0.01 * total.sum() / len(rates))
    out = rates * depth if by_depth else rates.copy()
    for g in grids:
        share = depth[g.rows].sum() / max(depth.sum(), 1e-12)
        now = out[:, g.rows].sum(axis=1, keepdims=True)
        out[:, g.rows] *= wanted * share / np.maximum(now, 1e-12)
    return out


def _encoder(
    model: Any, source: AnnData, key: str, lent: AnnData, batch_key: str | None, input: str,
    seed: int,
) -> Any:  # fmt: skip
    """The model given, the one that was saved, or one fitted here."""
    from omicllm.model import SIGEL
    from omicllm.model._base import shell

    if model is None and key in source.uns:
        folder = str(source.uns[key].get("model_dir", "") or "")
        if folder and Path(folder).is_dir():
            model = folder
    if model is not None:
        trained = model if isinstance(model, SIGEL) else SIGEL.load(model)
        known = trained.registry_["setup_args"].get("input", "counts")
        if input not in ("counts", known):
            msg = f"input={input!r} has no effect: the model was trained with input={known!r}."
            raise ValueError(msg)
        return trained
    logger.info("no model= given or saved: fitting the default encoder in memory")
    with shell(SIGEL, lent):
        SIGEL.setup_anndata(lent, batch_key=batch_key, input=input)
        fitted = SIGEL(lent, seed=seed, n_clusters=1)
        fitted.train(rng=seed, show_progress=False)
    return fitted
