"""Weights of patch encoders in local files: read, checked, written; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from omicllm._core.files import whole_file
from omicllm.nn.foundation import FOUNDATION_ENCODERS, load_encoder
from omicllm.nn.simclr import PatchNetwork
from omicllm.train._simclr import Featurizer

if TYPE_CHECKING:
    from torch import nn


def read_tensors(weights: str | Path) -> dict[str, torch.Tensor]:
    """Tensors of a file or folder, without running anything that it may hold.

    Raises
    ------
    FileNotFoundError
        No such file.
    """
    path = Path(weights)
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin")
        path = next((path / n for n in names if (path / n).is_file()), path / names[0])
    if not path.is_file():
        msg = f"There is no file of weights {path} (weights=)."
        raise FileNotFoundError(msg)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    # weights_only refuses everything but tensors.
    state: Any = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    return {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}


def foundation(name: str, weights: str | Path | None, *, allow_download: bool = False) -> nn.Module:
    """A published encoder with weights from a file, the cache of Hugging Face, or its hub.

    Parameters
    ----------
    name
        Key of ``FOUNDATION_ENCODERS``.
    weights
        Local file or folder; None looks into the local cache, without network and without login.
    allow_download
        Fetch weights that are not in the cache, with the user's own login; the environment
        variable HF_HUB_OFFLINE still forbids it.

    Raises
    ------
    FileNotFoundError
        No weights.
    """
    path = _published(name, allow_download=allow_download) if weights is None else Path(weights)
    return load_encoder(name, read_tensors(path), where=path.name)


def _published(name: str, *, allow_download: bool) -> Path:
    """The file of weights of a published encoder on this machine, or fetched."""
    from transformers.utils.hub import cached_file

    known = FOUNDATION_ENCODERS[name]
    reason = ""
    for local in (True, False) if allow_download else (True,):
        for file in ("model.safetensors", "pytorch_model.bin"):
            try:
                found = cached_file(known.source, file, local_files_only=local)
            except OSError as error:  # not there, behind a form, or no network
                reason = str(error).splitlines()[0]
                continue
            if found is not None:
                return Path(found)
    fetch = f"Fetching it failed: {reason}" if allow_download else "Or pass allow_download=True."
    msg = (
        f"encoder={name!r} needs weights=, a local file; it is not in the cache of Hugging Face. "
        f"Its authors publish it as {known.source} under {known.licence}. {fetch}"
    )
    raise FileNotFoundError(msg)


def save_simclr(module: nn.Module, path: str | Path) -> None:
    """Write a trained patch network."""
    from safetensors.torch import save_file

    with whole_file(path) as fresh:
        save_file(module.state_dict(), fresh)


def load_simclr(weights: str | Path) -> nn.Module:
    """Read a patch network that :func:`save_simclr` wrote.

    Raises
    ------
    ValueError
        Weights of another network.
    """
    module = Featurizer(PatchNetwork())
    state = read_tensors(weights)
    shapes = {k: v.shape for k, v in module.state_dict().items()}
    if {k: v.shape for k, v in state.items()} != shapes:
        msg = (
            f"{Path(weights).name} does not hold a network of encoder='simclr': "
            f"{len(set(shapes) - set(state))} of its {len(shapes)} tensors are missing."
        )
        raise ValueError(msg)
    module.load_state_dict(state)
    return module.eval()
