"""Scores: each takes arrays and returns a number."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ari": "_scores",
        "causal_auroc": "_scores",
        "gene_pearson": "_scores",
        "mantel": "_scores",
        "neighbor_overlap": "_scores",
        "neighbor_recall": "_scores",
        "nmi": "_scores",
        "ssim": "_scores",
        "calibration": "_scores",
    },
)
