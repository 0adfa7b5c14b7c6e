"""Model classes in the style of scvi-tools: set up, train, get, save, load."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
