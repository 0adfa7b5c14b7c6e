"""Slots of verbs on tissue: sections, gene embeddings, histology; see `omicllm._core.keys`."""

from __future__ import annotations

from omicllm._core.keys_row import Keys

TISSUE: dict[str, Keys] = {
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
            "spatial_key": "the obsm entry of the coordinates",
            "methods": "hex, square or bin, of each section",
            "made_from": "array or coordinates, of each section",
            "transforms": "float64 (n_sections, 2, 3): from x, y (array column and row) and 1 to "
            "row and column; tells whether the grid still fits",
            "n_spots": "int64 (n_sections,): observations the grid was made from",
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
    "tl.spam": Keys(
        "spam",
        {
            "layers:{root}": "float32 (n_obs, n_vars): predicted log(1 + 10,000 x share of the "
            "profile); NaN for genes that are not predicted",
            "obsm:X_{root}": "float32 (n_obs, n_programs): predicted scores of gene programs",
            "var:{root}_pearson": "float64: correlation with held-out measurements; NaN for genes "
            "that are not predicted",
        },
        {
            "baseline": "mean `spam` and `ridge` on the same held-out rows; `held_out`, which",
            "genes": "names of the predicted genes",
            "train_sections": "sections that were trained on",
            "history": "loss per epoch of each stage",
            "model_dir": "folder of the saved model, with `save=`",
        },
    ),
    "tl.predict_expression": Keys(
        "spam",
        {
            "layers:{root}": "float32 (n_obs, n_vars): predicted log(1 + 10,000 x share of the "
            "profile); NaN for genes that are not predicted",
            "layers:{root}_lower": "float32 (n_obs, n_vars): lower bound of the 90 % interval",
            "layers:{root}_upper": "float32 (n_obs, n_vars): upper bound",
            "obsm:X_{root}": "float32 (n_obs, n_programs): predicted scores of gene programs",
            "var:{root}_reliability": "float64: correlation in held-out groups of training; NaN "
            "for genes that are not predicted",
        },
        {
            "genes": "names of the predicted genes",
            "model_dir": "folder of the model, where one was named",
        },
    ),
    "tl.histology_baselines": Keys(
        "histology_baselines",
        {
            "obsm:{root}_ridge": "float32 (n_obs, n_genes): held-out predictions of the tuned "
            "ridge, columns as in `genes`; NaN where a row or gene was not tested",
            "obs:{root}_fold": "categorical: division in which the row was held out",
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
            "genes": "names of the genes of X_sections, with `batch_key=`",
            "X_sections": "float32 (n_sections, n_genes, d): per-section embeddings",
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
    "tl.gene_views": Keys(
        "joint",
        {
            "varm:X_{root}": "float32 (n_vars, n_axes): joint position of the gene, from the views "
            "it has; zero without any",
            "varm:X_{root}_views": "float32 (n_vars, n_views, n_axes): views on the common axes; "
            "NaN where a gene lacks one",
            "varp:{root}_connectivities": "csr float32 (n_vars, n_vars): weights of the gene graph",
            "varp:{root}_distances": "csr float32 (n_vars, n_vars): cosine distances to neighbours",
            "var:{root}_n_views": "int64: views that the gene has",
            "var:{root}_agreement": "float32: share of its neighbours that two views agree on; NaN "
            "where not tested",
            "var:{root}_pval": "float32: p value against random neighbours",
            "var:{root}_qval": "float32: its false discovery rate",
        },
        {
            "views": "names of the views",
            "n_genes": "int64 (n_views,): genes that have each view",
            "n_shared": "genes that have all views",
            "agreement": "float64 (n_axes,): correlation of views on each axis, held out",
            "strength": "float64 (n_axes,): what the fit to all shared genes says of it",
            "prediction": "DataFrame: R2 of each view predicted from each other, held out, and p",
            "canonical": "DataFrame: held-out canonical correlations of two views, and p",
            "neighbors": "DataFrame: share of neighbours that two views agree on, and p",
            "genes": "DataFrame: shared genes, the neighbours that views agree on, p and q",
            "alike": "DataFrame: genes and neighbours that two views or more agree on",
        },
    ),
    "tl.project_genes": Keys(
        "sigel",
        {
            "obsm:X_{root}_cells": "float32 (n_obs, d): mean of gene vectors, weighted by "
            "expression; zero where none is expressed"
        },
        {"n_genes": "genes that were used"},
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
}
