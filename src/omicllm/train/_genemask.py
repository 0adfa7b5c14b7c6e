"""Training of `model.GeneMaskLM`: batches of masked or labelled rows, and the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from omicllm.train._ranks import log_means

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omicllm.nn.kmer_bert import KmerBert


class _Steps(IterableDataset):
    """A fixed number of batches per epoch, from a stream that goes on over epochs."""

    def __init__(self, batches: Iterator[Any], n_steps: int) -> None:
        self.batches, self.n_steps, self.n_done = batches, n_steps, 0

    def skip(self, n: int) -> None:
        """Pass over the batches that an earlier run has shown."""
        for _ in range(n):
            next(self.batches)
        self.n_done = n

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.n_steps):
            self.n_done += 1
            yield next(self.batches)


class BatchData(pl.LightningDataModule):
    """Feeds ready-made batches.

    Parameters
    ----------
    batches
        Called with the number of this process and how many there are; gives an endless iterator
        over pairs of int64 arrays: token ids, and labels of tokens or rows.
    n_steps
        Batches in an epoch.
    """

    def __init__(self, batches: Callable[[int, int], Iterator[Any]], n_steps: int) -> None:
        super().__init__()
        self.batches, self.n_steps = batches, n_steps
        self._steps: _Steps | None = None
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """Batches shown so far, for a checkpoint."""
        return {"n_batches": 0 if self._steps is None else self._steps.n_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches an interrupted run has shown."""
        self._seen = state["n_batches"]

    def train_dataloader(self) -> DataLoader:
        """One loader over ready-made steps."""
        trainer = self.trainer
        rank, size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        stream = (tuple(torch.from_numpy(a) for a in pair) for pair in self.batches(rank, size))
        self._steps = _Steps(stream, self.n_steps)
        self._steps.skip(self._seen)
        return DataLoader(self._steps, batch_size=None)


class KmerBertPlan(pl.LightningModule):
    """AdamW with linear warm-up and decay, on masked tokens or on classes.

    Parameters
    ----------
    module
        The network.
    task
        ``"mask"`` or ``"class"``.
    lr, weight_decay
        Of AdamW; betas .9 and .98, epsilon 1e-6; no decay of biases and layer norms.
    n_steps, warmup
        Steps in all, and the share of them in which the rate rises.
    """

    def __init__(
        self,
        module: KmerBert,
        *,
        task: str,
        lr: float,
        weight_decay: float,
        n_steps: int,
        warmup: float,
    ) -> None:
        super().__init__()
        self.module, self.task = module, task
        self.lr, self.weight_decay = lr, weight_decay
        self.n_steps, self.warmup = n_steps, warmup

    def configure_optimizers(self) -> Any:
        """AdamW, and its schedule by step."""
        named = [p for p in self.module.named_parameters() if p[1].requires_grad]
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.98), eps=1e-6)
        rise = max(1, round(self.warmup * self.n_steps))

        def rate(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return max(0.0, (self.n_steps - step) / max(1, self.n_steps - rise))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        """Loss of one batch."""
        ids, labels = batch
        if self.task == "mask":
            loss = self.module.masked_loss(ids, labels)
        else:
            loss = torch.nn.functional.cross_entropy(self.module.class_scores(ids).float(), labels)
        log_means(self, len(ids), loss=loss)
        return loss
