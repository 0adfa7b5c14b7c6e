"""Batches of genes for Lightning: reshuffled every epoch, the same on every rank for one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from omicllm.train._ranks import share_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omicllm.spatial.image_set import ImageSet

    Epoch = Callable[[np.random.Generator], Callable[[np.ndarray], tuple[torch.Tensor, ...]]]


class _Batches(IterableDataset):
    """What one epoch shows: batches of gene numbers and whatever goes with them."""

    def __init__(self, genes: np.ndarray, batch_size: int, seed: int, epoch: Epoch) -> None:
        self.genes, self.batch_size, self.seed, self.epoch = genes, batch_size, seed, epoch
        self.n_done = 0

    @property
    def n_batches(self) -> int:
        """Batches of equal size; a remainder is spread over them, so none is tiny or empty."""
        return max(1, len(self.genes) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        rng = np.random.default_rng([self.seed, self.n_done])
        self.n_done += 1
        draw = self.epoch(rng)
        for batch in np.array_split(rng.permutation(self.genes), self.n_batches):
            mine = share_of_rank(batch)
            yield torch.from_numpy(mine), *draw(mine)

    def __len__(self) -> int:
        return self.n_batches


class GeneData(pl.LightningDataModule):
    """Feeds a plan with batches of genes.

    Parameters
    ----------
    genes
        Numbers of the genes to train on.
    batch_size
        Genes in a batch.
    seed
        Seed of the order and of whatever an epoch draws.
    epoch
        Called once per epoch with that epoch's generator; returns the function that gives the
        tensors of a batch of genes.
    """

    def __init__(self, genes: np.ndarray, batch_size: int, seed: int, epoch: Epoch) -> None:
        super().__init__()
        self.batches = _Batches(genes, batch_size, seed, epoch)

    def train_dataloader(self) -> DataLoader:
        """One loader over ready-made batches."""
        return DataLoader(self.batches, batch_size=None)


def in_blocks(
    images: ImageSet, apply: Callable[[torch.Tensor], torch.Tensor], device: Any, *, n_bytes: int
) -> torch.Tensor:
    """Apply a network to the counts of all genes, in blocks of at most `n_bytes` of dense counts.

    Returns
    -------
    float32 tensor on the CPU; genes run along the axis before the last.
    """
    step = max(1, min(4096, n_bytes // (4 * max(1, images.n_pixels))))
    parts = []
    with torch.no_grad():
        for start in range(0, images.n_genes, step):
            dense = images.dense(np.arange(start, min(start + step, images.n_genes)))
            parts.append(apply(torch.from_numpy(dense).to(device)).float().cpu())
    return torch.cat(parts, dim=-2)
