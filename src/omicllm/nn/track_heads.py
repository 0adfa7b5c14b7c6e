"""What Enformer and Borzoi share: predicted tracks, checkpointed blocks, transformer layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    import numpy as np


class Residual(nn.Module):
    """``x + fn(x)``."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        return x + self.fn(x)


def transformer_layer(
    dim: int, attention: nn.Module, *, dropout: float, eps: float = 1e-5
) -> nn.Sequential:
    """Attention and a network of twice the width, each after a norm and added to its input."""
    return nn.Sequential(
        Residual(nn.Sequential(nn.LayerNorm(dim, eps=eps), attention, nn.Dropout(dropout))),
        Residual(
            nn.Sequential(
                nn.LayerNorm(dim, eps=eps),
                nn.Linear(dim, 2 * dim),
                nn.Dropout(dropout),
                nn.ReLU(),
                nn.Linear(2 * dim, dim),
                nn.Dropout(dropout),
            )
        ),
    )


class TrackHeads(nn.Module):
    """A trunk with one head of tracks for each species."""

    hparams: dict[str, Any]
    checkpointing: bool

    def embed(self, tokens: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Embeddings of the bins."""
        raise NotImplementedError

    def _linear(self, head: str) -> Any:
        """The layer with ``weight`` and ``bias`` of a head."""
        raise NotImplementedError

    def _joined(self, embedding: torch.Tensor) -> torch.Tensor:
        """What the heads see of an embedding."""
        return embedding

    def _run(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)  # type: ignore[no-any-return]
        return block(x)

    def tracks(
        self,
        tokens: torch.Tensor | np.ndarray | None = None,
        index: int | list[int] | None = None,
        *,
        head: str = "human",
        embedding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predicted tracks (n, bins, n_tracks), not below 0.

        Parameters
        ----------
        tokens
            Sequences, as for :meth:`embed`.
        index
            Numbers of tracks; all when None.
        head
            Species.
        embedding
            Instead of `tokens`: what :meth:`embed` returned, or some of its bins.

        Raises
        ------
        KeyError
            No such head.
        IndexError
            No such track.
        """
        heads = self.hparams["output_heads"]
        if head not in heads:
            msg = f"There is no head {head!r} (there: {list(heads)})."
            raise KeyError(msg)
        if embedding is None:
            if tokens is None:
                msg = "Give tokens or embedding=."
                raise ValueError(msg)
            embedding = self.embed(tokens)
        linear = self._linear(head)
        weight, bias = linear.weight, linear.bias
        if index is not None:
            rows = [index] if isinstance(index, int) else list(index)
            if max(rows) >= len(bias):
                msg = f"The head {head!r} has {len(bias)} tracks, numbered from 0: no {max(rows)}."
                raise IndexError(msg)
            weight, bias = weight[rows], bias[rows]
        weight = weight.flatten(1)  # a convolution of width 1 is a linear map
        return nn.functional.softplus(nn.functional.linear(self._joined(embedding), weight, bias))

    def forward(self, tokens: torch.Tensor | np.ndarray) -> dict[str, torch.Tensor]:
        """All tracks of every species: (n, bins, n_tracks) each."""
        embedding = self.embed(tokens)
        heads = self.hparams["output_heads"]
        return {species: self.tracks(head=species, embedding=embedding) for species in heads}
