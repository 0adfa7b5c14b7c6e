"""Observations among their genes: the mean of gene vectors, weighted by expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.inputs import rows_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def block_totals(block: Any) -> np.ndarray:
    """Sum of each row of a dense or sparse block: float64 (n,)."""
    return np.asarray(block.sum(axis=1), dtype=np.float64).ravel()


def project_rows(block: Any, totals: np.ndarray, target: float, vectors: np.ndarray) -> np.ndarray:
    r"""Expression-weighted mean of gene vectors of each row of a block.

    :math:`f_i = \sum_g w_{ig} z_g / \sum_g w_{ig}` with :math:`w_{ig} = \log(1 + c\,x_{ig} / t_i)`,
    :math:`t_i` the total of the row and :math:`c` the `target`. A sparse block stays sparse.

    Parameters
    ----------
    block
        (n, n_genes) csr_matrix or ndarray.
    totals
        Total of each row (n,); NaN where rows are used as they are, without scaling and log.
    target
        Total that rows are scaled to.
    vectors
        float64 (n_genes, d), zero for genes without a vector.

    Returns
    -------
    float64 (n, d); zero for rows in which no gene with a vector is expressed.
    """
    from scipy import sparse

    counted = vectors.any(axis=1).astype(np.float64)
    if sparse.issparse(block):
        # The logarithm is of the whole value.
        weight = sparse.csr_matrix(rows_sparse(block), dtype=np.float64)
        if np.isfinite(totals).all():
            factor = target / np.where(totals > 0, totals, 1.0)
            weight.data = np.log1p(weight.data * np.repeat(factor, np.diff(weight.indptr)))
    else:
        weight = np.asarray(block, dtype=np.float64)
        if np.isfinite(totals).all():
            weight = np.log1p(weight * (target / np.where(totals > 0, totals, 1.0))[:, None])
    total = np.asarray(weight @ counted).ravel()
    return np.asarray(weight @ vectors) / np.where(total > 0, total, 1.0)[:, None]


def projected(
    blocks: Callable[[], Iterable[tuple[int, Any]]],
    n: int,
    vectors: np.ndarray,
    *,
    normalize: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Project all rows, block by block, in two passes (one without `normalize`).

    Parameters
    ----------
    blocks
        Gives a new iterator over (first row, block).
    n
        Number of rows.
    vectors
        float64 (n_genes, d), zero for genes without a vector.
    normalize
        Scale rows to the median total and take logs.

    Returns
    -------
    float64 (n, d), and bool (n,): rows in which some gene with a vector is expressed.
    """
    totals, target = np.full(n, np.nan), 1.0
    if normalize:
        for start, block in blocks():
            totals[start : start + block.shape[0]] = block_totals(block)
        some = totals > 0
        target = float(np.median(totals[some])) if some.any() else 1.0
    out = np.empty((n, vectors.shape[1]))
    for start, block in blocks():
        rows = slice(start, start + block.shape[0])
        out[rows] = project_rows(block, totals[rows], target, vectors)
    return out, np.asarray(out.any(axis=1))


def centred_rows(F: np.ndarray, used: np.ndarray, *, unit_length: bool) -> np.ndarray:
    """Rows less the mean row, divided by their length if asked: float32; unused rows are zero."""
    out = np.zeros(F.shape)
    if used.any():
        out[used] = F[used] - F[used].mean(axis=0)
    if unit_length:
        norm = np.linalg.norm(out, axis=1, keepdims=True)
        out = out / np.where(norm > 0, norm, 1.0)
    return out.astype(np.float32)
