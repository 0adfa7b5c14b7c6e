"""A trunk with a head that says how much a haplotype is expressed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omicllm._core.checks import listed
from omicllm.nn.genome_embedding import pooled_bins
from omicllm.nn.joint_heads import JointHeads, heads_of
from omicllm.nn.track_heads import TrackHeads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


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
        None, ``"trunk"``, or one or several names in ``trunk.parts``: weights that stay as they
        are, with the statistics of their batch norm.
    frozen_batch_norm
        Keep the statistics of batch norm in training mode (its weights still train).
    dropout
        Use the trunk's dropout in training mode.
    joint
        Arguments ``tracks`` and ``effects`` of :class:`omicllm.nn.joint_heads.JointHeads`, for
        training on other data as well.

    Raises
    ------
    ValueError
        Parts that the trunk does not name; a track of a trunk without tracks.

    Notes
    -----
    Heads compute in float32 whatever the precision of the trunk: what people differ by is small
    beside what they share, and would be rounded away in bfloat16.
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        signal: bool = False,
        track: int | None = None,
        n_centre_bins: int = 10,
        freeze: str | Sequence[str] | None = None,
        frozen_batch_norm: bool = True,
        dropout: bool = False,
        joint: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.signal, self.track, self.n_centre_bins = signal, track, n_centre_bins
        self.frozen_batch_norm, self.dropout = frozen_batch_norm, dropout
        self._still: list[nn.Module] = []
        if track is not None and not hasattr(trunk, "tracks"):
            msg = (
                f"track={track} was asked for, but {self.trunk.name} has no tracks. Give it a "
                "method tracks(embedding=, index=) that maps bins (n, bins, dim) to (n, bins, "
                "number of tracks), for example in a subclass of ol.nn.ModuleTrunk."
            )
            raise ValueError(msg)
        if signal:
            self.head = None if track is not None else SignalHead(self.trunk.dim)
        else:
            self.head = AttentionHead(self.trunk.dim)  # type: ignore[assignment]
        self.joint = None if joint is None else JointHeads(self.trunk.dim, **joint)
        self._trunk_heads = self._heads_that_train()
        self._freeze(freeze)

    def _heads_that_train(self) -> list[nn.Module]:
        """Heads of the trunk that a loss reads; others get no gradient, and are held still."""
        heads = heads_of(self.trunk)
        described = {} if self.joint is None else self.joint.described
        used = {s for s, d in described.items() if d["own"] is not None}
        if self.head is None:
            used |= {"human"} if isinstance(self.trunk, TrackHeads) else set(heads)
        if isinstance(self.trunk, TrackHeads):
            idle = [m for s, m in heads.items() if s not in used]
            if not used:
                idle += [m for n, m in self.trunk.named_children() if n == "final_joined_convs"]
            for module in idle:
                module.requires_grad_(requires_grad=False)
        return [m for s, m in heads.items() if s in used]

    def _freeze(self, freeze: str | Sequence[str] | None) -> None:
        names = [] if freeze is None else [freeze] if isinstance(freeze, str) else list(freeze)
        parts = getattr(self.trunk, "parts", {})
        for name in names:
            if name != "trunk" and name not in parts:
                msg = f"freeze must be None or one of {listed(['trunk', *parts])}, not {name!r}."
                raise ValueError(msg)
            if name == "trunk":
                self._still.append(self.trunk)
                for weight in self._body():
                    weight.requires_grad_(requires_grad=False)
            for module in parts.get(name, []):
                self._still.append(module)
                module.requires_grad_(requires_grad=False)

    def _body(self) -> list[nn.Parameter]:
        """Weights of the trunk without its heads that train."""
        heads = {id(p) for module in self._trunk_heads for p in module.parameters()}
        return [p for p in self.trunk.parameters() if id(p) not in heads]

    @contextmanager
    def heads_only(self) -> Iterator[None]:
        """Only heads train meanwhile; the trunk's weights and batch norm stay as they are."""
        moved = [p for p in self._body() if p.requires_grad]
        self._still.append(self.trunk)
        for weight in moved:
            weight.requires_grad_(requires_grad=False)
        try:
            yield
        finally:
            self._still.pop()
            for weight in moved:
                weight.requires_grad_(requires_grad=True)

    def train(self, mode: bool = True) -> PersonalNetwork:  # noqa: FBT001, FBT002
        """Training mode, with batch norm and dropout as the arguments of the class say."""
        super().train(mode)
        if mode:
            held = {id(m) for part in self._still for m in part.modules()}
            for module in self.trunk.modules():
                still = isinstance(module, nn.modules.batchnorm._BatchNorm) and (
                    self.frozen_batch_norm or id(module) in held
                )
                if still or (
                    isinstance(module, nn.modules.dropout._DropoutNd) and not self.dropout
                ):
                    module.eval()
        return self

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Bins (n, bins, dim), without a graph where nothing of the trunk trains."""
        # Integer tokens of a frozen trunk need no graph; one-hot rows may want their gradient.
        needs_grad = torch.is_grad_enabled() and (
            tokens.requires_grad or any(p.requires_grad for p in self._body())
        )
        with torch.set_grad_enabled(needs_grad):
            return self.trunk.embed(tokens).float()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (n, length) or one-hot rows (n, length, 4) to (n,)."""
        bins = pooled_bins(self.embed(tokens), self.n_centre_bins)
        with torch.autocast(bins.device.type, enabled=False):
            if self.head is not None:
                return self.head(bins)
            rates = self.trunk.tracks(embedding=bins, index=self.track)
            if rates.ndim != 3 or rates.shape[:2] != bins.shape[:2]:
                msg = (
                    f"{self.trunk.name}.tracks(embedding=, index={self.track}) gives "
                    f"{tuple(rates.shape)} for bins {tuple(bins.shape)}; it must give (n, bins, "
                    f"number of tracks), here {(*bins.shape[:2], 1)}."
                )
                raise ValueError(msg)
            return rates.sum(dim=(1, 2))  # type: ignore[no-any-return]

    def tracks(self, tokens: torch.Tensor, species: str) -> torch.Tensor:
        """Predicted tracks (n, n_bins, n_tracks) of a species, of the data trained on as well."""
        assert self.joint is not None
        bins = self.embed(tokens)
        with torch.autocast(bins.device.type, enabled=False):
            return self.joint.rates(self.trunk, bins, species)

    def effects(self, ref: torch.Tensor, alt: torch.Tensor) -> torch.Tensor:
        """Predicted effect (n, n_cells) of a variant on a reporter: that of alt minus ref."""
        assert self.joint is not None
        bins = self.embed(torch.cat([ref, alt]))
        with torch.autocast(bins.device.type, enabled=False):
            one, other = self.joint.activity(bins).chunk(2)
        return other - one
