"""State of the whole process that our work needs otherwise: set for its time, then set back.

Random generators, torch's defaults and the levels of other packages' loggers belong to everybody
in the process. What reads or seeds them runs one at a time (:data:`TURN`); what only needs torch's
defaults may run at once, and the last to finish sets them back.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Held by whoever seeds the global generators. Re-entrant: a training may seed parts of itself.
TURN = threading.RLock()

_LOCK = threading.Lock()
_users = 0
_before: tuple[Any, ...] = ()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Work with torch as it comes: float32, gradients allowed, no inference mode.

    The caller's default dtype, modes and cuDNN flags are back afterwards. Nothing happens where
    torch is not loaded.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):
        yield
        return
    _enter(torch)
    try:
        with ExitStack() as modes:  # those are of a thread
            if torch.is_inference_mode_enabled():
                modes.enter_context(torch.inference_mode(mode=False))
            if not torch.is_grad_enabled():
                modes.enter_context(torch.enable_grad())
            yield
    finally:
        _leave(torch)


def _enter(torch: Any) -> None:
    global _users, _before
    with _LOCK:
        if _users == 0:
            flags = torch.backends.cudnn
            _before = torch.get_default_dtype(), flags.benchmark, flags.deterministic
            if _before[0] is not torch.float32:
                torch.set_default_dtype(torch.float32)
        _users += 1


def _leave(torch: Any) -> None:
    global _users
    with _LOCK:
        _users -= 1
        if _users == 0:
            dtype, benchmark, deterministic = _before
            if torch.get_default_dtype() is not dtype:
                torch.set_default_dtype(dtype)
            torch.backends.cudnn.benchmark = benchmark
            torch.backends.cudnn.deterministic = deterministic


#: Set by scikit-learn for OpenMP runtimes that load later, so they have to stay.
_LEFT = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")


@contextmanager
def same_start_method() -> Iterator[None]:
    """Leave the start method of new processes open where it was: asking for one settles it."""
    start = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        if start is None and multiprocessing.get_start_method(allow_none=True) is not None:
            multiprocessing.set_start_method(None, force=True)


@contextmanager
def same_environment() -> Iterator[None]:
    """Put back environment variables, cuDNN's flags and the start method of processes.

    Imports of scvi and lightning change all three for everybody.
    """
    environment = dict(os.environ)
    torch: Any = sys.modules.get("torch")
    benchmark = torch.backends.cudnn.benchmark if hasattr(torch, "backends") else False
    try:
        with same_start_method():
            yield
    finally:
        for name in set(os.environ) - set(environment) - set(_LEFT):
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        torch = sys.modules.get("torch")
        if hasattr(torch, "backends") and torch.backends.cudnn.benchmark != benchmark:
            torch.backends.cudnn.benchmark = benchmark
