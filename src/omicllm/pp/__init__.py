"""Preprocessing verbs."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "attach_sequences": "_gene_windows",
        "augment": "_augment",
        "correct_expression": "_correct_expression",
        "gene_windows": "_gene_windows",
        "haplotypes": "_haplotypes",
        "image_features": "_image_features",
        "kmer_counts": "_kmers",
        "kmer_pmi": "_kmers",
        "spatial_grid": "_spatial_grid",
        "split": "_split",
        "standardize": "_standardize",
        "tiles": "_tiles",
    },
)
