"""The network of nearest genes: one section or several, bootstraps, conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks, inputs
from omicllm.spatial.positions import section_coordinates
from omicllm.stats import pairs as pairing
from omicllm.stats.coexpression import log_normalized, unit_images
from omicllm.stats.neighbors import cosine_neighbors, unit_rows
from omicllm.stats.pattern_change import block_parts, block_tiles
from omicllm.stats.scores import benjamini_hochberg

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse


def network(
    source: AnnData, X: sparse.csc_matrix, Z: np.ndarray, genes: np.ndarray, names: np.ndarray,
    *, key: str, k: int, n_bootstraps: int, batch_key: str | None, condition_key: str | None,
    spatial_key: str, rng: np.random.Generator,
) -> tuple[pd.DataFrame, dict[str, Any]]:  # fmt: skip
    """Edges between nearest genes with their stability, and what else the entry of `uns` holds."""
    codes, sections = inputs.sections(source, batch_key)
    by_section = Z[None, genes]
    if batch_key is not None:
        by_section = _section_embeddings(source, key, sections)[:, genes]
    second, conditions = _two_conditions(source, condition_key, codes, sections)
    coords = section_coordinates(source, spatial_key, batch_key)
    edges = _edges(by_section, second, k)
    by_row, parts = X[:, genes].tocsr(), []
    for s in range(len(sections)):
        rows = np.flatnonzero(codes == s)
        parts.append(block_parts(by_row[rows].tocsc(), block_tiles(coords[rows])))
    a, b = edges.T
    kept = np.zeros(len(edges))
    drawn = np.empty((n_bootstraps, len(sections), len(edges)), dtype=np.float32)
    own = pairing.edge_codes(edges, len(genes))
    for i in range(n_bootstraps):
        again = pairing.bootstrapped(parts, rng)
        joined = np.concatenate(again, axis=1)
        found = pairing.edges_of(cosine_neighbors(joined, k)[0])
        kept += np.isin(own, pairing.edge_codes(found, len(genes)))
        for s, one in enumerate(again):
            drawn[i, s] = np.einsum("ij,ij->i", one[a], one[b])
    cosine = np.stack([np.einsum("ij,ij->i", z[a], z[b]) for z in by_section]).astype(np.float64)
    there = np.abs(by_section).sum(axis=2) > 0
    shown = there[:, a] & there[:, b]
    n_shown = np.maximum(shown.sum(axis=0), 1)
    score = np.where(shown, cosine, 0.0).sum(axis=0) / n_shown
    logged = log_normalized(X)
    used, place = np.unique(edges, return_inverse=True)
    plain, place = np.empty(len(edges)), place.reshape(edges.shape)
    images = unit_images(logged, genes[used], codes if batch_key is not None else None)
    for start in range(0, len(edges), 4096):
        i, j = place[start : start + 4096].T
        plain[start : start + 4096] = np.einsum("ij,ij->i", images[i], images[j])
    columns: dict[str, Any] = {
        "gene_a": names[genes[a]], "gene_b": names[genes[b]], "score": score,
        "stability": kept / n_bootstraps, "coexpression": plain,
    }  # fmt: skip
    extra: dict[str, Any] = {}
    if batch_key is not None:
        error = drawn.std(axis=0, ddof=1)
        share, p = pairing.heterogeneity(cosine, error, shown)
        square = np.where(shown, (cosine - score) ** 2, 0.0).sum(axis=0)
        spread = np.sqrt(square / np.maximum(n_shown - 1, 1))
        columns |= {
            "n_sections": shown.sum(axis=0), "score_sd": np.where(n_shown > 1, spread, np.nan),
            "i2": share, "heterogeneity_pval": p, "heterogeneity_qval": benjamini_hochberg(p),
        }  # fmt: skip
        extra["sections"] = sections
        if second is not None:
            change, p = pairing.contrast(cosine, error, shown, second)
            p = np.where(np.isfinite(change), p, np.nan)
            columns |= {
                "change": change, "change_pval": p, "change_qval": benjamini_hochberg(p),
            }  # fmt: skip
            extra["conditions"] = conditions
    table = pd.DataFrame(columns)
    return table.sort_values(["stability", "score"], ascending=False, kind="stable"), extra


def _edges(by_section: np.ndarray, second: np.ndarray | None, k: int) -> np.ndarray:
    """Nearest genes over all sections, and over those of each condition."""
    sides = [np.ones(len(by_section), dtype=bool)]
    if second is not None:
        sides += [second, ~second]
    found = []
    for side in sides:
        joined = np.concatenate(list(by_section[side]), axis=1)
        found.append(pairing.edges_of(cosine_neighbors(joined, k)[0]))
    return np.unique(np.concatenate(found), axis=0)


def _section_embeddings(source: AnnData, key: str, sections: list[str]) -> np.ndarray:
    """Embedding of each gene in each of the `sections` (n_sections, n_vars, d)."""
    entry = source.uns.get(key, {})
    name = "X_sections"
    if name not in entry:
        raise checks.missing(
            name,
            f"adata.uns[{key!r}]",
            entry,
            hint=f"Make it with ol.tl.{key}(adata, batch_key=...).",
        )
    stored = [str(s) for s in np.asarray(entry["sections"]).ravel()]
    for name in sections:
        if name not in stored:
            raise checks.missing(
                name,
                f"adata.uns[{key!r}]['sections']",
                stored,
                hint=f"Run ol.tl.{key}(adata, batch_key=...) with the same column.",
            )
    values = np.asarray(entry["X_sections"])
    # Genes go by name: `uns` does not follow when those of the object are put in another order.
    known = pd.Index(entry.get("genes", inputs.as_given(source).var_names)).astype(str)
    at = known.get_indexer(source.var_names.astype(str))
    if values.shape[1] != len(known) or (at < 0).any():
        msg = (
            f"adata.uns[{key!r}]['X_sections'] holds {values.shape[1]} genes, the object "
            f"{source.n_vars}, and not the same: run ol.tl.{key}(adata, batch_key=...) again."
        )
        raise ValueError(msg)
    values = values[:, at]
    return np.stack([unit_rows(values[stored.index(name)]) for name in sections])


def _two_conditions(
    source: AnnData, key: str | None, codes: np.ndarray, sections: list[str]
) -> tuple[np.ndarray | None, list[str]]:
    """Which sections are in the second of two conditions, and the condition of each."""
    if key is None:
        return None, []
    column = np.array([str(v) for v in inputs.obs_column(source, key, argument="condition_key")])
    of_section = [sorted(set(column[codes == s].tolist())) for s in range(len(sections))]
    for name, found in zip(sections, of_section, strict=True):
        if len(found) > 1:
            msg = (
                f"Section {name!r} must have one condition in adata.obs[{key!r}]; it has "
                f"{checks.listed(found)}."
            )
            raise ValueError(msg)
    conditions = [found[0] for found in of_section]
    both = sorted(set(conditions))
    if len(both) != 2:
        msg = (
            f"condition_key={key!r} must tell two conditions apart; there are "
            f"{checks.listed(both)}."
        )
        raise ValueError(msg)
    return np.array([c == both[1] for c in conditions]), conditions
