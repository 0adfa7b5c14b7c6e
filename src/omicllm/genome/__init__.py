"""Genomes as data: k-mers, PMI, masking, motifs, sequence and its variants; plain functions."""

from omicllm._core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "KernelClassifier": "kernel_classifier",
        "KmerCounter": "kmers",
        "KmerTokenizer": "kmers",
        "descending_ranks": "pmi",
        "mask_tokens": "masking",
        "normalised_pmi": "pmi",
        "sample_corpus": "corpus",
        "stream_fasta": "corpus",
        "token_ranks": "masking",
    },
)
