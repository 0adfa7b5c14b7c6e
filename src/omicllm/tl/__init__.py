"""Tools: train or apply a method and write its results into the object."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "augment_quality": "_augment_quality",
        "classify_omics": "_classify_omics",
        "compare_genes": "_compare_genes",
        "embed_genes": "_embed_sequences",
        "embed_people": "_embed_people",
        "embed_sequences": "_embed_sequences",
        "evaluate_expression": "_evaluate_expression",
        "evaluate_personal": "_evaluate_personal",
        "explain_omics": "_explain_omics",
        "few_shot": "_few_shot",
        "gene_functions": "_gene_functions",
        "gene_interactions": "_gene_interactions",
        "gene_neighbors": "_gene_neighbors",
        "histology_baselines": "_histology_baselines",
        "impute_genes": "_impute_genes",
        "input_gradients": "_saturation",
        "motifs": "_motifs",
        "pattern_genes": "_pattern_genes",
        "personal_expression": "_personal_expression",
        "saturation_ism": "_saturation",
        "sigel": "_sigel",
        "spatial_domains": "_spatial_domains",
        "spatially_variable_genes": "_spatially_variable_genes",
        "ult": "_ult",
        "ult_decode": "_ult_decode",
        "ult_distances": "_ult_distances",
        "ult_quality": "_ult_decode",
        "twas": "_twas",
        "variant_effects": "_variant_effects",
    },
)
