"""Decoders of the masked autoencoder: all pixels from one vector, or patch by patch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from omicllm.nn.blocks import CrossBlock, init_linear

__all__ = ["ImageDecoder", "TokenDecoder", "make_decoder"]


class ImageDecoder(nn.Module):
    """Network from one vector to all tissue pixels of an image (SIGEL).

    dim -> 128 -> 256 -> 512, plus a linear shortcut dim -> 512, -> 1024 -> pixels, with layer norm
    and leaky ReLU after the widths 128, 256 and 1024.

    Parameters
    ----------
    dim
        Width of the input vector.
    n_tokens, patch_pixels
        Patches with tissue and pixels in one of them.
    """

    def __init__(self, dim: int, n_tokens: int, patch_pixels: int) -> None:
        super().__init__()
        self.shape = (n_tokens, patch_pixels)
        self.body = nn.Sequential(
            nn.Linear(dim, 128),
            nn.LayerNorm(128),
            nn.LeakyReLU(),
            nn.Linear(128, 256),
            nn.LayerNorm(256),
            nn.LeakyReLU(),
            nn.Linear(256, 512),
        )
        self.shortcut = nn.Linear(dim, 512)
        self.top = nn.Sequential(
            nn.Linear(512, 1024),
            nn.LayerNorm(1024),
            nn.LeakyReLU(),
            nn.Linear(1024, n_tokens * patch_pixels),
        )
        self.apply(init_linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map vectors (batch, dim) to patches (batch, n_tokens, patch_pixels)."""
        return self.top(self.body(x) + self.shortcut(x)).view(len(x), *self.shape)


class TokenDecoder(nn.Module):
    """Predicts single patches: each place asks the visible tokens by cross-attention.

    Only the places asked for cost anything, and nothing depends on the size of the image.

    Parameters
    ----------
    dim, n_heads, mlp_ratio
        As in :class:`~omicllm.nn.blocks.CrossBlock`.
    depth
        Number of blocks.
    patch_pixels
        Pixels of a patch.
    """

    def __init__(
        self, dim: int, n_heads: int, mlp_ratio: float, depth: int, patch_pixels: int
    ) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        self.blocks = nn.ModuleList(CrossBlock(dim, n_heads, mlp_ratio) for _ in range(depth))
        self.pixels = nn.Linear(dim, patch_pixels)
        self.pixels.apply(init_linear)

    def forward(self, latents: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Patches (batch, m, patch_pixels) at position codes `places` (batch, m, dim).

        `latents` are the visible tokens, (batch, n, dim).
        """
        queries = places + self.mask_token
        for block in self.blocks:
            queries = block(queries, latents)
        return self.pixels(queries)


def make_decoder(config: dict[str, Any], n_tokens: int) -> ImageDecoder | TokenDecoder:
    """Build the decoder that the configuration of a masked autoencoder names."""
    pixels = config["patch_size"] ** 2
    if config["decoder"] == "token":
        return TokenDecoder(
            config["dim"], config["n_heads"], config["mlp_ratio"], config["decoder_depth"], pixels
        )
    width = config["dim"] if config["decoder"] == "image" else config["n_latent"]
    return ImageDecoder(width, n_tokens, pixels)
