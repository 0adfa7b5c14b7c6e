"""Networks, the Student-t mixture and losses, on PyTorch alone."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AutoWeighted": "losses",
        "TissueFusion": "tissue_fusion",
        "zinb": "count_likelihoods",
        "Borzoi": "borzoi",
        "Enformer": "enformer",
        "GenomeTrunk": "genome_trunk",
        "ImageCritic": "memory_attention",
        "ImageProjection": "projection",
        "MaskedAutoencoder": "masked_autoencoder",
        "MemoryAttention": "memory_attention",
        "ModuleTrunk": "genome_trunk",
        "PatchNetwork": "simclr",
        "StudentTMixture": "student_t",
        "TransformersTrunk": "genome_trunk",
        "VisionTransformer": "vision_transformer",
        "info_nce": "losses",
        "neighbor_distillation": "losses",
        "pseudo_contrastive": "losses",
        "self_paced_target": "losses",
        "sincos_positions": "positions",
        "size_entropy": "losses",
        "ProfileLM": "language_model",
    },
)
