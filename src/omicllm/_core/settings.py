"""The one settings object, ``omicllm.settings``."""

from __future__ import annotations

import logging
import os
from pathlib import Path

_LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


class Settings:
    """Package-wide choices. Nothing here is read at import time.

    Attributes
    ----------
    verbosity
        ``"error"``, ``"warning"`` (default), ``"info"`` or ``"debug"``. Setting it to ``"info"``
        attaches a handler to the ``omicllm`` logger (and to no other), so that verbs say what
        they wrote and which path they took.
    show_progress
        ``True``, ``False`` or ``None`` (bars in interactive sessions only).
    cache_dir
        Where downloads are kept; ``OMICLLM_CACHE`` or ``~/.cache/omicllm``.
    block_bytes
        Largest dense block a verb makes at once, in bytes.
    """

    def __init__(self) -> None:
        self.show_progress: bool | None = None
        self.block_bytes: int = 256 * 2**20
        self._cache_dir: Path | None = None
        self._handler: logging.Handler | None = None
        self._verbosity = "warning"

    @property
    def cache_dir(self) -> Path:
        """Folder for downloads; created by whoever writes into it first."""
        if self._cache_dir is None:
            default = Path.home() / ".cache" / "omicllm"
            return Path(os.environ.get("OMICLLM_CACHE", default))
        return self._cache_dir

    @cache_dir.setter
    def cache_dir(self, path: str | Path) -> None:
        self._cache_dir = Path(path)

    @property
    def verbosity(self) -> str:
        """How much the ``omicllm`` logger says."""
        return self._verbosity

    @verbosity.setter
    def verbosity(self, level: str) -> None:
        if level not in _LEVELS:
            msg = f"verbosity must be one of {sorted(_LEVELS)}, not {level!r}."
            raise ValueError(msg)
        logger = logging.getLogger("omicllm")
        if self._handler is None:
            self._handler = logging.StreamHandler()
            self._handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
            # Where the caller logs everything, a line is not said twice.
            self._handler.addFilter(lambda record: not logging.getLogger().handlers)
            logger.addHandler(self._handler)
        logger.setLevel(_LEVELS[level])
        self._verbosity = level

    def __repr__(self) -> str:
        return (
            f"Settings(verbosity={self.verbosity!r}, show_progress={self.show_progress!r}, "
            f"cache_dir={str(self.cache_dir)!r}, block_bytes={self.block_bytes})"
        )


settings = Settings()
