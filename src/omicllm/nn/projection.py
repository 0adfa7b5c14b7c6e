"""Position-aware linear encoder of gene images: each pixel of the tissue has weights of its own.

The image of a gene enters as Pearson residuals. Fixed axes, weighted by how far each can be
trusted, reduce it; a trained map takes it to the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["ImageProjection"]


class ImageProjection(nn.Module):
    r"""Encode counts of a gene over tissue pixels.

    :math:`y = \mathrm{diag}(f)\,V^\top r` and :math:`z = A\,y / \lVert A\,y \rVert`, with r the
    Pearson residuals of the gene within each section.

    Parameters
    ----------
    n_pixels
        Number of tissue pixels in all sections.
    n_axes
        Number of fixed axes.
    n_latent
        Width of the embedding, at most `n_axes`.
    bounds
        First pixel of each section, and the number of pixels at the end.
    theta
        Overdispersion of the negative binomial null.
    clip
        Largest absolute residual; a single spot cannot then place a gene.
    """

    axes: torch.Tensor
    gain: torch.Tensor
    depth_share: torch.Tensor

    def __init__(
        self,
        n_pixels: int,
        n_axes: int,
        n_latent: int,
        *,
        bounds: Sequence[int] | None = None,
        theta: float = 100.0,
        clip: float = 5.0,
    ) -> None:
        super().__init__()
        if n_latent > n_axes:
            msg = f"n_latent={n_latent} is more than the {n_axes} axes there are."
            raise ValueError(msg)
        self.bounds = [int(b) for b in (bounds or (0, n_pixels))]
        self.theta, self.clip = float(theta), float(clip)
        self.register_buffer("axes", torch.zeros(n_pixels, n_axes))
        self.register_buffer("gain", torch.ones(n_axes))
        self.register_buffer("depth_share", torch.zeros(n_pixels))
        # Without a random start, which would draw from the caller's generator.
        self.map = nn.utils.skip_init(nn.Linear, n_axes, n_latent, bias=False)
        with torch.no_grad():  # a start the data determines: the leading axes themselves
            self.map.weight.copy_(torch.eye(n_latent, n_axes))

    @property
    def n_latent(self) -> int:
        """Width of the embedding."""
        return self.map.out_features

    def set_axes(self, axes: np.ndarray, gain: np.ndarray, depth_share: np.ndarray) -> None:
        """Fill in what is computed from the data rather than trained.

        Parameters
        ----------
        axes
            (n_pixels, n_axes), orthonormal.
        gain
            Weight of each axis (n_axes,).
        depth_share
            Share of its section's counts that each pixel has (n_pixels,).
        """
        self.axes.copy_(torch.as_tensor(axes))
        self.gain.copy_(torch.as_tensor(gain))
        self.depth_share.copy_(torch.as_tensor(depth_share))

    def residuals(self, counts: torch.Tensor) -> torch.Tensor:
        """Pearson residuals (batch, n_pixels), each section with its own gene total."""
        parts = []
        for start, stop in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            x = counts[:, start:stop]
            mean = x.sum(1, keepdim=True) * self.depth_share[start:stop]
            scale = (mean * (1.0 + mean / self.theta)).sqrt()
            r = torch.where(scale > 0, (x - mean) / scale.clamp_min(1e-12), 0.0)
            parts.append(r.clamp(-self.clip, self.clip))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def project(self, counts: torch.Tensor, shown: torch.Tensor | None = None) -> torch.Tensor:
        """Weighted coordinates along the axes, (batch, n_axes), of the pixels `shown` (all)."""
        r = self.residuals(counts)
        return (r if shown is None else r * shown) @ self.axes * self.gain

    def project_sections(
        self, counts: torch.Tensor, shown: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Part of :meth:`project` from each section, (n_sections, batch, n_axes)."""
        r = self.residuals(counts)
        r = r if shown is None else r * shown
        pairs = zip(self.bounds[:-1], self.bounds[1:], strict=True)
        return torch.stack([r[:, a:b] @ self.axes[a:b] * self.gain for a, b in pairs])

    def head(self, projected: torch.Tensor) -> torch.Tensor:
        """Embedding of projected genes, unit rows (batch, n_latent); zero rows stay zero."""
        return F.normalize(self.map(F.normalize(projected, dim=1)), dim=1)

    def encode(self, counts: torch.Tensor) -> torch.Tensor:
        """Embedding of genes from their counts (batch, n_pixels): (batch, n_latent)."""
        return self.head(self.project(counts))

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        """Same as :meth:`encode`."""
        return self.encode(counts)
