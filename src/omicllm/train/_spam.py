"""Training plans of SPAM: alignment of image, space and genes; then prediction of counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from omicllm.nn.losses import info_nce
from omicllm.spatial.measured_nearby import nearby_mean
from omicllm.train._ranks import gathered, log_means, share_of_rank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omicllm.nn.tissue_fusion import TissueFusion

#: Share of rows of a batch that are shown the expression around them (modality dropout).
_SHOWN = 0.5
#: Pretraining tasks of each mode.
MODES = {"joint": ("space", "gene"), "image-gene": ("gene",), "image-space": ("space",)}


@dataclass
class TissueTensors:
    """Everything a batch is cut from, on one device.

    Attributes
    ----------
    features, around
        (n, d) image features and their averages over neighbours.
    index, weight
        (n, K) neighbours.
    genes
        (n, g) standardised log-normalised expression.
    counts, total, values
        (n, g) counts, (n,) library sizes, (n, g) log-normalised values.
    start
        (n, g) deviations in closed form, from models that did not see the row's group.
    log_share, slope, level
        (g + 1,), (g,) and (g,): see :class:`omicllm.nn.tissue_fusion.TissueFusion`.
    """

    features: torch.Tensor
    around: torch.Tensor
    index: torch.Tensor
    weight: torch.Tensor
    genes: torch.Tensor
    counts: torch.Tensor
    total: torch.Tensor
    values: torch.Tensor
    start: torch.Tensor
    log_share: torch.Tensor
    slope: torch.Tensor
    level: torch.Tensor

    def to(self, device: Any) -> TissueTensors:
        """The same on another device."""
        return TissueTensors(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def inputs(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, averaged features of neighbours and their weights, of some rows."""
        return self.features[rows], self.around[self.index[rows]], self.weight[rows]


class _TissuePlan(pl.LightningModule):
    """AdamW with a short warm-up on batches of row numbers."""

    def __init__(
        self, module: TissueFusion, data: TissueTensors, *, lr: float, weight_decay: float
    ) -> None:
        super().__init__()
        self.module, self.data = module, data
        self.lr, self.weight_decay = lr, weight_decay

    def configure_optimizers(self) -> Any:
        """AdamW; the rate rises over the first ten steps."""
        optimizer = torch.optim.AdamW(
            self.trained_parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / 10))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm, "interval": "step"}}

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """What the optimiser changes."""
        return list(self.module.parameters())

    def on_fit_start(self) -> None:
        """Put the data where the network is."""
        self.data = self.data.to(self.device)


class AlignmentPlan(_TissuePlan):
    """Contrast an observation's image with its genes and with the tissue around it.

    Parameters
    ----------
    tasks
        Of ``"gene"`` and ``"space"``. The tissue around is a graph convolution over the
        neighbours alone: with the observation itself in it, copying would solve the task.
    temperature
        Of InfoNCE.
    """

    def __init__(
        self, module: TissueFusion, data: TissueTensors, tasks: tuple[str, ...],
        *, lr: float, weight_decay: float, temperature: float,
    ) -> None:  # fmt: skip
        super().__init__(module, data, lr=lr, weight_decay=weight_decay)
        self.tasks, self.temperature = tasks, temperature

    def inputs(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, averaged features of neighbours and their weights, of some rows."""
        return self.data.inputs(rows)

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> torch.Tensor:
        """Batch: row numbers."""
        (rows,) = batch[:1]
        features, around, weight = self.inputs(rows)
        image = self.module.image(features)
        losses = {}
        if "gene" in self.tasks:
            genes = self.module.genes(self.data.genes[rows]).mean(1)
            mine, other = gathered(image, genes)
            losses["gene"] = info_nce(mine, other, self.temperature)
        if "space" in self.tasks:
            space = self.module.space(around, weight)[1]
            mine, other = gathered(image, space)
            losses["space"] = info_nce(mine, other, self.temperature)
        loss = torch.stack(list(losses.values())).sum()
        log_means(self, len(rows), loss=loss, **losses)
        return loss


class CountPlan(_TissuePlan):
    """Teach the network what the closed-form prediction misses, by the likelihood of counts.

    Parameters
    ----------
    watched
        Rows that are held out, on which the added deviations are compared with what is missing
        after each epoch; none watches nothing.
    patience
        Epochs without a better one after which training stops.

    Attributes
    ----------
    cross, square, missing
        After each epoch (and before the first): sums over held-out rows of added deviation times
        what the start misses, of the square of the added deviation; and, once, of the square of
        what the start misses.
    """

    def __init__(
        self, module: TissueFusion, data: TissueTensors, watched: np.ndarray,
        sections: np.ndarray, *, lr: float, weight_decay: float, patience: int,
    ) -> None:  # fmt: skip
        super().__init__(module, data, lr=lr, weight_decay=weight_decay)
        self.watched, self.patience = torch.from_numpy(watched), patience
        self.section = torch.from_numpy(sections)
        self.cross: list[float] = []
        self.square: list[float] = []
        self.missing = 0.0

    def loss(self, rows: torch.Tensor, genes: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean negative log-likelihood of some rows."""
        d = self.data
        added = self.module.deviation(self.module.fuse(*d.inputs(rows), genes, known))
        start = d.start[rows]
        rates = self.module.rates(start, added, d.log_share, d.slope)
        likelihood = self.module.log_likelihood(
            d.counts[rows], d.total[rows], rates, d.values[rows], d.level + start + added
        )
        return -likelihood.mean()

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> torch.Tensor:
        """Batch: row numbers, expression around each, whether it is shown."""
        loss = self.loss(*batch)
        log_means(self, len(batch[0]), loss=loss)
        return loss

    def on_train_start(self) -> None:
        """Score the start."""
        self._watch()

    def on_train_epoch_end(self) -> None:
        """Score the epoch, and stop when nothing has improved for long."""
        self._watch()
        gains = [blended(c, s)[1] for c, s in zip(self.cross, self.square, strict=True)]
        if len(self.watched) and len(gains) - 1 - int(np.argmax(gains)) >= self.patience:
            self.trainer.should_stop = True

    def _watch(self) -> None:
        if not len(self.watched):
            return
        self.module.eval()
        rows = self.watched.to(self.device)
        code = self.section.to(self.device)[rows]
        with torch.no_grad():
            added = self.module.deviation(fused_without_genes(self.module, self.data, rows))
            left = self.data.values[rows] - self.data.start[rows]
            for s in torch.unique(code):
                mine = code == s
                added[mine] = added[mine] - added[mine].mean(0)
                left[mine] = left[mine] - left[mine].mean(0)
        self.cross.append(float((added * left).sum()))
        self.square.append(float(added.square().sum()))
        self.missing = float(left.square().sum())
        self.module.train()


def blended(cross: float, square: float) -> tuple[float, float]:
    """Share (0 to 1) of an added deviation that is best, and how much squared error it takes."""
    share = float(np.clip(cross / max(square, 1e-12), 0, 1))
    return share, 2 * share * cross - share**2 * square


def fused_without_genes(
    module: TissueFusion, data: TissueTensors, rows: torch.Tensor, block: int = 2048
) -> torch.Tensor:
    """Fused states (b, width) of rows of which no expression is shown."""
    out = []
    for part in rows.split(block):
        genes = data.genes.new_zeros(len(part), data.genes.shape[1])
        known = torch.zeros(len(part), dtype=torch.bool, device=genes.device)
        out.append(module.fuse(*data.inputs(part), genes, known))
    return torch.cat(out)


def start_head(
    module: TissueFusion, data: TissueTensors, rows: torch.Tensor, penalty: float = 0.3
) -> None:
    """Set the head to the ridge regression of what the start misses on the fused states.

    Parameters
    ----------
    rows
        Training rows.
    penalty
        In units of the number of rows.
    """
    module.eval()
    with torch.no_grad():
        Z = fused_without_genes(module, data, rows).double()
        left = (data.values[rows] - data.level - data.start[rows]).double()
        S = left @ module.axes.double()
        mean = Z.mean(0)
        Z, S = Z - mean, S - S.mean(0)
        gram = Z.T @ Z + penalty * len(rows) * torch.eye(Z.shape[1], dtype=Z.dtype)
        B = torch.linalg.solve(gram, Z.T @ S)
        module.head.weight.copy_(B.T)
        module.head.bias.copy_(-(mean @ B))


class _Rows(IterableDataset):
    """What one epoch shows: batches of row numbers, and the expression around some rows."""

    def __init__(
        self, rows: np.ndarray, batch_size: int, seed: int, around: tuple[np.ndarray, ...] | None
    ) -> None:
        self.rows, self.batch_size, self.seed, self.around = rows, batch_size, seed, around
        self.n_done = 0

    def __len__(self) -> int:
        return max(1, round(len(self.rows) / self.batch_size))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        rng = np.random.default_rng([self.seed, self.n_done])
        self.n_done += 1
        shown = None
        if self.around is not None:
            genes, coords, sections = self.around
            measured = np.zeros(len(genes), dtype=bool)
            measured[self.rows] = rng.random(len(self.rows)) < rng.uniform(0.05, 1.0)
            shown = nearby_mean(genes, measured, coords, sections)
        for batch in np.array_split(rng.permutation(self.rows), len(self)):
            mine = share_of_rank(np.arange(len(batch)))
            out = [torch.from_numpy(batch[mine])]
            if shown is not None:
                known = shown[1][batch] & (rng.random(len(batch)) < _SHOWN)
                out += [torch.from_numpy(shown[0][batch[mine]]), torch.from_numpy(known[mine])]
            yield tuple(out)


class RowData(pl.LightningDataModule):
    """Batches of row numbers, reshuffled every epoch.

    Parameters
    ----------
    rows
        Training rows.
    batch_size, seed
        Rows in a batch, and seed of the order.
    around
        Standardised expression, coordinates and sections of all rows: each epoch shows half of
        the rows the expression around them, measured in a random share of the section. Without,
        batches are row numbers alone.
    """

    def __init__(
        self, rows: np.ndarray, batch_size: int, seed: int,
        around: tuple[np.ndarray, ...] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.batches = _Rows(rows, batch_size, seed, around)

    def train_dataloader(self) -> DataLoader:
        """One loader over ready-made batches."""
        return DataLoader(self.batches, batch_size=None)
