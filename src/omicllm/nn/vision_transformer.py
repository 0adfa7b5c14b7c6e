"""A vision transformer whose tensors bear timm's names, so that published weights load strictly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a vision transformer.

    Attributes
    ----------
    image, patch
        Side of the input and of a token, pixels.
    dim, depth, heads
        Width, blocks, attention heads.
    hidden
        Width of the first layer of the feed-forward part; gated ones use half of it as the gate.
    gated
        SiLU-gated feed-forward part (SwiGLU) instead of GELU.
    registers
        Register tokens after the class token.
    scale
        Blocks have layer scale.
    places_for_prefix
        The position embedding covers class and register tokens too.
    pool
        ``"cls"``; ``"cls+mean"``: class token and mean of the patch tokens, side by side; or
        ``"attention"``: one learned query over all tokens (CoCa), of width `pool_dim`.
    eps
        Of layer normalisation.
    clip
        As in CLIP: normalisation before the blocks, patches without bias, fast GELU.
    pool_dim, pool_heads
        Of attention pooling.
    """

    dim: int
    depth: int
    heads: int
    hidden: int
    patch: int = 14
    image: int = 224
    gated: bool = False
    registers: int = 0
    scale: bool = True
    places_for_prefix: bool = True
    pool: str = "cls"
    eps: float = 1e-6
    clip: bool = False
    pool_dim: int = 512
    pool_heads: int = 8

    @property
    def n_patches(self) -> int:
        """Patch tokens of an image."""
        return (self.image // self.patch) ** 2

    @property
    def n_features(self) -> int:
        """Length of the output."""
        return {"cls": self.dim, "cls+mean": 2 * self.dim}.get(self.pool, self.pool_dim)


class _PatchEmbed(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            3, config.dim, config.patch, stride=config.patch, bias=not config.clip
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(out.transpose(1, 2).reshape(n, t, d))


class _FeedForward(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.gated, self.fast = config.gated, config.clip
        self.fc1 = nn.Linear(config.dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden // 2 if config.gated else config.hidden, config.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x)
        if self.gated:
            gate, value = x.chunk(2, dim=-1)
            return self.fc2(F.silu(gate) * value)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.fast else F.gelu(x))


class _LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.eps)
        self.attn = _Attention(config.dim, config.heads)
        self.ls1 = _LayerScale(config.dim) if config.scale else nn.Identity()
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps)
        self.mlp = _FeedForward(config)
        self.ls2 = _LayerScale(config.dim) if config.scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class AttentionPool(nn.Module):
    """One learned query that attends to all tokens (the contrastive pooler of CoCa).

    Parameters
    ----------
    config
        Shape of the transformer.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.pool_dim
        self.query = nn.Parameter(torch.zeros(1, width))
        self.attn = nn.MultiheadAttention(
            width, config.pool_heads, kdim=config.dim, vdim=config.dim, batch_first=True
        )
        self.ln_q = nn.LayerNorm(width)
        self.ln_k = nn.LayerNorm(config.dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pooled (n, pool_dim) of tokens (n, t, dim)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, keys, keys, need_weights=False)[0][:, 0]


class VisionTransformer(nn.Module):
    """Vision transformer: tokens of patches, class and register tokens, pre-norm blocks.

    Parameters
    ----------
    config
        Its shape.

    Notes
    -----
    Names of the tensors are those of timm's ``VisionTransformer`` (``cls_token``, ``reg_token``,
    ``pos_embed``, ``patch_embed.proj``, ``blocks.i.norm1`` ...), so a state dict published for it
    loads with ``strict=True``. Dosovitskiy et al. 2021; registers: Darcet et al. 2024.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        prefix = 1 + config.registers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        if config.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.registers, config.dim))
        places = config.n_patches + (prefix if config.places_for_prefix else 0)
        self.pos_embed = nn.Parameter(torch.zeros(1, places, config.dim))
        self.patch_embed = _PatchEmbed(config)
        self.blocks = nn.ModuleList([_Block(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        if config.clip:
            self.norm_pre = nn.LayerNorm(config.dim, eps=config.eps)
        if config.pool == "attention":
            self.attn_pool_contrast = AttentionPool(config)
            self.ln_contrast = nn.LayerNorm(config.pool_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (n, config.n_features) of images (n, 3, image, image)."""
        x = self.patch_embed(x)
        prefix = [self.cls_token.expand(len(x), -1, -1)]
        if self.config.registers:
            prefix.append(self.reg_token.expand(len(x), -1, -1))
        if self.config.places_for_prefix:
            x = torch.cat([*prefix, x], dim=1) + self.pos_embed
        else:
            x = torch.cat([*prefix, x + self.pos_embed], dim=1)
        if self.config.clip:
            x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.config.pool == "attention":
            return self.ln_contrast(self.attn_pool_contrast(x))
        if self.config.pool == "cls":
            return x[:, 0]
        return torch.cat([x[:, 0], x[:, 1 + self.config.registers :].mean(dim=1)], dim=1)
