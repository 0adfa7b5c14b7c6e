"""Optional packages: imported on use, with the pip line in the error."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module`, or say which extra of omicllm brings it.

    Raises
    ------
    ImportError
        When the module is absent; the message names the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        msg = (
            f"{why} needs the package {module.split('.')[0]!r}, which could not be imported "
            f"({error}). Install it with: pip install 'omicllm[{extra}]'"
        )
        raise ImportError(msg) from error
