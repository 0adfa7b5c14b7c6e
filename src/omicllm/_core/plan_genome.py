"""What verbs on sequences and genotypes cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.checks import missing
from omicllm._core.plan import Cost
from omicllm._core.plan_sizes import sizes_of

if TYPE_CHECKING:
    from omicllm._core.plan_sizes import Sizes

#: As in `tl._twas_inputs`, `tl._few_shot` and `genome.kernel_classifier`; a test compares them.
LENGTH, SHOTS, MOST = 49_152, (10, 50, 100, 500, 1000), 300


def _sequences(frame: Any, key: str, where: str) -> list[str]:
    if key not in frame:
        raise missing(key, where, frame)
    return [v for v in np.asarray(frame[key]).tolist() if isinstance(v, str)]


def kmer_counts(s: Sizes | None, p: dict[str, Any]) -> Cost:
    """`pp.kmer_counts`, of sequences or of a FASTA."""
    k = p["k"]
    words = 4.0**k
    if p["fasta"] is not None:
        path = Path(p["fasta"])
        size = float(path.stat().st_size) * (4 if path.suffix == ".gz" else 1)
        return Cost(
            "pp.kmer_counts:fasta", {"one": 1.0, "bases": size * k, "words": words},
            {"one": 2.0**20, "words": 8 * words, "block": min(size, 2.0**22)},
            path=["the file is read once, as a stream"], advice=["lower k="],
        )  # fmt: skip
    assert s is not None
    texts = _sequences(s.adata.obs, p["sequence_key"], "adata.obs")
    bases = float(sum(map(len, texts)))
    lengths = k if p["all_lengths"] else 1
    held = sum(
        min(bases, len(texts) * 4.0**j) for j in (range(1, k + 1) if p["all_lengths"] else (k,))
    )
    lazy = "" if s.kind != "dask" else ", on the dask client when there is one"
    return Cost(
        "pp.kmer_counts",
        {"one": 1.0, "bases": bases * lengths, "rows": len(texts), "words": words},
        {
            "one": 2.0**20, "counts": 8 * held, "letters": bases, "words": 100 * words,
            "part": min(bases, 2.0**22) * 8,
        },
        path=[f"sequences in parts of 4 million bases{lazy}"],
        advice=["lower k=", "count a FASTA as a stream with fasta="],
    )  # fmt: skip


def _trunk(model: Any) -> tuple[float, float, float]:
    """Parameters, bases of a bin and width of a genome model that is loaded."""
    if not (hasattr(model, "embed") and hasattr(model, "parameters")):
        msg = (
            "The cost of a genome model follows from its size: pass the loaded trunk as model= "
            "(for example ol.nn.Enformer.from_pretrained(folder)), not a name or folder."
        )
        raise TypeError(msg)
    return (
        float(sum(v.numel() for v in model.parameters())), float(getattr(model, "bin_size", 1)),
        float(model.dim),
    )  # fmt: skip


def _passes(variant: str, rows: float, length: float, p: dict[str, Any], path: list[str]) -> Cost:
    """Forward passes of a trunk over distinct sequences."""
    weights, bin_size, dim = _trunk(p["model"])
    strands = 2 if p["both_strands"] else 1
    bases = rows * strands * length
    bins = length / bin_size
    batch = min(float(p["batch_size"]), rows)
    return Cost(
        variant,
        {
            "one": 1.0, "weights": bases / bin_size * weights, "bases": bases * dim,
            "attention": rows * strands * bins * bins * dim, "rows": rows,
        },
        {
            "one": 2.0**20, "bases": 4 * batch * length * dim, "attention": 4 * batch * bins**2,
            "tokens": rows * length, "out": 4 * rows * dim,
        },
        path=[
            f"{rows * strands:,.0f} forward passes over {length:,.0f} bases", *path,
            f"{weights / 1e6:.1f} million weights",
        ],
        advice=[
            "lower batch_size=: activations follow it", "shorten sequences with length=",
            "run one strand with both_strands=False", "use precision='bf16' on a GPU",
        ],
        on_gpu=True,
    )  # fmt: skip


def _length(model: Any, longest: float, asked: int | None) -> float:
    step = float(getattr(model, "length_multiple", 1))
    return float(asked) if asked else -(-longest // step) * step


def embed_sequences(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.embed_sequences`."""
    texts = _sequences(s.adata.obs, p["sequence_key"], "adata.obs")
    length = _length(p["model"], max(map(len, texts), default=0), p["length"])
    return _passes("tl.embed_sequences", float(len(set(texts))), length, p, [])


def embed_genes(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.embed_genes`."""
    var = s.adata.var
    if p["genome"] is None:
        texts = _sequences(var, p["sequence_key"], "adata.var")
        rows, longest = len({t for t in texts if t}), max(map(len, texts), default=0)
    else:
        start, end = (f"{p['window_key']}_{c}" for c in ("start", "end"))
        if start not in var:
            raise missing(start, "adata.var", var, hint="Make it with ol.pp.gene_windows.")
        rows = s.m
        longest = int((np.asarray(var[end]) - np.asarray(var[start])).max())
    length = _length(p["model"], float(longest), p["length"])
    return _passes("tl.embed_sequences", float(rows), length, p, [])


def embed_people(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.embed_people`: at most one pass for each haplotype and gene."""
    people = s.adata.mod[p["rna"]]
    start, end = (f"{p['window_key']}_{c}" for c in ("start", "end"))
    if start not in people.var:
        raise missing(start, "rna.var", people.var, hint="Make it with ol.pp.gene_windows.")
    longest = float((np.asarray(people.var[end]) - np.asarray(people.var[start])).max())
    genes = p["genes"]
    n_genes = people.n_vars if genes is None else 1 if isinstance(genes, str) else len(genes)
    rows = 2.0 * people.n_obs * n_genes
    note = ["at most: equal haplotypes are run once"]
    cost = _passes("tl.embed_sequences", rows, float(p["length"] or longest), p, note)
    cost.advice.append("name fewer genes=")
    return cost


def twas(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.twas`, fitted models."""
    people, variants = s.adata.mod[p["rna"]], s.adata.mod[p["geno"]]
    models = [p["model"] or "enet"] if isinstance(p["model"] or "enet", str) else list(p["model"])
    windows = [p["window"]] if p["window"] is None or np.ndim(p["window"]) == 0 else p["window"]
    inner = 1 + (p["n_folds"] if len(windows) > 1 else 0)
    k = np.concatenate([_in_window(people, variants, w, p["window_key"]) for w in windows])
    k = np.minimum(k, variants.n_vars).astype(float)
    n, n_genes = float(people.n_obs), float(people.n_vars)
    train = n
    if p["split_key"] in people.obs:
        split = np.asarray(people.obs[p["split_key"]]).astype(str)
        train = float((split == "train").sum())
    runs = float(inner)
    variant = "tl.twas"
    if p["weights"] is not None:
        variant, models, runs = "tl.twas:weights", [], 0.0
    genotypes = sizes_of(variants)
    small = np.minimum(k, train)
    seconds = {
        "one": 1.0, "stored": genotypes.nnz, "dosage": n * k.sum(), "genes": runs * len(k),
        "related": runs * float((train * train * k + train**3).sum()),
        **dict.fromkeys(("top1", "blup", "enet", "gram", "paths", "lasso", "bslmm"), 0.0),
    }  # fmt: skip
    for m in models:
        if m in ("enet", "lasso"):
            seconds[m] += runs * float((k * small).sum()) * (p["n_folds"] + 1)
            seconds["gram"] += runs * float((k * k * train).sum())
            seconds["paths"] += runs * len(k) * (p["n_folds"] + 1)
        elif m == "bslmm":
            seconds[m] += runs * p["n_iter"] * float(k.sum())
        else:
            seconds[m] += runs * train * float(k.sum())
    most = float(k.max(initial=0.0))
    memory = {
        "one": 2.0**20, "stored": 8 * genotypes.nnz, "expression": 8 * n * n_genes,
        "square": 8 * most * most * (p["n_folds"] + 2), "dosage": 8 * n * most,
        "related": 8 * train**2, "variants": 100.0 * variants.n_vars,
        "out": 4 * n * n_genes * max(1, len(models)),
    }  # fmt: skip
    return Cost(
        variant, seconds, memory, 0.0, genotypes.nnz * genotypes.outside,
        [
            f"{int(n_genes):,} genes with up to {most:,.0f} variants, {train:,.0f} training people",
            "genotypes are held sparse in memory, one gene at a time is dense",
        ],
        [
            "shorten window=: time and memory follow the square of the variants in it",
            "raise min_af=", "fit fewer models: model='blup' is the cheapest, 'bslmm' the dearest",
            "fit parts of the genes in several jobs",
        ],
    )  # fmt: skip


def _in_window(people: Any, variants: Any, window: int | None, key: str) -> np.ndarray:
    """Variants in the window of each gene."""
    var = people.var
    if window is None and f"{key}_start" in var:
        chrom, start, end = (np.asarray(var[f"{key}_{c}"]) for c in ("chrom", "start", "end"))
    elif {"chrom", "tss"} <= set(var.columns):
        half = (window or LENGTH) // 2
        chrom, site = np.asarray(var["chrom"]), np.asarray(var["tss"])
        start, end = site - half, site + half
    else:
        return np.full(people.n_vars, variants.n_vars)
    out = np.zeros(people.n_vars)
    of_variant, pos = np.asarray(variants.var["chrom"]), np.asarray(variants.var["pos"])
    for c in np.unique(chrom.astype(str)):
        here, there = chrom.astype(str) == c, np.sort(pos[of_variant.astype(str) == c])
        out[here] = np.searchsorted(there, end[here]) - np.searchsorted(there, start[here])
    return out


def few_shot(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.few_shot` with the plain models."""
    obs = s.adata.obs
    texts = _sequences(obs, p["sequence_key"], "adata.obs")
    length = float(np.mean([len(t) for t in texts])) if texts else 0.0
    split = np.asarray(obs[p["split_key"]]).astype(str)
    labels = np.asarray(obs[p["labels_key"]]).astype(str)
    train = np.char.startswith(split.astype("U"), "train")
    classes, sizes = np.unique(labels[train], return_counts=True)
    shots = p["shots"]
    if shots is None:
        shots = [n for n in SHOTS if n <= sizes.min()] or [SHOTS[0]]
    shots = np.atleast_1d(shots).astype(float)
    tested = float((split == p["test"]).sum())
    given = p["models"] or ()
    names = [given] if isinstance(given, str) else list(given)
    variant = "tl.few_shot"
    if any(not isinstance(n, str) or n != "kernels" for n in names):
        variant = "tl.few_shot:trained models"
    kernels = 1.0 if "kernels" in names else 0.0
    rows = shots * len(classes)
    draws = float(p["n_draws"])
    few = np.minimum(rows, MOST)
    seconds = {
        "one": 1.0, "draws": draws * len(shots), "fits": kernels * draws * len(shots),
        "tested": draws * len(shots) * tested * length,
        "trained": draws * float((rows * length).sum()),
        "between": kernels * draws * float((rows * (tested + rows)).sum()) * length,
        "solved": kernels * draws * float((rows**3 + few**3).sum()),
        "solved_test": kernels * draws * float((rows**2 * tested).sum()),
    }  # fmt: skip
    most = float(rows.max())
    memory = {
        "one": 2.0**20, "tested": tested * length * 84.0, "trained": most * length * 84.0,
        "between": 8 * most * (tested + most), "letters": length * (tested + most),
    }  # fmt: skip
    return Cost(
        variant, seconds, memory,
        path=[f"{draws * len(shots):.0f} draws of up to {most:.0f} sequences, {tested:.0f} tested"],
        advice=["lower shots= or n_draws=", "test on fewer rows"],
    )  # fmt: skip


def motifs(s: Sizes, p: dict[str, Any]) -> Cost:
    """`tl.motifs` from sequences alone."""
    texts = _sequences(s.adata.obs, p["sequence_key"], "adata.obs")
    rows = float(min(len(texts), p["max_sequences"] or len(texts)))
    rows *= 2 if p["labels_key"] is None else 1
    length = float(max(map(len, texts), default=0))
    strands = 2 if p["both_strands"] else 1
    cells = rows * length
    looks = float(p["n_motifs"]) * strands
    return Cost(
        "tl.motifs" + ("" if p["method"] == "denovo" else f":{p['method']}"),
        {
            "one": 1.0, "grown": looks * cells * p["width"], "seeds": looks * cells,
            "motifs": p["n_motifs"],
        },
        {"one": 2.0**20, "scores": 8 * cells * strands, "letters": float(sum(map(len, texts)))},
        path=[f"{rows:.0f} sequences of up to {length:.0f} bases"],
        advice=["lower max_sequences= or n_motifs="],
    )  # fmt: skip


MODELS = {
    "pp.kmer_counts": kmer_counts,
    **{
        f"tl.{f.__name__}": f
        for f in (embed_sequences, embed_genes, embed_people, twas, few_shot, motifs)
    },
}  # fmt: skip
