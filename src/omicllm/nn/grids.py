"""Patches of gene images that hold tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["PatchGrid", "take"]

# Below this standard deviation an image counts as constant and is only centred.
_MIN_SD = 1e-6


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows `index` (batch, m) of each entry of `x` (batch, n, width): (batch, m, width)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


class PatchGrid(nn.Module):
    """Cuts images into square patches, keeping those with at least one tissue pixel.

    Images are padded with zeros below and to the right to a multiple of the patch side. The
    module has no weights; it holds its index tensors so that they follow the model to a device.

    Parameters
    ----------
    image_shape
        Height and width in pixels.
    occupancy
        Boolean (height, width), true where there is tissue; None means everywhere.
    patch_size
        Side of a patch in pixels.

    Attributes
    ----------
    grid_shape
        Rows and columns of the patch grid.
    n_tokens
        Number of patches with tissue.
    tissue
        Their places in the row-major patch grid, int64 (n_tokens,).
    pixel_weight
        One for tissue pixels and zero for others, float32 (n_tokens, patch_size**2).

    Raises
    ------
    ValueError
        If sizes are not positive, the occupancy has another shape, or tissue covers fewer than
        two patches.
    """

    tissue: torch.Tensor
    pixel_weight: torch.Tensor

    def __init__(
        self,
        image_shape: tuple[int, int],
        occupancy: np.ndarray | torch.Tensor | Sequence[Sequence[bool]] | None,
        patch_size: int,
    ) -> None:
        super().__init__()
        height, width = (int(side) for side in image_shape)
        if min(height, width, patch_size) < 1:
            msg = f"Image sides and patch_size must be positive; got {image_shape}, {patch_size}."
            raise ValueError(msg)
        if occupancy is None:
            occupancy = torch.ones(height, width, dtype=torch.bool)
        filled = torch.as_tensor(occupancy).detach().cpu().to(torch.bool)
        if filled.shape != (height, width):
            msg = (
                f"occupancy has shape {tuple(filled.shape)}, but images have shape "
                f"{(height, width)}."
            )
            raise ValueError(msg)
        self.image_shape = (height, width)
        self.patch_size = patch_size
        self.grid_shape = (-(-height // patch_size), -(-width // patch_size))
        patches = self._cut_all(filled[None].to(torch.float32))[0]
        tissue = patches.any(1).nonzero().flatten()
        if len(tissue) < 2:
            msg = (
                f"Tissue covers {len(tissue)} patch(es) of {patch_size} x {patch_size} pixels; at "
                "least 2 are needed. Use a smaller patch_size or check the occupancy."
            )
            raise ValueError(msg)
        self.n_tokens = len(tissue)
        # Geometry is given again when a model is built, so it is no part of the saved weights.
        self.register_buffer("tissue", tissue, persistent=False)
        self.register_buffer("pixel_weight", patches[tissue].contiguous(), persistent=False)
        self._all_pixels = bool(self.pixel_weight.all())

    def cut(self, images: torch.Tensor) -> torch.Tensor:
        """Images (batch, height, width) to tissue patches (batch, n_tokens, patch_size**2).

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        if images.ndim != 3 or tuple(images.shape[1:]) != self.image_shape:
            msg = (
                f"Expected images of shape (batch, {self.image_shape[0]}, {self.image_shape[1]}); "
                f"got {tuple(images.shape)}."
            )
            raise ValueError(msg)
        patches = self._cut_all(images)
        if self.n_tokens < patches.shape[1]:
            patches = patches[:, self.tissue]
        if self._all_pixels:
            return patches
        # Not a product: whatever stands outside tissue, NaN included, must not pass.
        return patches.masked_fill(self.pixel_weight == 0, 0.0)

    def join(self, patches: torch.Tensor) -> torch.Tensor:
        """Tissue patches (batch, n_tokens, patch_size**2) to images, zero outside tissue."""
        batch, side = len(patches), self.patch_size
        rows, columns = self.grid_shape
        full = patches.new_zeros(batch, rows * columns, side * side)
        full[:, self.tissue] = patches * self.pixel_weight
        full = full.view(batch, rows, columns, side, side).transpose(2, 3)
        full = full.reshape(batch, rows * side, columns * side)
        return full[:, : self.image_shape[0], : self.image_shape[1]]

    def standardize(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scale each image to mean 0 and standard deviation 1 over its tissue pixels.

        Returns
        -------
        Scaled patches, zero outside tissue; means and standard deviations, (batch, 1, 1). A
        constant image comes out as zeros, with a standard deviation of one.
        """
        count = self.pixel_weight.sum()
        mean = patches.sum((1, 2), keepdim=True) / count
        centred = (patches - mean) * self.pixel_weight
        sd = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
        # Relative to the mean, or rounding alone would pass for a pattern.
        sd = torch.where(sd > _MIN_SD * (1.0 + mean.abs()), sd, torch.ones_like(sd))
        return centred / sd, mean, sd

    def regions(self, n_regions: int) -> torch.Tensor:
        """Log weights (n_regions, patches of the grid) of soft regions spread over the tissue.

        One region is the whole tissue. Several are Gaussian bumps as wide as half the distance
        between neighbouring centres; the centres follow from the tissue alone (each the tissue
        patch farthest from those before, beginning with the one nearest the middle).
        """
        rows, columns = self.grid_shape
        if n_regions == 1:
            return torch.zeros(1, rows * columns)
        pixel = torch.arange(rows * columns)
        grid = torch.stack([pixel // columns, pixel % columns], 1).to(torch.float64)
        points = grid[self.tissue]
        nearest = (points - points.mean(0)).square().sum(1)
        centres = [points[int(nearest.argmin())]]
        distance = (points - centres[0]).square().sum(1)
        for _ in range(n_regions - 1):
            centres.append(points[int(distance.argmax())])
            distance = torch.minimum(distance, (points - centres[-1]).square().sum(1))
        middle = torch.stack(centres)
        gaps = torch.cdist(middle, middle) + torch.eye(n_regions) * float(rows + columns)
        spread = (gaps.amin(1).median() / 2).clamp_min(0.5)
        square = (middle[:, None, :] - grid[None, :, :]).square().sum(2)
        return (-square / (2 * spread**2)).to(torch.float32)

    def resize(self, maps: torch.Tensor, other: PatchGrid) -> torch.Tensor:
        """Interpolate maps (n, patches of this grid) to another grid: (n, patches of `other`)."""
        if self.grid_shape == other.grid_shape:
            return maps
        image = maps.reshape(1, len(maps), *self.grid_shape)
        return F.interpolate(image, other.grid_shape, mode="bilinear").reshape(len(maps), -1)

    def _cut_all(self, images: torch.Tensor) -> torch.Tensor:
        rows, columns = self.grid_shape
        side = self.patch_size
        below, right = rows * side - images.shape[1], columns * side - images.shape[2]
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        cut = images.reshape(len(images), rows, side, columns, side).transpose(2, 3)
        return cut.reshape(len(images), rows * columns, side * side)
