"""The state of training on disk, so that a killed run can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning.pytorch as pl

from omicllm.train._ranks import rank_and_size

if TYPE_CHECKING:
    from pathlib import Path


class KeepLast(pl.Callback):
    """Keep the state after the last epoch: weights, optimiser, schedule and data seen.

    Parameters
    ----------
    folder
        Where ``last.ckpt`` lies; it is whole at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"

    def on_train_epoch_end(self, trainer: pl.Trainer, plan: pl.LightningModule) -> None:
        """Write the state, then put it in place of the one before."""
        fresh = self.path.with_suffix(".part")
        trainer.save_checkpoint(fresh)  # a matter of all processes, of which one writes
        if rank_and_size()[0] == 0:
            fresh.replace(self.path)
