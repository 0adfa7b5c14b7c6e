"""The Borzoi: convolutions to bins of 128 bases, transformer blocks, and back to 32 bases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omicllm.nn.enformer import central
from omicllm.nn.enformer_store import EnformerStore
from omicllm.nn.genome_input import as_one_hot
from omicllm.nn.relative_attention import RelativeAttention, window_basis
from omicllm.nn.track_heads import TrackHeads, transformer_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

#: Channels of the convolutions before the transformer.
WIDTHS = (512, 608, 736, 896, 1056, 1280)


class ConvDna(nn.Module):
    """The first convolution, and a pool over two."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv1d(4, dim, 15, padding=7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 4, length) to (n, dim, length / 2)."""
        return nn.functional.max_pool1d(self.conv_layer(x), 2)


class NormConv(nn.Module):
    """Batch norm, GELU, convolution."""

    def __init__(self, dim: int, dim_out: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=1e-3)
        self.conv_layer = nn.Conv1d(dim, dim_out, kernel_size, padding=kernel_size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, dim, bins) to (n, dim_out, bins)."""
        return self.conv_layer(nn.functional.gelu(self.norm(x), approximate="tanh"))


class Separable(nn.Module):
    """A convolution of three bins within each channel, then one across channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_layer = nn.Sequential(
            nn.Conv1d(dim, dim, 3, padding=1, groups=dim, bias=False), nn.Conv1d(dim, dim, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any (n, dim, bins) in, the same out."""
        return self.conv_layer(x)


class Borzoi(EnformerStore, TrackHeads):
    """Sequence in, one vector per 32 bases out; and the published RNA-seq and other tracks.

    Names of the weights are those of the package borzoi-pytorch, whose checkpoints load with
    :meth:`from_pretrained`. A :class:`omicllm.nn.GenomeTrunk`.

    Parameters
    ----------
    dim
        Width, also of embeddings.
    depth
        Transformer blocks.
    heads
        Attention heads.
    attn_dim_key, attn_dim_value
        Width of keys and values of a head.
    n_features
        Relative position features, windows of the distance and the same times its sign.
    widths
        Channels of the convolutions before the transformer.
    dim_head
        Width before the tracks.
    output_heads
        Tracks of each species; ``{}`` for none.
    dropout_rate, attn_dropout, pos_dropout
        Dropout of blocks, attention weights and position features, in training mode.
    target_length
        Central bins that are kept; None keeps all (the published tracks have 6,144 of 16,384).
    checkpointing
        Recompute blocks in the backward pass instead of keeping their activations.

    Attributes
    ----------
    dim
        Width of an embedding, 1,536 by default.
    bin_size
        32 bases.
    length_multiple
        128 bases.
    max_len
        None: any multiple of 128. The published length is 524,288.

    Raises
    ------
    ValueError
        Sizes that do not fit.

    Notes
    -----
    Linder et al. 2025, Nature Genetics 57:949.

    Examples
    --------
    >>> import numpy as np
    >>> import omicllm as ol
    >>> trunk = ol.nn.Borzoi(dim=32, depth=1, heads=2, widths=(8, 8, 8, 8, 8, 8), output_heads={})
    >>> trunk.embed(np.zeros((1, 1024), dtype=np.int8)).shape
    torch.Size([1, 32, 32])
    """

    name = "borzoi"
    bin_size, length_multiple = 32, 128
    max_len: int | None = None
    #: What a ``config.json`` may say about the network.
    sizes = (
        "dim",
        "depth",
        "heads",
        "attn_dim_key",
        "attn_dim_value",
        "dropout_rate",
        "attn_dropout",
        "pos_dropout",
        "n_features",
        "widths",
        "dim_head",
        "output_heads",
    )

    def __init__(
        self,
        dim: int = 1536,
        depth: int = 8,
        heads: int = 8,
        *,
        attn_dim_key: int = 64,
        attn_dim_value: int = 192,
        n_features: int = 32,
        widths: Sequence[int] = WIDTHS,
        dim_head: int = 1920,
        output_heads: Mapping[str, int] | None = None,
        dropout_rate: float = 0.2,
        attn_dropout: float = 0.05,
        pos_dropout: float = 0.01,
        target_length: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != 6 or n_features % 2:
            msg = "widths must be six numbers, and n_features even."
            raise ValueError(msg)
        self.hparams: dict[str, Any] = {
            "dim": dim,
            "depth": depth,
            "heads": heads,
            "attn_dim_key": attn_dim_key,
            "attn_dim_value": attn_dim_value,
            "n_features": n_features,
            "widths": list(widths),
            "dim_head": dim_head,
            "output_heads": dict({"human": 7611} if output_heads is None else output_heads),
            "dropout_rate": dropout_rate,
            "attn_dropout": attn_dropout,
            "pos_dropout": pos_dropout,
            "target_length": target_length,
            "checkpointing": checkpointing,
        }
        self.dim, self.target_length, self.checkpointing = dim, target_length, checkpointing
        self.conv_dna = ConvDna(widths[0])
        # The published module has a pool, without weights, at every odd place.
        blocks: list[nn.Module] = []
        for i, o in zip(widths[:-1], widths[1:], strict=True):
            blocks += [NormConv(i, o, 5), nn.MaxPool1d(2)]
        self.res_tower = nn.Sequential(*blocks[:-1])
        self.unet1 = nn.Sequential(nn.MaxPool1d(2), NormConv(widths[-1], dim, 5))
        self.horizontal_conv0 = NormConv(widths[-1], dim)
        self.horizontal_conv1 = NormConv(dim, dim)
        self.transformer = nn.Sequential(
            *(
                self._layer(
                    dim,
                    heads,
                    attn_dim_key,
                    attn_dim_value,
                    n_features,
                    dropout_rate,
                    attn_dropout,
                    pos_dropout,
                )
                for _ in range(depth)
            )
        )
        self.upsampling_unet1 = nn.Sequential(NormConv(dim, dim), nn.Upsample(scale_factor=2))
        self.separable1 = Separable(dim)
        self.upsampling_unet0 = nn.Sequential(NormConv(dim, dim), nn.Upsample(scale_factor=2))
        self.separable0 = Separable(dim)
        self.final_joined_convs = nn.Sequential(
            NormConv(dim, dim_head), nn.Dropout(0.1), nn.GELU(approximate="tanh")
        )
        for species, n in self.hparams["output_heads"].items():
            self.add_module(f"{species}_head", nn.Conv1d(dim_head, n, 1))
        self.eval()

    @staticmethod
    def _layer(
        dim: int,
        heads: int,
        dim_key: int,
        dim_value: int,
        n_features: int,
        dropout: float,
        attn_dropout: float,
        pos_dropout: float,
    ) -> nn.Sequential:
        attention = RelativeAttention(
            dim,
            heads=heads,
            dim_key=dim_key,
            dim_value=dim_value,
            n_features=n_features,
            dropout=attn_dropout,
            pos_dropout=pos_dropout,
            basis=window_basis,
        )
        return transformer_layer(dim, attention, dropout=dropout, eps=1e-3)

    @property
    def parts(self) -> dict[str, list[nn.Module]]:
        """Modules that ``freeze="cnn"`` and ``freeze="transformer"`` hold still."""
        return {
            "cnn": [self.conv_dna, self.res_tower, self.unet1],
            "transformer": [self.transformer],
        }

    def embed(self, tokens: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Embeddings of bins of 32 bases.

        Parameters
        ----------
        tokens
            int (n, length): A 0, C 1, G 2, T 3, N 4, padding -1; or one-hot float (n, length, 4).

        Returns
        -------
        float (n, bins, dim).

        Raises
        ------
        ValueError
            A length that is no multiple of 128.
        """
        like = self.conv_dna.conv_layer.weight
        x = as_one_hot(tokens, like=like, length_multiple=self.length_multiple).transpose(1, 2)
        x = self._run(self.conv_dna, x)
        for block in self.res_tower:
            x = self._run(block, x)
        by_32, by_64 = x, self._run(self.unet1, x)
        x = nn.functional.max_pool1d(by_64, 2).transpose(1, 2)
        for block in self.transformer:
            x = self._run(block, x)
        x = self.upsampling_unet1(x.transpose(1, 2)) + self.horizontal_conv1(by_64)
        x = self.upsampling_unet0(self.separable1(x)) + self.horizontal_conv0(by_32)
        x = self.separable0(x).transpose(1, 2)
        return x if self.target_length is None else central(x, self.target_length)

    def _linear(self, head: str) -> Any:
        return getattr(self, f"{head}_head")

    def _joined(self, embedding: torch.Tensor) -> torch.Tensor:
        return self.final_joined_convs(embedding.transpose(1, 2)).transpose(1, 2)
