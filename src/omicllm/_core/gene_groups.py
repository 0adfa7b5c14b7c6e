"""Walks over the genes of a matrix in any storage, group by group, each group gene by gene.

Row-wise storages (csr, backed or dask rows) are read in several passes over blocks of rows: each
pass keeps the genes of one group, so that memory follows the group and not the matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import blocks, inputs
from omicllm._core.log import logger
from omicllm._core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scipy import sparse

    Group = tuple[slice, np.ndarray | sparse.csc_matrix]


def by_genes(X: Any) -> bool:
    """Whether slices of columns are cheap in this storage."""
    kind = inputs.storage(X)
    if kind == "backed":
        return getattr(X, "format", None) == "csc"
    if kind == "dask":
        return len(X.chunks[0]) == 1 and len(X.chunks[1]) > 1
    return kind in ("dense", "csc")


def gene_groups(X: Any, n_bytes: int | None = None) -> Iterator[Group]:
    """Yield groups of consecutive genes in memory: csc, or dense (n_obs, n) with any order.

    With an active dask client, groups of a dask array stay lazy, at least one for each thread of
    the workers: :func:`omicllm._core.blocks.run` computes them there, and :func:`in_memory` turns
    what the worker reads into one of the above.

    Parameters
    ----------
    X
        Matrix (n_obs, n_genes): dense, sparse, backed or dask.
    n_bytes
        Size of a group; by default four times `settings.block_bytes`.
    """
    n_bytes, X = n_bytes or 4 * settings.block_bytes, inputs.readable(X)
    kind, (n, m) = inputs.storage(X), X.shape
    if kind in ("dense", "csc"):
        yield slice(0, m), X
        return
    if kind == "dask" and (client := blocks.active_client()) is not None:
        yield from _lazily(X, n_bytes, sum(client.nthreads().values()))
        return
    if by_genes(X):
        logger.info("reading a %s matrix %s in groups of genes", kind, (n, m))
        step = max(1, min(m, n_bytes // (16 * n)))
        for start in range(0, m, step):
            part = X[:, start : start + step]
            part = part.compute() if blocks.is_lazy(part) else part
            yield slice(start, min(start + step, m)), in_memory(part)
        return
    if kind == "csr":
        per_gene = np.bincount(X.indices, minlength=m)
        for genes in _cuts(12 * per_gene, n_bytes // 2):
            whole = genes == slice(0, m)
            yield genes, (X if whole else X[:, genes]).tocsc()
        return
    yield from _by_passes(X, kind, n_bytes)


def in_memory(part: Any) -> Any:
    """Return a group of genes as csc or ndarray."""
    from scipy import sparse

    return inputs.columns(part) if sparse.issparse(part) else np.asarray(part)


def _lazily(X: Any, n_bytes: int, n_threads: int) -> Iterator[tuple[slice, Any]]:
    """Groups of genes of a dask array, not computed."""
    n, m = X.shape
    if by_genes(X):
        size = np.full(m, 16 * n)
    else:
        size = np.zeros(m, dtype=np.int64)
        for _, stored in inputs.map_rows(X, _bytes_stored):
            size += stored
    most = -(-int(size.sum()) // max(1, n_threads))
    for genes in _cuts(size, max(1, min(n_bytes, most))):
        yield genes, X[:, genes]


def _bytes_stored(block: Any, start: int) -> np.ndarray:
    """Bytes of the values of each gene in a block of rows."""
    from scipy import sparse

    n, m = block.shape
    if not sparse.issparse(block):
        return np.full(m, n * block.dtype.itemsize)
    return np.bincount(block.indices, minlength=m) * (block.dtype.itemsize + 4)


def _by_passes(X: Any, kind: str, n_bytes: int) -> Iterator[Group]:
    """Passes over blocks of rows, after one that counts what each gene stores."""
    from scipy import sparse

    n, m = X.shape
    per_gene, is_sparse, dtype = np.zeros(m, dtype=np.int64), True, np.dtype(np.bool_)
    for _, block in inputs.row_blocks(X):
        is_sparse, dtype = sparse.issparse(block), np.promote_types(dtype, block.dtype)
        if not is_sparse:
            break
        per_gene += np.bincount(block.indices, minlength=m)
    size = per_gene * (dtype.itemsize + 4) if is_sparse else np.full(m, n * dtype.itemsize)
    cuts = list(_cuts(size, n_bytes))
    logger.info("reading a %s matrix %s in %d passes over its rows", kind, (n, m), len(cuts))
    for genes in cuts:
        if not is_sparse:
            dense = np.empty((genes.stop - genes.start, n), dtype=dtype)
            for start, block in inputs.row_blocks(X):
                dense[:, start : start + len(block)] = block[:, genes].T
            yield genes, dense.T
            continue
        indptr = np.concatenate([[0], np.cumsum(per_gene[genes])])
        data = np.empty(indptr[-1], dtype=dtype)
        indices = np.empty(indptr[-1], dtype=np.int32)
        free = indptr[:-1].copy()
        for start, block in inputs.row_blocks(X):
            part = sparse.csc_matrix(block[:, genes] if len(cuts) > 1 else block)
            count = np.diff(part.indptr)
            at = np.repeat(free - part.indptr[:-1], count) + np.arange(part.nnz)
            data[at], indices[at] = part.data, part.indices + start
            free += count
        yield genes, sparse.csc_matrix((data, indices, indptr), shape=(n, genes.stop - genes.start))


def _cuts(size: np.ndarray, n_bytes: int) -> Iterator[slice]:
    """Runs of genes of at most `n_bytes` together, or single genes."""
    start, held = 0, 0
    for gene, one in enumerate(size.tolist()):
        if gene > start and held + one > n_bytes:
            yield slice(start, gene)
            start, held = gene, 0
        held += one
    if start < len(size):
        yield slice(start, len(size))


def not_finite(part: Any) -> np.ndarray:
    """Numbers, within a group, of genes with NaN or infinite values."""
    from scipy import sparse

    if part.dtype.kind != "f":
        return np.empty(0, dtype=np.int64)
    if sparse.issparse(part):
        where = np.flatnonzero(~np.isfinite(part.data))
        return np.unique(np.searchsorted(part.indptr, where, side="right") - 1)
    # Blocks of genes: no array of as many booleans as there are values.
    starts = range(0, part.shape[1], 256)
    bad = [~np.isfinite(part[:, i : i + 256]).all(axis=0) for i in starts]
    return np.flatnonzero(np.concatenate(bad))
