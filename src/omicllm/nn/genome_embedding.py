"""Embeddings of many sequences by a trunk: batches, both strands, central bins, precision."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omicllm.nn.enformer import central
from omicllm.nn.genome_input import reverse_complement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def device_of(accelerator: str) -> torch.device:
    """Torch device of an ``accelerator=`` argument.

    Raises
    ------
    ValueError
        An accelerator that is not there.
    """
    name = {"gpu": "cuda"}.get(accelerator, accelerator)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not has.get(name, False):
        msg = f"accelerator={accelerator!r} is not available here: pass 'auto' or 'cpu'."
        raise ValueError(msg)
    return torch.device(name)


def pooled_bins(bins: torch.Tensor, n_bins: int | None) -> torch.Tensor:
    """The `n_bins` central bins of (n, bins, d), all of them where there are fewer or None."""
    return bins if n_bins is None or n_bins >= bins.shape[1] else central(bins, n_bins)


def both_strands(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, *, both: bool
) -> torch.Tensor:
    """f(x), or the mean of f(x) and of f(reverse complement of x)."""
    out = function(x)
    return (out + function(reverse_complement(x))) / 2 if both else out


def embed_rows(
    trunk: Any,
    tokens: np.ndarray,
    *,
    n_bins: int | None = None,
    strands: bool = True,
    batch_size: int = 8,
    device: torch.device | None = None,
    precision: str = "32",
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> np.ndarray:
    """One vector per sequence: the mean of its central bins.

    Parameters
    ----------
    trunk
        A :class:`omicllm.nn.GenomeTrunk`. It is put into evaluation mode meanwhile.
    tokens
        int8 (n, length).
    n_bins
        Central bins; all when None.
    strands
        Take the mean over both strands.
    batch_size
        Sequences in a batch.
    device
        Where to run; where the trunk is when None. The trunk goes back afterwards.
    precision
        ``"32"``, or ``"bf16"`` for automatic mixed precision.
    watch
        Wraps the numbers of the first rows of batches (a progress bar).

    Returns
    -------
    float32 (n, dim).
    """
    out = np.zeros((len(tokens), trunk.dim), dtype=np.float32)

    def one(x: torch.Tensor) -> torch.Tensor:
        return pooled_bins(trunk.embed(x), n_bins).float().mean(dim=1)

    with evaluated(trunk, device) as where, torch.no_grad(), autocast(where, precision):
        for start in watch(range(0, len(tokens), batch_size)):
            x = torch.from_numpy(np.ascontiguousarray(tokens[start : start + batch_size]))
            out[start : start + batch_size] = both_strands(one, x.to(where), both=strands).cpu()
    return out


def autocast(device: torch.device, precision: str) -> Any:
    """Context of a ``precision=`` argument.

    Raises
    ------
    ValueError
        Unknown precision.
    """
    if precision not in ("32", "bf16"):
        msg = f"precision must be '32' or 'bf16', not {precision!r}."
        raise ValueError(msg)
    if precision == "32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class evaluated:
    """A trunk in evaluation mode on a device, and back as it was afterwards.

    Parameters
    ----------
    trunk
        Any trunk; what is no torch module is left alone.
    device
        Where to put it; None leaves it.
    """

    def __init__(self, trunk: Any, device: torch.device | None = None) -> None:
        self.module = trunk if isinstance(trunk, torch.nn.Module) else None
        self.device = device

    def __enter__(self) -> torch.device:
        if self.module is None:
            return self.device or torch.device("cpu")
        weight = next(self.module.parameters(), None)
        self.before = torch.device("cpu") if weight is None else weight.device
        self.modes = [(m, m.training) for m in self.module.modules()]
        self.module.eval()
        if self.device is not None and self.device != self.before:
            try:
                self.module.to(self.device)
            except BaseException:  # a device without room for it
                self.__exit__()
                raise
        return self.device or self.before

    def __exit__(self, *_: object) -> None:
        if self.module is None:
            return
        for module, training in self.modes:
            module.training = training
        if self.device is not None and self.device != self.before:
            self.module.to(self.before)
