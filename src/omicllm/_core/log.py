"""One logger and one progress bar for the whole package."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TypeVar

from omicllm._core.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

logger = logging.getLogger("omicllm")


def progress_wanted(*, show_progress: bool | None = None) -> bool:
    """Whether to draw a bar: the argument, else the setting, else only where a person looks."""
    choice = settings.show_progress if show_progress is None else show_progress
    if choice is not None:
        return choice
    return hasattr(sys, "ps1") or sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(
    items: Iterable[T],
    *,
    what: str,
    total: int | None = None,
    show_progress: bool | None = None,
) -> Iterator[T]:
    """Iterate with a progress bar named `what`, or without one in non-interactive runs."""
    if not progress_wanted(show_progress=show_progress):
        yield from items
        return
    from tqdm.auto import tqdm

    yield from tqdm(items, desc=what, total=total, leave=False)


def warn(message: str) -> None:
    """Give a UserWarning that points at the line outside the package which called it."""
    import inspect
    import warnings
    from pathlib import Path

    package = str(Path(__file__).resolve().parent.parent)
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
