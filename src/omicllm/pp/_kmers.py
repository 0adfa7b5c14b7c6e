"""`omicllm.pp.kmer_counts`, `kmer_pmi`: how often words occur, and which hold together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import blocks, checks, docs, inputs, results
from omicllm._core.log import logger
from omicllm._version import __version__
from omicllm.genome import kmers, pmi
from omicllm.genome.corpus import stream_fasta
from omicllm.pp._sequences import sequences_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from scipy import sparse

#: Bases of sequences handled at a time.
_BASES = 1 << 22
#: Whole numbers up to this one are exact in float32.
_LARGEST_IN_FLOAT32 = 1 << 24


@docs.fill()
def kmer_counts(
    adata: AnnData | MuData | None = None,
    *,
    k: int = 6,
    all_lengths: bool = False,
    sequence_key: str = "sequence",
    fasta: str | Path | None = None,
    lower: Literal["upper", "unknown", "refuse"] = "upper",
    other: Literal["refuse", "unknown"] = "refuse",
    mod: str | None = None,
) -> AnnData:
    """Count the k-mers of sequences, or of the contigs of a FASTA.

    A FASTA is read once, as a stream: memory does not grow with its length. K-mers that hold an N
    are not counted. Only the strand as written is counted.

    Parameters
    ----------
    adata
        Annotated data with one sequence per observation (see :func:`omicllm.io.read_sequences`);
        or a MuData with `mod`. Left out with `fasta`.
    k
        Bases of a word, 1 to 12.
    all_lengths
        Count words of all lengths from 1 to `k`. Always so with `fasta`.
    sequence_key
        Column of `obs` with sequences.
    fasta
        FASTA or FASTA.gz to count instead, one observation per contig.
    lower
        What soft-masked (lower-case) bases of a FASTA become: ``"upper"``, ``"unknown"`` or
        ``"refuse"``. Those in `obs` are upper-cased.
    other
        Letters outside ACGTN: ``"refuse"``, or ``"unknown"`` to read them as N.
    {mod}

    Returns
    -------
    A new AnnData of sequences (or contigs) x k-mers with

    ``X`` : csr
        Counts; float32 (float64 where one is over 2**24), or int64 of a FASTA.
    ``obs``
        As in `adata`; of a FASTA, ``length`` (bases) and ``n_unknown``.
    ``var["length"]`` : int64
        Bases of the word. Words are in the order of DNABERT's vocabulary (A, T, C, G), short
        ones first.
    ``uns["kmer_counts"]``
        Parameters.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        Neither or both of `adata` and `fasta`; a sequence shorter than `k`, missing, or with a
        letter that is refused.

    Examples
    --------
    >>> counts = ol.pp.kmer_counts(fasta="chr20.fa.gz")  # doctest: +SKIP
    """
    if (adata is None) == (fasta is None):
        msg = "Pass either adata with sequences, or fasta=, the path of a FASTA."
        raise ValueError(msg)
    kmers.KmerTokenizer(k, lower=lower, other=other)
    idle = ("lower",) if fasta is None else ("sequence_key", "mod")
    because = "without fasta=" if fasta is None else "with fasta="
    checks.no_effect(kmer_counts, locals(), idle, because=because)
    if fasta is not None:
        checks.no_effect(kmer_counts, locals(), ("sequence_key", "mod"), because="with fasta=")
        return _of_fasta(fasta, k, lower, other)
    assert adata is not None
    import anndata
    import pandas as pd
    from scipy import sparse

    source = inputs.resolve(adata, mod)
    sequences = sequences_of(source, sequence_key, min_bases=k, other=other)
    lengths = range(1, k + 1) if all_lengths else (k,)
    lazy = not isinstance(source.obs, pd.DataFrame)
    tasks = ((part,) for part in _parts(sequences))
    found = list(blocks.run(_all_counts, tasks, tuple(lengths), other, lazy=lazy))
    X = sparse.vstack(found, format="csr") if found else _none(lengths)
    exact = X.nnz == 0 or X.data.max() <= _LARGEST_IN_FLOAT32
    X = X.astype(np.float32 if exact else np.float64)
    obs = source.obs.to_memory() if lazy else source.obs.copy()
    out = anndata.AnnData(X, obs=obs, var=_words(lengths))
    params = {"k": k, "all_lengths": all_lengths, "sequence_key": sequence_key, "other": other}
    return _described(out, params)


def sequence_counts(sequences: Sequence[str], k: int, *, other: Any = "refuse") -> Any:
    """Counts of the k-mers of some sequences: csr int64 (n, 4**k)."""
    from scipy import sparse

    numbers = kmers.kmer_numbers(kmers.base_codes("N".join(sequences), other=other), k)
    length = np.array([len(s) + 1 for s in sequences])
    row = np.repeat(np.arange(len(sequences)), length)[: len(numbers)]
    known = numbers >= 0
    row, numbers = row[known], numbers[known]
    shape = (len(sequences), 4**k)
    # Whole numbers: a sum in float32 stays at 2**24 when one more is added.
    out = sparse.csr_matrix((np.ones(len(row), dtype=np.int64), (row, numbers)), shape=shape)
    out.sum_duplicates()
    return out


def _all_counts(sequences: Sequence[str], lengths: Sequence[int], other: Any) -> Any:
    from scipy import sparse

    parts = [sequence_counts(sequences, j, other=other) for j in lengths]
    return sparse.hstack(parts, format="csr")


def _parts(sequences: list[str]) -> list[list[str]]:
    """Consecutive sequences, in parts of some million bases."""
    ends = np.cumsum([len(s) for s in sequences]) // _BASES
    cuts = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(sequences)]
    return [sequences[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def _none(lengths: Sequence[int]) -> sparse.csr_matrix:
    from scipy import sparse

    return sparse.csr_matrix((0, sum(4**j for j in lengths)), dtype=np.float32)


def _words(lengths: Sequence[int]) -> Any:
    import pandas as pd

    names = [w for j in lengths for w in kmers.kmer_names(j)]
    return pd.DataFrame({"length": [len(n) for n in names]}, index=names)


def _described(out: AnnData, params: dict[str, Any]) -> AnnData:
    out.uns["kmer_counts"] = {"params": results.storable(params), "version": __version__}
    return out


def _of_fasta(path: str | Path, k: int, lower: Any, other: Any) -> AnnData:
    """Counts of every contig, as the file goes by."""
    import anndata
    import pandas as pd
    from scipy import sparse

    counter, rows = kmers.KmerCounter(k), []
    names: list[str] = []
    length: list[int] = []
    for block in stream_fasta(path, lower=lower, other=other):
        if not names or block.contig != names[-1]:
            if names:
                rows.append(sparse.csr_matrix(np.concatenate(counter.finish())))
            names.append(block.contig)
            length.append(0)
        counter.add(block.codes)
        length[-1] += len(block.codes)
    rows.append(sparse.csr_matrix(np.concatenate(counter.finish())))
    X = sparse.vstack(rows, format="csr")
    var = _words(range(1, k + 1))
    known = np.asarray(X[:, :4].sum(axis=1)).ravel()
    obs = pd.DataFrame({"length": length, "n_unknown": np.array(length) - known}, index=names)
    logger.info("counted %d bases in %d contigs", sum(length), len(names))
    params = {
        "k": k, "all_lengths": True, "fasta": Path(path).name, "lower": lower, "other": other,
    }  # fmt: skip
    return _described(anndata.AnnData(X, obs=obs, var=var), params)


@docs.fill()
def kmer_pmi(
    adata: AnnData | MuData,
    *,
    k: int | None = None,
    total: Literal["length", "reference"] = "length",
    max_piece: int | None = None,
    min_count: int = 101,
    layer: str | None = None,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Score k-mers by normalised pointwise mutual information: how much parts belong together.

    With counts c and p(s) = c(s) / T,

    PMI(w) = ln p(w) - max over segmentations of w of the sum of ln p over its pieces,

    and the score is PMI(w) ln c(w) / (ln c(w) + ln `min_count`), which discounts rare words.

    Parameters
    ----------
    adata
        Annotated data whose variables are k-mers (see :func:`omicllm.pp.kmer_counts`); counts of
        all observations are summed. Or a MuData with `mod`.
    k
        Bases of the words that are scored; the longest of the object when None.
    total
        What T is. ``"length"``: the number of words as long as s. ``"reference"``: twice the
        number of bases, whatever the length, which reproduces the published ranking.
    max_piece
        Longest piece of a segmentation: k - 1 with ``"length"`` (all segmentations), 2 with
        ``"reference"`` when None.
    min_count
        Rarer words have no score and no rank.
    {layer}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.var["pmi"]`` : float64
        Score; NaN for words that are rare or of another length.
    ``adata.var["pmi_rank"]`` : float64
        1 for the highest score; NaN where there is none.
    ``adata.uns["pmi"]``
        Parameters; ``n_bases``, ``n_ranked``.

    Raises
    ------
    ValueError
        When variables are no k-mers, an argument is out of range, or no word is frequent enough.

    Notes
    -----
    Where the object lacks the shorter words, they are counted as the fronts of the longer ones.
    In the human genome the ranking follows CpG closely: words that hold CG are rare and last. Save
    it with :func:`omicllm.io.write_kmer_ranks`. Levine et al. 2021, arXiv:2010.01825; Roy et al.
    2023, arXiv:2307.15933.
    """
    source = inputs.resolve(adata, mod)
    names = inputs.gene_names(source)
    odd = [n for n in names if not n or set(n) - set("ACGT")]
    if odd or not len(names):
        msg = (
            "adata.var_names must be k-mers of A, C, G and T, but hold "
            f"{checks.listed(odd, most=3)}. Count them with ol.pp.kmer_counts(adata)."
        )
        raise ValueError(msg)
    checks.one_of("total", total, ("length", "reference"))
    size = np.array([len(n) for n in names])
    longest = int(size.max()) if k is None else checks.whole_number("k", k, at_least=2)
    if not (size == longest).any():
        msg = f"adata holds no {longest}-mers (lengths there: {checks.listed(np.unique(size))})."
        raise ValueError(msg)
    if longest > kmers.MAX_K:
        msg = f"Words of {longest} bases are too long: k is at most {kmers.MAX_K}."
        raise ValueError(msg)
    seen = _summed(inputs.matrix(source, layer))
    inputs.refuse_large(seen, f"The sum over {inputs.place(layer)}")
    if not np.isfinite(seen).all() or (seen < 0).any():
        msg = "Counts must not be negative or NaN: pass the matrix of ol.pp.kmer_counts."
        raise ValueError(msg)
    counts = [_in_order(names, seen, size == j, j) for j in range(1, longest + 1)]
    if any((size == j).sum() != 4**j for j in range(1, longest)):
        counts = pmi.shorter_counts(counts[-1], longest)
    score = pmi.normalised_pmi(counts, total=total, max_piece=max_piece, min_count=min_count)
    if np.isnan(score).all():
        msg = (
            f"No {longest}-mer occurs {min_count} times (the most frequent one "
            f"{counts[-1].max():g} times). Lower min_count= or k=, or count more sequence."
        )
        raise ValueError(msg)
    ranks = pmi.descending_ranks(score)
    chosen = size == longest
    out = {name: np.full(len(names), np.nan) for name in ("var:{root}", "var:{root}_rank")}
    number = _numbers(names[chosen], longest)
    out["var:{root}"][chosen] = score[number]
    out["var:{root}_rank"][chosen] = ranks[number]
    result = results.Result(
        "pp.kmer_pmi",
        out,
        {"k": longest, "total": total, "max_piece": max_piece, "min_count": min_count,
         "layer": layer},
        {"n_bases": float(counts[0].sum()), "n_ranked": int(np.isfinite(score).sum())},
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _summed(X: Any) -> np.ndarray:
    total = np.zeros(X.shape[1], dtype=np.float64)
    for _, part in inputs.map_rows(X, _sum_of_rows):
        total += part
    return total


def _sum_of_rows(block: Any, start: int) -> np.ndarray:
    return np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()


def _numbers(words: Sequence[str], k: int) -> np.ndarray:
    """Numbers of words of k bases."""
    return kmers.kmer_numbers(kmers.base_codes("".join(words)), k)[::k].astype(np.int64)


def _in_order(names: np.ndarray, seen: np.ndarray, chosen: np.ndarray, k: int) -> np.ndarray:
    """Counts of all words of k bases, in the order of their numbers."""
    out = np.zeros(4**k)
    if chosen.any():
        out[_numbers(names[chosen], k)] = seen[chosen]
    return out
