"""Plots of results; each returns Axes or a Figure."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "augment": "_augment",
        "augment_quality": "_augment",
        "compare_genes": "_compare_genes",
        "confusion": "_classify",
        "expression_agreement": "_expression_agreement",
        "expression_calibration": "_expression_calibration",
        "expression_maps": "_expression_maps",
        "few_shot": "_few_shot",
        "gene_attributions": "_classify",
        "gene_embedding": "_gene_embedding",
        "gene_heatmap": "_gene_heatmap",
        "gene_image": "_gene_image",
        "gene_views": "_gene_views",
        "image_alignment": "_image_alignment",
        "imputation": "_imputation",
        "ism_logo": "_variant_effects",
        "kmer_pmi": "_kmer_pmi",
        "motif_logo": "_motif_logo",
        "personal_accuracy": "_personal_accuracy",
        "reliability": "_classify",
        "sample_size": "_sample_size",
        "spatial_domains": "_spatial_domains",
        "svg": "_svg",
        "training_history": "_training_history",
        "ult_distances": "_ult",
        "ult_quality": "_ult",
        "ult_table": "_ult",
        "variant_effects": "_variant_effects",
        "variant_enrichment": "_variant_enrichment",
    },
)
