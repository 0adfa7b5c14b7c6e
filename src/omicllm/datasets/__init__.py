"""Small real sets bundled with the package."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {"mouse_olfactory_bulb": "_bundled"})
