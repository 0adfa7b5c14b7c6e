"""Training in several processes: each works on its share of every batch.

A batch size is that of all processes together, so that the number of devices does not change what
is learned: DDP averages gradients over equal shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import numpy as np


def rank_and_size() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def together() -> None:
    """Wait until all processes are here."""
    if rank_and_size()[1] > 1:
        torch.distributed.barrier()


def share_of_rank(
    batch: np.ndarray, rank: int | None = None, size: int | None = None
) -> np.ndarray:
    """Rows of a batch that this process works on.

    Shares have equal length; a remainder is left out, and a batch of fewer rows than processes is
    given to all of them.
    """
    if rank is None or size is None:
        rank, size = rank_and_size()
    n = len(batch) // size
    return batch[rank::size][:n] if n else batch


def gathered(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows of all processes, with gradient, for losses that compare the rows of a batch."""
    if rank_and_size()[1] == 1:
        return tensors
    from torch.distributed.nn.functional import all_gather

    return tuple(torch.cat(all_gather(t.contiguous())) for t in tensors)


def log_means(plan: pl.LightningModule, size: int, **metrics: torch.Tensor) -> None:
    """Put the mean of each metric over an epoch, and over all processes, into the history."""
    for name, value in metrics.items():
        plan.log(
            name, value.detach(), on_step=False, on_epoch=True, batch_size=size, sync_dist=True
        )
