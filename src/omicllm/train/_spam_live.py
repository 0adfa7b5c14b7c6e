"""Alignment of SPAM with an encoder that is run on patches, whose adapters are trained along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from omicllm.train._spam import AlignmentPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from omicllm.nn.tissue_fusion import TissueFusion
    from omicllm.train._spam import TissueTensors


class LiveAlignmentPlan(AlignmentPlan):
    """As :class:`AlignmentPlan`, with image features made from patches in every step.

    The encoder stays in evaluation mode and only its adapters are trained. Means of sections, by
    which features are centred, and averages over neighbours are those of the encoder before.

    Parameters
    ----------
    encoder
        Module with adapters.
    transform
        Function from patches uint8 (n, p, p, 3) to its input.
    patches
        (n, p, p, 3).
    design
        Function from features (b, d) and rows to the standardised features that the network reads.
    """

    def __init__(
        self, module: TissueFusion, data: TissueTensors, tasks: tuple[str, ...], *,
        encoder: torch.nn.Module, transform: Callable[[np.ndarray], torch.Tensor],
        patches: np.ndarray, design: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(module, data, tasks, **kwargs)
        self.encoder, self.transform, self.patches, self.design = (
            encoder, transform, patches, design,
        )  # fmt: skip

    def on_train_epoch_start(self) -> None:
        """Keep dropout and running means of the encoder as they are in prediction."""
        self.encoder.eval()

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """Weights of the network and of the adapters."""
        adapters = [p for n, p in self.encoder.named_parameters() if "lora_" in n]
        return [*super().trained_parameters(), *adapters]

    def inputs(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Live features of rows in place of those made before."""
        features, around, weight = super().inputs(rows)
        x = self.transform(self.patches[rows.cpu().numpy()]).to(self.device)
        own = self.design(self.encoder(x).float(), rows)
        # What follows the image features is where the row lies.
        return torch.cat([own, features[:, own.shape[1] :]], 1), around, weight
