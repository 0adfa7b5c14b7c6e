"""Plots of results; each returns Axes or a Figure."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "compare_genes": "_compare_genes",
        "gene_embedding": "_gene_embedding",
        "gene_heatmap": "_gene_heatmap",
        "gene_image": "_gene_image",
        "training_history": "_training_history",
    },
)
