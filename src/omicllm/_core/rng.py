"""Random numbers: an ``rng`` argument in, the caller's global state left as it was.

What draws observations or genes works on them in :func:`name_order`
(:func:`omicllm._core.inputs.by_name`), so that the same object in another order gives the same
result.
"""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RNG = int | np.random.Generator | None


def generator(rng: RNG) -> np.random.Generator:
    """Turn an ``rng`` argument (int, Generator or None) into a Generator."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        return np.random.default_rng(rng)
    msg = f"rng must be an int, a numpy Generator or None, not {type(rng).__name__}."
    raise TypeError(msg)


def recorded(rng: RNG) -> int | str:
    """What `uns` keeps of an ``rng`` argument: the seed, or how it was given."""
    if isinstance(rng, (int, np.integer)):
        return int(rng)
    return "generator" if isinstance(rng, np.random.Generator) else "unseeded"


def seed_of(rng: RNG) -> int:
    """A 31-bit seed for libraries that only take an integer; the same int gives the same seed."""
    if isinstance(rng, (int, np.integer)) and 0 <= rng < 2**31:
        return int(rng)
    return int(generator(rng).integers(2**31))


def name_order(names: Sequence[str]) -> np.ndarray:
    """Positions in an order that depends on the names alone; equal names stay as they come.

    The order is that of a hash, so that it tells nothing of what names have in common (a section,
    a place on a grid).
    """
    from pandas.util import hash_array

    values = np.array([str(name) for name in names], dtype=object)
    return np.argsort(hash_array(values, categorize=False), kind="stable")


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed Python, numpy and torch inside the block, and restore the three states after it.

    Torch's CUDA states are included where a GPU is present, and torch's defaults hold inside
    (:func:`omicllm._core.process.torch_defaults`). The states are those of the whole process, so
    blocks of several threads run one after another; a thread may nest them.
    """
    with process.TURN, process.torch_defaults():
        yield from _seeded(seed)


def _seeded(seed: int) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch: Any = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch else None
    cuda_state = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_available() else None
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002, TID251
        if torch:
            torch.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch and torch_state is not None:
            torch.set_rng_state(torch_state)
            if cuda_state is not None:
                torch.cuda.set_rng_state_all(cuda_state)
