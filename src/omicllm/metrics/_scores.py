"""Scores of the `stats` room under their public names."""

from omicllm.stats.clusters import ari, nmi
from omicllm.stats.neighbors import neighbor_overlap, neighbor_recall

__all__ = ["ari", "neighbor_overlap", "neighbor_recall", "nmi"]
