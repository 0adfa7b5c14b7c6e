"""Scores of the `stats` room under their public names."""

from omicllm.stats.agreement import gene_pearson, ssim
from omicllm.stats.causal import causal_auroc
from omicllm.stats.mantel import mantel
from omicllm.stats.neighbors import neighbor_overlap, neighbor_recall
from omicllm.stats.scores import ari, calibration, nmi

__all__ = [
    "ari",
    "calibration",
    "causal_auroc",
    "gene_pearson",
    "mantel",
    "neighbor_overlap",
    "neighbor_recall",
    "nmi",
    "ssim",
]
