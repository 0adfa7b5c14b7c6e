"""Tools: train or apply a method and write its results into the object."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
