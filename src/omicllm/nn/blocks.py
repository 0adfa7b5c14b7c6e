"""Building blocks of the gene-image networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from omicllm.nn.attention import attention

__all__ = ["CrossBlock", "SelfBlock", "embedding_head", "init_linear"]


def init_linear(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for a linear layer (for ``Module.apply``)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _init_stacked(weight: torch.Tensor, n_parts: int) -> None:
    """Initialise square matrices stacked in one weight as if each stood alone."""
    for part in weight.chunk(n_parts):
        nn.init.xavier_uniform_(part)


def _split_heads(x: torch.Tensor, n_parts: int, n_heads: int) -> tuple[torch.Tensor, ...]:
    """Turn (batch, tokens, parts * dim) into parts of shape (batch, heads, width, tokens)."""
    batch, tokens, _ = x.shape
    return x.transpose(1, 2).reshape(batch, n_parts, n_heads, -1, tokens).unbind(1)


class SelfBlock(nn.Module):
    """Pre-norm transformer block: self-attention, then a two-layer network, both residual.

    Parameters
    ----------
    dim
        Token width.
    n_heads
        Heads; divides `dim`.
    mlp_ratio
        Hidden width of the network, in units of `dim`.
    shared_norm
        Use one layer norm before both parts, as SIGEL does, instead of one each.

    Notes
    -----
    Dosovitskiy et al. (2021), equations 2 and 3. A bias of the values only shifts the output, so
    it is left to the bias of the output layer.
    """

    def __init__(self, dim: int, n_heads: int, mlp_ratio: float, *, shared_norm: bool) -> None:
        super().__init__()
        hidden = max(1, round(dim * mlp_ratio))
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.norm_mlp = None if shared_norm else nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.out = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.apply(init_linear)
        _init_stacked(self.qkv.weight.data, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (batch, tokens, dim) to tokens of the same shape."""
        # A bias of the keys shifts all scores of a query alike and drops out of the softmax.
        bias = F.pad(self.q_bias, (0, 2 * len(self.q_bias)))
        qkv = F.linear(self.norm(x), self.qkv.weight, bias)
        q, k, v = _split_heads(qkv, 3, self.n_heads)
        x = x + self.out(attention(q, k, v).flatten(1, 2).transpose(1, 2))
        y = self.norm(x) if self.norm_mlp is None else self.norm_mlp(x)
        return x + self.down(F.gelu(self.up(y)))


class CrossBlock(nn.Module):
    """Pre-norm block in which query tokens read from a context, then pass a two-layer network.

    Parameters
    ----------
    dim, n_heads, mlp_ratio
        As in :class:`SelfBlock`.
    """

    def __init__(self, dim: int, n_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = max(1, round(dim * mlp_ratio))
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.apply(init_linear)
        _init_stacked(self.key_value.weight.data, 2)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Map queries (batch, n, dim), given a context (batch, m, dim), to (batch, n, dim)."""
        (q,) = _split_heads(self.query(self.norm(x)), 1, self.n_heads)
        k, v = _split_heads(self.key_value(self.norm_context(context)), 2, self.n_heads)
        x = x + self.out(attention(q, k, v).flatten(1, 2).transpose(1, 2))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


def embedding_head(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    """Map pooled tokens (batch, n_in) to embeddings (batch, n_out) through one hidden layer."""
    head = nn.Sequential(
        nn.Linear(n_in, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(), nn.Linear(hidden, n_out)
    )
    return head.apply(init_linear)
