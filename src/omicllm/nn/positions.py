"""Two-dimensional sine-cosine position codes for rectangular grids of patches."""

from __future__ import annotations

import torch

__all__ = ["sincos_positions"]


def _axis_codes(length: int, n_pairs: int, max_period: float) -> torch.Tensor:
    """Sine-cosine pairs of the coordinates 0..length-1, shape (length, 2 * n_pairs)."""
    steps = torch.arange(n_pairs, dtype=torch.float64) / max(n_pairs, 1)
    frequencies = float(max_period) ** -steps
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_positions(
    height: int, width: int, dim: int, *, max_period: float = 10_000.0
) -> torch.Tensor:
    """Sine-cosine position codes over a (height, width) grid, in row-major order.

    Parameters
    ----------
    height, width
        Number of patches along rows and columns; they may differ.
    dim
        Width of a code: an even number of at least 4. Half of the sine-cosine pairs code the row
        and half the column; where the number of pairs is odd, the row has one more.
    max_period
        Ratio between the longest and the shortest wavelength (exclusive). The shortest is 2 pi
        patches. For codes only a few pairs wide a value near the side of the grid spreads the
        wavelengths over the distances that occur.

    Returns
    -------
    float32 tensor of shape (height * width, dim).

    Raises
    ------
    ValueError
        If the grid is empty, ``dim`` is odd or below 4, or ``max_period`` is not above 1.

    Notes
    -----
    One-dimensional codes: Vaswani et al. (2017), section 3.5; one half for each axis: He et al.,
    "Masked autoencoders are scalable vision learners" (2022), appendix A.1.
    """
    if height < 1 or width < 1:
        msg = f"The patch grid must hold at least one patch; got {height} x {width}."
        raise ValueError(msg)
    if dim < 4 or dim % 2:
        msg = f"Position codes need an even width of at least 4; got dim={dim}."
        raise ValueError(msg)
    if not max_period > 1:
        msg = f"max_period must be above 1; got {max_period}."
        raise ValueError(msg)
    n_pairs = dim // 2
    rows = _axis_codes(height, n_pairs - n_pairs // 2, max_period)
    columns = _axis_codes(width, n_pairs // 2, max_period)
    grid = torch.cat(
        [
            rows[:, None, :].expand(height, width, -1),
            columns[None, :, :].expand(height, width, -1),
        ],
        dim=2,
    )
    return grid.reshape(height * width, dim).to(torch.float32)
