"""Profiles, images and texts as short strings: lookup tables and the three transforms of ULT."""

from omicllm.codec import image as image
from omicllm.codec import series as series
from omicllm.codec import text as text
from omicllm.codec.lookup_table import LookupTable
from omicllm.codec.parameters import Parameters

__all__ = ["LookupTable", "Parameters"]
