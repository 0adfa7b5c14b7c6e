"""Slots of verbs on cohorts and profiles as text; see `omicllm._core.keys`."""

from __future__ import annotations

from omicllm._core.keys_row import Keys

TEXT: dict[str, Keys] = {
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
            "confusion": "DataFrame: rows by true class (index) and predicted class (columns)",
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
