"""A small convolutional network for patches, and the views it is trained to recognise."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

#: Width of each block.
_WIDTHS = (24, 48, 96, 128)


class PatchNetwork(nn.Module):
    """Four convolution blocks; mean and standard deviation of the last maps are the features.

    Parameters
    ----------
    widths
        Channels of the blocks; each halves the side.
    n_projection
        Width of the projection that the contrastive loss sees, and that is dropped afterwards.

    Notes
    -----
    Input: optical density, (n, 3, p, p). Output: (n, 2 x widths[-1]). Statistics over the whole
    patch make the features indifferent to where in it a cell lies. Group normalisation, because
    batches mix sections.
    """

    def __init__(self, widths: tuple[int, ...] = _WIDTHS, n_projection: int = 64) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 3
        for width in widths:
            blocks += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(8, width),
                nn.GELU(),
            ]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.dim = 2 * before
        self.projection = nn.Sequential(
            nn.Linear(self.dim, self.dim), nn.GELU(), nn.Linear(self.dim, n_projection)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (n, d) of optical densities (n, 3, p, p)."""
        maps = self.blocks(x).flatten(2)
        return torch.cat([maps.mean(dim=2), maps.std(dim=2, unbiased=False)], dim=1)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """What the contrastive loss compares, (n, n_projection)."""
        return self.projection(self(x))


def optical_density(patches: torch.Tensor) -> torch.Tensor:
    """Patches uint8 (n, p, p, 3) as optical density (n, 3, p, p)."""
    values = patches.permute(0, 3, 1, 2).float()
    return -torch.log10((values + 1) / 256)


def random_views(
    density: torch.Tensor, generator: torch.Generator, *, jitter: float = 0.15
) -> torch.Tensor:
    """A random view of each patch: crop, turn, flip, and another strength of stain.

    Parameters
    ----------
    density
        (n, 3, p, p).
    generator
        Draws the views.
    jitter
        Standard deviation of the log of the factor of each channel, and a tenth of it of what is
        added: staining and scanning change optical density by a factor and an offset.

    Returns
    -------
    Tensor of the same shape.
    """
    n = len(density)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    angle = uniform(0, 2 * math.pi)
    size = uniform(0.6, 0.95)
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    # A turned square of this size stays within the mirrored patch.
    room = (1 - size) / 2
    shift = torch.stack([uniform(-1, 1) * room, uniform(-1, 1) * room], dim=1)
    matrix = torch.stack(
        [
            torch.stack([cos * flip, -sin, shift[:, 0]], dim=1),
            torch.stack([sin * flip, cos, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, list(density.shape), align_corners=False)
    out = F.grid_sample(density, grid, padding_mode="reflection", align_corners=False)
    factor = torch.exp(jitter * torch.randn(n, 3, 1, 1, generator=generator))
    offset = 0.1 * jitter * torch.randn(n, 3, 1, 1, generator=generator)
    return out * factor + offset
