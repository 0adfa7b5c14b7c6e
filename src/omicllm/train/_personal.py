"""Training of expression models on personal sequences: data, plan, best weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from omicllm.nn.genome_embedding import both_strands
from omicllm.nn.personal_losses import (
    measured_error,
    pair_accuracy,
    poisson_nll,
    strategy_loss,
    weighted_sum,
)
from omicllm.train._personal_batches import PersonalItems, PersonalSampler
from omicllm.train._personal_joint import RowBatches, Together
from omicllm.train._ranks import log_means

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omicllm.nn.personal_network import PersonalNetwork


class PersonalData(pl.LightningDataModule):
    """Feeds the plan with pairs of people, and with other data beside them.

    Parameters
    ----------
    train, val
        Samplers; None or one without genes for no validation.
    per_gene, val_per_gene
        Items of a gene in an epoch; those of validation are fixed.
    batch_size
        Items in a batch.
    genes_per_batch
        Genes that share a batch. Items of a gene share haplotypes, which run once.
    seed
        Seed.
    shift
        Largest shift.
    others, val_others
        Name -> (rows to tensors, numbers of the rows, batch size) of other data.
    longest
        An epoch is as long as the longest source needs, while the others begin anew; else as long
        as the pairs need.
    """

    def __init__(
        self, train: PersonalSampler, val: PersonalSampler | None, *, per_gene: int,
        val_per_gene: int, batch_size: int, genes_per_batch: int, seed: int, shift: int,
        others: Mapping[str, Any] | None = None, val_others: Mapping[str, Any] | None = None,
        longest: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        size: dict[str, Any] = {"batch_size": batch_size, "genes_per_batch": genes_per_batch}
        sources: dict[str, Any] = {
            "pair": PersonalItems(
                train, per_gene=per_gene, seed=seed, shift=shift, fixed=False, **size
            )
        }
        held: dict[str, Any] = {}
        if val is not None and len(val.genes):
            held["pair"] = PersonalItems(
                val, per_gene=val_per_gene, seed=seed + 1, shift=0, fixed=True, **size
            )
        for out, given in ((sources, others), (held, val_others)):
            for i, (name, (make, rows, n)) in enumerate((given or {}).items()):
                out[name] = RowBatches(
                    make, rows, batch_size=n, seed=[seed, 1 + i], fixed=out is held
                )
        self._train = Together(sources, list(sources) if longest else ["pair"])
        self._val = {name: Together({name: source}, [name]) for name, source in held.items()}

    def train_dataloader(self) -> DataLoader:
        """Batches as the data set makes them."""
        return DataLoader(self._train, batch_size=None)

    def val_dataloader(self) -> Any:
        """The fixed items, source by source; nothing where nobody validates."""
        return [DataLoader(source, batch_size=None) for source in self._val.values()]


class PersonalPlan(pl.LightningModule):
    """AdamW with warm-up and cosine decay on the loss of a strategy.

    Parameters
    ----------
    network
        The network; a haplotype in, a number out.
    strategy
        Which loss (:func:`omicllm.nn.personal_losses.strategy_loss`).
    lr, weight_decay
        Of AdamW.
    warmup
        Steps of linear warm-up, before a cosine to 0; None keeps the rate.
    weights
        Weight of each loss where several are added: ``"pair"``, species of tracks, ``"track"``,
        ``"mpra"``; 1 where none is given.
    """

    def __init__(
        self, network: PersonalNetwork, *, strategy: str, lr: float, weight_decay: float,
        warmup: int | None, weights: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weights = dict(weights or {})
        self.network, self.strategy, self.warmup = network, strategy, warmup
        self.lr, self.weight_decay = lr, weight_decay

    def configure_optimizers(self) -> Any:
        """AdamW on what is not frozen."""
        weights = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=self.weight_decay)
        if self.warmup is None:
            return optimizer
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = min(self.warmup, total // 5)

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / max(1, total - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Training mode: Lightning leaves modules in the mode they are in."""
        self.network.train()

    def losses(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Loss of each source in a batch, by name, before weighting.

        ``"pair"``: that of the strategy. A species of tracks: Poisson. ``"track"``: the same of
        the one track that predicts expression, once more. ``"mpra"``: squared error of what was
        measured.
        """
        out = {}
        for name, data in batch.items():
            if name == "pair":
                tokens, index, target = data
                predicted = self.network(tokens)[index].mean(dim=-1)
                out["pair"] = strategy_loss(self.strategy, predicted, target)
            elif name == "mpra":
                ref, alt, effects = data
                out["mpra"] = measured_error(self.network.effects(ref, alt), effects)
            else:
                tokens, observed = data
                rates = self.network.tracks(tokens, name)
                out[name] = poisson_nll(rates, observed)
                joint: Any = self.network.joint
                one = joint.described[name].get("track")
                if one is not None:
                    out["track"] = poisson_nll(rates[..., one], observed[..., one])
        return out

    def training_step(self, batch: Mapping[str, Any], _: int) -> torch.Tensor:
        """Weighted sum of the losses of a batch."""
        losses = self.losses(batch)
        total = weighted_sum(losses, self.weights)
        shown = {"loss": total, **({} if len(losses) == 1 else losses)}
        log_means(self, len(batch["pair"][1]), **shown)
        return total

    def validation_step(self, batch: Mapping[str, Any], _: int, dataloader_idx: int = 0) -> None:
        """Loss and accuracy of pairs, mean of both strands; losses of other data."""
        del dataloader_idx
        found: dict[str, torch.Tensor] = {}
        if "pair" in batch:
            tokens, index, target = batch["pair"]
            values = both_strands(self.network, tokens, both=True)
            predicted = values[index].mean(dim=-1)
            found["val_loss"] = strategy_loss(self.strategy, predicted, target)
            if predicted.shape[1] == 2:
                found["val_accuracy"] = pair_accuracy(predicted, target)
            size = len(index)
        else:
            found = {f"val_{name}": value for name, value in self.losses(batch).items()}
            size = len(next(iter(batch.values()))[0])
        for name, value in found.items():
            self.log(
                name, value, on_epoch=True, batch_size=size, sync_dist=True,
                add_dataloader_idx=False,
            )  # fmt: skip


class KeepBest(pl.Callback):
    """Keep the weights of the best epoch, and stop when none was better for a while.

    Parameters
    ----------
    monitor
        Metric.
    largest
        Whether more is better.
    patience
        Epochs without a better one; None never stops.
    """

    def __init__(self, monitor: str, *, largest: bool, patience: int | None) -> None:
        self.monitor, self.sign, self.patience = monitor, -1.0 if largest else 1.0, patience
        self.best, self.epoch = math.inf, -1
        self.state: dict[str, torch.Tensor] | None = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the best weights back, in every process that trained."""
        del trainer
        if self.state is not None:
            network: Any = pl_module.network
            network.load_state_dict(self.state)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, keep, stop."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.epoch = value, trainer.current_epoch
            network: Any = pl_module.network
            self.state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        elif self.patience is not None and trainer.current_epoch - self.epoch >= self.patience:
            trainer.should_stop = True
