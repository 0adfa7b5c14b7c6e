"""`omicllm.io.read_kmer_ranks`, `write_kmer_ranks`: PMI rankings in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData

#: Columns of the published file that hold the word, its score and its rank among all words.
_WORD, _SCORE, _RANK = "ngram", "norm_dp_true_pmi", "norm_pmi_rank_rel"


def read_kmer_ranks(path: str | Path) -> pd.Series:
    """Read a PMI ranking of k-mers, as published or as :func:`write_kmer_ranks` makes it.

    Parameters
    ----------
    path
        CSV (or CSV.gz) with the columns ``ngram`` (or ``kmer``) and ``norm_pmi_rank_rel`` (or
        ``rank``).

    Returns
    -------
    Series of int64: rank of each k-mer, 1 the highest PMI. It goes into ``ranks=`` of
    :func:`omicllm.genome.mask_tokens`.

    Raises
    ------
    KeyError
        When a column is missing.
    ValueError
        When words differ in length, occur twice or are no k-mers, or ranks are no whole numbers.
    """
    import pandas as pd

    path = Path(path)
    # The word "NA" does not occur among k-mers of A, C, G and T; others must not become NaN.
    frame = pd.read_csv(path, keep_default_na=False)
    word = _column(frame, (_WORD, "kmer"), path)
    rank = _column(frame, (_RANK, "rank"), path)
    words = frame[word].astype(str)
    odd = [w for w in words if not w or set(w) - set("ACGT")]
    if odd or words.str.len().nunique() != 1 or words.duplicated().any():
        what = checks.listed(odd, most=3) if odd else "words of several lengths, or some twice"
        msg = f"{path.name} must hold k-mers of one length, each once, but holds {what}."
        raise ValueError(msg)
    values = pd.to_numeric(frame[rank], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or (values != np.rint(values)).any() or values.min() < 1:
        msg = f"{path.name}: the column {rank!r} must hold whole numbers from 1."
        raise ValueError(msg)
    return pd.Series(values.astype(np.int64), index=pd.Index(words, name="kmer"), name="rank")


def write_kmer_ranks(
    ranks: AnnData | Mapping[str, int] | pd.Series,
    path: str | Path,
    *,
    key: str = "pmi",
    overwrite: bool = True,
) -> None:
    """Write a PMI ranking of k-mers in the layout of the published file.

    Parameters
    ----------
    ranks
        AnnData with the results of :func:`omicllm.pp.kmer_pmi`; or k-mer -> rank.
    path
        CSV or CSV.gz to write: ``ngram``, ``norm_dp_true_pmi`` (of an AnnData), ``ngram_size``,
        ``norm_pmi_rank_rel``, best first. Words without a rank are left out.
    key
        Root of the results in an AnnData.
    overwrite
        Replace a file that is there.

    Returns
    -------
    None.

    Raises
    ------
    KeyError
        When the AnnData holds no such results.
    FileExistsError
        When the file exists and `overwrite` is False.
    """
    import pandas as pd

    path = Path(path)
    if path.exists() and not overwrite:
        msg = f"{path} exists already. Choose another name or pass overwrite=True."
        raise FileExistsError(msg)
    source: Any = ranks
    if hasattr(source, "var_names"):
        name = f"{key}_rank"
        if name not in source.var:
            raise checks.missing(
                name, "adata.var", source.var, hint="Make it with ol.pp.kmer_pmi(adata)."
            )
        frame = pd.DataFrame({_WORD: source.var_names.astype(str), _SCORE: source.var[key].array})
        frame[_RANK] = source.var[name].to_numpy()
    else:
        frame = pd.DataFrame(list(source.items()), columns=[_WORD, _RANK])
    frame = frame[np.isfinite(frame[_RANK].to_numpy(dtype=np.float64))].copy()
    frame["ngram_size"] = frame[_WORD].str.len()
    frame[_RANK] = frame[_RANK].astype(np.int64)
    order = [_WORD, *([_SCORE] if _SCORE in frame else []), "ngram_size", _RANK]
    with whole_file(path) as file:
        frame.sort_values(_RANK, kind="stable")[order].to_csv(file, index=False)


def _column(frame: pd.DataFrame, names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in frame:
            return name
    raise checks.missing(names[0], f"the columns of {path.name}", frame.columns)
