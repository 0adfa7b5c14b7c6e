"""A limit on the memory that a description of a network may ask for."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from omicllm._core.files import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Functions that ask for memory by a size, or by the end of a range.
_BY_SIZE = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
_BY_END = {torch.arange, torch.linspace}
#: Buffers, starting values and tables beside the weights themselves.
_TIMES, _FREE, _EACH = 8, 2**26, 1024


@contextmanager
def no_larger_than(
    n_bytes: int, path: Path, *, again: str = "Train the model again"
) -> Iterator[None]:
    """Refuse a network that is out of all proportion to its stored weights, while it is built.

    The sizes that a file describes are compared with the weights it describes only when the network
    is there; a file that was made up could ask for terabytes before.

    Parameters
    ----------
    n_bytes
        Size of the stored weights.
    path
        File with the sizes.
    again
        How to come by a whole one.

    Raises
    ------
    DamagedFileError
        Building asks for more than eight times as much (and 64 MB).
    """
    limit = _TIMES * n_bytes + _FREE

    class _Count(TorchFunctionMode):
        asked = 0

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.asked += _elements(func, args, kwargs or {}) * 4
            if self.asked > limit:
                why = (
                    f"the network it describes needs more than {self.asked:.3g} bytes, but "
                    f"{n_bytes:.3g} are stored"
                )
                raise damaged(path, why, again=again)
            return func(*args, **(kwargs or {}))

    with _Count():
        yield


def _elements(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Numbers that a call asks memory for; a call counts for something in any case."""
    if func in _BY_SIZE:
        size = kwargs.get("size", args)
        size = size[0] if size and isinstance(size[0], (tuple, list)) else size
        if func is torch.full:
            size = size if isinstance(size, (tuple, list)) else (size,)
        return _EACH // 4 + math.prod(int(n) for n in size if isinstance(n, int))
    if func in _BY_END:
        numbers = [abs(a) for a in (*args, kwargs.get("end", 0)) if isinstance(a, (int, float))]
        return _EACH // 4 + int(max(numbers[:3] or [0]))
    return 0
