"""What tissue verbs cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.plan import Cost
from omicllm._core.plan_sizes import by_gene_groups, by_rows, in_memory

if TYPE_CHECKING:
    from omicllm._core.plan_sizes import Sizes

#: As in `model._sigel_parts`, `stats.spectrum`, `tl._domain_ensemble`, `tl._impute_genes` and
#: `stats.imputation`; a test compares them.
MAX_PIXELS, WHOLE, WARD, FIT = 16_384, 4_000, 1_200, 20_000
AXES, CLASSES, STACK_BYTES, PREDICTORS = 512, 50, 512 * 2**20, 10
FEW_PAIRS, DRAWS = 60.0, 40_000


def pixels(n: int, most: int = MAX_PIXELS) -> tuple[float, int]:
    """Pixels of the gene images of n spots that fill a grid, and side of the patch pooled."""
    side = 1
    while n / side**2 > most:
        side += 1
    return n / side**2, side


def axes(g: float, p: float, folds: int = 5, k: int = AXES) -> dict[str, float]:
    """Work of :func:`omicllm.stats.spectrum.cross_validated_axes` on g genes and p pixels."""
    folds = int(min(folds, max(2, g // 4)))
    k = int(max(1, min(k, p, g - -(-g // folds) - 1)))
    if g <= WHOLE and g < p:
        product, memory = 2 * g * g * p + 4 * g * g * k + 2 * g * p * k, 8 * g * g * 5
        solved, drawn = g**3 * (1 + folds * (1 - 1 / folds) ** 3), g * p * (2 + g / 4096)
    elif p <= WHOLE:
        product, memory = 2 * g * p * p + 2 * folds * p * p * k, 4 * p * p * (folds + 5)
        solved, drawn = (folds + 1) * p**3, g * p
    else:
        steps = min(folds, 3) + 1
        product, memory = steps * 6 * 4 * g * p * (k + 20), 4 * p * (k + 20) * 5
        solved, drawn = steps * 5 * 4 * p * (k + 20) ** 2, steps * 6 * g * p
    size = g if g <= WHOLE and g < p else p
    # Large matrices do not lie in the cache of the processor: their eigenvectors cost more.
    spilled = solved * max(0.0, 1.0 - 1000.0 / size) if size <= WHOLE else 0.0
    return {
        "spilled": spilled, "k": k, "product": product, "solved": solved, "drawn": drawn,
        "square": memory, "block": 4 * min(g, 2048) * p * 3,
    }  # fmt: skip


def pooled(s: Sizes) -> float:
    """Values stored once spots are pooled into pixels, if they are spread evenly."""
    cells = pixels(s.n)[0] * s.m
    if pixels(s.n)[1] == 1:
        return s.nnz
    return float(cells * (1.0 - np.exp(-s.nnz / max(cells, 1.0))))


def _pooling(n: int) -> list[str]:
    p, side = pixels(n)
    if side == 1:
        return [f"gene images of about {n:,} pixels"]
    return [f"gene images pooled {side} x {side} to about {p:,.0f} pixels"]


_READ = (
    "read the file with backed='r' or anndata.experimental.read_lazy: X then takes no memory "
    "beside the copy that is made",
)


def _sigel(s: Sizes, k_mixture: float | None) -> tuple[dict[str, float], dict[str, float], int]:
    """Seconds and memory of fitting the default encoder."""
    p, g = pixels(s.n)[0], s.m
    a = axes(g, p)
    k, d = a["k"], min(128, a["k"])
    n_mix = k_mixture if k_mixture is not None else min(max(round(g / 25), 2), 500)
    seconds = {
        "one": 1.0, "stored": s.nnz, "pooled": pooled(s), "product": a["product"] + 8 * g * p * k,
        "solved": a["solved"], "spilled": a["spilled"], "drawn": a["drawn"] + 4 * g * p,
        "pairs": float(min(g, 8000)) ** 2 * d + g * n_mix * d,
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "stored": 8 * s.nnz, "pooled": 8 * pooled(s), "square": a["square"],
        "block": a["block"], "axes": 4 * p * k, "genes": 4 * g * (3 * k + n_mix),
    }  # fmt: skip
    return seconds, memory, int(p)


def sigel(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.sigel`."""
    variant = "tl.sigel" + (f":preset={p['preset']}" if p["preset"] else "")
    seconds, memory, n_pixels = _sigel(s, p["n_clusters"])
    seconds["epochs"] = float(p["max_epochs"] or 0) * s.m * n_pixels * min(AXES, s.m)
    extra, how = in_memory(s)
    d = min(128, s.m)
    n_sections = len(s.parts(p["batch_key"]))
    if p["batch_key"]:
        extra += 4.0 * n_sections * s.m * d
    path = [*how, *_pooling(s.n)]
    if p["umap"]:
        path.append("umap=True is not counted: 5 to 20 s the first time, mostly compilation")
    advice = [] if s.outside else list(_READ)
    advice.append("leave out genes with few counts: memory and time follow the number of genes")
    return Cost(variant, seconds, memory, extra, s.nnz * s.outside, path, advice, on_gpu=True)


def spatially_variable_genes(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.spatially_variable_genes`, both methods."""
    if p["method"] == "moran":
        edges = s.edges(p["connectivity_key"])
        values, held, how = by_gene_groups(s)
        made = 0.0 if p["connectivity_key"] in s.adata.obsp else float(s.n)
        # Genes in few spots are calibrated by permuted images. How many there are is guessed from
        # the share of values stored: as if exponential over genes, fewer being rare where dense.
        least = float(np.sqrt(FEW_PAIRS / max(1.0, edges / 2)))
        share = max(s.nnz, 1.0) / (float(s.n) * s.m)
        few = s.m * (1.0 - float(np.exp(-least / share * (1.0 - share) ** 2)))
        draws = few * min(max(DRAWS / max(few, 1.0), 2.0), 200.0)
        seconds = {
            "one": 1.0, "graph": made, "observations": s.n, "genes": s.m, "stored": s.nnz,
            "edges": s.nnz * edges / s.n, "few": draws,
            "drawn": draws * s.n, "values": draws * least * s.n,
        }  # fmt: skip
        memory = {
            "one": 2.0**20, "edges": 16 * edges, "group": held, "genes": 64.0 * s.m,
            "graph": 64 * made, "piece": 8.0 * s.n * min(s.m, 16 if s.n > 10_000 else 256),
            "few": 12 * few * least * s.n,
        }  # fmt: skip
        advice = ["lower ol.settings.block_bytes: groups of genes get smaller, passes more"]
        return Cost("tl.spatially_variable_genes:moran", seconds, memory, 0.0, values, how, advice)
    n_pixels = pixels(s.n)[0]
    a = axes(s.m / 2, n_pixels, folds=2)
    extra, how = in_memory(s)
    kinds = 2 if p["null"] == "permuted" and p["input"] == "counts" else 1
    images = 2 * min(CLASSES, max(1, s.m // 20)) * p["n_null"] * kinds
    seconds = {
        "one": 1.0, "stored": s.nnz, "pooled": pooled(s), "product": 2 * a["product"],
        "solved": 2 * a["solved"], "spilled": 2 * a["spilled"],
        "drawn": 2 * a["drawn"] + s.m * n_pixels, "null": images * n_pixels,
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "stored": 8 * s.nnz, "pooled": 8 * pooled(s), "square": a["square"],
        "block": a["block"], "axes": 8 * n_pixels * a["k"],
    }  # fmt: skip
    advice = [
        "use method='moran': it needs no null images, and reads groups of genes",
        "lower n_null=", "use n_jobs=: null images are drawn by threads",
    ]  # fmt: skip
    return Cost(
        "tl.spatially_variable_genes:sigel", seconds, memory, extra, s.nnz * s.outside,
        [*how, *_pooling(s.n), f"{images:,} null images"], advice,
    )  # fmt: skip


def spatial_domains(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.spatial_domains`, the built-in method."""
    variant = "tl.spatial_domains" + (":spagcn" if p["method"] == "spagcn" else "")
    d, k = max(p["dims"]), p["n_domains"]
    members = len(p["dims"]) * len(p["factors"]) * p["n_starts"]
    n_used = min(p["n_genes"], s.m)
    given = p["use_rep"] is not None
    nnz = 0.0 if given else s.nnz
    extra, how = (0.0, ["components are taken from obsm"]) if given else in_memory(s)
    n_fit = min(s.n, FIT)
    bag = max(k, min(int(0.8 * n_fit), WARD))
    seconds = {
        "one": 1.0, "stored": nnz, "components": nnz * d, "smoothing": s.n * float(d),
        "mixtures": members * n_fit * float(d) * (d + k), "labels": members * s.n * float(d) * k,
        "starts": members * float(bag) ** 2 * d, "votes": members * float(s.n) * k,
        "genes": 0.0 if given else s.m * float(n_used),
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "stored": 12 * nnz, "components": 8.0 * s.n * d,
        "members": 8.0 * s.n * members, "starts": 8.0 * bag**2, "labels": 8.0 * s.n * k,
    }  # fmt: skip
    advice = [] if s.outside or given else list(_READ)
    advice += [
        "give components with use_rep=: X is then not read", "lower n_genes=, dims= or n_starts=",
    ]  # fmt: skip
    return Cost(variant, seconds, memory, extra, nnz * s.outside, how, advice)


def impute_genes(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.impute_genes`, both methods."""
    reference = p["reference"]
    own, known = set(map(str, s.adata.var_names)), list(map(str, reference.var_names))
    asked = p["genes"]
    if asked is None:
        q, shared = sum(g not in own for g in known), sum(g in own for g in known)
    else:
        wanted = {asked} if isinstance(asked, str) else set(map(str, asked))
        q, shared = len(wanted), sum(g in own and g not in wanted for g in known)
    shared = min(shared, p["max_shared"])
    r = min(reference.n_obs, p["max_reference"])
    stack = p["method"] == "sigel"
    most = max(2000, STACK_BYTES // max(1, 4 * shared * PREDICTORS))
    cells = min(s.n, p["max_cells"], most)
    folds = p["n_folds"]
    seconds = {
        "one": 1.0, "stored": s.nnz, "folds": folds * float(cells) * r * max(1, shared),
        "near": (folds * cells + s.n) * float(r), "targets": s.n * float(r) * q,
        "cells": s.n * float(q), "square": folds * float(shared) ** 2 * r + shared**4,
        "solved": (folds + 1) * float(r) ** 3,
    }  # fmt: skip
    if not stack:
        seconds |= {"folds": folds * float(cells) * r, "targets": 0.0, "solved": 0.0}
    memory = {
        "one": 2.0**20, "shared": 4.0 * s.n * shared, "reference": 4.0 * r * (shared + q),
        "stack": 4.0 * cells * shared * (PREDICTORS if stack else 2),
        "block": float(min(2**28, 4 * s.n * (3 * r + 6 * max(shared, q)))),
        "scores": 8.0 * cells * shared, "kernel": 8.0 * r * r * stack,
    }  # fmt: skip
    how = [
        *(by_rows(s) or ["shared genes are copied dense, cell by cell"]),
        f"{shared:,} shared genes, {q:,} to impute, {r:,} reference cells",
    ]
    advice = [
        "name fewer genes= to impute: three arrays of cells x genes are written",
        "lower max_reference=, max_cells= or max_shared=",
        "use method='knn' for the plain baseline",
    ]  # fmt: skip
    return Cost(
        f"tl.impute_genes:{p['method']}", seconds, memory, 12.0 * s.n * q, s.nnz * s.outside, how,
        advice,
    )  # fmt: skip


def pattern_genes(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.pattern_genes`, by an encoder that is fitted, and by the embedding."""
    if p["like"] is not None:
        d = s.width("varm", f"X_{p['key']}")
        return Cost(
            "tl.pattern_genes:like", {"one": 1.0, "genes": s.m * float(d)},
            {"one": 2.0**20, "genes": 12.0 * s.m * d},
            path=["the embedding is used, X is not read"], advice=["name another key="],
        )  # fmt: skip
    seconds, memory, n_pixels = _sigel(s, 1.0)
    made = (p["n_null"] + 1.0) * (2 if p["levels"] is not None else 1)
    seconds |= {"made": made * s.n, "shown": (s.m + made) * n_pixels * min(AXES, s.m)}
    memory |= {"made": 8 * made * s.n}
    extra, how = in_memory(s)
    path = [*how, *_pooling(s.n)]
    saved = p["model"] is not None or bool(dict(s.adata.uns.get(p["key"], {})).get("model_dir"))
    if not saved:
        path.append("no saved model: an encoder is fitted in memory")
    advice = ["lower n_null=", "save a model once with ol.tl.sigel(save=) and pass model="]
    return Cost(
        "tl.pattern_genes", seconds, memory, extra, s.nnz * s.outside, path, advice, on_gpu=True
    )


def gene_functions(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.gene_functions`."""
    sets = p["gene_sets"]
    n_sets = len(sets) if hasattr(sets, "__len__") and not isinstance(sets, str) else 1000
    g, n = float(s.m), float(s.n)
    extra, how = in_memory(s)
    seconds = {
        "one": 1.0, "stored": s.nnz, "images": g * n, "products": g * g * n,
        "votes": g * n_sets * p["n_folds"],
    }  # fmt: skip
    memory = {"one": 2.0**20, "stored": 8 * s.nnz, "images": 4 * g * n, "votes": 8 * g * n_sets}
    return Cost(
        "tl.gene_functions", seconds, memory, extra, s.nnz * s.outside,
        [*how, "co-expression, the baseline, holds all genes as dense images"],
        ["leave out genes without an embedding, or pool spots: images of all genes are dense"],
    )  # fmt: skip


def gene_interactions(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.gene_interactions`: a network, or known pairs."""
    d = float(s.width("varm", f"X_{p['key']}"))
    g, n = float(s.m), float(s.n)
    extra, how = in_memory(s)
    memory = {"one": 2.0**20, "stored": 8 * s.nnz, "images": 4 * g * n, "genes": 4 * g * d}
    seconds = {"one": 1.0, "stored": s.nnz, "images": g * n}
    if p["known_pairs"] is not None:
        runs = float(p["n_folds"] * p["n_repeats"])
        seconds |= {"fits": runs * len(p["known_pairs"]) * d, "near": g * g * d}
        variant = "tl.gene_interactions:known"
    else:
        n_sections = len(s.parts(p["batch_key"]))
        seconds |= {
            "near": (p["n_bootstraps"] + 1) * g * g * 64 * n_sections, "parts": g * n * 64,
            "drawn": p["n_bootstraps"] * g * n_sections * 64 * 100,
        }  # fmt: skip
        memory["parts"] = 4 * g * 64 * 100 * n_sections
        variant = "tl.gene_interactions:network"
    return Cost(
        variant, seconds, memory, extra, s.nnz * s.outside,
        [*how, "co-expression, the baseline, holds genes of edges as dense images"],
        ["lower n_bootstraps=", "raise min_count= or take fewer genes: their images are dense"],
    )  # fmt: skip


def compare_genes(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.compare_genes`."""
    sections = s.parts(p["batch_key"])
    by_section = len(sections) > len(s.parts(p["condition_key"]))
    splits = 1 if by_section else p["n_splits"]
    units = len(sections) * (1 if by_section else 2)
    g = float(s.m)
    rows = sections if by_section else np.repeat(sections / 2, 2)
    solved = sum(min(g, float(r)) ** 3 for r in rows) * splits
    product = sum(g * float(r) * min(g, float(r)) for r in rows) * splits
    extra, how = in_memory(s)
    seconds = {
        "one": 1.0, "stored": s.nnz, "drawn": splits * g * float(rows.sum()), "product": product,
        "solved": solved, "labels": splits * float(p["n_permutations"]) * g * units**2,
        "units": splits * units * min(g, p["n_anchors"]) * 64.0**2,
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "stored": 8 * s.nnz, "block": 4 * min(g, 2048.0) * float(rows.max()) * 3,
        "square": 8 * max(min(g, float(r)) ** 2 for r in rows), "units": 4 * units * g * 64 * 3,
        "labels": 8 * g * min(p["n_permutations"], 2.0**units) + 8 * units**2 * g,
    }  # fmt: skip
    test = "over sections" if by_section else "over spatial blocks of sections"
    return Cost(
        "tl.compare_genes", seconds, memory, extra, s.nnz * s.outside, [*how, f"test {test}"],
        ["raise min_count=: fewer genes are tested", "lower n_permutations= or n_splits="],
    )  # fmt: skip


def gene_views(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.gene_views`."""
    names = [p["views"]] if isinstance(p["views"], str) else list(p["views"])
    widths = [s.width("varm", str(v)) for v in names]
    g, v = float(s.m), len(widths)
    pairs, d = v * (v - 1) / 2, float(p["n_components"])
    seconds = {
        "one": 1.0, "bases": g * sum(float(w) ** 2 for w in widths) * (p["n_folds"] + 1),
        "near": v * g * g * d, "permuted": (p["n_permutations"] + 1.0) * pairs * g * d * d,
        "lists": (p["n_permutations"] + 1.0) * pairs * g * p["n_neighbors"],
    }  # fmt: skip
    memory = {
        "one": 2.0**20, "views": 8 * g * sum(widths), "near": 8 * min(g, 4096.0) * g,
        "scores": 8 * v * g * d * p["n_folds"],
    }  # fmt: skip
    return Cost(
        "tl.gene_views",
        seconds,
        memory,
        path=["views are used, X is not read"],
        advice=["lower n_permutations= or n_components="],
    )


def project_genes(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.project_genes`."""
    d = float(s.width("varm", p["use_varm"]))
    passes = 2 if p["normalize"] else 1
    seconds = {
        "one": 1.0, "stored": s.nnz * passes, "products": s.nnz * d, "rows": s.n * d,
    }  # fmt: skip
    rows = min(1.0, 2.0**28 / (8.0 * s.m * s.n))
    memory = {
        "one": 2.0**20, "places": 8.0 * s.n * d, "block": 8 * s.nnz * rows, "genes": 8.0 * s.m * d,
    }  # fmt: skip
    return Cost(
        "tl.project_genes", seconds, memory, 0.0, s.nnz * s.outside * passes,
        by_rows(s) or ["walked over in blocks of rows"],
        ["lower ol.settings.block_bytes: blocks of rows get smaller"],
    )  # fmt: skip


MODELS = {
    f"tl.{f.__name__}": f
    for f in (
        sigel, spatially_variable_genes, spatial_domains, impute_genes, pattern_genes,
        gene_functions, gene_interactions, compare_genes, gene_views, project_genes,
    )
}  # fmt: skip
