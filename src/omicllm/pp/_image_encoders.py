"""The encoders of `pp.image_features`: what turns patches into numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm.spatial.image_features import UNITS, classical, classical_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData

    from omicllm.spatial.patch_sources import PatchSource

#: Side at which patches are encoded unless the encoder has its own.
OUT_PX = 96
#: Patches that the small network learns from, at least and at most.
_FEWEST, _MOST = 8, 4000


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
    save
        Writes what was learned to a path.
    """

    name: str
    root: str
    licence: str
    out_px: int
    encode: Callable[..., np.ndarray]
    names: Callable[[Sequence[PatchSource]], list[str]] = lambda _: []
    units: Callable[[Sequence[PatchSource]], np.ndarray] | None = None
    train: Callable[..., None] | None = None
    save: Callable[[Any], None] | None = None


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
    if isinstance(encoder, str) and encoder == "simclr":
        return _simclr(weights, accelerator)
    if isinstance(encoder, str):
        return _foundation(encoder, weights, transform, accelerator, obsm, download=allow_download)
    if not callable(encoder):
        msg = f"encoder must be a name, a torch module or a function, not {encoder!r}."
        raise TypeError(msg)
    name = getattr(encoder, "__name__", type(encoder).__name__)
    encode = _through(encoder, transform, accelerator)
    return Encoder(name, "image", "that of whoever made it", OUT_PX, encode)


def _foundation(
    name: str, weights: Any, transform: Any, accelerator: str, obsm: Sequence[str], *,
    download: bool,
) -> Encoder:  # fmt: skip
    """A published encoder with weights from a local file."""
    from omicllm.nn.foundation import FOUNDATION_ENCODERS
    from omicllm.nn.patch_encoder import colour_transform

    checks.one_of("encoder", name, ["classical", "simclr", *FOUNDATION_ENCODERS, *obsm])
    known = FOUNDATION_ENCODERS[name]
    from omicllm.model._patch_weights import foundation

    module = foundation(name, weights, allow_download=download)
    transform = transform or colour_transform(*known.colours)
    encode = _through(module, transform, accelerator)
    return Encoder(name, name, known.licence, known.config.image, encode)


def _simclr(weights: Any, accelerator: str) -> Encoder:
    """The small network: trained on the object's own patches, or read from a file."""
    from omicllm.model._patch_weights import load_simclr, save_simclr

    held: list[Any] = [] if weights is None else [load_simclr(weights)]

    def transform(patches: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(patches)

    def train(
        adata: AnnData, sources: Sequence[PatchSource], split_key: str, max_epochs: int | None,
        generator: np.random.Generator, *, show_progress: bool | None,
    ) -> None:  # fmt: skip
        from omicllm.train._simclr import train_simclr

        patches = _training_patches(adata, sources, split_key, generator)
        module, _ = train_simclr(
            patches, seed=int(generator.integers(2**31)), max_epochs=max_epochs,
            show_progress=show_progress,
        )  # fmt: skip
        held.append(module)

    def save(path: Any) -> None:
        save_simclr(held[0], path)

    def encode(source: PatchSource, sample: np.ndarray, size: int, watch: Any) -> np.ndarray:
        return _through(held[0], transform, accelerator)(source, sample, size, watch)

    licence = "BSD-3-Clause (trained here)"
    return Encoder("simclr", "simclr", licence, 64, encode, train=None if held else train,
                   save=save)  # fmt: skip


def _training_patches(
    adata: AnnData, sources: Sequence[PatchSource], split_key: str, generator: np.random.Generator
) -> np.ndarray:
    """At most 4,000 patches of rows that may be learned from."""
    allowed = np.ones(adata.n_obs, dtype=bool)
    if split_key in adata.obs:
        allowed = np.asarray(adata.obs[split_key]).astype(str) == "train"
    names = np.asarray(adata.obs_names).astype(str)
    places = [
        (names[row], s, i) for s, source in enumerate(sources)
        for i, row in enumerate(source.rows) if source.usable[i] and allowed[row]
    ]  # fmt: skip
    if len(places) < _FEWEST:
        msg = (
            f"encoder='simclr' learns from patches, at least {_FEWEST}: {len(places)} of "
            f"{adata.n_obs} observations may be learned from (adata.obs[{split_key!r}])."
        )
        raise ValueError(msg)
    places.sort(key=lambda place: place[:2])  # the same patches for any order of rows
    kept = np.sort(generator.permutation(len(places))[:_MOST])
    return np.concatenate([sources[places[k][1]].cut(np.array([places[k][2]])) for k in kept])


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
        if is_module(encoder):
            from omicllm.nn.patch_encoder import PatchEncoder

            apply = PatchEncoder(encoder, transform=transform, accelerator=accelerator)
        out: np.ndarray | None = None
        for start in watch(range(0, len(usable), size)):
            rows = usable[start : start + size]
            block = apply(source.cut(rows))
            block = block.detach().cpu().numpy() if hasattr(block, "detach") else block
            block = np.asarray(block)
            if block.dtype.kind not in "iufbO":
                msg = f"The encoder must return numbers, not {block.dtype}."
                raise ValueError(msg)
            block = block.astype(np.float32)
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


def is_module(value: Any) -> bool:
    """Whether a value is a torch module, without importing torch."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)
