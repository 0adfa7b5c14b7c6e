"""Self-attention with relative positions, as Enformer has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


def relative_basis(n: int, n_features: int, *, device: torch.device | None = None) -> torch.Tensor:
    """Basis functions of the distance between two bins: float32 (2 n - 1, n_features).

    A third each of exponentials with half-lives from 8 to n bins, of central windows of width
    2^k - 1, and of gamma densities with means from n / features to n; then the same once more
    times the sign of the distance.

    Parameters
    ----------
    n
        Number of bins; rows are the distances -(n - 1) to n - 1.
    n_features
        A multiple of 6.
    device
        Where to make it.

    Raises
    ------
    ValueError
        When `n_features` is no multiple of 6.
    """
    if n_features % 6:
        msg = f"The number of relative position features must be a multiple of 6, not {n_features}."
        raise ValueError(msg)
    k = n_features // 6
    # Double precision: gamma densities far from their mean are differences of large numbers.
    signed = torch.arange(-n + 1, n, device=device, dtype=torch.float64)
    distance = signed.abs()[:, None]
    half_life = 2 ** torch.linspace(3, math.log2(n), k, device=device, dtype=torch.float64)
    exponential = torch.exp(-math.log(2) * distance / half_life)
    width = 2 ** torch.arange(1, k + 1, device=device, dtype=torch.float64) - 1
    central = (width > distance).to(torch.float64)
    deviation = n / (2 * k)
    mean = torch.linspace(n / k, n, k, device=device, dtype=torch.float64)
    shape, rate = (mean / deviation) ** 2, mean / deviation**2
    log_density = (
        torch.xlogy(shape - 1, distance)
        - rate * distance
        - torch.lgamma(shape)
        + shape * torch.log(rate)
    )
    gamma = torch.exp(log_density) + 1e-8
    gamma = gamma / gamma.amax(dim=-1, keepdim=True)
    basis = torch.cat([exponential, central, gamma], dim=-1)
    return torch.cat([basis, torch.sign(signed)[:, None] * basis], dim=-1).float()


def window_basis(n: int, n_features: int, *, device: torch.device | None = None) -> torch.Tensor:
    """Central windows of the distance between two bins: float32 (2 n - 1, n_features).

    Widths grow geometrically from one bin to n; then the same once more times the sign of the
    distance.

    Parameters
    ----------
    n
        Number of bins; rows are the distances -(n - 1) to n - 1.
    n_features
        An even number.
    device
        Where to make it.
    """
    k = n_features // 2
    signed = torch.arange(-n + 1, n, device=device, dtype=torch.float64)
    rate = math.exp(math.log(n + 1) / k)
    width = rate ** torch.arange(1, k + 1, device=device, dtype=torch.float64) - 1
    basis = (width > signed.abs()[:, None]).to(torch.float64)
    return torch.cat([basis, torch.sign(signed)[:, None] * basis], dim=-1).float()


class RelativeAttention(nn.Module):
    """Attention whose scores are (q + u) k + (q + v) r, with r from the distance of two bins.

    The scores by distance enter torch's fused attention as its additive mask, so that the
    (bins, bins) weights of the softmax are not kept for the gradient twice.

    Parameters
    ----------
    dim
        Width.
    heads
        Heads.
    dim_key, dim_value
        Width of keys and values per head.
    n_features
        Relative position features (:func:`relative_basis`).
    dropout, pos_dropout
        Of the weights, and of the position features.
    basis
        Function that makes the features.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        dim_key: int,
        dim_value: int,
        n_features: int,
        dropout: float = 0.0,
        pos_dropout: float = 0.0,
        basis: Callable[..., torch.Tensor] = relative_basis,
    ) -> None:
        super().__init__()
        self.heads, self.n_features, self.scale = heads, n_features, dim_key**-0.5
        self.make_basis = basis
        self.to_q = nn.Linear(dim, dim_key * heads, bias=False)
        self.to_k = nn.Linear(dim, dim_key * heads, bias=False)
        self.to_v = nn.Linear(dim, dim_value * heads, bias=False)
        self.to_out = nn.Linear(dim_value * heads, dim)
        # The published network starts from an output of zero.
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)
        self.to_rel_k = nn.Linear(n_features, dim_key * heads, bias=False)
        self.rel_content_bias = nn.Parameter(torch.randn(1, heads, 1, dim_key))
        self.rel_pos_bias = nn.Parameter(torch.randn(1, heads, 1, dim_key))
        self.pos_dropout = nn.Dropout(pos_dropout)
        self.attn_dropout = nn.Dropout(dropout)
        self._basis: tuple[int, torch.device, torch.Tensor] | None = None

    def basis(self, n: int, device: torch.device) -> torch.Tensor:
        """Position features of `n` bins; those of the last length are kept."""
        if self._basis is None or self._basis[:2] != (n, device):
            self._basis = n, device, self.make_basis(n, self.n_features, device=device)
        return self._basis[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, n, dim) to (b, n, dim)."""
        b, n, _ = x.shape
        q, k, v = (
            layer(x).view(b, n, self.heads, -1).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        q = q * self.scale
        features = self.pos_dropout(self.basis(n, x.device).to(x.dtype))
        r = self.to_rel_k(features).view(2 * n - 1, self.heads, -1).permute(1, 2, 0)
        bias = _shifted((q + self.rel_pos_bias) @ r)
        dropout = self.attn_dropout.p if self.attn_dropout.training else 0.0
        out = F.scaled_dot_product_attention(
            q + self.rel_content_bias, k, v, attn_mask=bias, dropout_p=dropout, scale=1.0
        )
        return self.to_out(out.transpose(1, 2).reshape(b, n, -1))


def _shifted(scores: torch.Tensor) -> torch.Tensor:
    """Scores by distance (b, h, n, 2 n - 1) as scores by pair (b, h, n, n).

    Bin i and j need column n - 1 + j - i: a row further down starts one column to the left.
    """
    b, h, n, m = scores.shape
    flat = F.pad(scores, (1, 0)).reshape(b, h, m + 1, n)
    return flat[:, :, 1:].reshape(b, h, n, m)[..., :n]
