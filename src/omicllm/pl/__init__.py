"""Plots of results; each returns Axes or a Figure."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
