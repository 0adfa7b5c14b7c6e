"""Training of expression models on personal sequences: pairs of people, plan, best weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from omicllm.nn.genome_embedding import both_strands
from omicllm.nn.genome_input import reverse_complement
from omicllm.nn.personal_losses import pair_accuracy, strategy_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omicllm.nn.personal_network import PersonalNetwork

    #: Gene -> tokens of its distinct haplotypes and rows of each person.
    Sequences = Callable[[int], tuple[np.ndarray, np.ndarray]]

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class PersonalSampler:
    """Draws people, or pairs of people, gene by gene.

    Parameters
    ----------
    sequences
        Gene -> (tokens int8 (n_unique, length), index (n_people, 2)).
    target
        (n_people, n_genes): what predictions are compared with.
    part
        bool (n_people, n_genes): who may be drawn.
    pairs
        Draw pairs; else single people.
    min_gap
        Least difference of percentile (0 to 100) between the two of a pair.
    """

    def __init__(
        self, sequences: Sequences, target: np.ndarray, part: np.ndarray, *, pairs: bool,
        min_gap: float = 0.0,
    ) -> None:  # fmt: skip
        self.sequences, self.target, self.pairs, self.min_gap = sequences, target, pairs, min_gap
        self.people = [np.flatnonzero(column) for column in part.T]
        least = 2 if pairs else 1
        self.genes = np.array([g for g, p in enumerate(self.people) if len(p) >= least], dtype=int)

    def draw(self, g: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """People of `n` items at most: int (k, 2) or (k, 1)."""
        people = self.people[g]
        if not self.pairs:
            return rng.permutation(people)[:n, None]
        first = rng.integers(0, len(people), 4 * n)
        second = (first + rng.integers(1, len(people), 4 * n)) % len(people)
        if self.min_gap:
            order = np.argsort(np.argsort(self.target[people, g]))
            percentile = 100 * (order + 1) / len(people)
            kept = np.abs(percentile[first] - percentile[second]) > self.min_gap
            first, second = first[kept], second[kept]
        return np.stack([people[first], people[second]], axis=1)[:n]

    def batch(
        self, items: list[tuple[int, np.ndarray]], rng: np.random.Generator | None, shift: int
    ) -> Batch:
        """Distinct haplotypes of a batch, which of them each item needs, and targets.

        With `rng`, each gene is turned to the other strand with probability 1/2 and shifted by up
        to `shift` bases, all its haplotypes alike; what is shifted in is unknown (N).

        Returns
        -------
        int8 (n, length), int64 (items, people, 2), float32 (items, people).
        """
        rows, index, target, n = [], [], [], 0
        for g, people in items:
            tokens, which = self.sequences(g)
            used, at = np.unique(which[people], return_inverse=True)
            x = torch.from_numpy(np.ascontiguousarray(tokens[used]))
            if rng is not None:
                x = shifted(x, int(rng.integers(-shift, shift + 1)))
                if rng.random() < 0.5:
                    x = reverse_complement(x)
            rows.append(x)
            index.append(torch.from_numpy(at.reshape(*people.shape, 2)) + n)
            target.append(self.target[people, g])
            n += len(used)
        y = torch.from_numpy(np.concatenate(target).astype(np.float32))
        return torch.cat(rows), torch.cat(index), y


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """Tokens (n, length) moved right by `by` bases; N where nothing is left."""
    if by == 0:
        return x
    out = torch.full_like(x, 4)
    if by > 0:
        out[:, by:] = x[:, :-by]
    else:
        out[:, :by] = x[:, -by:]
    return out


class _Items(IterableDataset):
    """Batches of one epoch; the same for one seed, other in every epoch unless fixed."""

    def __init__(
        self, sampler: PersonalSampler, *, per_gene: int, batch_size: int, genes_per_batch: int,
        seed: int, shift: int, fixed: bool,
    ) -> None:  # fmt: skip
        self.sampler, self.per_gene, self.seed, self.shift = sampler, per_gene, seed, shift
        self.chunk = max(1, batch_size // genes_per_batch)
        self.genes_per_batch, self.fixed, self.n_done = genes_per_batch, fixed, 0
        self.n_batches = len(self._plan(np.random.default_rng([seed, 0])))

    def _plan(self, rng: np.random.Generator) -> list[list[tuple[int, np.ndarray]]]:
        items = []
        for g in self.sampler.genes.tolist():
            people = self.sampler.draw(g, self.per_gene, rng)
            # By the number asked for, so that every epoch has as many batches.
            n = self.per_gene if self.sampler.pairs else len(people)
            pieces = max(1, round(n / self.chunk))
            items += [(g, piece) for piece in np.array_split(people, pieces) if len(piece)]
        order = np.arange(len(items)) if self.fixed else rng.permutation(len(items))
        n = -(-len(items) // self.genes_per_batch)
        return [[items[i] for i in some] for some in np.array_split(order, n)] if n else []

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, 0 if self.fixed else self.n_done])
        self.n_done += 1
        rank, world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        plan = self._plan(rng)
        # Every process draws for all, so that all agree; one keeps its share of whole batches.
        for items in plan[rank : len(plan) // world * world or None : world]:
            yield self.sampler.batch(items, None if self.fixed else rng, self.shift)

    def __len__(self) -> int:
        world = 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            world = torch.distributed.get_world_size()
        return max(1, self.n_batches // world)


class PersonalData(pl.LightningDataModule):
    """Feeds the plan with pairs of people.

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
    """

    def __init__(
        self, train: PersonalSampler, val: PersonalSampler | None, *, per_gene: int,
        val_per_gene: int, batch_size: int, genes_per_batch: int, seed: int, shift: int,
    ) -> None:  # fmt: skip
        super().__init__()
        size: dict[str, Any] = {"batch_size": batch_size, "genes_per_batch": genes_per_batch}
        self._train = _Items(
            train, per_gene=per_gene, seed=seed, shift=shift, fixed=False, **size
        )  # fmt: skip
        self._val = None
        if val is not None and len(val.genes):
            self._val = _Items(
                val, per_gene=val_per_gene, seed=seed + 1, shift=0, fixed=True, **size
            )

    def train_dataloader(self) -> DataLoader:
        """Batches as the data set makes them."""
        return DataLoader(self._train, batch_size=None)

    def val_dataloader(self) -> Any:
        """The fixed items; nothing where nobody validates."""
        return [] if self._val is None else DataLoader(self._val, batch_size=None)


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
    """

    def __init__(
        self, network: PersonalNetwork, *, strategy: str, lr: float, weight_decay: float,
        warmup: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
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

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Loss of a batch."""
        tokens, index, target = batch
        predicted = self.network(tokens)[index].mean(dim=-1)
        loss = strategy_loss(self.strategy, predicted, target)
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(index))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Loss and accuracy, mean of both strands."""
        tokens, index, target = batch
        values = both_strands(self.network, tokens, both=True)
        predicted = values[index].mean(dim=-1)
        found = {"val_loss": strategy_loss(self.strategy, predicted, target)}
        if predicted.shape[1] == 2:
            found["val_accuracy"] = pair_accuracy(predicted, target)
        for name, value in found.items():
            self.log(name, value, on_epoch=True, batch_size=len(index), sync_dist=True)


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
