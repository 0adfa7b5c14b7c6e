"""Language-model methods for omics, on AnnData and MuData."""

from omicllm._core.lazy import attach
from omicllm._version import __version__ as __version__

__getattr__, __dir__, __all__ = attach(__name__, __file__)
