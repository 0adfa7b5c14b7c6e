"""Tables of `tl.classify_omics` and `tl.explain_omics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def classify_omics_df(
    adata: AnnData | MuData,
    *,
    table: Literal["scores", "calibration", "confusion"] = "scores",
    key: str = "omiclm",
    mod: str | None = None,
) -> pd.DataFrame:
    """Return a table of :func:`omicllm.tl.classify_omics`.

    Parameters
    ----------
    adata
        Annotated data; or a MuData, with `mod` when one modality was classified.
    table
        ``"scores"`` (one row per classifier), ``"calibration"`` (one row per bin of confidence) or
        ``"confusion"`` (true classes in rows, predicted ones in columns).
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    checks.one_of("table", table, ("scores", "calibration", "confusion"))
    entry = entry_of(adata, key, table, "classify_omics(adata, labels_key=...)", mod)
    if table == "confusion":
        names = [str(n) for n in np.asarray(entry["labels"]).ravel()]
        return pd.DataFrame(np.asarray(entry["confusion"]), index=names, columns=names)
    return plain(entry[table])


@docs.fill()
def explain_omics_df(
    adata: AnnData | MuData, *, key: str = "explain_omics", mod: str | None = None
) -> pd.DataFrame:
    """Return the attributions of genes to classes by :func:`omicllm.tl.explain_omics`.

    Parameters
    ----------
    adata
        Annotated data; or a MuData, with `mod` when one modality was explained.
    key
        Root of the results, as given with ``key_added=``.
    {mod}

    Returns
    -------
    DataFrame with ``gene``, ``modality``, ``class`` and ``attribution`` (mean change of the class's
    centred logit, over rows predicted as that class, when the gene is hidden; positive where the
    gene speaks for the class), strongest first.

    Raises
    ------
    KeyError
        When there are no such results.
    """
    return plain(entry_of(adata, key, "table", "explain_omics(adata)", mod)["table"])


def entry_of(adata: Any, key: str, name: str, call: str, mod: str | None) -> Any:
    """Entry of `uns` that holds `name`: of the object itself, or of a modality."""
    joint = getattr(adata, "mod", None) is not None and mod is None
    source = adata if joint else inputs.resolve(adata, mod)
    if key not in source.uns or name not in source.uns[key]:
        raise checks.missing(key, "adata.uns", source.uns, hint=f"Make it with ol.tl.{call}.")
    return source.uns[key]


def plain(frame: Any) -> pd.DataFrame:
    """The table with plain columns: a file makes text categorical."""
    frame = pd.DataFrame(frame).reset_index(drop=True)
    for column in frame:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = frame[column].astype(object)
    return frame
