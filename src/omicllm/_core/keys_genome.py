"""Slots of verbs on genomes and sequences; see `omicllm._core.keys`."""

from __future__ import annotations

from omicllm._core.keys_row import Keys

GENOME: dict[str, Keys] = {
    "pp.kmer_pmi": Keys(
        "pmi",
        {
            "var:{root}": "float64: normalised PMI of the k-mer; NaN where rare",
            "var:{root}_rank": "float64: 1 is the highest; NaN where there is no score",
        },
        {
            "n_bases": "bases that were counted",
            "n_ranked": "k-mers with a rank",
        },
    ),
    "pp.gene_windows": Keys(
        "window",
        {
            "var:{root}_chrom": "str: contig of the gene's window; empty without one",
            "var:{root}_start": "int64: first base, counted from 0; -1 without a window",
            "var:{root}_end": "int64: base after the last; -1 without a window",
            "var:{root}_strand": "str: strand of the gene, + or -",
        },
    ),
    "pp.attach_sequences": Keys(
        "sequence",
        {"var:{root}": "str: sequence of the gene's window, in the direction of the gene"},
    ),
    "pp.correct_expression": Keys(
        "corrected",
        {
            "layers:{root}": "float32 (n_obs, n_vars): ln(TPM + pseudocount), hidden factors off",
            "layers:{root}_z": "float32 (n_obs, n_vars): the same, standardised by gene",
            "var:{root}_expressed": "bool: the gene took part in finding the factors",
            "obsm:{root}_pcs": "float32 (n_obs, n_pcs): scores of the factors",
        },
    ),
    "tl.motifs": Keys(
        "motifs",
        {},
        {
            "table": "DataFrame: one row per motif, with its p and q value on held-out sequences",
            "matrices": "float32 (n_motifs, widest, 4): probabilities of A, C, G, T",
            "sites": "DataFrame: best site of each sequence of the positive class",
        },
    ),
    "tl.few_shot": Keys(
        "few_shot",
        {},
        {
            "table": "DataFrame: accuracy, AUC, macro F1 and MCC of each model, shots and draw",
            "summary": "DataFrame: their means over draws, with intervals, by model and shots",
            "classes": "class names, in the order used",
            "n_test": "test sequences",
            "n_pool": "int64: distinct training sequences of each class",
            "duplicates": "training sequences that are in the test set too",
        },
    ),
    "tl.twas": Keys(
        "twas",
        {
            f"{attribute}:{{root}}_{model}{suffix}": what
            for model in ("top1", "lasso", "enet", "blup", "bslmm")
            for attribute, suffix, what in (
                ("layers", "", "float32, of `rna`: predicted expression of everybody"),
                ("var", "_pearson", "float32, of `rna`: correlation over test people"),
                ("var", "_intercept", "float32, of `rna`: prediction without any allele"),
                ("var", "_window", "int32, of `rna`: length of the window chosen of several"),
                ("varm", "", "csr float32 (n_variants, n_genes), of `geno`: weights per allele"),
            )
        }
        | {
            "var:{root}_bslmm_rhat": "float32, of `rna`: convergence of the chains of BSLMM",
            "var:{root}_h2": "float32, of `rna`: heritability among training people",
            "var:{root}_h2_se": "float32, of `rna`: its standard error",
            "var:{root}_h2_pval": "float32, of `rna`: its p value against 0",
            "var:{root}_n_variants": "int32, of `rna`: variants that the models saw",
        },
        {
            "summary": "of `rna`, DataFrame: per model mean and median correlation, constant "
            "predictions, genes scored",
            "windows": "of `rna`, DataFrame: each length of window by gene and model, the chosen "
            "one marked",
            "weights": "of `rna`, DataFrame: published variants used, absent, flipped, left out",
            "genes": "of `geno`: genes of the columns of the weights",
        },
    ),
    "tl.sample_size": Keys(
        "sample_size",
        {},
        {
            "table": "of `rna`, DataFrame: correlation by model, share of people, draw and gene",
            "summary": "of `rna`, DataFrame: means by model and share of people, with intervals",
        },
    ),
    "tl.embed_genes": Keys(
        "enformer",
        {"varm:X_{root}": "float32 (n_vars, d): embedding of the sequence around the gene's start"},
    ),
    "tl.embed_sequences": Keys(
        "enformer", {"obsm:X_{root}": "float32 (n_obs, d): embedding of the sequence"}
    ),
    "tl.embed_people": Keys(
        "enformer",
        {"obsm:X_{root}": "float32 (n_obs, d), of `rna`: embedding of people by their sequences"},
        {
            "genes": "genes whose windows were read",
            "n_unique": "int64: distinct haplotypes of each gene, the only ones that were run",
            "n_haplotypes": "haplotypes of each gene",
            "variance_ratio": "float64: share of variance of each component (several genes)",
        },
    ),
    "tl.variant_effects": Keys(
        "variant_effects",
        {"varm:{root}": "csr float32 (n_variants, n_genes), of `geno`: effect on a haplotype"},
        {
            "table": "of `geno`, DataFrame: gene, variant, pos, distance, af, effect",
            "genes": "of `geno`: genes of the columns",
        },
    ),
    "tl.linearize": Keys(
        "linearized",
        {
            "layers:{root}": "float32, of `rna`: half the sum of the effects a person carries",
            "var:{root}_pearson": "float32, of `rna`: correlation with the network's prediction",
        },
    ),
    "tl.variant_drivers": Keys(
        "variant_drivers",
        {"var:{root}_n": "int32, of `rna`: drivers of the gene"},
        {"table": "of `geno`, DataFrame: gene, variant, rank, effect, agreement with predictions"},
    ),
    "tl.variant_enrichment": Keys(
        "variant_enrichment",
        {},
        {
            "table": "of `geno`, DataFrame: share of selected variants inside regions, expected "
            "share, ratio, interval, p value",
        },
    ),
    "tl.saturation_ism": Keys(
        "saturation_ism",
        {},
        {
            "scores": "float32 (n_genes, n_bases, 4): change of the prediction by A, C, G, T",
            "reference": "int8 (n_genes, n_bases): A 0, C 1, G 2, T 3, N 4",
            "offset": "int64 (n_genes,): distance of the first base from the start site",
            "genes": "genes that were scored",
        },
    ),
    "tl.input_gradients": Keys(
        "input_gradients",
        {},
        {
            "scores": "float32 (n_genes, n_bases, 4): gradient by A, C, G, T minus their mean",
            "reference": "int8 (n_genes, n_bases): A 0, C 1, G 2, T 3, N 4",
            "offset": "int64 (n_genes,): distance of the first base from the start site",
            "genes": "genes that were scored",
        },
    ),
    "tl.personal_expression": Keys(
        "personal",
        {
            f"{attribute}:{{root}}_{strategy}{suffix}": what
            for strategy in (
                "baseline",
                "single_counts",
                "single_z",
                "pair_regression",
                "pair_counts",
                "pair_classification",
                "pair_regression_tracks",
                "pair_classification_tracks",
                "pair_regression_mpra",
            )  # fmt: skip
            for attribute, suffix, what in (
                ("layers", "", "float32, of `rna`: predicted expression of everybody"),
                ("var", "_pearson", "float32, of `rna`: correlation over test people"),
                ("var", "_baseline", "float32, of `rna`: that of a linear model, same split"),
            )
        },
        {
            "summary": "DataFrame: means over genes, of the network and of the linear model",
            "history": "loss per epoch",
            "genes": "genes that were modelled",
            "model_dir": "folder of the saved model, with `save=`",
        },
    ),
    "tl.evaluate_personal": Keys(
        "evaluate_personal",
        {},
        {
            "table": "DataFrame: one row per prediction and gene, Pearson and Spearman",
            "summary": "DataFrame: means by prediction and class of genes, constants as 0",
        },
    ),
}
