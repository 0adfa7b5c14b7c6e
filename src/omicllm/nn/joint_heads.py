"""What a trunk predicts beside expression, when it is trained on other data as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omicllm.nn.enformer import central
from omicllm.nn.track_heads import TrackHeads

if TYPE_CHECKING:
    from collections.abc import Mapping


class JointHeads(nn.Module):
    """Heads for tracks of a genome and for allelic effects of a reporter assay.

    Parameters
    ----------
    dim
        Width of embeddings.
    tracks
        Species -> description of its tracks: ``n`` of them; ``own``, the rows of the trunk's own
        head of that species that predict them, or None for a new head; ``n_bins``, central bins
        with values; ``pool``, bins of the trunk in one of the data.
    effects
        ``n`` cell types and ``n_bins`` bins of a reporter sequence; None for none.

    Notes
    -----
    The head for effects reads all bins side by side, one linear map to the cell types, as
    published (2 bins of 3,072 numbers to 5 cell types).
    """

    def __init__(
        self,
        dim: int,
        *,
        tracks: Mapping[str, Mapping[str, Any]] | None = None,
        effects: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.described = {species: dict(d) for species, d in (tracks or {}).items()}
        self.new = nn.ModuleDict(
            {s: nn.Linear(dim, d["n"]) for s, d in self.described.items() if d["own"] is None}
        )
        self.effects = None if effects is None else nn.Linear(dim * effects["n_bins"], effects["n"])

    def rates(self, trunk: Any, embedding: torch.Tensor, species: str) -> torch.Tensor:
        """Predicted tracks (n, n_bins, n_tracks) of the bins (n, bins, dim) of sequences."""
        described = self.described[species]
        pool = described["pool"]
        bins = central(embedding, described["n_bins"] * pool)
        if species in self.new:
            out = nn.functional.softplus(self.new[species](bins))
        else:
            out = trunk.tracks(embedding=bins, index=described["own"], head=species)
        return out if pool == 1 else out.unflatten(1, (-1, pool)).mean(dim=2)

    def activity(self, embedding: torch.Tensor) -> torch.Tensor:
        """Reporter activity (n, n_cells) of the bins (n, n_bins, dim) of sequences."""
        assert self.effects is not None
        return self.effects(embedding.flatten(1))


def heads_of(trunk: Any) -> dict[str, nn.Module]:
    """Species -> layer of a trunk that makes its tracks.

    A trunk that is none of ours is asked for its submodules called ``*_head`` or ``*_heads``.
    """
    if isinstance(trunk, TrackHeads):
        return {species: trunk._linear(species) for species in trunk.hparams["output_heads"]}
    if not hasattr(trunk, "tracks"):
        return {}
    return {n: m for n, m in trunk.named_children() if n.endswith(("_head", "_heads"))}


def random_start(trunk: Any) -> Any:
    """A trunk of the same build with random weights.

    Parameters
    ----------
    trunk
        A :class:`omicllm.nn.GenomeTrunk`; it is not changed.

    Raises
    ------
    ValueError
        A module with weights of its own that does not say how they start
        (``reset_parameters``).
    """
    from copy import deepcopy

    if isinstance(trunk, TrackHeads):
        return type(trunk)(**trunk.hparams)
    out = deepcopy(trunk)
    inner: Any = getattr(out, "model", None)
    if hasattr(inner, "config") and hasattr(inner, "init_weights"):  # a model of transformers
        out.model = type(inner)(inner.config)
        return out.eval()
    for name, module in out.named_modules():
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            msg = (
                f"random_start=True cannot restart {name or type(module).__name__!r} of the trunk: "
                "it has weights but no reset_parameters(). Build the trunk anew instead."
            )
            raise ValueError(msg)
    return out
