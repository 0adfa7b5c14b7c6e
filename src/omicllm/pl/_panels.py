"""What plots of images share: a grid of panels, the tissue mask, showing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Height of a row over width of a column in a hexagonal array.
HEX_ASPECT = np.sqrt(3) / 2


def panels(n: int, *, ncols: int, height: float, width: float) -> tuple[Figure, list[Axes]]:
    """Figure with `n` axes in rows of `ncols`; `height` and `width` of a panel in inches."""
    ncols = min(ncols, n)
    nrows = -(-n // ncols)
    figure, axes = plt.subplots(
        nrows,
        ncols,
        figsize=(width * ncols, height * nrows),
        squeeze=False,
        layout="constrained",
    )
    flat = list(axes.ravel())
    for empty in flat[n:]:
        empty.set_axis_off()
    return figure, flat[:n]


def image_height(shape: tuple[int, int], width: float, *, hexagonal: bool) -> float:
    """Inches a panel of an image of `shape` takes at `width`, with its title."""
    aspect = shape[0] / shape[1] * (HEX_ASPECT if hexagonal else 1.0)
    return width * min(2.0, max(0.4, aspect)) + 0.3


def draw_image(
    ax: Axes, image: np.ndarray, occupied: np.ndarray, *, title: str, cmap: str, hexagonal: bool
) -> Any:
    """Draw one gene image; pixels without tissue stay blank."""
    shown = np.where(occupied, image, np.nan)
    drawn = ax.imshow(
        shown, cmap=cmap, interpolation="nearest", aspect=HEX_ASPECT if hexagonal else 1.0
    )
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    return drawn


def finish(result: Any, *, show: bool | None) -> Any:
    """Show the figure when asked to, and hand the result back."""
    if show:
        plt.show()
    return result


def as_list(names: str | Sequence[str]) -> list[str]:
    """One name or several, as a list."""
    return [names] if isinstance(names, str) else list(names)
