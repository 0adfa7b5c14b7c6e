"""Lazy namespaces: a name is imported when it is first used, so `import omicllm` stays light."""

from __future__ import annotations

import importlib
import logging
import random
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omicllm._core.process import same_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


def attach(
    package: str, filename: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the module-level ``__getattr__``, ``__dir__`` and ``__all__`` of a lazy package.

    Public names and the submodules that define them stand in the stub beside the file
    (``__init__.pyi``), which type checkers and editors read too. A submodule must not bear a
    public name, or the second access would yield the module.

    Parameters
    ----------
    package
        Full name of the package (its ``__name__``).
    filename
        Its ``__file__``.
    """
    import lazy_loader

    load, list_names, public = lazy_loader.attach_stub(package, filename)

    def __getattr__(name: str) -> Any:
        if name not in public:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        with undisturbed():
            value = load(name)
        setattr(sys.modules[package], name, value)  # later look-ups skip this function
        return value

    return __getattr__, list_names, public


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put back what imports inside the block change for everybody.

    Heavy packages draw from Python's ``random`` when they are imported (scvi, lightning), add
    warning filters (torch, lightning, sympy, scvi), set environment variables and cuDNN's flags,
    and may touch the root logger; a user who called one of our verbs should notice none of it.
    """
    state = random.getstate()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with same_environment(), warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(state)
            root.handlers[:] = handlers
            root.setLevel(level)


def quiet_import(name: str) -> ModuleType:
    """Import a package without its warnings and without lasting changes of global state."""
    if name in sys.modules:
        return sys.modules[name]
    with undisturbed():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
