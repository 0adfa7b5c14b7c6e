"""Readers and writers of published file formats."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Genome": "_genome",
        "read_basenji": "_basenji",
        "read_cohort": "_cohort",
        "read_expression": "_expression",
        "read_kmer_ranks": "_kmer_ranks",
        "read_lut": "_lut",
        "read_mpra": "_expression",
        "read_patch_map": "_patch_map",
        "read_sequences": "_sequences",
        "read_twas_weights": "_twas_weights",
        "read_vcf": "_genome",
        "write_kmer_ranks": "_kmer_ranks",
        "write_lut": "_lut",
    },
)
