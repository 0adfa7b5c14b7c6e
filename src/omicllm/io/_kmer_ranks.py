"""`omicllm.io.read_kmer_ranks`, `write_kmer_ranks`: PMI rankings in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks
from omicllm._core.files import whole_file
from omicllm._core.text_files import read_table, to_numbers

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

    frame = read_table(path, what="ranking of k-mers")
    word = _column(frame, (_WORD, "kmer"), path)
    rank = _column(frame, (_RANK, "rank"), path)
    words = frame[word]
    odd = [w for w in words if not w or set(w) - set("ACGT")]
    if frame.empty:
        msg = f"{path} holds a header and no k-mer."
        raise ValueError(msg)
    if odd or words.str.len().nunique() != 1 or words.duplicated().any():
        what = checks.listed(odd, most=3) if odd else "words of several lengths, or some twice"
        msg = f"{path} must hold k-mers of one length, each once, but holds {what}."
        raise ValueError(msg)
    values = to_numbers(frame[rank], path=path, column=rank).to_numpy()
    most = 4 ** len(words.iloc[0])  # no more words than these are ranked
    wrong = ~((values >= 1) & (values <= most) & (values == np.rint(values)))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        msg = (
            f"{path}, line {frame.index[first]}: the column {rank!r} must hold whole numbers from "
            f"1 to {most} (all words of that length), not {frame[rank].iloc[first]!r}."
        )
        raise ValueError(msg)
    if len(np.unique(values)) < len(values):
        repeated = pd.Series(values)[pd.Series(values).duplicated()].astype(np.int64).unique()
        msg = (
            f"{path}: several k-mers have the same {rank!r} ({checks.listed(repeated, most=3)}), "
            "but ranks say which comes first: give each its own."
        )
        raise ValueError(msg)
    return pd.Series(
        values.astype(np.int64), index=pd.Index(words.to_numpy(), name="kmer"), name="rank"
    )


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


def _column(frame: pd.DataFrame, names: tuple[str, ...], path: str | Path) -> str:
    for name in names:
        if name in frame:
            return name
    raise checks.missing(names[0], f"the columns of {path}", frame.columns)
