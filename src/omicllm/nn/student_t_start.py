"""Before a mixture fit: checked input, k-means++ seeding and a few k-means passes."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

__all__ = ["Array", "as_matrix", "kmeans_start", "like", "nearest"]

Array = TypeVar("Array", np.ndarray, torch.Tensor)
_BLOCK_ELEMENTS = 2**20


def as_matrix(Z: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Finite float64 matrix (float32 where the device has no float64)."""
    z = torch.as_tensor(Z)
    if z.ndim != 2 or z.shape[1] < 1:
        msg = f"Z must be a matrix (rows, dimensions); got shape {tuple(z.shape)}."
        raise ValueError(msg)
    z = z.to(torch.float32 if z.device.type == "mps" else torch.float64)
    if not bool(torch.isfinite(z).all()):
        bad = int((~torch.isfinite(z)).any(1).sum())
        msg = f"Z has NaN or infinite entries in {bad} of {len(z)} rows."
        raise ValueError(msg)
    return z


def like(value: torch.Tensor, Z: Array) -> Array:
    """Return an array where the input was an array, a tensor where it was a tensor."""
    return value if isinstance(Z, torch.Tensor) else value.detach().cpu().numpy()


def nearest(z: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Index of the nearest centre for every row, int64 (N,); ties go to the first."""
    half_norm = 0.5 * centres.square().sum(1)
    step = max(1, _BLOCK_ELEMENTS // len(centres))
    return torch.cat([(half_norm - part @ centres.T).argmin(1) for part in z.split(step)])


def _plus_plus(z: torch.Tensor, k: int, rng: np.random.Generator) -> torch.Tensor:
    """Draw seeds in proportion to squared distance (Arthur and Vassilvitskii, 2007)."""
    chosen = [int(rng.integers(len(z)))]
    norm = z.square().sum(1)

    def squared_distance(row: int) -> torch.Tensor:
        # One matrix-vector product a seed, instead of passes over all of z.
        return torch.addmv(norm, z, z[row], alpha=-2.0).add_(norm[row]).clamp_min_(0.0)

    distance = squared_distance(chosen[0])
    for _ in range(k - 1):
        cumulative = distance.cumsum(0)
        total = float(cumulative[-1])
        if total > 0:
            draw = torch.tensor(rng.random() * total, dtype=z.dtype, device=z.device)
            pick = min(int(torch.searchsorted(cumulative, draw, right=True)), len(z) - 1)
        else:  # fewer distinct rows than components
            pick = int(rng.integers(len(z)))
        chosen.append(pick)
        distance = torch.minimum(distance, squared_distance(pick))
    return z[chosen]


def kmeans_start(
    z: torch.Tensor, k: int, rng: np.random.Generator, *, n_passes: int = 10
) -> torch.Tensor:
    """Centres (k, D) from k-means++ and up to `n_passes` passes of k-means.

    A centre that loses all its rows stays where it is.
    """
    centres = _plus_plus(z, k, rng)
    labels = nearest(z, centres)
    for _ in range(n_passes):
        counts = torch.bincount(labels, minlength=k).to(z.dtype)
        sums = torch.zeros_like(centres).index_add_(0, labels, z)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1.0)[:, None], centres)
        moved = nearest(z, centres)
        if bool((moved == labels).all()):
            break
        labels = moved
    return centres
