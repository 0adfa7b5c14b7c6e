"""Nearest neighbours by cosine, in blocks, and how well two neighbourhoods agree."""

from __future__ import annotations

import numpy as np


def unit_rows(Z: np.ndarray) -> np.ndarray:
    """Rows divided by their Euclidean norm, float32; zero rows stay zero."""
    Z = np.asarray(Z, dtype=np.float32)
    norm = np.linalg.norm(Z, axis=1, keepdims=True)
    return Z / np.where(norm > 0, norm, 1.0)


def cosine_neighbors(
    Z: np.ndarray, k: int, *, among: np.ndarray | None = None, block: int = 2048
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` nearest rows of each row by cosine, without itself.

    Parameters
    ----------
    Z
        Embedding (n, d).
    k
        Number of neighbours, less than n.
    among
        Bool (n,): rows that may be neighbours.
    block
        Rows handled at once; memory is block x n.

    Returns
    -------
    int64 (n, k) indices, nearest first, and float32 (n, k) cosine distances. Ties are broken by
    index, so that the result is the same on every run.
    """
    unit = unit_rows(Z)
    n = len(unit)
    index = np.empty((n, k), dtype=np.int64)
    distance = np.empty((n, k), dtype=np.float32)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        similarity = unit[rows] @ unit.T
        similarity[np.arange(similarity.shape[0]), np.arange(rows.start, rows.stop)] = -np.inf
        if among is not None:
            similarity[:, ~among] = -np.inf
        best = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
        value = np.take_along_axis(similarity, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        index[rows] = np.take_along_axis(best, order, axis=1)
        distance[rows] = 1.0 - np.take_along_axis(value, order, axis=1)
    return index, np.clip(distance, 0.0, 2.0)


def pulled(
    Z: np.ndarray,
    memory: np.ndarray,
    own: np.ndarray,
    *,
    k: int,
    weight: float,
    block: int = 2048,
) -> np.ndarray:
    r"""Draw each row towards its nearest rows of a memory, as far as it agrees with them.

    :math:`z + w\,\frac1k \sum_{j \in N_k} \max(0, z^\top m_j)\, m_j`, scaled to unit length: rows
    that agree with their neighbours are confident and move most, lone rows stay.

    Parameters
    ----------
    Z, memory
        Unit rows (n, d) and (m, d); zero rows stay zero.
    own
        Row of `memory` that is the row itself and is left out, -1 where there is none (n,).
    k, weight
        Neighbours (lowered to what there is), and strength of the pull.
    block
        Rows handled at once; memory is block x m.
    """
    Z = unit_rows(Z)
    k = min(k, len(memory) - 1)
    if k < 1 or not weight:
        return Z
    out = np.empty_like(Z)
    for start in range(0, len(Z), block):
        rows = slice(start, min(start + block, len(Z)))
        similarity = Z[rows] @ memory.T
        mine = own[rows]
        has = np.flatnonzero(mine >= 0)
        similarity[has, mine[has]] = -np.inf
        nearest = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
        agreement = np.maximum(np.take_along_axis(similarity, nearest, axis=1), 0.0)
        pull = np.einsum("nk,nkd->nd", agreement, memory[nearest])
        out[rows] = Z[rows] + np.float32(weight / k) * pull
    out[np.abs(Z).sum(axis=1) == 0] = 0.0
    return unit_rows(out)


def neighbor_overlap(A: np.ndarray, B: np.ndarray, *, k: int = 20) -> float:
    """Mean share of the `k` nearest rows (cosine) that two embeddings of the same rows share.

    Parameters
    ----------
    A, B
        Embeddings (n, d_a) and (n, d_b), rows in the same order.
    k
        Neighbours compared; lowered to n - 1 where there are fewer rows.

    Returns
    -------
    Between 0 and 1; about k / (n - 1) for unrelated embeddings.

    Raises
    ------
    ValueError
        When the numbers of rows differ, or there are fewer than two.
    """
    if len(A) != len(B):
        msg = f"The embeddings have {len(A)} and {len(B)} rows; the same rows are needed."
        raise ValueError(msg)
    if len(A) < 2:
        msg = "At least two rows are needed."
        raise ValueError(msg)
    k = min(k, len(A) - 1)
    a = np.sort(cosine_neighbors(A, k)[0], axis=1)
    b = np.sort(cosine_neighbors(B, k)[0], axis=1)
    n = len(A)
    offset = np.arange(n, dtype=np.int64)[:, None] * n
    return float(np.isin(a + offset, b + offset, assume_unique=True).mean())


def neighbor_recall(
    Z: np.ndarray, labels: np.ndarray, *, k: int = 10, rows: np.ndarray | None = None
) -> float:
    """Mean share of the `k` nearest rows (cosine, among all rows) that bear a row's own label.

    Parameters
    ----------
    Z
        Embedding (n, d).
    labels
        One label per row (n,).
    k
        Number of neighbours.
    rows
        Bool (n,): rows the mean is taken over; all by default. Other rows may be neighbours.

    Returns
    -------
    Between 0 and 1.

    Raises
    ------
    ValueError
        When the number of labels is not that of the rows.
    """
    labels = np.asarray(labels)
    if len(labels) != len(Z):
        msg = f"There are {len(labels)} labels for {len(Z)} rows."
        raise ValueError(msg)
    index = cosine_neighbors(Z, min(k, len(Z) - 1))[0]
    same = labels[index] == labels[:, None]
    return float(same.mean(axis=1)[rows if rows is not None else slice(None)].mean())
