"""The Enformer: convolutions to bins of 128 bases, then transformer blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omicllm.nn.enformer_store import EnformerStore
from omicllm.nn.genome_input import as_one_hot
from omicllm.nn.relative_attention import RelativeAttention
from omicllm.nn.track_heads import Residual, TrackHeads, transformer_layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

#: Tracks of the published heads.
HEADS = {"human": 5313, "mouse": 1643}


class Gelu(nn.Module):
    """x sigmoid(1.702 x), the form of GELU that Enformer uses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape in, the same out."""
        if torch.is_grad_enabled():
            return torch.sigmoid(1.702 * x) * x
        return (1.702 * x).sigmoid_().mul_(x)


class PairPool(nn.Module):
    """Join neighbouring positions by a softmax over the two, channel by channel.

    The softmax of two scores is a sigmoid of their difference, and scores are linear in x: one
    product with the difference of the two positions is enough, half the work. A last position
    without a partner is kept.

    Parameters
    ----------
    dim
        Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_attn_logits = nn.Conv2d(dim, dim, 1, bias=False)
        nn.init.dirac_(self.to_attn_logits.weight)
        with torch.no_grad():
            self.to_attn_logits.weight.mul_(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, d, n) to (b, d, ceil(n / 2))."""
        even = x.shape[-1] // 2 * 2
        first, second = x[..., 0:even:2], x[..., 1:even:2]
        difference = first - second
        weight = self.to_attn_logits.weight[:, :, 0]
        share = torch.sigmoid(nn.functional.conv1d(difference, weight))
        out = torch.addcmul(second, share, difference)
        return out if even == x.shape[-1] else torch.cat([out, x[..., even:]], dim=-1)


def conv_block(dim: int, dim_out: int | None = None, kernel_size: int = 1) -> nn.Sequential:
    """Batch norm, GELU, convolution."""
    return nn.Sequential(
        nn.BatchNorm1d(dim),
        Gelu(),
        nn.Conv1d(dim, dim_out or dim, kernel_size, padding=kernel_size // 2),
    )


def channels(start: int, end: int, n: int, divisible_by: int) -> list[int]:
    """`n` widths from start to end, geometrically, each rounded to a multiple."""
    base = (end / start) ** (1 / max(1, n - 1))
    return [int(round(start * base**i / divisible_by) * divisible_by) for i in range(n)]


class Enformer(EnformerStore, TrackHeads):
    """Sequence in, one vector per 128 bases out; and the published tracks.

    Names of the weights are those of the package enformer-pytorch, whose checkpoints load with
    :meth:`from_pretrained`. A :class:`omicllm.nn.GenomeTrunk`.

    Parameters
    ----------
    dim
        Width inside; embeddings are twice as wide (attribute `dim`).
    depth
        Transformer blocks.
    heads
        Attention heads; ``dim / heads`` must be a multiple of 6.
    attn_dim_key
        Width of the keys of a head.
    num_downsamples
        Halvings; a bin is ``2 ** num_downsamples`` bases.
    dim_divisible_by
        Widths of the convolutions are multiples of this.
    output_heads
        Tracks of each species; ``{}`` for none.
    dropout_rate, attn_dropout, pos_dropout
        Dropout of blocks, attention weights and position features, in training mode.
    target_length
        Central bins that are kept; None keeps all (the published tracks have 896 of 1,536).
    checkpointing
        Recompute blocks in the backward pass instead of keeping their activations.

    Attributes
    ----------
    dim
        Width of an embedding, 3,072 by default.
    bin_size, length_multiple
        Bases per bin.
    max_len
        None: any multiple of a bin. The published length is 196,608.

    Raises
    ------
    ValueError
        Sizes that do not fit.

    Notes
    -----
    Avsec et al. 2021, Nature Methods 18:1196. The published TensorFlow weights were trained with
    gamma position features that TensorFlow computes a little differently at 1,536 bins; ours are
    computed exactly, as in the published fine-tuning on personal genomes.

    Examples
    --------
    >>> import numpy as np
    >>> import omicllm as ol
    >>> trunk = ol.nn.Enformer(dim=96, depth=1, heads=4, dim_divisible_by=24, output_heads={})
    >>> trunk.embed(np.zeros((1, 1024), dtype=np.int8)).shape
    torch.Size([1, 8, 192])
    """

    name = "enformer"
    max_len: int | None = None

    def __init__(
        self,
        dim: int = 1536,
        depth: int = 11,
        heads: int = 8,
        *,
        attn_dim_key: int = 64,
        num_downsamples: int = 7,
        dim_divisible_by: int = 128,
        output_heads: Mapping[str, int] | None = None,
        dropout_rate: float = 0.4,
        attn_dropout: float = 0.05,
        pos_dropout: float = 0.01,
        target_length: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if dim % (2 * heads) or (dim // heads) % 6:
            msg = f"dim / heads must be a multiple of 6, not {dim} / {heads}."
            raise ValueError(msg)
        widths = [dim // 2, *channels(dim // 2, dim, num_downsamples - 1, dim_divisible_by)]
        if widths[-1] != dim:
            msg = f"dim must be a multiple of dim_divisible_by={dim_divisible_by}, not {dim}."
            raise ValueError(msg)
        self.hparams: dict[str, Any] = {
            "dim": dim,
            "depth": depth,
            "heads": heads,
            "attn_dim_key": attn_dim_key,
            "num_downsamples": num_downsamples,
            "dim_divisible_by": dim_divisible_by,
            "output_heads": dict(HEADS if output_heads is None else output_heads),
            "dropout_rate": dropout_rate,
            "attn_dropout": attn_dropout,
            "pos_dropout": pos_dropout,
            "target_length": target_length,
            "checkpointing": checkpointing,
        }
        self.dim, self.bin_size = 2 * dim, 2**num_downsamples
        self.length_multiple = self.bin_size
        self.target_length, self.checkpointing = target_length, checkpointing
        self.stem = nn.Sequential(
            nn.Conv1d(4, dim // 2, 15, padding=7),
            Residual(conv_block(dim // 2)),
            PairPool(dim // 2),
        )
        self.conv_tower = nn.Sequential(
            *(
                nn.Sequential(conv_block(i, o, 5), Residual(conv_block(o)), PairPool(o))
                for i, o in zip(widths[:-1], widths[1:], strict=True)
            )
        )
        self.transformer = nn.Sequential(
            *(
                self._layer(dim, heads, attn_dim_key, dropout_rate, attn_dropout, pos_dropout)
                for _ in range(depth)
            )
        )
        # Places 0 and 2 of the published module turn axes and hold no weights.
        self.final_pointwise = nn.Sequential(
            nn.Identity(),
            conv_block(dim, 2 * dim),
            nn.Identity(),
            nn.Dropout(dropout_rate / 8),
            Gelu(),
        )
        self._heads = nn.ModuleDict(
            {
                species: nn.Sequential(nn.Linear(2 * dim, n), nn.Softplus())
                for species, n in self.hparams["output_heads"].items()
            }
        )
        self.eval()

    @staticmethod
    def _layer(
        dim: int, heads: int, dim_key: int, dropout: float, attn_dropout: float, pos_dropout: float
    ) -> nn.Sequential:
        attention = RelativeAttention(
            dim,
            heads=heads,
            dim_key=dim_key,
            dim_value=dim // heads,
            n_features=dim // heads,
            dropout=attn_dropout,
            pos_dropout=pos_dropout,
        )
        return transformer_layer(dim, attention, dropout=dropout)

    @property
    def parts(self) -> dict[str, list[nn.Module]]:
        """Modules that ``freeze="cnn"`` and ``freeze="transformer"`` hold still."""
        return {
            "cnn": [self.stem, self.conv_tower],
            "transformer": [self.transformer, self.final_pointwise],
        }

    def embed(self, tokens: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Embeddings of the bins.

        Parameters
        ----------
        tokens
            int (n, length): A 0, C 1, G 2, T 3, N 4, padding -1; or one-hot float (n, length, 4).
            One sequence may come without the first axis.

        Returns
        -------
        float (n, bins, dim).

        Raises
        ------
        ValueError
            A length that is no multiple of a bin.
        """
        like = self.stem[0].weight
        x = as_one_hot(tokens, like=like, length_multiple=self.length_multiple)
        x = self._run(self.stem, x.transpose(1, 2))
        for block in self.conv_tower:
            x = self._run(block, x)
        x = x.transpose(1, 2)
        for block in self.transformer:
            x = self._run(block, x)
        if self.target_length is not None:
            x = central(x, self.target_length)
        x = self.final_pointwise[1](x.transpose(1, 2)).transpose(1, 2)
        return self.final_pointwise[4](self.final_pointwise[3](x))

    def _linear(self, head: str) -> Any:
        return self._heads[head][0]  # type: ignore[index]


def central(x: torch.Tensor, n: int) -> torch.Tensor:
    """The `n` central bins of (b, bins, d).

    Raises
    ------
    ValueError
        When there are fewer.
    """
    n_more = x.shape[1] - n
    if n_more < 0:
        msg = f"{n} central bins were asked for, but the sequence has {x.shape[1]}."
        raise ValueError(msg)
    return x[:, n_more // 2 : n_more // 2 + n]
