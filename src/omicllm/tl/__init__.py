"""Tools: train or apply a method and write its results into the object."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "compare_genes": "_compare_genes",
        "gene_functions": "_gene_functions",
        "gene_interactions": "_gene_interactions",
        "gene_neighbors": "_gene_neighbors",
        "pattern_genes": "_pattern_genes",
        "sigel": "_sigel",
        "spatially_variable_genes": "_spatially_variable_genes",
    },
)
