"""Patches through a frozen network: input, device, no gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from omicllm.nn.genome_embedding import evaluated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Mean and standard deviation of the colours of ImageNet, by which most encoders scale patches.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def colour_transform(
    mean: Sequence[float] = IMAGENET[0], std: Sequence[float] = IMAGENET[1]
) -> Callable[[np.ndarray], torch.Tensor]:
    """Function from patches uint8 (n, p, p, 3) to standardised float32 (n, 3, p, p)."""
    middle = torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1)
    spread = torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1)

    def transform(patches: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(patches)).permute(0, 3, 1, 2)
        return (values.float() / 255 - middle) / spread

    return transform


class PatchEncoder:
    """Features of patches by a module in evaluation mode.

    The modes of all its parts and its device come back, also after an error.

    Parameters
    ----------
    module
        Takes what `transform` gives and returns (n, d).
    transform
        Function from patches uint8 (n, p, p, 3) to the input; by default ImageNet's colours.
    accelerator
        ``"auto"`` (where the module is), ``"cpu"``, ``"gpu"`` or ``"mps"``.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        transform: Callable[[np.ndarray], torch.Tensor] | None = None,
        accelerator: str = "auto",
    ) -> None:
        self.module = module
        self.transform = transform or colour_transform()
        self.accelerator = accelerator

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Features float32 (n, d) of patches uint8 (n, p, p, 3)."""
        device = _device(self.accelerator, _device_of(self.module))
        with evaluated(self.module, device), torch.inference_mode():
            out = self.module(self.transform(patches).to(device))
        return out.float().cpu().numpy()


def _device_of(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _device(accelerator: str, home: torch.device) -> torch.device:
    if accelerator == "auto":
        if home.type == "cpu" and torch.cuda.is_available():
            return torch.device("cuda")
        return home
    return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
