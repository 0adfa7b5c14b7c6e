"""Networks, the Student-t mixture and losses, on PyTorch alone."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
