"""The encoders of `pp.image_features`: what turns patches into numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm.spatial.image_features import UNITS, classical, classical_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omicllm.spatial.patch_sources import PatchSource

#: Side at which patches are encoded unless the encoder has its own.
OUT_PX = 96


@dataclass
class Encoder:
    """One way to turn patches into features.

    Attributes
    ----------
    name, root
        Name of the encoder, and of what is written.
    licence
        Terms of its weights.
    out_px
        Side at which it wants patches.
    encode
        ``(source, sample, batch_size, watch)`` -> float32 (n, d) of one section.
    names
        ``(sources)`` -> names of the features, or none.
    units
        ``(sources)`` -> a usual spread (d,) of each feature within a section; an encoder that
        has them is centred by section unless the caller says otherwise.
    train
        Called before, on all sections, where the encoder learns from them.
    """

    name: str
    root: str
    licence: str
    out_px: int
    encode: Callable[..., np.ndarray]
    names: Callable[[Sequence[PatchSource]], list[str]] = lambda _: []
    units: Callable[[Sequence[PatchSource]], np.ndarray] | None = None
    train: Callable[..., None] | None = None


def choose_encoder(
    encoder: Any,
    *,
    weights: Any,
    allow_download: bool,
    transform: Any,
    context: float,
    accelerator: str,
    obsm: Sequence[str],
) -> Encoder:
    """Return the encoder that an argument names.

    Raises
    ------
    ValueError
        An unknown name; a foundation model without weights.
    """
    if isinstance(encoder, str) and encoder == "classical":
        return _classical(context)
    if not isinstance(encoder, str):
        if not callable(encoder):
            msg = f"encoder must be a name, a torch module or a function, not {encoder!r}."
            raise TypeError(msg)
        name = getattr(encoder, "__name__", type(encoder).__name__)
        return Encoder(
            name, "image", "that of whoever made it", OUT_PX,
            _through(encoder, transform, accelerator),
        )  # fmt: skip
    checks.one_of("encoder", encoder, ["classical", *obsm])
    raise AssertionError


def _classical(context: float) -> Encoder:
    def encode(source: PatchSource, sample: np.ndarray, size: int, watch: Any) -> np.ndarray:
        return classical(source, sample=sample, context=context, size=size, watch=watch)

    def names(sources: Sequence[PatchSource]) -> list[str]:
        return classical_names(context=context > 0 and sources[0].wide)

    def units(sources: Sequence[PatchSource]) -> np.ndarray:
        return np.tile(list(UNITS.values()), 2 if context > 0 and sources[0].wide else 1)

    return Encoder("classical", "classical", "BSD-3-Clause", OUT_PX, encode, names, units)


def _through(encoder: Any, transform: Any, accelerator: str) -> Callable[..., np.ndarray]:
    """Features by a module or a function, block by block."""

    def encode(source: PatchSource, sample: np.ndarray, size: int, watch: Any) -> np.ndarray:
        usable = np.flatnonzero(source.usable)
        apply = encoder
        if _is_module(encoder):
            from omicllm.nn.patch_encoder import PatchEncoder

            apply = PatchEncoder(encoder, transform=transform, accelerator=accelerator)
        out: np.ndarray | None = None
        for start in watch(range(0, len(usable), size)):
            rows = usable[start : start + size]
            block = apply(source.cut(rows))
            block = block.detach().cpu().numpy() if hasattr(block, "detach") else block
            block = np.asarray(block, dtype=np.float32)
            if block.ndim != 2 or len(block) != len(rows):
                msg = (
                    f"The encoder must return ({len(rows)}, d) features for {len(rows)} patches, "
                    f"not an array of shape {block.shape}."
                )
                raise ValueError(msg)
            if out is None:
                out = np.full((len(source.rows), block.shape[1]), np.nan, dtype=np.float32)
            out[rows] = block
        assert out is not None  # refuse_outside saw to a patch in every section
        return out

    return encode


def _is_module(value: Any) -> bool:
    """Whether a value is a torch module, without importing torch."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)
