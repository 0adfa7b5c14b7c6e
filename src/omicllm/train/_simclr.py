"""Train the small patch network on unlabelled patches.

A few hundred steps on a network of 0.2 million weights: a plain loop, as for the autoencoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from omicllm._core.log import logger, progress
from omicllm._core.rng import isolated
from omicllm.nn.losses import info_nce
from omicllm.nn.simclr import PatchNetwork, optical_density, random_views

if TYPE_CHECKING:
    from torch import nn

#: Steps that the default number of epochs makes.
_STEPS = 400


class Featurizer(torch.nn.Module):
    """The trained network on patches as they are cut, (n, p, p, 3) uint8."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Features (n, d)."""
        return self.network(optical_density(patches))


def train_simclr(
    patches: np.ndarray,
    *,
    seed: int,
    max_epochs: int | None = None,
    batch_size: int = 128,
    temperature: float = 0.2,
    lr: float = 1e-3,
    show_progress: bool | None = None,
) -> tuple[nn.Module, list[float]]:
    """Train a network to recognise two random views of a patch among those of others.

    Parameters
    ----------
    patches
        uint8 (n, p, p, 3), at least 8, of training sections only.
    seed
        Of weights, batches and views; the global state is left as it was.
    max_epochs
        Passes over the patches; by default about 400 steps.
    batch_size
        Patches of a batch; half the patches where there are fewer than twice as many.
    temperature, lr
        Of the loss, and of AdamW with a cosine schedule.
    show_progress
        Draw a bar.

    Returns
    -------
    Module from patches (n, p, p, 3) to features (n, 256), in evaluation mode; loss of each epoch.

    References
    ----------
    Chen et al. 2020, A simple framework for contrastive learning of visual representations.
    """
    size = max(4, min(batch_size, len(patches) // 2))
    steps = max(1, len(patches) // size)
    epochs = max_epochs or -(-_STEPS // steps)
    data = torch.from_numpy(np.ascontiguousarray(patches))
    generator = torch.Generator().manual_seed(seed)
    history = []
    with isolated(seed):
        network = PatchNetwork().train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        for _ in progress(range(epochs), what="simclr", total=epochs, show_progress=show_progress):
            order = torch.randperm(len(data), generator=generator)[: steps * size]
            total = 0.0
            for rows in order.split(size):
                density = optical_density(data[rows])
                views = [random_views(density, generator) for _ in range(2)]
                first, second = (network.project(v) for v in views)
                loss = info_nce(first, second, temperature)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
            history.append(total / steps)
    logger.info("simclr: %d epochs, loss %.3f to %.3f", epochs, history[0], history[-1])
    return Featurizer(network).eval(), history
