"""`omicllm.tl.evaluate_personal`: accuracy of predicted expression over held-out people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, docs, inputs, parts, results
from omicllm._core.log import logger
from omicllm.stats.people import agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

_PREFIXES = ("personal_", "twas_")


@docs.fill()
def evaluate_personal(
    adata: AnnData | MuData,
    *,
    predictions: str | Sequence[str] | None = None,
    layer: str | None = None,
    split_key: str = "split",
    class_key: str | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Compare predicted with observed expression over test people, gene by gene.

    Parameters
    ----------
    {adata}
    predictions
        Layers with predictions; all whose names start with ``personal_`` or ``twas_`` by default.
    layer
        Layer with observed expression; ``X`` by default.
    split_key
        Column of `obs` with train, val and test, or layer (0, 1, 2); test people are compared.
    class_key
        Column of `var` with classes of genes. By default ``split_class`` of
        :func:`omicllm.pp.split` (random, population, unseen) where it is there, else genes without
        any training people are ``"unseen"`` and others ``"seen"``.
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["evaluate_personal"]["table"]`` : DataFrame
        ``prediction``, ``gene``, ``gene_class``, ``n`` (test people), ``pearson``, ``spearman``;
        both are NaN where a prediction is constant.
    ``adata.uns["evaluate_personal"]["summary"]`` : DataFrame
        Per prediction and class of genes: ``n_genes``, ``n_constant``, ``mean_pearson``,
        ``median_pearson``, ``mean_abs_pearson``, ``mean_spearman``, a constant prediction counted
        as 0 (as published).

    Raises
    ------
    KeyError
        No such layer, split or column; no predictions at all.
    ValueError
        Nobody in the test part.

    See Also
    --------
    omicllm.get.table, omicllm.pl.personal_accuracy
    """
    import pandas as pd

    source = inputs.resolve(adata, mod)
    genes = inputs.gene_names(source)
    if predictions is None:
        names = [n for n in source.layers if str(n).startswith(_PREFIXES)]
        if not names:
            first = "personal_pair_regression"
            hint = "Make predictions with ol.tl.twas or ol.tl.personal_expression."
            raise checks.missing(first, "adata.layers", source.layers, hint=hint)
    else:
        names = [predictions] if isinstance(predictions, str) else list(predictions)
    part = parts.by_gene(source, split_key)
    if not (part == parts.TEST).any():
        msg = f"Nobody is in the test part of {split_key!r}."
        raise ValueError(msg)
    classes = _classes(source, class_key, part)
    truth = inputs.dense_rows(source, layer)
    rows: list[tuple[Any, ...]] = []
    for name in names:
        P = inputs.dense_rows(source, name)
        for g in np.flatnonzero((part == parts.TEST).any(axis=0)):
            test = part[:, g] == parts.TEST
            pearson, spearman, n = agreement(P[test, g], truth[test, g])
            rows.append((name, genes[g], classes[g], n, pearson, spearman))
    table = pd.DataFrame(
        rows, columns=["prediction", "gene", "gene_class", "n", "pearson", "spearman"]
    )
    table.index = table.index.astype(str)
    summary = summarised(table)
    for line in summary.itertuples():
        logger.info("%s, %s: mean r %.3f", line.prediction, line.gene_class, line.mean_pearson)
    params = {
        "predictions": names, "layer": layer, "split_key": split_key, "class_key": class_key,
    }  # fmt: skip
    result = results.Result(
        "tl.evaluate_personal", {}, params, {"table": table, "summary": summary}, key_added
    )
    return results.write(adata, result, mod=mod, copy=copy)


def summarised(table: pd.DataFrame) -> pd.DataFrame:
    """Means over genes by prediction and class, constants as 0."""
    import pandas as pd

    rows = []
    for (name, of), block in table.groupby(["prediction", "gene_class"], sort=False):
        r, s = np.nan_to_num(block["pearson"]), np.nan_to_num(block["spearman"])
        rows.append(
            (name, of, len(block), int(block["pearson"].isna().sum()), float(r.mean()),
             float(np.median(r)), float(np.abs(r).mean()), float(s.mean()))
        )  # fmt: skip
    columns = ["prediction", "gene_class", "n_genes", "n_constant", "mean_pearson",
               "median_pearson", "mean_abs_pearson", "mean_spearman"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns, index=[str(i) for i in range(len(rows))])


def _classes(source: AnnData, key: str | None, part: np.ndarray) -> np.ndarray:
    var = source.var.to_memory() if hasattr(source.var, "to_memory") else source.var
    if key is None and "split_class" in var:
        key = "split_class"
    if key is None:
        return np.where((part == parts.TRAIN).any(axis=0), "seen", "unseen")
    if key not in var:
        raise checks.missing(key, "adata.var", var, hint="Name a column with class_key=.")
    return np.asarray(var[key].astype(str))
