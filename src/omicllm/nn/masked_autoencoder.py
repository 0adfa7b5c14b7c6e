"""Masked autoencoder of gene images (SIGEL, module I), restricted to tissue.

An image of one gene is cut into patches; patches without tissue are dropped. The encoder sees a
part of the patches and the decoder predicts the pixels of the others. The embedding of a gene is
pooled from all its patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from omicllm.nn.architecture import check_config
from omicllm.nn.blocks import SelfBlock, embedding_head, init_linear
from omicllm.nn.decoders import make_decoder
from omicllm.nn.grids import PatchGrid, take
from omicllm.nn.positions import sincos_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MaskedAutoencoder"]


class MaskedAutoencoder(nn.Module):
    """Encoder of gene images trained to predict hidden patches.

    Parameters
    ----------
    image_shape
        Height and width of an image in pixels; need not divide by `patch_size`.
    occupancy
        Which pixels hold tissue, boolean (height, width); None means all of them. Other pixels are
        never read, predicted or counted.
    patch_size
        Side of a patch in pixels.
    dim, depth, n_heads, mlp_ratio
        Width of a token, number of transformer blocks, heads, hidden width of a block over `dim`.
    n_latent
        Width of the embedding.
    mask_ratio
        Share of the tissue patches hidden from the encoder in :meth:`masked_loss`.
    decoder
        What predicts the hidden patches. ``"image"`` is the paper's network from the mean of the
        visible tokens to all pixels; ``"token"`` lets each hidden patch read from the visible
        tokens; ``"embedding"`` is the network of ``"image"`` fed with the embedding, so that
        pooling and embedding head are trained too.
    shared_norm
        One layer norm for both parts of a block (paper) instead of one each.
    standardize
        Scale every image to mean 0 and standard deviation 1 over its tissue pixels first, so that
        the expression level carries no weight. The paper does not.
    positions
        ``"learned"`` starts at sine-cosine codes and is trained; ``"fixed"`` keeps them.
    max_period
        See :func:`~omicllm.nn.positions.sincos_positions`; None is the longer side of the grid.
    n_pools
        Number of pooling maps. One starts uniform (paper); several start as overlapping regions
        spread over the tissue, so that the embedding sees where expression is from the start.
    decoder_depth
        Number of blocks of the ``"token"`` decoder.
    rng
        Seed of the starting weights; the global random state is not touched.

    Raises
    ------
    ValueError
        For an occupancy of another shape or with fewer than two tissue patches, or parameters
        outside their range.

    Notes
    -----
    He et al. (2022) for masked autoencoders; the architecture is SIGEL's (Genome Biology 26:287,
    2025). Averaged over tokens, the paper's mask token and decoder positions add one constant
    vector, which the bias of the decoder's first layer already holds: ``"image"`` therefore
    decodes the mean of the visible tokens. The paper's positions start at zero, which makes an
    untrained encoder blind to place; ours start at true two-dimensional codes. The paper's pooling
    weights are unconstrained; ours are a softmax.
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        occupancy: np.ndarray | torch.Tensor | Sequence[Sequence[bool]] | None = None,
        *,
        patch_size: int = 4,
        dim: int = 16,
        depth: int = 5,
        n_heads: int = 4,
        mlp_ratio: float = 5.0,
        n_latent: int = 32,
        mask_ratio: float = 0.3,
        decoder: str = "image",
        shared_norm: bool = True,
        standardize: bool = True,
        positions: str = "learned",
        max_period: float | None = None,
        n_pools: int = 1,
        decoder_depth: int = 1,
        rng: int | np.random.Generator | None = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "patch_size": patch_size,
            "dim": dim,
            "depth": depth,
            "n_heads": n_heads,
            "mlp_ratio": mlp_ratio,
            "n_latent": n_latent,
            "mask_ratio": mask_ratio,
            "decoder": decoder,
            "shared_norm": shared_norm,
            "standardize": standardize,
            "positions": positions,
            "max_period": max_period,
            "n_pools": n_pools,
            "decoder_depth": decoder_depth,
        }
        check_config(self.config)
        self.grid = PatchGrid(image_shape, occupancy, patch_size)
        if max_period is None:
            max_period = self.config["max_period"] = float(max(*self.grid.grid_shape, 2))
        # At least one patch is seen and one is hidden.
        n_kept = int(round((1 - mask_ratio) * self.n_tokens, 6))
        self.n_kept = min(max(n_kept, 1), self.n_tokens - 1)
        codes = sincos_positions(*self.grid.grid_shape, dim, max_period=max_period)
        self.positions = nn.Parameter(codes, requires_grad=positions == "learned")
        self.pool_logits = nn.Parameter(self.grid.regions(n_pools))
        seed = rng if isinstance(rng, int) else int(np.random.default_rng(rng).integers(2**62))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embed = nn.Linear(patch_size**2, dim)
            self.blocks = nn.Sequential(
                *(SelfBlock(dim, n_heads, mlp_ratio, shared_norm=shared_norm) for _ in range(depth))
            )
            self.head = embedding_head(n_pools * dim, 2 * dim, n_latent)
            self.embed.apply(init_linear)
            self.decoder = make_decoder(self.config, self.n_tokens)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.grid.image_shape

    @property
    def n_tokens(self) -> int:
        """Number of patches that hold tissue."""
        return self.grid.n_tokens

    @property
    def n_latent(self) -> int:
        """Width of the embedding."""
        return int(self.config["n_latent"])

    def patchify(self, images: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Cut images (batch, height, width) into tissue patches (batch, n_tokens, patch_size**2).

        Tokens are in row-major order of the patch grid. Pixels outside tissue are set to zero.
        """
        weight = self.embed.weight
        return self.grid.cut(torch.as_tensor(images, dtype=weight.dtype, device=weight.device))

    def encode(self, images: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Embed images (batch, height, width) from all their patches: (batch, n_latent)."""
        patches, _, _ = self._scaled(images)
        return self._pool(self._latents(patches))

    def forward(self, images: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Do what :meth:`encode` does."""
        return self.encode(images)

    def reconstruct(self, images: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Decode images (batch, height, width) from all their patches, in their own units.

        Pixels outside tissue are zero. The loss never asks for patches the encoder has seen, so
        this shows what the network holds of a gene rather than a copy of it.
        """
        patches, mean, sd = self._scaled(images)
        return self.grid.join(self._decode(self._latents(patches)) * sd + mean)

    def masked_loss(
        self, images: torch.Tensor | np.ndarray, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Mean squared error over the tissue pixels of hidden patches.

        Parameters
        ----------
        images
            Shape (batch, height, width).
        generator
            Source of the masks, drawn for each image anew; None is PyTorch's global one.

        Returns
        -------
        Scalar tensor, in squared standard deviations of a gene when images are standardised.
        """
        patches, _, _ = self._scaled(images)
        visible, hidden = self.draw_masks(len(patches), generator)
        latents = self._latents(patches, visible)
        if self.config["decoder"] == "token":
            target = take(patches, hidden)
            weight = self.grid.pixel_weight[hidden]
            predicted = self._decode(latents, visible, hidden)
        else:
            target = patches
            chosen = torch.zeros(len(patches), self.n_tokens, 1, device=patches.device)
            chosen.scatter_(1, hidden[:, :, None], 1.0)
            weight = chosen * self.grid.pixel_weight
            predicted = self._decode(latents, visible)
        return ((predicted - target).square() * weight).sum() / weight.sum().clamp_min(1.0)

    def draw_masks(
        self, n_images: int, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw which patches each image shows and hides, uniformly and without replacement.

        Returns
        -------
        Token indices shown, (n_images, n_kept), and hidden, (n_images, n_tokens - n_kept).
        """
        source = self.embed.weight.device if generator is None else generator.device
        noise = torch.rand(n_images, self.n_tokens, generator=generator, device=source)
        order = noise.argsort(1).to(self.embed.weight.device)
        return order[:, : self.n_kept], order[:, self.n_kept :]

    def for_grid(
        self,
        image_shape: tuple[int, int],
        occupancy: np.ndarray | torch.Tensor | None = None,
        *,
        share: bool = False,
    ) -> MaskedAutoencoder:
        """Give the same network for images of another shape or tissue outline.

        Encoder weights are copied, or shared on request (then training one trains the other).
        Positions and pooling maps are interpolated over the grid, so a patch is identified by its
        relative place in the image. A decoder that depends on the image size starts anew.
        """
        other = MaskedAutoencoder(image_shape, occupancy, **self.config)
        other.to(self.embed.weight.device, self.embed.weight.dtype)
        with torch.no_grad():
            other.positions.copy_(self.grid.resize(self.positions.T, other.grid).T)
            other.pool_logits.copy_(self.grid.resize(self.pool_logits, other.grid))
        names = ["embed", "blocks", "head"]
        if self.config["decoder"] == "token":
            names.append("decoder")
        for name in names:
            if share:
                setattr(other, name, getattr(self, name))
            else:
                getattr(other, name).load_state_dict(getattr(self, name).state_dict())
        return other.train(self.training)

    def _scaled(
        self, images: torch.Tensor | np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Patches scaled per image, with the mean and the standard deviation taken out."""
        patches = self.patchify(images)
        if not self.config["standardize"]:
            one = patches.new_ones(len(patches), 1, 1)
            return patches, torch.zeros_like(one), one
        return self.grid.standardize(patches)

    def _latents(self, patches: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Run the encoder on all patches, or on those kept: (batch, tokens, dim)."""
        positions = self.positions[self.grid.tissue]
        if visible is None:
            return self.blocks(self.embed(patches) + positions)
        return self.blocks(
            self.embed(take(patches, visible)) + torch.nn.functional.embedding(visible, positions)
        )

    def _pool(self, latents: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Embedding of tokens pooled with softmax weights over those present."""
        logits = self.pool_logits[:, self.grid.tissue]
        if visible is None:
            pooled = logits.softmax(1) @ latents
        else:
            pooled = logits[:, visible].transpose(0, 1).softmax(2) @ latents
        return self.head(pooled.flatten(1))

    def _decode(
        self,
        latents: torch.Tensor,
        visible: torch.Tensor | None = None,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict the pixels of the patches wanted (all by default) from the tokens kept."""
        if self.config["decoder"] == "token":
            positions = self.positions[self.grid.tissue]
            places = positions.expand(len(latents), -1, -1) if wanted is None else positions[wanted]
            return self.decoder(latents, places)
        pooled = (
            latents.mean(1) if self.config["decoder"] == "image" else self._pool(latents, visible)
        )
        return self.decoder(pooled)
