"""Simulated inputs of the verbs that `ol.plan` predicts, for `fit_plan.py` and `bench_plan.py`.

A case says how to make an object of given sizes, how the verb is called on it, the sizes that the
constants are fitted to, and other sizes (the last one larger than all of them) they are judged by.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import omicllm as ol

if TYPE_CHECKING:
    from collections.abc import Callable


def section(
    n: int, m: int, density: float = 0.1, seed: int = 0, n_sections: int = 1, *, graph: bool = False
):
    """Square sections on a lattice: half of the genes follow smooth programs; counts, csr."""
    rng = np.random.default_rng(seed)
    per = n // n_sections
    side = int(np.ceil(np.sqrt(per)))
    parts, where = [], []
    abundance = rng.gamma(0.6, size=m) + 0.05
    program = np.where(np.arange(m) % 2, -1, np.arange(m) // 2 % 8)
    scale = None
    for _ in range(n_sections):
        row, col = np.divmod(np.arange(per), side)
        xy = np.stack([col, row], axis=1).astype(float)
        centre, width = rng.random((8, 2)), rng.uniform(0.1, 0.3, 8)
        away = ((xy[:, None] / side - centre) ** 2).sum(axis=2)
        level = np.column_stack([0.3 + 4 * np.exp(-away / (2 * width**2)), np.ones(per)])
        for start in range(0, per, 4000):
            rate = level[start : start + 4000][:, program] * abundance
            if scale is None:  # so that about this share of the values is not 0
                scale = 1.0
                for _ in range(20):
                    scale *= density / (1 - np.exp(-rate * scale)).mean()
            parts.append(sparse.csr_matrix(rng.poisson(rate * scale), dtype=np.float32))
        where.append(xy * 100)
    adata = ad.AnnData(
        sparse.vstack(parts, format="csr"),
        obs=pd.DataFrame(index=[f"s{i}" for i in range(per * n_sections)]),
        var=pd.DataFrame(index=[f"Gene{i}" for i in range(m)]),
    )
    adata.obs["slide"] = np.repeat([f"slide{i}" for i in range(n_sections)], per)
    adata.obs["condition"] = np.repeat([f"c{i % 2}" for i in range(n_sections)], per)
    adata.obsm["spatial"] = np.concatenate(where)
    if graph:
        import squidpy as sq

        sq.gr.spatial_neighbors(adata)
    return adata


def logged(adata):
    """The same with log-normalised values."""
    X = adata.X.copy()
    X.data = np.log1p(X.data)
    adata.X = X
    return adata


def embedded(n: int, m: int, d: int = 64, **more):
    """A section with an embedding of its genes and clusters."""
    adata = section(n, m, **more)
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(m, d)).astype(np.float32)
    adata.varm["X_sigel"] = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    adata.var["sigel_cluster"] = rng.integers(0, max(2, m // 25), m).astype(str)
    return adata


def paired(n: int, m: int, r: int, q: int):
    """A tissue and a reference that share m genes; q are to be imputed."""
    both = logged(section(n + r, m + q, density=0.2))
    reference = both[n:].copy()
    del reference.obsm["spatial"]
    return both[:n, :m].copy(), {"reference": reference}


def viewed(m: int, v: int, d: int = 64):
    """Views of m genes that share some axes."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sparse.csr_matrix((2, m), dtype=np.float32))
    Z = rng.normal(size=(m, 10))
    for i in range(v):
        own = Z @ rng.normal(size=(10, d)) + 2 * rng.normal(size=(m, d))
        adata.varm[f"X_{i}"] = own.astype(np.float32)
    return adata, {"views": [f"X_{i}" for i in range(v)]}


def cohort(n: int, m: int, density: float = 0.3, n_classes: int = 3, *, split: bool = False):
    """Labelled counts."""
    adata = section(n, m, density)
    adata.obs["kind"] = [f"k{i % n_classes}" for i in range(adata.n_obs)]
    if split:
        adata.obs["split"] = np.where(np.arange(adata.n_obs) % 4 == 0, "test", "train")
    return adata


def strings(n: int, m: int):
    """A cohort as strings."""
    adata = cohort(n, m)
    ol.tl.ult(adata)
    return adata


def stained(n: int, m: int, f: int = 84, n_sections: int = 2):
    """Sections with image features that say something about expression."""
    adata = section(n, m, n_sections=n_sections)
    rng = np.random.default_rng(0)
    shown = np.log1p(adata.X[:, : min(m, 40)].toarray()) @ rng.normal(size=(min(m, 40), f))
    adata.obsm["X_classical"] = (shown + rng.normal(size=shown.shape)).astype(np.float32)
    adata.obs["section"] = adata.obs["slide"]
    return adata


def dna(n: int, length: int, n_classes: int = 2):
    """Sequences in classes, one with planted words, half of them for tests."""
    rng = np.random.default_rng(0)
    letters = np.array(list("ACGT"))[rng.integers(0, 4, (n, length))]
    drawn = ["".join(row) for row in letters]
    words = ("TGACTCAG", "CCGGAAGT", "GATAAGCA", "CACGTGAC", "TTTCCGGA")
    for i in range(0, n, n_classes):
        at = 10 * (1 + i // n_classes % 3)
        drawn[i] = drawn[i][:at] + words[i // n_classes % 5] + drawn[i][at + 8 :]
    adata = ad.AnnData(obs=pd.DataFrame({"sequence": drawn}, index=[f"s{i}" for i in range(n)]))
    adata.obs["label"] = [f"c{i % n_classes}" for i in range(n)]
    adata.obs["split"] = ["train"] * (n // 2) + ["test"] * (n - n // 2)
    return adata


def people(n: int, n_genes: int, k: int):
    """People with k variants in the window of each gene."""
    import mudata as md

    rng = np.random.default_rng(0)
    n_variants = n_genes * k
    frequency = rng.uniform(0.1, 0.5, n_variants)
    pool = rng.random((max(20, n // 4), n_variants)) < frequency
    hap = pool[rng.integers(0, len(pool), (2, n))]
    dosage = hap.sum(axis=0)
    pos = (np.arange(n_variants) // k) * 1_000_000 + 10_000 + np.arange(n_variants) % k * 4
    names = [f"p{i}" for i in range(n)]
    var = pd.DataFrame({"chrom": "c", "pos": pos + 1, "ref": "A", "alt": "G"})
    var.index = [f"v{i}" for i in range(n_variants)]
    geno = ad.AnnData(
        sparse.csc_matrix(dosage.astype(np.float32)), obs=pd.DataFrame(index=names), var=var
    )
    Y = rng.normal(size=(n, n_genes)) + dosage[:, ::k][:, :n_genes] * 0.7
    genes = pd.DataFrame(
        {"chrom": "c", "tss": np.arange(n_genes) * 1_000_000 + 10_000 + 2 * k, "strand": "+"},
        index=[f"G{i}" for i in range(n_genes)],
    )
    rna = ad.AnnData(Y.astype(np.float32), obs=pd.DataFrame(index=names), var=genes)
    rna.obs["split"] = np.where(np.arange(n) % 5 == 0, "test", "train")
    return md.MuData({"rna": rna, "geno": geno})


def trunk(dim: int = 48, depth: int = 2):
    """A small Enformer whose bins have 32 bases."""
    import torch

    torch.manual_seed(0)
    return ol.nn.Enformer(
        dim=dim, depth=depth, heads=4, dim_divisible_by=12, num_downsamples=5, output_heads={}
    )


def stored(adata, how: str):
    """The same object backed by a file."""
    if how == "memory":
        return adata
    path = Path(tempfile.mkdtemp()) / "a.h5ad"
    adata.write_h5ad(path)
    return ad.read_h5ad(path, backed="r")


@dataclass
class Case:
    """A verb (or a variant of one) and the sizes it is run at."""

    verb: str
    make: Callable[..., Any]
    fit: list[dict[str, Any]]
    test: list[dict[str, Any]]
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Sizes that are arguments of the verb.
    args: tuple[str, ...] = ()

    def inputs(self, point: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The object and the arguments of a run."""
        sizes = {k: v for k, v in point.items() if k not in (*self.args, "how")}
        made = self.make(**sizes)
        data, more = made if isinstance(made, tuple) else (made, {})
        own = {k: v for k, v in point.items() if k in self.args}
        return stored(data, point.get("how", "memory")), {**self.kwargs, **more, **own}


def grid(*points: tuple[Any, ...], names: tuple[str, ...] = ("n", "m")) -> list[dict[str, Any]]:
    """Points as dicts."""
    return [dict(zip(names, p, strict=False)) for p in points]


def _with(points: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    return [{**p, **more} for p in points]


_NM = grid((400, 200), (900, 900), (2500, 400), (2500, 1500), (6000, 300), (6000, 1000),
           (12_000, 500), (20_000, 250))  # fmt: skip
_NM_TEST = grid((1500, 600), (4500, 700), (25_000, 800))

CASES = {
    "tl.sigel": Case(
        "tl.sigel",
        section,
        [
            *_NM,
            {"n": 1700, "m": 2000},
            {"n": 2300, "m": 3000},
            {"n": 3000, "m": 4500},
            {"n": 60_000, "m": 200},
            {"n": 100_000, "m": 80},
            {"n": 6000, "m": 400, "density": 0.4},
            {"n": 6000, "m": 1000, "how": "backed"},
        ],
        [*_NM_TEST, {"n": 8000, "m": 800, "how": "backed"}],
    ),
    "tl.spatially_variable_genes:moran": Case(
        "tl.spatially_variable_genes",
        section,
        [
            *_NM,
            {"n": 40_000, "m": 500},
            {"n": 6000, "m": 400, "density": 0.4},
            {"n": 40_000, "m": 500, "graph": True},
            {"n": 10_000, "m": 2000, "graph": True},
            {"n": 20_000, "m": 200, "density": 0.4, "graph": True},
            {"n": 40_000, "m": 600, "density": 0.4, "graph": True},
            {"n": 5000, "m": 3000, "density": 0.5, "graph": True},
            {"n": 20_000, "m": 500, "how": "backed"},
        ],
        [
            *_NM_TEST,
            {"n": 60_000, "m": 800, "graph": True},
            {"n": 12_000, "m": 800, "how": "backed"},
        ],
        {"method": "moran"},
    ),
    "tl.spatially_variable_genes:sigel": Case(
        "tl.spatially_variable_genes",
        section,
        [*_NM[:6], {"n": 12_000, "m": 400}, {"n": 2500, "m": 400, "n_null": 50}],
        grid((1500, 600), (4500, 700), (16_000, 600)),
        args=("n_null",),
    ),
    "tl.spatial_domains": Case(
        "tl.spatial_domains",
        section,
        [
            *_NM,
            {"n": 6000, "m": 300, "n_domains": 14},
            {"n": 6000, "m": 300, "n_starts": 2},
            {"n": 60_000, "m": 60},
            {"n": 20_000, "m": 250, "n_starts": 1},
        ],
        [*_NM_TEST, {"n": 100_000, "m": 60}],
        {"n_domains": 7},
        ("n_domains", "n_starts"),
    ),
    "tl.impute_genes:sigel": Case(
        "tl.impute_genes",
        paired,
        grid(
            (500, 40, 500, 20),
            (2000, 40, 800, 200),
            (2000, 150, 800, 40),
            (1000, 60, 2500, 40),
            (8000, 60, 600, 60),
            (4000, 100, 1500, 400),
            (16_000, 40, 500, 20),
            (3000, 40, 1000, 1500),
            (2500, 250, 2500, 50),
            names=("n", "m", "r", "q"),
        ),
        grid(
            (1000, 60, 700, 80),
            (3000, 80, 2000, 100),
            (20_000, 80, 1500, 300),
            names=("n", "m", "r", "q"),
        ),
    ),
    "tl.impute_genes:knn": Case(
        "tl.impute_genes",
        paired,
        grid(
            (500, 40, 500, 20),
            (2000, 40, 800, 200),
            (2000, 150, 800, 40),
            (1000, 60, 2500, 40),
            (8000, 60, 600, 60),
            (4000, 100, 1500, 400),
            (16_000, 40, 500, 20),
            (3000, 40, 1000, 1500),
            (2500, 250, 2500, 50),
            names=("n", "m", "r", "q"),
        ),
        grid(
            (1000, 60, 700, 80),
            (3000, 80, 2000, 100),
            (20_000, 80, 1500, 300),
            names=("n", "m", "r", "q"),
        ),
        {"method": "knn"},
    ),
    "tl.pattern_genes": Case(
        "tl.pattern_genes",
        lambda **k: ((a := section(**k)), {"mask": np.arange(a.n_obs) % 50 > 20}),
        [*_NM[:6], {"n": 2500, "m": 400, "n_null": 100}, {"n": 12_000, "m": 400}],
        grid((1500, 600), (4500, 700), (16_000, 600)),
        args=("n_null",),
    ),
    "tl.pattern_genes:like": Case(
        "tl.pattern_genes",
        embedded,
        grid((50, 500), (50, 5000), (50, 20_000)),
        grid((50, 2000), (50, 10_000), (50, 40_000)),
        {"like": "Gene1"},
    ),
    "tl.gene_functions": Case(
        "tl.gene_functions",
        lambda n, m, sets: (
            embedded(n, m),
            {
                "gene_sets": {
                    f"p{i}": [
                        f"Gene{j}"
                        for j in np.random.default_rng(i).choice(m, min(30, m // 4), replace=False)
                    ]
                    for i in range(sets)
                }
            },
        ),
        grid(
            (400, 300, 20),
            (2000, 300, 20),
            (2000, 1500, 20),
            (500, 1500, 200),
            (500, 3000, 50),
            (6000, 800, 50),
            (12_000, 300, 100),
            names=("n", "m", "sets"),
        ),
        grid((1000, 800, 50), (4000, 1000, 100), (10_000, 1500, 200), names=("n", "m", "sets")),
    ),
    "tl.gene_interactions:network": Case(
        "tl.gene_interactions",
        embedded,
        [
            *_NM[:6],
            {"n": 2500, "m": 400, "n_bootstraps": 5},
            {"n": 1500, "m": 2500},
            {"n": 3000, "m": 2000, "n_bootstraps": 5},
        ],
        grid((1500, 600), (4500, 700), (8000, 1500)),
        args=("n_bootstraps",),
    ),
    "tl.gene_interactions:known": Case(
        "tl.gene_interactions",
        lambda n, m, pairs: (
            embedded(n, m),
            {
                "known_pairs": [
                    (f"Gene{a}", f"Gene{b}")
                    for a, b in np.random.default_rng(0).integers(0, m, (pairs, 2))
                    if a != b
                ]
            },
        ),
        grid(
            (400, 300, 200),
            (2000, 300, 200),
            (2000, 1500, 400),
            (500, 1500, 1500),
            (500, 3000, 400),
            (6000, 800, 600),
            names=("n", "m", "pairs"),
        ),
        grid((1000, 800, 300), (3000, 1000, 800), (8000, 1500, 1500), names=("n", "m", "pairs")),
    ),
    "tl.compare_genes": Case(
        "tl.compare_genes",
        lambda n, m, n_sections: section(n, m, density=0.3, n_sections=n_sections),
        grid(
            (800, 200, 2),
            (4000, 200, 2),
            (2000, 1000, 2),
            (1600, 300, 4),
            (4000, 600, 4),
            (3000, 1000, 6),
            (10_000, 300, 4),
            names=("n", "m", "n_sections"),
        ),
        grid((1200, 400, 2), (3000, 700, 4), (12_000, 900, 6), names=("n", "m", "n_sections")),
        {"batch_key": "slide", "condition_key": "condition", "min_count": 5},
    ),
    "tl.gene_views": Case(
        "tl.gene_views",
        viewed,
        [
            *grid(
                (300, 2, 64),
                (1500, 2, 64),
                (3000, 2, 128),
                (800, 3, 64),
                (1500, 4, 32),
                names=("m", "v", "d"),
            ),
            {"m": 1500, "v": 2, "d": 64, "n_permutations": 50},
        ],
        grid((700, 2, 64), (2000, 3, 64), (5000, 2, 128), names=("m", "v", "d")),
        args=("n_permutations",),
    ),
    "tl.project_genes": Case(
        "tl.project_genes",
        embedded,
        [*_NM, {"n": 40_000, "m": 300}, {"n": 20_000, "m": 300, "d": 16}],
        [*_NM_TEST, {"n": 60_000, "m": 500}],
    ),
    "tl.ult:series": Case("tl.ult", section, _NM, [*_NM_TEST[:2], {"n": 30_000, "m": 400}]),
    "tl.ult:text": Case(
        "tl.ult",
        lambda n, length: _notes(n, length),
        grid((200, 100), (2000, 100), (1000, 400), (5000, 50), names=("n", "length")),
        grid((500, 200), (3000, 100), (8000, 150), names=("n", "length")),
        {"method": "text", "text_key": "note"},
    ),
    "tl.ult:image": Case(
        "tl.ult",
        lambda n, m: _gridded(n, m),
        grid((400, 100), (400, 800), (2500, 300), (6000, 100)),
        grid((900, 300), (2500, 600), (8000, 400)),
        {"method": "image"},
    ),
    "tl.ult_distances": Case(
        "tl.ult_distances",
        strings,
        [
            *grid((300, 100), (300, 300), (1000, 100), (60, 600)),
            {"n": 300, "m": 100, "n_sample": 60},
            {"n": 300, "m": 100, "n_permutations": 99},
        ],
        grid((400, 200), (100, 400), (2000, 500)),
        args=("n_sample", "n_permutations"),
    ),
    **{
        f"pp.augment:{method}": Case(
            "pp.augment",
            cohort,
            [
                {**p, "n_new": x}
                for p, x in zip(
                    grid((200, 300), (2000, 300), (300, 3000), (1000, 1000), (4000, 500)),
                    (100, 300, 300, 1500, 200),
                    strict=True,
                )
            ],
            [
                {**p, "n_new": x}
                for p, x in zip(
                    grid((600, 500), (1500, 1500), (5000, 2000)), (200, 500, 2000), strict=True
                )
            ],
            {"labels_key": "kind", "method": method, "allow_unsplit": True, "n_jobs": 1},
            ("n_new",),
        )
        for method in (
            "gamma_poisson",
            "poisson",
            "unmod_poisson",
            "unmod_gamma_poisson",
            "replacement",
            "smote",
        )
    },
    "tl.spam": Case(
        "tl.spam",
        stained,
        [
            *grid((300, 60), (800, 60), (300, 400), (1500, 150)),
            {"n": 800, "m": 60, "f": 30},
            {"n": 800, "m": 60, "max_epochs": 5},
            {"n": 800, "m": 200, "n_sections": 4},
        ],
        grid((500, 120), (1000, 300), (2500, 200)),
        args=("max_epochs",),
    ),
    "tl.classify_omics": Case(
        "tl.classify_omics",
        cohort,
        [
            *_with(grid((100, 200), (400, 200), (200, 1500), (400, 600)), split=False),
            *_with(grid((800, 200), (400, 2000), (2000, 400)), split=True),
            {"n": 400, "m": 200, "split": True, "n_classes": 8},
        ],
        [
            {"n": 250, "m": 400},
            {"n": 700, "m": 800, "split": True},
            {"n": 3000, "m": 1500, "split": True},
        ],
        {"labels_key": "kind"},
        ("n_folds",),
    ),
    "tl.twas": Case(
        "tl.twas",
        people,
        [
            *_with(
                grid(
                    (150, 20, 40),
                    (400, 10, 40),
                    (200, 10, 200),
                    (200, 5, 500),
                    (400, 60, 20),
                    names=("n", "n_genes", "k"),
                ),
                model="enet",
            ),
            *_with(
                grid((150, 20, 40), (400, 10, 200), (200, 5, 500), names=("n", "n_genes", "k")),
                model="blup",
            ),
            *_with(grid((150, 20, 40), (400, 10, 200), names=("n", "n_genes", "k")), model="top1"),
            *_with(
                grid((150, 20, 40), (400, 10, 40), (200, 10, 200), names=("n", "n_genes", "k")),
                model="lasso",
            ),
            *_with(
                grid((150, 2, 40), (200, 2, 150), (400, 1, 100), names=("n", "n_genes", "k")),
                model="bslmm",
            ),
        ],
        [
            {"n": 300, "n_genes": 20, "k": 100, "model": "enet"},
            {"n": 300, "n_genes": 20, "k": 100, "model": "blup"},
            {"n": 300, "n_genes": 10, "k": 100, "model": "lasso"},
            {"n": 300, "n_genes": 3, "k": 80, "model": "bslmm"},
            {"n": 450, "n_genes": 60, "k": 300, "model": "enet"},
        ],
        args=("model",),
    ),
    "pp.kmer_counts": Case(
        "pp.kmer_counts",
        dna,
        [
            *grid((500, 100), (5000, 100), (2000, 1000), (20_000, 200), names=("n", "length")),
            {"n": 2000, "length": 300, "k": 4},
            {"n": 2000, "length": 300, "k": 8},
            {"n": 2000, "length": 300, "all_lengths": True},
        ],
        grid((1000, 300), (8000, 300), (30_000, 400), names=("n", "length")),
        args=("k", "all_lengths"),
    ),
    "pp.kmer_counts:fasta": Case(
        "pp.kmer_counts",
        lambda bases: _fasta(bases),
        [
            {"bases": 100_000},
            {"bases": 1_000_000},
            {"bases": 5_000_000},
            {"bases": 1_000_000, "k": 9},
        ],
        [{"bases": 500_000}, {"bases": 3_000_000}, {"bases": 10_000_000}],
        args=("k",),
    ),
    "tl.embed_sequences": Case(
        "tl.embed_sequences",
        lambda n, length, dim, depth: (dna(n, length), {"model": trunk(dim, depth)}),
        grid(
            (20, 256, 48, 2),
            (100, 256, 48, 2),
            (20, 2048, 48, 2),
            (10, 8192, 48, 2),
            (20, 1024, 96, 4),
            (20, 1024, 192, 2),
            (60, 512, 96, 6),
            names=("n", "length", "dim", "depth"),
        ),
        grid(
            (50, 512, 48, 3),
            (30, 1536, 96, 3),
            (20, 4096, 192, 4),
            names=("n", "length", "dim", "depth"),
        ),
    ),
    "tl.few_shot": Case(
        "tl.few_shot",
        dna,
        [
            *_with(grid((200, 60), (200, 200), (800, 60), names=("n", "length")), shots=10),
            {"n": 400, "length": 60, "shots": 50},
            {"n": 400, "length": 150, "shots": 80},
            {"n": 400, "length": 60, "shots": 50, "models": None},
        ],
        [
            {"n": 300, "length": 100, "shots": 30},
            {"n": 500, "length": 80, "shots": 60},
            {"n": 1200, "length": 150, "shots": 150},
        ],
        {"n_draws": 2},
        ("shots", "models"),
    ),
    "tl.motifs": Case(
        "tl.motifs",
        dna,
        [
            *grid((200, 60), (1000, 60), (400, 300), (2000, 200), names=("n", "length")),
            {"n": 600, "length": 100, "n_motifs": 2},
            {"n": 600, "length": 100, "width": 20},
        ],
        grid((400, 100), (1500, 150), (2000, 400), names=("n", "length")),
        args=("n_motifs", "width"),
    ),
    "tl.histology_baselines": Case(
        "tl.histology_baselines",
        stained,
        [
            *grid((300, 60), (1000, 60), (300, 400), (3000, 100)),
            {"n": 800, "m": 60, "f": 30},
            {"n": 1200, "m": 100, "n_sections": 4},
            {"n": 300, "m": 100, "n_boot": 50},
        ],
        grid((600, 120), (1500, 200), (4000, 250)),
        {"n_top": None},
        ("n_boot",),
    ),
    "pp.image_features": Case(
        "pp.image_features",
        lambda n: _imaged(n),
        [
            {"n": 60},
            {"n": 240},
            {"n": 120, "out_px": 48},
            {"n": 120, "out_px": 160},
            {"n": 120, "context": 0},
        ],
        [{"n": 100}, {"n": 180, "out_px": 64}, {"n": 600}],
        args=("out_px", "context"),
    ),
}


def _notes(n: int, length: int):
    rng = np.random.default_rng(0)
    words = np.array(["tumour", "stroma", "immune", "vessel", "duct", "fat", "necrosis", "normal"])
    text = [" ".join(rng.choice(words, max(1, length // 7))) for _ in range(n)]
    return ad.AnnData(obs=pd.DataFrame({"note": text}, index=[f"s{i}" for i in range(n)]))


def _gridded(n: int, m: int):
    adata = section(n, m)
    ol.pp.spatial_grid(adata)
    return adata


def _fasta(bases: int):
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    drawn = letters[np.random.default_rng(0).integers(0, 4, bases)].tobytes().decode()
    path = Path(tempfile.mkdtemp()) / "a.fa"
    lines = "\n".join(drawn[i : i + 60] for i in range(0, bases, 60))
    path.write_text(f">c\n{lines}\n")
    return None, {"fasta": path}


def _imaged(n: int):
    adata = section(n, 20)
    image = np.random.default_rng(0).integers(90, 240, (900, 900, 3), dtype=np.uint8)
    xy = adata.obsm["spatial"]
    adata.obsm["spatial"] = 100 + 700 * xy / xy.max()
    adata.uns["spatial"] = {
        "s": {"images": {"hires": image},
              "scalefactors": {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 30.0},
              "metadata": {"um_per_fullres_px": 1.0}},
    }  # fmt: skip
    return adata
