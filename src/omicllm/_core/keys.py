"""Every slot each verb writes, in one place.

A slot is ``"<attribute>:<name>"``; ``{root}`` in a name is the method's root, which
``key_added=`` replaces everywhere in its row. `omicllm._core.results` refuses to write anything
that is not listed here, a test compares what verbs write with this table, and the documentation
page of keys is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Keys:
    """The row of one verb: its root and the slots it writes.

    Attributes
    ----------
    root
        Default of ``key_added``; also the name of the `uns` entry with parameters.
    slots
        Slot -> what it holds (dtype, shape, meaning).
    arrays
        Entries of ``uns[root]`` beside ``params``, ``keys`` and ``version``.
    """

    root: str
    slots: dict[str, str]
    arrays: dict[str, str] = field(default_factory=dict)

    def name(self, slot: str, key_added: str | None = None) -> tuple[str, str]:
        """Attribute and key of a slot, with the root filled in."""
        attribute, key = slot.split(":", 1)
        return attribute, key.format(root=key_added or self.root)


KEYS: dict[str, Keys] = {
    "pp.spatial_grid": Keys(
        "spatial_grid",
        {"obsm:{root}": "int32 (n_obs, 2): row and column of each spot in its gene image"},
        {
            "shape": "int64 (2,): height and width of the image (one section)",
            "method": "hex, square or bin",
            "scale": "pixels per coordinate unit (1 where array positions were used)",
            "agg": "sum or mean, how spots that share a pixel are joined",
            "sections": "section names",
            "shapes": "int64 (n_sections, 2): image size of each section",
            "batch_key": "the obs column that says which section a spot is in, or empty",
        },
    ),
    "pp.image_features": Keys(
        "classical",
        {
            "obsm:X_{root}": "float32 (n_obs, d): features of the patch; the root is the name of "
            "the encoder"
        },
        {
            "encoder": "its name",
            "feature_names": "names of the columns",
            "licence": "terms of the weights of the encoder",
            "sections": "section names",
            "size_um": "float64 (n_sections,): side of a patch, um; NaN where unknown",
            "mpp": "float64 (n_sections,): um per pixel of the image; NaN where unknown",
            "out_px": "side at which patches were encoded, pixels",
            "standardized": "center, robust or empty: how features are standardised by section",
            "n_outside": "observations without a patch",
        },
    ),
    "pp.split": Keys("split", {"obs:{root}": "categorical: train, val or test"}),
    "pp.standardize": Keys(
        "standardized",
        {
            "layers:{root}": "float32 (n_obs, n_vars): z-scores",
            "var:{root}_mean": "float64: mean of each gene over the rows fitted on",
            "var:{root}_scale": "float64: their standard deviation; 1 for a constant gene",
        },
        {"n_fit": "rows fitted on; 0 with `reference=`"},
    ),
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
            "layers:{root}": "float32 (n_obs, n_vars): ln(TPM + pseudocount) without hidden factors",
            "layers:{root}_z": "float32 (n_obs, n_vars): the same, standardised by gene",
            "var:{root}_expressed": "bool: the gene took part in finding the factors",
            "obsm:{root}_pcs": "float32 (n_obs, n_pcs): scores of the factors",
        },
    ),
    "pp.augment": Keys(
        "augment",
        {
            "obs:synthetic": "bool, in the new object: the row was drawn by a sampler",
            "obs:sampler": "categorical, in the new object: which sampler; missing in real rows",
        },
        {
            "classes": "class names, sorted",
            "n_real": "int64: training rows of each class that were sampled from",
            "n_new": "int64: rows drawn for each class",
        },
    ),
    "tl.augment_quality": Keys(
        "augment_quality",
        {},
        {
            "table": "DataFrame: one row per sampler and one for real rows, with marginals, "
            "correlation, separation, near copies and accuracy",
            "genes": "genes the figures were computed on",
        },
    ),
    "tl.histology_baselines": Keys(
        "histology_baselines",
        {
            "obsm:{root}_ridge": "float32 (n_obs, n_genes): held-out predictions of the tuned "
            "ridge, columns as in `genes`; NaN where a row or gene was not tested",
            "var:{root}_pearson": "float32: correlation of the ridge on held-out rows, mean of "
            "sections; NaN where not tested",
            "var:{root}_mse": "float32: its mean squared error",
        },
        {
            "table": "DataFrame: scores of each baseline by section, over all and pooled, with "
            "bootstrap intervals",
            "gene_table": "DataFrame: gene, method and scores",
            "folds": "DataFrame: what was held out, rows trained and tested on, penalty",
            "genes": "names of the genes, in the order of the columns",
            "split": "patient, section, region or spot: what kept training and test rows apart",
        },
    ),
    "tl.evaluate_expression": Keys(
        "evaluate_expression",
        {
            "var:{root}_pearson": "float32: correlation of prediction and measurement, mean of "
            "sections; NaN where not scored",
            "var:{root}_mse": "float32: mean squared error",
        },
        {
            "table": "DataFrame: scores of the prediction and of the ridge by section, over all "
            "and pooled, with bootstrap intervals",
            "gene_table": "DataFrame: gene, method and scores",
            "ridge": "where the ridge comes from; empty without one",
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
            "genes": "of `geno`: genes of the columns of the weights",
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
    "tl.sigel": Keys(
        "sigel",
        {
            "varm:X_{root}": "float32 (n_vars, d): gene embedding; zero rows for empty genes",
            "varm:X_{root}_umap": "float32 (n_vars, 2): UMAP of the embedding, on request",
            "var:{root}_cluster": "categorical: component of the Student-t mixture",
            "var:{root}_confidence": "float32: largest mixture responsibility of the gene",
            "var:{root}_empty": "bool: the gene is zero everywhere (no cluster, no neighbours)",
        },
        {
            "baseline": "neighbour overlap between two binomial halves of the counts: "
            "`sigel`, `pca` (Pearson residuals, same width), `n_neighbors`, `n_genes`",
            "history": "loss per epoch of each training stage",
            "sections": "section names, with `batch_key=`",
            "X_sections": "float32 (n_sections, n_vars, d): per-section embeddings",
            "model_dir": "folder of the saved model, with `save=`",
        },
    ),
    "tl.spatially_variable_genes": Keys(
        "sigel",
        {
            "var:{root}_svg_score": "float64: distance to null images beyond chance, or Moran's I",
            "var:{root}_svg_pval": "float64: one-sided p value against images without a pattern",
            "var:{root}_svg_qval": "float64: Benjamini-Hochberg q value",
            "var:{root}_svg_rank": "int64: 1 is the most variable",
        },
        {
            "n_axes": "int64 (2,): axes that follow the tissue, for each half of the genes "
            "(`method='sigel'`)"
        },
    ),
    "tl.gene_neighbors": Keys(
        "sigel",
        {
            "varp:{root}_connectivities": "csr float32 (n_vars, n_vars): weights of the gene graph",
            "varp:{root}_distances": "csr float32 (n_vars, n_vars): cosine distances to neighbours",
        },
    ),
    "tl.gene_functions": Keys(
        "gene_functions",
        {
            "var:{root}": "categorical: best function proposed for the gene, beyond those known",
            "var:{root}_score": "float32: its share of the votes of neighbouring genes",
        },
        {
            "table": "DataFrame: functions proposed for genes, with score and precision",
            "enrichment": "DataFrame: clusters and sets, overlap, p and q values",
            "sets": "DataFrame: size and cross-validated AUROC of each set, and co-expression's",
            "baseline": "mean `auroc` over sets, and that of `coexpression`",
        },
    ),
    "tl.pattern_genes": Keys(
        "pattern",
        {
            "var:{root}_score": "float32: cosine of the gene with the pattern; NaN without counts",
            "var:{root}_pval": "float32: p value among random patterns of the same smoothness",
            "var:{root}_qval": "float32: its false discovery rate",
        },
    ),
    "tl.compare_genes": Keys(
        "compare",
        {
            "var:{root}_score": "float32: change of pattern between conditions, in robust SD of "
            "genes as noisy; NaN where not tested",
            "var:{root}_pval": "float32: p value over relabelled sections or spatial blocks",
            "var:{root}_qval": "float32: its false discovery rate",
        },
        {
            "sections": "section names",
            "conditions": "condition of each section",
            "test": "sections or blocks: what was relabelled for the p values",
            "n_null": "number of relabellings",
        },
    ),
    "tl.impute_genes": Keys(
        "sigel_imputed",
        {
            "obsm:{root}": "float32 (n_obs, n_genes): imputed expression, on the scale of X",
            "obsm:{root}_lower": "float32 (n_obs, n_genes): lower bound of the interval (90 %)",
            "obsm:{root}_upper": "float32 (n_obs, n_genes): upper bound",
            "obsm:{root}_heldout": "float32 (n_obs, n_shared): shared genes as predicted while "
            "hidden, columns as in `scores`; NaN in cells that were not used",
        },
        {
            "genes": "names of the imputed genes, in the order of the columns",
            "scores": "DataFrame: Pearson, SSIM, those of kNN in the same folds, and coverage of "
            "the interval, of each shared gene while hidden",
            "baseline": "means of `scores`; `n_genes`, `n_cells`, `n_reference`",
            "weights": "weight of each predictor in the stack (`method='sigel'`)",
            "signal": "float64 (n_genes,): SD of the prediction in units of the gene's; it ranks "
            "genes by how well they can be predicted",
        },
    ),
    "tl.gene_interactions": Keys(
        "gene_interactions",
        {"var:{root}_degree": "int32: pairs of the gene with a stability or score of a half"},
        {
            "table": "DataFrame: pairs of genes with score, co-expression, stability, "
            "heterogeneity over sections and change between conditions",
            "baseline": "cross-validated `auc` on known pairs, of `cosine` and of `coexpression`",
            "sections": "section names, with `batch_key=`",
            "conditions": "condition of each section, with `condition_key=`",
        },
    ),
    "tl.spatial_domains": Keys(
        "spatial_domain",
        {
            "obs:{root}": "categorical: domain of the spot, 0 the largest",
            "obs:{root}_confidence": "float32: share of the starts that agree, or SpaGCN's "
            "probability",
        },
        {
            "genes": "names of the genes that were used",
            "gene_source": "where their clusters and scores came from",
            "dims": "components of each member of the ensemble",
            "amounts": "amount of smoothing of each member",
            "mclust_ari": "agreement with mclust's model EEE, with `cross_check=`",
        },
    ),
    "tl.ult": Keys(
        "ult",
        {
            "obs:{root}": "str: one character per gene of the profile, or the image or text",
            "var:{root}": "str: the gene image (`method='image'` without `patches_key`)",
        },
        {
            "levels": "int32, float64 or str (n_values,): values in rank order",
            "counts": "int64 (n_values,): how often each was counted",
            "codepoints": "uint32 (n_values,): character of each",
            "var_names": "gene of each character of a string",
            "modalities": "of a whole MuData: these four by modality, with `max_value` and `scale`",
            "shape": "int64: shape of each image",
        },
    ),
    "tl.ult_decode": Keys(
        "ult",
        {
            "layers:{root}_decoded": "float32 (n_obs, n_vars): profiles or gene images, decoded",
            "obsm:{root}_decoded": "float32 (n_obs, H, W[, C]): images, decoded",
            "obs:{root}_decoded": "str: texts, decoded",
        },
    ),
    "tl.ult_quality": Keys(
        "ult",
        {
            "obs:{root}_psnr": "float64: peak signal-to-noise ratio, dB",
            "obs:{root}_rmse": "float64: root mean squared error",
            "obs:{root}_saturated": "float64: share of values beyond `max_value`",
            "obs:{root}_ratio": "float64: share of matching characters of a text",
            "var:{root}_psnr": "float64: peak signal-to-noise ratio of the gene image, dB",
        },
        {"baseline": "mean `rmse` of profiles, and that of as many `uniform` steps"},
    ),
    "tl.ult_distances": Keys(
        "ult_distances",
        {},
        {
            "table": "DataFrame: one row per metric, correlations with distances of profiles",
            "pairs": "DataFrame: up to 2,000 pairs and their distances",
        },
    ),
    "tl.classify_omics": Keys(
        "omiclm",
        {
            "obs:{root}_label": "categorical: predicted class",
            "obsm:{root}_proba": "DataFrame float32 (n_obs, n_classes): class probabilities",
            "obsm:X_{root}": "float32 (n_obs, d): state of the language model after the text",
        },
        {
            "report": "text; its first line compares the model with the best baseline",
            "scores": "DataFrame: scores of the model and of each baseline on the same rows",
            "confusion": "int64 (n_labels, n_labels): true class in rows, predicted in columns",
            "labels": "class names of `confusion`",
            "calibration": "DataFrame: confidence, accuracy and count of each bin",
            "classes": "class names of the model",
            "genes": "genes in the text, in order",
            "history": "loss per epoch",
            "model_dir": "folder of the saved model",
        },
    ),
    "tl.explain_omics": Keys(
        "explain_omics",
        {"var:{root}_score": "float32: change of the class logits when the gene is hidden"},
        {
            "table": "DataFrame: gene, class, attribution, modality; strongest first",
            "n_explained": "rows that were explained",
        },
    ),
}

#: Verbs that share a root keep their parameters apart: verb -> suffix of the `uns` entry.
UNS_SUFFIX = {
    "tl.embed_people": "_people",
    "tl.embed_sequences": "_sequences",
    "tl.spatially_variable_genes": "_svg",
    "tl.gene_neighbors": "_neighbors",
    "tl.ult_decode": "_decode",
    "tl.ult_quality": "_quality",
}


def uns_name(verb: str, key_added: str | None = None) -> str:
    """Name of the `uns` entry of a verb."""
    return (key_added or KEYS[verb].root) + UNS_SUFFIX.get(verb, "")


def markdown_table() -> str:
    """Return the table of keys as Markdown, for the documentation."""
    lines = ["| verb | slot | holds |", "|---|---|---|"]
    for verb, keys in KEYS.items():
        name = uns_name(verb)
        for slot, what in keys.slots.items():
            attribute, key = keys.name(slot)
            lines.append(f'| `{verb}` | `{attribute}["{key}"]` | {what} |')
        lines.append(f'| `{verb}` | `uns["{name}"]` | `params`, `keys`, `version` |')
        lines += [
            f'| `{verb}` | `uns["{name}"]["{key}"]` | {what} |' for key, what in keys.arrays.items()
        ]
    return "\n".join(lines) + "\n"
