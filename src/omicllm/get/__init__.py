"""DataFrames and arrays out of results; nothing is written."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "gene_embedding_df": "_gene_embedding",
        "gene_functions_df": "_tables",
        "gene_images": "_gene_images",
        "gene_interactions_df": "_tables",
    },
)
