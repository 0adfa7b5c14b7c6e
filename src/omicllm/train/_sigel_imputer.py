"""Training plan of the imputing generator of SIGEL: reconstruction against a critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F

from omicllm.train._ranks import log_means

if TYPE_CHECKING:
    from omicllm.nn.memory_attention import ImageCritic, MemoryAttention


class AdversarialPlan(pl.LightningModule):
    """Train a generator to redraw measured genes that it may not read, and to please a critic.

    Parameters
    ----------
    generator, critic
        The networks; both are trained.
    adversarial_weight
        Weight of the critic's score in the generator's loss; 0 leaves the critic untrained.
    lr, critic_lr
        Learning rates of AdamW (generator) and RMSprop (critic).
    weight_decay
        Of the generator.
    """

    def __init__(
        self,
        generator: MemoryAttention,
        critic: ImageCritic,
        *,
        adversarial_weight: float,
        lr: float,
        critic_lr: float,
        weight_decay: float,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = generator, critic
        self.adversarial_weight, self.lr, self.critic_lr = adversarial_weight, lr, critic_lr
        self.weight_decay = weight_decay

    def configure_optimizers(self) -> Any:
        """One optimiser for each network."""
        return [
            torch.optim.AdamW(
                self.generator.parameters(), lr=self.lr, weight_decay=self.weight_decay
            ),
            torch.optim.RMSprop(self.critic.parameters(), lr=self.critic_lr),
        ]

    def training_step(self, batch: tuple[torch.Tensor, ...], _: int) -> None:
        """Batch: gene numbers in the memory, their embeddings, those of the memory."""
        genes, z, memory = batch
        of_generator, of_critic = self.optimizers()
        real = self.generator.images[genes]
        drawn = self.generator(z, memory, genes)
        loss = error = F.mse_loss(drawn, real)
        metrics = {"error": error}
        if self.adversarial_weight:
            hinge = (
                F.relu(1.0 - self.critic(real)).mean()
                + F.relu(1.0 + self.critic(drawn.detach())).mean()
            )
            of_critic.zero_grad()
            self.manual_backward(hinge)
            of_critic.step()
            loss = error - self.adversarial_weight * self.critic(drawn).mean()
            metrics["critic"] = hinge
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()
        log_means(self, len(genes), loss=loss, **metrics)
