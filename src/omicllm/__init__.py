"""Language-model methods for omics, on AnnData and MuData."""

from omicllm._core.lazy import attach as _attach
from omicllm._core.settings import settings
from omicllm._version import __version__

_getattr, _dir, _names = _attach(
    __name__,
    {
        **dict.fromkeys(
            (
                "codec", "datasets", "genome", "get", "io", "metrics", "model", "nn", "pl", "pp",
                "spatial", "tl",
            ),
            "",
        ),
        "plan": "_plan",
    },
)  # fmt: skip
__all__ = [*_names, "__version__", "settings"]


def __getattr__(name: str) -> object:
    return _getattr(name)


def __dir__() -> list[str]:
    return sorted(__all__)
