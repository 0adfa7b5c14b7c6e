"""Training plans of SIGEL: pretraining (distillation or masked prediction) and refinement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F

from omicllm.nn.losses import (
    info_nce,
    neighbor_distillation,
    pseudo_contrastive,
    self_paced_target,
)
from omicllm.train._ranks import gathered, log_means

if TYPE_CHECKING:
    from collections.abc import Callable

    from omicllm.nn.masked_autoencoder import MaskedAutoencoder
    from omicllm.nn.projection import ImageProjection
    from omicllm.nn.student_t import StudentTMixture


class _Plan(pl.LightningModule):
    """Adam with a one-cycle or constant rate, and the mean loss of each epoch in the history."""

    def __init__(self, module: torch.nn.Module, *, lr: float, n_steps: int | None) -> None:
        super().__init__()
        self.module, self.lr, self.n_steps = module, lr, n_steps

    def configure_optimizers(self) -> Any:
        """Adam over what is trained; a one-cycle schedule where the number of steps is known."""
        optimizer = torch.optim.Adam(self.module.parameters(), lr=self.lr, fused=True)
        if self.n_steps is None:
            return optimizer
        total = max(2, self.n_steps + 1)
        # A warm-up of no whole step would divide by zero.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=total, pct_start=max(0.1, 2 / total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class DistillationPlan(_Plan):
    """Teach the head, shown a part of the counts, the neighbourhoods that all counts give.

    Parameters
    ----------
    module
        The encoder.
    sharpness
        Of the neighbourhoods compared (:func:`omicllm.nn.losses.neighbor_logits`).
    contrast_weight, temperature
        Weight and temperature of InfoNCE between the two halves of a gene's counts; 0 leaves it
        out.
    """

    module: ImageProjection

    def __init__(
        self,
        module: ImageProjection,
        *,
        lr: float,
        n_steps: int,
        sharpness: float,
        contrast_weight: float,
        temperature: float,
    ) -> None:
        super().__init__(module, lr=lr, n_steps=n_steps)
        self.options = {
            "sharpness": sharpness, "contrast_weight": contrast_weight, "temperature": temperature
        }  # fmt: skip

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> torch.Tensor:
        """Batch: gene numbers, projections of all counts, of one half, of the other half."""
        genes, *rest = batch
        loss, parts = distillation_loss(self.module.head, rest, **self.options)
        log_means(self, len(genes), loss=loss, **parts)
        return loss


def distillation_loss(
    head: Callable[[torch.Tensor], torch.Tensor], batch: list[torch.Tensor], *, sharpness: float,
    contrast_weight: float, temperature: float,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:  # fmt: skip
    """Loss of `DistillationPlan` over the batches of all processes, and its parts.

    `batch` holds projections of all counts, of one half and of the other half.
    """
    full, first, second = batch
    z, full = gathered(head(first), full)
    loss = neighbor_distillation(z, F.normalize(full, dim=1), sharpness)
    if not contrast_weight:
        return loss, {}
    (other,) = gathered(head(second))
    contrast = info_nce(z, other, temperature)
    return loss + contrast_weight * contrast, {"distillation": loss, "contrast": contrast}


class MaskedPlan(_Plan):
    """Masked autoencoding of gene images (SIGEL, module I).

    Parameters
    ----------
    modules
        One network per section, with shared weights.
    seed
        Of the masks.
    """

    def __init__(self, modules: torch.nn.ModuleList, *, lr: float, seed: int) -> None:
        super().__init__(modules, lr=lr, n_steps=None)
        self.modules_ = list(modules)
        self.generator = torch.Generator().manual_seed(seed)

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> torch.Tensor:
        """Batch: gene numbers, then the images of each section."""
        genes, *images = batch
        loss = masked_loss(self.modules_, images, self.generator)
        log_means(self, len(genes), loss=loss)
        return loss


def masked_loss(
    modules: list[MaskedAutoencoder], images: list[torch.Tensor], generator: torch.Generator
) -> torch.Tensor:
    """Mean over sections of the masked-prediction loss."""
    losses = [m.masked_loss(x, generator) for m, x in zip(modules, images, strict=True)]
    return torch.stack(losses).mean()


class RefinePlan(_Plan):
    """Self-paced pseudo-contrastive refinement (SIGEL, module III).

    At the start of an epoch the mixture is refitted to the embeddings and the target sharpened
    from its responsibilities; batches then draw genes towards the target, with the gradient
    through the responsibilities, beside the loss of pretraining.

    Parameters
    ----------
    module
        The encoder (or the list of networks, one per section).
    embed
        Embeds all training genes: () -> (n, d), on the CPU.
    of_batch
        Embedding of a batch, with gradient.
    other_loss
        Loss of pretraining of a batch.
    mixture
        Refitted in place.
    weight
        Weight of the pseudo-contrast.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        embed: Callable[[], torch.Tensor],
        of_batch: Callable[[list[torch.Tensor]], torch.Tensor],
        other_loss: Callable[[list[torch.Tensor], torch.Tensor], torch.Tensor],
        mixture: StudentTMixture,
        row_of_gene: torch.Tensor,
        lr: float,
        weight: float,
    ) -> None:
        super().__init__(module, lr=lr, n_steps=None)
        self.embed, self.of_batch, self.other_loss = embed, of_batch, other_loss
        self.mixture, self.weight = mixture, weight
        self.row_of_gene = row_of_gene
        self.labels: torch.Tensor | None = None

    def on_train_epoch_start(self) -> None:
        """Refit the mixture and sharpen its responsibilities; stop when labels have settled."""
        z = self.embed()
        self.mixture.fit(z, init=self.mixture if self.labels is not None else None)
        q = self.mixture.predict_proba(z)
        self.target = self_paced_target(q).to(torch.float32)
        labels = q.argmax(1)
        if self.labels is not None and bool((labels != self.labels).float().mean() < 1e-3):
            self.trainer.should_stop = True
        self.labels = labels

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> torch.Tensor:
        """Batch: gene numbers, then what the pretraining plan takes."""
        genes, *rest = batch
        z = self.of_batch(rest)
        log_q = self.mixture.log_responsibilities(z)
        target = self.target[self.row_of_gene[genes.cpu()]].to(z.device)
        pull = pseudo_contrastive(log_q, target)
        other = self.other_loss(rest, z)
        loss = other + self.weight * pull
        log_means(self, len(genes), loss=loss, pseudo_contrast=pull, pretrain_loss=other)
        return loss
