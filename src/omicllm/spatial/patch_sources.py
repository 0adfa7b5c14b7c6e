"""Patches of observations, from an image, from an array of patches or from patch files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from omicllm._core import checks
from omicllm._core.log import logger
from omicllm.spatial.image_files import read_image
from omicllm.spatial.patches import crop, resampling
from omicllm.spatial.rgb import as_rgb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omicllm.spatial.image_sources import SectionImage


class PatchSource(Protocol):
    """What an encoder reads patches from: one section at a time."""

    name: str
    rows: np.ndarray  #: positions of its observations in the object
    usable: np.ndarray  #: bool, which of them have a patch
    wide: bool  #: patches of another physical size can be cut
    size_um: float | None  #: side of a patch, where known

    def cut(self, index: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Patches uint8 (n, out, out, 3) of some of its observations, `scale` times as wide."""


@dataclass
class ImagePatches:
    """Patches cut out of a large image around points."""

    section: SectionImage
    side: float
    out: int
    size_um: float | None = None
    wide: bool = True
    name: str = field(init=False)
    rows: np.ndarray = field(init=False)
    usable: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.rows = self.section.name, self.section.rows
        self.usable = self.section.inside

    def cut(self, index: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Patches of some observations."""
        centres = self.section.centres[index]
        return crop(self.section.image, centres, self.side * scale, self.out)


@dataclass
class ReadyPatches:
    """Patches that were cut before: one array, or one file for each observation."""

    name: str
    rows: np.ndarray
    usable: np.ndarray
    out: int
    patches: Any = field(repr=False)
    size_um: float | None = None
    wide: bool = False
    white: float | None = None  #: value of white of all patches together

    def cut(self, index: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Patches of some observations; `scale` has no meaning here."""
        return np.stack([self._one(i) for i in index])

    def _one(self, i: int) -> np.ndarray:
        patch = self.patches[i]
        if isinstance(patch, str):
            patch = read_image(patch)
        return resized(as_rgb(patch, where="a patch", white=self.white), self.out)


def resized(patch: np.ndarray, out: int) -> np.ndarray:
    """A patch (h, w, 3) uint8 at `out` pixels a side."""
    if patch.shape[:2] == (out, out):
        return patch
    down, across = resampling(patch.shape[0], out), resampling(patch.shape[1], out)
    shrunk = np.tensordot(down, patch.astype(np.float32), (1, 0))
    shrunk = np.tensordot(shrunk, across, (1, 1))
    return np.rint(shrunk).clip(0, 255).astype(np.uint8).transpose(0, 2, 1)


def same_pixels(patches: Any) -> tuple[int, int]:
    """Height and width of an array of patches (n, h, w, 3), or what is wrong with it.

    Raises
    ------
    ValueError
        Another shape.
    """
    shape = np.shape(patches)
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        msg = f"patches= must be (n_obs, height, width, 3), not of shape {shape}."
        raise ValueError(msg)
    return int(shape[1]), int(shape[2])


def refuse_outside(sources: Sequence[PatchSource], most: float, *, how: str) -> int:
    """Count observations without a patch; say so, or refuse when they are too many.

    Parameters
    ----------
    sources
        Sections.
    most
        Largest share.
    how
        What may be wrong, for the message.

    Raises
    ------
    ValueError
        More than `most` of all observations, or all of a section, have no patch.
    """
    outside = {s.name: int((~s.usable).sum()) for s in sources}
    total, n = sum(outside.values()), sum(len(s.rows) for s in sources)
    if not total:
        return 0
    where = {name: k for name, k in outside.items() if k}
    text = f"{total} of {n} observations have no patch ({checks.listed(where)}). {how}"
    if total > most * n or any(not s.usable.any() for s in sources):
        msg = f"{text} At most {most:.0%} are accepted."
        raise ValueError(msg)
    logger.warning("%s Their features are set to the middle of their section.", text)
    return total
