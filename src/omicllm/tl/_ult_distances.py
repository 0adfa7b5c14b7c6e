"""`omicllm.tl.ult_distances`: agreement of distances between strings and between profiles."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial.distance import pdist, squareform

from omicllm._core import checks, docs, inputs, memory, results
from omicllm._core import rng as rngs
from omicllm.codec import distances
from omicllm.stats.mantel import mantel
from omicllm.tl._ult_stored import layer_of, stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from omicllm.tl._ult_stored import Stored

METRICS = ("level", "hamming", "levenshtein", "indel")
#: Pairs kept for plots.
_PAIRS = 2000


@docs.fill()
def ult_distances(
    adata: AnnData | MuData,
    *,
    key: str = "ult",
    metrics: str | Sequence[str] = ("level", "hamming", "levenshtein"),
    layer: str | None = None,
    n_sample: int | None = 200,
    n_permutations: int = 999,
    formula: Literal["mantel", "reference"] = "mantel",
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Correlate distances between strings with Euclidean distances between profiles.

    Correlations are over pairs of different observations; p values come from permuting the
    observations (Mantel), since pairs are not independent.

    Parameters
    ----------
    {adata}
    key
        Root of the strings.
    metrics
        ``"level"`` (Euclidean, between levels), ``"hamming"`` (share of places that differ),
        ``"levenshtein"`` (edit distance over the longer length), ``"indel"`` (edit distance
        without replacement over the sum of lengths). The last two take time in proportion to the
        number of pairs and the square of the length.
    layer
        Layer with the profiles; by default the one that was encoded.
    n_sample
        Observations drawn; None for all.
    n_permutations
        Relabellings for the p value.
    formula
        ``"mantel"``, or ``"reference"``: the published statistic, which correlates a distance with
        a similarity over two matrices that keep their diagonal and a triangle of zeros. It is
        large whatever the strings, and given only for comparison, with a warning.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["ult_distances"]``
        ``table``: metric, pearson, pearson_pval, spearman, spearman_pval, n_obs;
        ``pairs``: up to 2,000 pairs with their distances, for :func:`omicllm.pl.ult_distances`.

    Raises
    ------
    KeyError
        There are no strings of that name, or no such layer.
    ValueError
        Fewer than three observations; unknown metric; NaN in the profiles.
    MemoryError
        The distances of all pairs do not fit into memory.
    """
    checks.one_of("formula", formula, ("mantel", "reference"))
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    for metric in metrics:
        checks.one_of("metrics", metric, METRICS)
    n_permutations = checks.whole_number("n_permutations", n_permutations)
    found = stored(adata, key, mod)
    if found.method != "series":
        msg = f"Distances are for strings of profiles, not for method={found.method!r}."
        raise ValueError(msg)
    layer = layer_of(found, layer, mod)
    generator = rngs.generator(rng)
    rows = _sample(found, n_sample, generator)
    n, n_pairs = len(rows), len(rows) * (len(rows) - 1) // 2
    memory.check(
        "ol.tl.ult_distances",
        {
            "distances between strings and between profiles": ((2, n_pairs), "float64"),
            "the same as a square, and its rows and columns": ((2, n, n), "float64"),
        },
        instead="Draw fewer observations with n_sample=.",
    )
    profiles = pdist(_profiles(found.source, layer, rows))
    strings = [str(s) for s in found.strings[rows]]
    if formula == "reference":
        table, pairs = _reference(profiles, strings), None
    else:
        kept = _kept_pairs(len(profiles), generator)
        pairs = pd.DataFrame({"profile": profiles[kept]})
        lines = []
        for metric in metrics:
            between = _between(metric, strings, found)
            pairs[metric] = between[kept]
            line: dict[str, Any] = {"metric": metric}
            for method in ("pearson", "spearman"):
                score = mantel(
                    profiles, between, method=method, n_permutations=n_permutations, rng=generator
                )
                line[method], line[f"{method}_pval"] = score
            lines.append({**line, "n_obs": len(rows)})
        table = pd.DataFrame(lines)
    table.index = table.index.astype(str)
    if pairs is not None:
        pairs.index = pairs.index.astype(str)
    params = {
        "key": key, "metrics": metrics, "layer": layer, "n_sample": n_sample,
        "n_permutations": n_permutations, "formula": formula, "rng": rngs.recorded(rng),
    }  # fmt: skip
    result = results.Result(
        "tl.ult_distances", {}, params, {"table": table, "pairs": pairs}, key_added
    )
    return results.write(adata, result, mod=mod, copy=copy)


def _sample(found: Stored, n_sample: int | None, generator: np.random.Generator) -> np.ndarray:
    rows = np.flatnonzero([bool(s) for s in found.strings])  # empty where a modality is missing
    rows = rows[rngs.name_order(found.source.obs_names[rows])]
    if n_sample is not None:
        n_sample = checks.whole_number("n_sample", n_sample, at_least=3)
        if n_sample < len(rows):
            rows = generator.choice(rows, n_sample, replace=False)
    if len(rows) < 3:
        msg = f"At least three observations with a string are needed; there are {len(rows)}."
        raise ValueError(msg)
    return rows


def _profiles(source: AnnData, layer: str | None, rows: np.ndarray) -> np.ndarray:
    """Dense profiles of some observations, float64, read in blocks of rows."""
    X = inputs.matrix(source, layer)
    out = np.empty((len(rows), X.shape[1]))
    for start, block in inputs.row_blocks(X):
        here = np.flatnonzero((rows >= start) & (rows < start + block.shape[0]))
        chosen = block[rows[here] - start]
        out[here] = chosen.toarray() if sparse.issparse(chosen) else chosen
    inputs.refuse_large(out, inputs.place(layer))
    if not np.isfinite(out).all():
        bad = np.asarray(source.obs_names)[rows[~np.isfinite(out).all(axis=1)]]
        msg = f"{len(bad)} row(s) hold NaN or infinite values ({checks.listed(bad, most=5)})."
        raise ValueError(msg)
    return out


def _between(metric: str, strings: list[str], found: Stored) -> np.ndarray:
    if metric == "level":
        return distances.level(strings, found.table)
    separator = found.table.parameters.separator  # the same in all strings: no data
    return getattr(distances, metric)([s.replace(separator, "") for s in strings])


def _kept_pairs(n: int, generator: np.random.Generator) -> np.ndarray:
    if n <= _PAIRS:
        return np.arange(n)
    return np.sort(generator.choice(n, _PAIRS, replace=False))


def _reference(profiles: np.ndarray, strings: list[str]) -> pd.DataFrame:
    """The published statistic, errors included."""
    from scipy.stats import pearsonr

    warnings.warn(
        "formula='reference' correlates a distance with a similarity over matrices that keep a "
        "triangle of zeros: the value is large whatever the strings, and the p value takes pairs "
        "as independent. Use formula='mantel' to judge a coding.",
        UserWarning,
        stacklevel=4,
    )
    similarity = squareform(1 - distances.indel(strings))
    np.fill_diagonal(similarity, 1.0)
    upper = np.triu(squareform(profiles)).ravel(), np.triu(similarity).ravel()
    r, p = pearsonr(*upper, alternative="greater")
    line = {"metric": "reference", "pearson": float(r), "pearson_pval": float(p)}
    return pd.DataFrame([{**line, "n_obs": len(strings)}])
