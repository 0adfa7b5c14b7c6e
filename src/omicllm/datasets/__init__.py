"""Small real sets: bundled, or fetched once; and made-up sets with a known answer."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
