"""Generator of gene images by attention over measured ones, and the critic it is trained against.

SIGEL, Genome Biology 26:287 (2025): imputation for imaging-based sections.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

#: Attention below this is set to zero (hard shrinkage).
_SHRINK = 0.005


class MemoryAttention(nn.Module):
    """Draw the image of a gene in a tissue from its embedding in a reference.

    The memory holds the genes that were measured: keys are their embeddings, seen through the
    query network, values their images. A new gene reads it by softmax attention, small weights
    are shrunk to zero, and a linear map of the embedding adds signed weights. At the start the
    network is attention by cosine of embeddings.

    Parameters
    ----------
    images
        Measured images, z-scored (p, n).
    n_features
        Width of the gene embedding.
    width
        Width of queries and keys, at least `n_features`.
    hidden
        Width of the hidden layer.
    temperature
        Of the softmax at the start; it is trained.
    """

    def __init__(
        self,
        images: torch.Tensor,
        n_features: int,
        *,
        width: int = 64,
        hidden: int = 256,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if width < n_features:
            msg = f"width={width} is less than the {n_features} features of the gene embedding."
            raise ValueError(msg)
        if not temperature > 0:
            msg = f"temperature must be positive, not {temperature!r}."
            raise ValueError(msg)
        self.register_buffer("images", images)
        self.straight = nn.Linear(n_features, width, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.LeakyReLU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, width),
        )
        self.signed = nn.Linear(n_features, len(images), bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        nn.init.eye_(self.straight.weight)
        for last in (self.bent[-1].weight, self.bent[-1].bias, self.signed.weight):
            nn.init.zeros_(last)

    def query(self, z: torch.Tensor) -> torch.Tensor:
        """Unit queries (or keys) of gene embeddings: (genes, width)."""
        return F.normalize(self.straight(z) + self.bent(z), dim=1)

    def weights(
        self, z: torch.Tensor, memory: torch.Tensor, own: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Weight of each measured gene in the images of some genes.

        Parameters
        ----------
        z
            Embeddings of the genes to draw (b, n_features).
        memory
            Embeddings of the measured genes (p, n_features).
        own
            Number of each gene in the memory, or -1: a gene never reads itself.

        Returns
        -------
        (b, p).
        """
        logits = self.query(z) @ self.query(memory).T / self.log_temperature.exp()
        signed = self.signed(z)
        if own is not None:
            itself = own[:, None] == torch.arange(len(memory), device=own.device)
            logits = logits.masked_fill(itself, -torch.inf)
            signed = signed.masked_fill(itself, 0.0)
        read = F.hardshrink(logits.softmax(dim=1), _SHRINK)
        return read / read.sum(dim=1, keepdim=True).clamp_min(1e-8) + signed

    def forward(
        self, z: torch.Tensor, memory: torch.Tensor, own: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Images (b, n), z-scored; see :meth:`weights`."""
        return self.weights(z, memory, own) @ self.images


class ImageCritic(nn.Module):
    """Critic of gene images: a scalar for each, high for measured ones.

    Spectral normalisation (Miyato et al., ICLR 2018) bounds its slope.

    Parameters
    ----------
    n_pixels
        Cells of the tissue.
    hidden
        Widths of the hidden layers.
    """

    def __init__(self, n_pixels: int, hidden: tuple[int, int] = (256, 64)) -> None:
        super().__init__()
        widths = (n_pixels, *hidden, 1)
        layers: list[nn.Module] = []
        for width, following in zip(widths, widths[1:], strict=False):
            layers += [spectral_norm(nn.Linear(width, following)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (b,) of z-scored images (b, n_pixels)."""
        return self.layers(images).squeeze(1)
