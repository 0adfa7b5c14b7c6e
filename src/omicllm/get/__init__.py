"""DataFrames and arrays out of results; nothing is written."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "augment_quality_df": "_augment_quality",
        "classify_omics_df": "_classify_omics",
        "evaluate_expression_df": "_histology",
        "evaluate_personal_df": "_personal",
        "explain_omics_df": "_classify_omics",
        "few_shot_df": "_few_shot",
        "gene_embedding_df": "_gene_embedding",
        "gene_functions_df": "_tables",
        "gene_images": "_gene_images",
        "gene_interactions_df": "_tables",
        "gene_views_df": "_gene_views",
        "gene_windows_df": "_gene_windows",
        "histology_baselines_df": "_histology",
        "imputed": "_imputed",
        "ism_df": "_personal",
        "lut_df": "_ult",
        "motifs_df": "_motifs",
        "sample_size_df": "_personal",
        "svg_df": "_svg",
        "twas_df": "_personal",
        "ult_distances_df": "_ult",
        "variant_drivers_df": "_personal",
        "variant_effects_df": "_personal",
        "variant_enrichment_df": "_personal",
    },
)
