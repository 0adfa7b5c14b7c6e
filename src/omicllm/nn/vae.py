"""A small Gaussian variational autoencoder for standardised profiles."""

from __future__ import annotations

import torch
from torch import nn


class GaussianVAE(nn.Module):
    """Encoder and decoder with one hidden layer each, mirrored.

    Parameters
    ----------
    n_genes
        Width of a profile.
    n_hidden, n_latent
        Width of the hidden layer and of the latent space.

    References
    ----------
    Kingma and Welling 2014, Auto-encoding variational Bayes.
    """

    def __init__(self, n_genes: int, n_hidden: int = 20, n_latent: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_genes, n_hidden), nn.ReLU())
        self.mean, self.log_variance = (nn.Linear(n_hidden, n_latent) for _ in range(2))
        self.decoder = nn.Sequential(
            nn.Linear(n_latent, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_genes)
        )

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent Gaussian: two (n, n_latent)."""
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Profiles (n, n_genes) of latent vectors (n, n_latent)."""
        return self.decoder(z)

    def loss(self, x: torch.Tensor, unit: float = 1.0) -> torch.Tensor:
        """Mean over rows of the summed squared error plus the divergence from N(0, 1).

        `unit` is what one unit of `x` stands for in the error.
        """
        mean, log_variance = self.encode(x)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        error = (self.decode(z) - x).square().sum(dim=1)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        return (unit**2 * error + divergence).mean()
