"""Sizes of an object, read from what describes it: X itself is not read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import blocks, inputs
from omicllm._core.checks import missing
from omicllm._core.gene_groups import by_genes
from omicllm._core.plan import as_bytes
from omicllm._core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

#: Share of values that are taken to be stored where nothing says how many are.
_UNKNOWN = 0.1


@dataclass(frozen=True)
class Sizes:
    """What costs follow from.

    Attributes
    ----------
    adata
        The object, for its columns and entries.
    n, m
        Observations and variables.
    nnz
        Values that are stored.
    kind
        ``"dense"``, ``"csr"``, ``"csc"``, ``"backed"`` or ``"dask"``; ``"none"`` without X.
    sparse
        Whether zeros are left out.
    known
        Whether `nnz` is known.
    genes_cheap
        Whether columns can be read by themselves.
    chunks
        Chunks of rows of a dask array.
    """

    adata: Any
    n: int
    m: int
    nnz: float = 0.0
    kind: str = "none"
    sparse: bool = True
    known: bool = True
    genes_cheap: bool = False
    chunks: int = 1
    said: tuple[str, ...] = field(default=())

    @property
    def outside(self) -> bool:
        """Whether X lies outside memory."""
        return self.kind in ("backed", "dask")

    @property
    def held(self) -> float:
        """Bytes of X in memory."""
        return (8.0 if self.sparse else 4.0) * (self.nnz if self.sparse else float(self.n) * self.m)

    def parts(self, key: str | None) -> np.ndarray:
        """Observations with each value of a column of obs; all in one without a column."""
        if key is None:
            return np.array([self.n])
        values = inputs.obs_column(self.adata, key, argument="its name").astype(str)
        return np.unique(values, return_counts=True)[1]

    def width(self, slot: str, key: str) -> int:
        """Columns of an entry of obsm or varm."""
        held = getattr(self.adata, slot)
        if key not in held:
            raise missing(key, f"adata.{slot}", held)
        return int(np.prod(held[key].shape[1:]))

    def edges(self, key: str = "spatial_connectivities") -> float:
        """Edges of the spatial graph; six for each observation where it is not made yet."""
        if key in self.adata.obsp:
            return float(self.adata.obsp[key].nnz)
        return 6.0 * self.n


def sizes_of(adata: AnnData, layer: str | None = None) -> Sizes:
    """Sizes of an object and of X or a layer."""
    if layer is None and adata.X is None:
        return Sizes(adata, adata.n_obs, adata.n_vars, said=("no X is needed",))
    X = inputs.matrix(adata, layer)
    (n, m), kind = X.shape, inputs.storage(X)
    nnz, sparse, known = float(n) * m, False, True
    if kind == "dense":
        nnz *= _share_filled(X)
    elif kind == "backed":
        group = getattr(X, "group", None)
        if group is not None:
            nnz, sparse = float(group["data"].shape[0]), True
    elif kind == "dask":
        sparse = hasattr(X._meta, "nnz")
        if sparse:
            found = _stored_in_lazy(X)
            known, nnz = found is not None, _UNKNOWN * n * m if found is None else found
    else:
        nnz, sparse = float(X.nnz), True
    chunks = len(X.chunks[0]) if kind == "dask" else 1
    return Sizes(
        adata, n, m, nnz, kind, sparse, known, by_genes(X), chunks,
        tuple(_storage(X, kind, sparse=sparse, known=known)),
    )  # fmt: skip


def _share_filled(X: Any) -> float:
    """Share of values of an array in memory that are not 0, from some thousand of them."""
    if type(X) is not np.ndarray or not X.size:  # a file mapped into memory would be read
        return 1.0
    rng = np.random.default_rng(0)
    at = tuple(rng.integers(0, size, 4096) for size in X.shape)
    return float(np.count_nonzero(X[at])) / 4096


def _stored_in_lazy(X: Any) -> float | None:
    """Values stored in the matrix that a lazy AnnData reads, or None where it cannot be told."""
    if len(X.dask.layers) != 1:
        return None  # a part, or the result of some work
    (layer,) = X.dask.layers.values()
    for reader, _ in getattr(layer, "indices", ()):
        given: Any = getattr(reader, "args", ())
        if given and hasattr(given[0], "group") and not isinstance(given[0], Path):  # zarr
            return float(given[0].group["data"].shape[0])
        if len(given) == 2 and isinstance(given[0], Path) and given[0].is_file():
            import h5py

            with h5py.File(given[0], "r") as file:
                return float(file[given[1]]["data"].shape[0])
    return None


def _storage(X: Any, kind: str, *, sparse: bool, known: bool) -> Iterator[str]:
    if not sparse and kind in ("backed", "dask"):
        yield f"{kind}: dense, all values are taken as stored"
    elif kind not in ("backed", "dask"):
        yield f"{kind} in memory"
    else:
        form = getattr(X, "format", None) or getattr(X._meta, "format", "sparse")
        yield f"{kind}: {form}"
    if not known:
        yield f"how many values are stored is not known: {_UNKNOWN:.0%} of them are assumed"


def by_rows(s: Sizes) -> list[str]:
    """How blocks of rows are read."""
    if not s.outside:
        return []
    rows = max(1, min(s.n, settings.block_bytes // max(1, 8 * s.m)))
    n_blocks = -(-s.n // rows)
    if s.kind == "dask":
        n_blocks = min(s.chunks, n_blocks) if s.n // max(1, s.chunks) > rows // 2 else n_blocks
        n_blocks = max(n_blocks, 1)
    size = 8 * s.nnz / s.n * rows if s.sparse else 4.0 * s.m * rows
    return [f"read in {n_blocks} block(s) of {rows:,} rows, {as_bytes(size)} each", *client(s)]


def client(s: Sizes) -> list[str]:
    """Where blocks of a dask array are worked on."""
    if s.kind != "dask":
        return []
    active = blocks.active_client()
    if active is None:
        return ["dask: no client, blocks are read here, one after the other"]
    threads = sum(active.nthreads().values())
    return [f"dask: on the active client, {threads} threads; memory is that of this process"]


def in_memory(s: Sizes) -> tuple[float, list[str]]:
    """Bytes, beyond the gene-wise copy itself, of reading all into memory, and how it is done."""
    if not s.outside:
        return 0.0, ["a gene-wise copy (csc, float32) is made in memory"]
    return 8.0 * s.nnz, [*by_rows(s), "all values are then held in memory, gene by gene"]


def by_gene_groups(s: Sizes) -> tuple[float, float, list[str]]:
    """Values read, bytes of a group, and how groups of genes are walked over."""
    most = 4.0 * settings.block_bytes
    if s.kind in ("dense", "csc"):
        return 0.0, 0.0, ["genes are used as they lie"]
    if s.kind == "csr":
        n_groups = max(1, round(12 * s.nnz / (most / 2) + 0.5))
        return 0.0, min(12 * s.nnz, most / 2), [f"turned gene-wise in {n_groups} group(s) of genes"]
    if s.genes_cheap:
        step = max(1, min(s.m, int(most // (16 * s.n))))
        n_groups = -(-s.m // step)
        return s.nnz, 16 * s.nnz / n_groups, [f"read in {n_groups} group(s) of genes", *client(s)]
    passes = max(1, round(8 * s.nnz / most + 0.5)) if s.sparse else max(1, round(4 * s.nnz / most))
    held = min(8 * s.nnz, most) + min(settings.block_bytes, 8.0 * s.nnz)
    return s.nnz * (passes + 1), held, [f"read in {passes} pass(es) over the rows", *by_rows(s)]
