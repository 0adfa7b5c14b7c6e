"""A trunk with a head that says how much a haplotype is expressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omicllm._core.checks import listed
from omicllm.nn.genome_embedding import pooled_bins

if TYPE_CHECKING:
    from collections.abc import Callable


class AttentionHead(nn.Module):
    """Weigh bins by a softmax of a linear score, then a linear map to one number.

    Parameters
    ----------
    dim
        Width of embeddings.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score, self.value = nn.Linear(dim, 1), nn.Linear(dim, 1)

    def forward(self, bins: torch.Tensor) -> torch.Tensor:
        """Map (n, bins, dim) to (n,)."""
        pooled = (self.score(bins).softmax(dim=1) * bins).sum(dim=1)
        return self.value(pooled)[:, 0]


class SignalHead(nn.Module):
    """Sum over bins of a track that is not negative, for trunks without published tracks.

    Parameters
    ----------
    dim
        Width of embeddings.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(dim, 1)

    def forward(self, bins: torch.Tensor) -> torch.Tensor:
        """Map (n, bins, dim) to (n,)."""
        return nn.functional.softplus(self.value(bins)).sum(dim=1)[:, 0]


class PersonalNetwork(nn.Module):
    """Expression of one haplotype: trunk, central bins, head or track.

    Parameters
    ----------
    trunk
        A :class:`omicllm.nn.GenomeTrunk` that is a torch module.
    signal
        Predict the sum of a track over central bins instead of the attention head's number.
    track
        Track of the trunk; None for a new one.
    n_centre_bins
        Central bins.
    freeze
        None, ``"trunk"``, or a name in ``trunk.parts``: weights that stay as they are.
    frozen_batch_norm
        Keep the statistics of batch norm in training mode (its weights still train).
    dropout
        Use the trunk's dropout in training mode.

    Raises
    ------
    ValueError
        Parts that the trunk does not name; a track of a trunk without tracks.
    """

    def __init__(
        self, trunk: nn.Module, *, signal: bool = False, track: int | None = None,
        n_centre_bins: int = 10, freeze: str | None = None, frozen_batch_norm: bool = True,
        dropout: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.trunk: Any = trunk
        self.signal, self.track, self.n_centre_bins = signal, track, n_centre_bins
        self.frozen_batch_norm, self.dropout, self.frozen_trunk = frozen_batch_norm, dropout, False
        if track is not None and not hasattr(trunk, "tracks"):
            msg = f"track={track} was asked for, but {self.trunk.name} has no tracks."
            raise ValueError(msg)
        if signal:
            self.head = None if track is not None else SignalHead(self.trunk.dim)
        else:
            self.head = AttentionHead(self.trunk.dim)  # type: ignore[assignment]
        self._freeze(freeze)

    def _freeze(self, freeze: str | None) -> None:
        if freeze is None:
            return
        parts = getattr(self.trunk, "parts", {})
        if freeze != "trunk" and freeze not in parts:
            msg = f"freeze must be None or one of {listed(['trunk', *parts])}, not {freeze!r}."
            raise ValueError(msg)
        self.frozen_trunk = freeze == "trunk" and self.head is not None
        for module in [self.trunk] if freeze == "trunk" else parts[freeze]:
            module.requires_grad_(requires_grad=False)
        if freeze == "trunk" and self.head is None:
            # The track is all that is left to train.
            heads = [m for n, m in self.trunk.named_children() if n.endswith(("_head", "_heads"))]
            for module in heads:
                module.requires_grad_(requires_grad=True)

    def train(self, mode: bool = True) -> PersonalNetwork:  # noqa: FBT001, FBT002
        """Training mode, with batch norm and dropout as the arguments of the class say."""
        super().train(mode)
        if mode:
            for module in self.trunk.modules():
                still = isinstance(module, nn.modules.batchnorm._BatchNorm) and (
                    self.frozen_batch_norm or self.frozen_trunk
                )
                if still or (
                    isinstance(module, nn.modules.dropout._DropoutNd) and not self.dropout
                ):
                    module.eval()
        return self

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (n, length) or one-hot rows (n, length, 4) to (n,)."""
        if self.frozen_trunk:
            with torch.no_grad():
                bins = self.trunk.embed(tokens)
        else:
            bins = self.trunk.embed(tokens)
        bins = pooled_bins(bins, self.n_centre_bins).float()
        if self.head is not None:
            return self.head(bins)
        return self.trunk.tracks(embedding=bins, index=self.track).sum(dim=(1, 2))


def in_batches(
    function: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor, size: int
) -> torch.Tensor:
    """Apply a function to blocks of rows and join the results."""
    return torch.cat([function(block) for block in tokens.split(size)])
