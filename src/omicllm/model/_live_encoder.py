"""An image encoder that a model runs itself, with low-rank adapters where they are asked for."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from omicllm._core import optional
from omicllm._core import rng as rngs
from omicllm.nn.patch_encoder import PatchEncoder
from omicllm.train._spam_live import LiveAlignmentPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omicllm.model._spam_data import Tissue
    from omicllm.nn.tissue_fusion import TissueFusion
    from omicllm.stats.program_regression import ProgramRegression
    from omicllm.train._spam import TissueTensors

_BLOCK = 64


def lora_options(lora: bool | Mapping[str, Any]) -> dict[str, Any] | None:  # noqa: FBT001
    """Arguments of :class:`peft.LoraConfig`, or None without adapters."""
    if lora is False or lora is None:
        return None
    if lora is not True and not hasattr(lora, "items"):
        msg = f"lora must be True, False or a dict of arguments of peft.LoraConfig, not {lora!r}."
        raise TypeError(msg)
    return {"r": 16, "lora_alpha": 32} | ({} if lora is True else dict(lora))


class LiveEncoder:
    """Features of patches by a module, whose adapters can be trained.

    Parameters
    ----------
    module
        Takes what `transform` gives and returns (n, d). With adapters a copy of it is worked on;
        its own weights are never changed, and it stays in evaluation mode.
    transform
        Function from patches uint8 (n, p, p, 3) to the input; by default ImageNet's colours.
    lora
        True or arguments of :class:`peft.LoraConfig`: adapters on all linear layers.
    seed
        Of the adapters' starting weights.
    """

    def __init__(
        self, module: nn.Module, transform: Callable[[np.ndarray], torch.Tensor] | None,
        lora: bool | Mapping[str, Any], seed: int,  # noqa: FBT001
    ) -> None:  # fmt: skip
        if not isinstance(module, nn.Module):
            msg = f"encoder must be a torch module, not {type(module).__name__}."
            raise TypeError(msg)
        options = lora_options(lora)
        self.fingerprint = _fingerprint(module)
        self.adapted = options is not None
        if options is not None:
            peft = optional.require("peft", extra="llm", why="Training adapters (lora=)")
            linear = _adaptable(module)
            if not linear and "target_modules" not in options:
                msg = "lora= adapts linear layers, and the encoder has none: name target_modules."
                raise ValueError(msg)
            config = peft.LoraConfig(**{"target_modules": linear} | options)
            with rngs.isolated(seed):
                module = peft.inject_adapter_in_model(config, copy.deepcopy(module))
            for part in module.modules():
                if isinstance(part, nn.TransformerEncoderLayer):
                    # Its fast path reads the weights of linear layers past their adapters.
                    part.activation_relu_or_gelu = 0
        self.module = module
        self.encode = PatchEncoder(module, transform=transform)
        self._made: dict[bytes, np.ndarray] = {}

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Features float32 (n, d) of patches uint8 (n, p, p, 3); those of the last two are kept."""
        patches = np.ascontiguousarray(patches)
        key = hashlib.blake2b(patches.data, person=repr(patches.shape).encode()[:16]).digest()
        if key not in self._made:
            blocks = [self.encode(patches[i : i + _BLOCK])
                      for i in range(0, len(patches), _BLOCK)]  # fmt: skip
            if any(b.ndim != 2 for b in blocks):
                msg = f"The encoder must return (n, d) features, not {blocks[0].shape}."
                raise ValueError(msg)
            self._made = dict(list(self._made.items())[-1:])
            self._made[key] = np.concatenate(blocks)
        return self._made[key]

    def parameters(self) -> list[nn.Parameter]:
        """Weights of the adapters."""
        return [p for n, p in self.module.named_parameters() if "lora_" in n]

    def forget(self) -> None:
        """Drop features that were made; to be called when adapters have changed."""
        self._made = {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Adapters by name."""
        state = self.module.state_dict()
        return {k: v.detach().cpu().numpy() for k, v in state.items() if "lora_" in k}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back adapters that :meth:`arrays` gave.

        Raises
        ------
        ValueError
            Adapters of another encoder.
        """
        mine = {k: v.shape for k, v in self.arrays().items()}
        if mine != {k: v.shape for k, v in arrays.items()}:
            msg = (
                f"Weights of another architecture: {len(arrays)} adapters were saved, this encoder "
                f"has {len(mine)}, or they differ in shape."
            )
            raise ValueError(msg)
        state = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
        self.module.load_state_dict(state, strict=False)
        self.forget()


def _adaptable(module: nn.Module) -> list[str]:
    """Linear layers that are called; torch's attention reads the weights of its own instead."""
    hidden = {id(part) for m in module.modules() if isinstance(m, nn.MultiheadAttention)
              for part in m.modules()}  # fmt: skip
    return [
        n for n, m in module.named_modules() if isinstance(m, nn.Linear) and id(m) not in hidden
    ]


def _fingerprint(module: nn.Module) -> str:
    """Hash of the weights of a module."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def live_plan(
    live: LiveEncoder, module: TissueFusion, tensors: TissueTensors, tasks: tuple[str, ...],
    tissue: Tissue, regression: ProgramRegression, patches: np.ndarray | None,
    how: dict[str, Any],
) -> LiveAlignmentPlan:  # fmt: skip
    """Alignment that runs the encoder in every step; features are scaled as in `regression`."""
    assert patches is not None
    means = np.stack([tissue.features[rows].mean(axis=0) for rows in tissue.rows()])
    mean, scale = (torch.from_numpy(v.astype(np.float32))
                   for v in (means[tissue.sections], regression.scale_["own"]))  # fmt: skip
    rotation = regression.rotation_.get("own", np.eye(len(scale)))
    turn = torch.from_numpy(rotation.astype(np.float32))

    def design(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        x = (features - mean.to(features.device)[rows]) / scale.to(features.device)
        return (x @ turn.to(features.device)).clamp(-10, 10)

    return LiveAlignmentPlan(
        module, tensors, tasks, encoder=live.module, transform=live.encode.transform,
        patches=patches, design=design, **how,
    )  # fmt: skip
