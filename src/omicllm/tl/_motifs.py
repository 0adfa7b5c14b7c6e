"""`omicllm.tl.motifs`: words that distinguish one set of sequences from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.genome import motifs as search
from omicllm.pp._sequences import sequences_of
from omicllm.stats.multiple_tests import benjamini_hochberg

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

COLUMNS = (
    "motif", "consensus", "width", "positives", "negatives", "share_positive", "share_negative",
    "pval", "qval", "sites", "match", "match_pval",
)  # fmt: skip
#: Fewest sequences of a set.
_FEWEST = 10


@docs.fill()
def motifs(
    adata: AnnData | MuData,
    *,
    method: Literal["denovo", "scan"] = "denovo",
    labels_key: str | None = "label",
    positive: Any = None,
    sequence_key: str = "sequence",
    n_motifs: int = 5,
    width: int = 12,
    both_strands: bool = True,
    max_sequences: int | None = 2000,
    database: str | Path | None = None,
    scan_pval: float = 1e-4,
    rng: int | np.random.Generator | None = 0,
    mod: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Find motifs that one class of sequences holds more often than the others.

    ``"denovo"`` searches half of the sequences, and tests what it found on the other half, where
    nothing is chosen any more: motif, threshold and number of motifs come from the first. So the
    p values hold, whatever was tried. ``"scan"`` looks for the motifs of a database and tests
    them on all sequences.

    Parameters
    ----------
    adata
        Annotated data with one sequence per observation, or a MuData with `mod`.
    method
        ``"denovo"`` or ``"scan"`` (needs `database`).
    labels_key
        Column of `obs` with classes; observations without a label are left out. None compares all
        sequences with shuffled ones that have the same pairs of neighbouring bases.
    positive
        The class whose motifs are sought, against all others. With two classes the last in sorted
        order (1 of 0 and 1) when None.
    sequence_key
        Column of `obs` with sequences.
    n_motifs
        Motifs sought, at most. The search ends earlier when no word of six bases is enriched with
        a p value of .05, corrected for the number of words.
    width
        Widest motif, 6 to 30.
    both_strands
        Look at the other strand too.
    max_sequences
        Sequences of each set, at most (drawn at random); None for all.
    database
        MEME-format file. With ``"denovo"``, the most similar motif of it is named; needs memelite
        (extra ``motif``).
    scan_pval
        p value of a site in ``"scan"``.
    {rng}
    {mod}
    {key_added}
    {copy}

    Returns
    -------
    None, or the changed copy. Sets the following fields:

    ``adata.uns["motifs"]["table"]`` : DataFrame
        One row per motif: ``motif`` (name), ``consensus`` (IUPAC), ``width``; ``positives``,
        ``negatives``: sequences tested (the held-out half), ``share_positive`` and
        ``share_negative`` of them with a site; ``pval`` (one-sided Fisher test of these), ``qval``
        (Benjamini-Hochberg over the motifs); ``sites``: sequences of the positive class with a
        site, of both halves; ``match`` and ``match_pval`` with `database` (Tomtom, times the
        number of motifs in it).
    ``adata.uns["motifs"]["matrices"]`` : float32 (n_motifs, widest, 4)
        Probabilities of A, C, G, T; zero after the width of a motif.
    ``adata.uns["motifs"]["sites"]`` : DataFrame
        Best site of each sequence of the positive class that has one: ``motif``, ``sequence``
        (name of the observation), ``start`` (from 0), ``strand``, ``score`` (log odds, in nats),
        ``word`` (as read on its strand).

    Raises
    ------
    KeyError
        No such column or class.
    ValueError
        A sequence that is missing, short or holds other letters than ACGTN; under ten sequences
        in a set; ``"scan"`` without `database`.
    ImportError
        `database` without memelite.

    Notes
    -----
    Identical sequences are kept in one half. Sequences that overlap without being identical may
    still fall on both sides and make p values too small: remove them first. Classes that differ in
    composition or length differ in words too: such "motifs" are real differences, but not binding
    sites. Read the results with :func:`omicllm.get.motifs_df`, draw them with
    :func:`omicllm.pl.motif_logo`.
    """
    source = inputs.resolve(adata, mod)
    checks.one_of("method", method, ("denovo", "scan"))
    checks.whole_number("n_motifs", n_motifs)
    checks.whole_number("width", width, at_least=6)
    if width > 30:
        msg = f"width must be at most 30, not {width}."
        raise ValueError(msg)
    if max_sequences is not None:
        checks.whole_number("max_sequences", max_sequences, at_least=_FEWEST)
    checks.share("scan_pval", scan_pval)
    if method == "scan" and database is None:
        msg = "method='scan' needs database=, the path of a MEME-format file."
        raise ValueError(msg)
    sequences = sequences_of(source, sequence_key, min_bases=6)
    generator = rngs.generator(rng)
    rows, label, positive = _sets(source, labels_key, positive, max_sequences, generator)
    known = _known(database)
    codes = search.padded([sequences[i] for i in rows])
    if labels_key is None:
        codes, label = _with_shuffled(codes, generator)
    names = np.asarray(source.obs_names, dtype=object)[rows]
    if method == "denovo":
        held = search.halves(codes, label, generator)
        found = search.find_motifs(
            codes, label, held, n_motifs=n_motifs, width=min(width, codes.shape[1]),
            both_strands=both_strands,
        )  # fmt: skip
        matrices = [m.matrix for m in found]
        table, sites = _denovo(found, codes, label, held, names, both_strands=both_strands)
        if known and found:
            _match(table, matrices, known, both_strands=both_strands)
    else:
        matrices = list(known.values())
        table, sites = _scan(known, codes, label, names, scan_pval, both_strands=both_strands)
        order = np.argsort(table["pval"].to_numpy(), kind="stable")
        table, matrices = table.iloc[order], [matrices[i] for i in order]
    if not len(table):
        logger.warning("no word is enriched in the sequences: no motif was found")
    table["qval"] = benjamini_hochberg(table["pval"].to_numpy(dtype=np.float64))
    result = results.Result(
        "tl.motifs",
        {},
        {
            "method": method, "labels_key": labels_key,
            "positive": None if positive is None else str(positive), "sequence_key": sequence_key,
            "n_motifs": n_motifs, "width": width, "both_strands": both_strands,
            "max_sequences": max_sequences, "database": database, "scan_pval": scan_pval,
            "rng": rngs.recorded(rng),
        },
        {"table": _numbered(table), "matrices": _stacked(matrices), "sites": _numbered(sites)},
        key_added,
    )  # fmt: skip
    return results.write(adata, result, mod=mod, copy=copy)


def _sets(
    source: AnnData, key: str | None, positive: Any, most: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Observations used, which of them are positive, and the positive class."""
    if key is None:
        rows, label = np.arange(source.n_obs), np.ones(source.n_obs, dtype=bool)
    else:
        column = pd.Series(inputs.obs_column(source, key, argument="labels_key"), dtype=object)
        rows = np.flatnonzero(column.notna().to_numpy())
        values = column.to_numpy()[rows]
        classes = sorted(set(values.tolist()), key=lambda v: (str(type(v)), v))
        if positive is None and len(classes) == 2:
            positive = classes[-1]
        if positive is None:
            msg = (
                f"adata.obs[{key!r}] has {len(classes)} classes ({checks.listed(classes)}): say "
                "with positive= which one's motifs are sought."
            )
            raise ValueError(msg)
        label = np.array([v == positive or str(v) == str(positive) for v in values], dtype=bool)
        if not label.any():
            raise checks.missing(
                str(positive), f"adata.obs[{key!r}]", classes, hint="Name one with positive=."
            )
    for name, side in (("positive", label), ("negative", ~label)):
        if side.sum() < _FEWEST and not (name == "negative" and key is None):
            msg = f"There are {int(side.sum())} {name} sequences; at least {_FEWEST} are needed."
            raise ValueError(msg)
    if most is not None:
        kept = np.concatenate(
            [rng.permutation(np.flatnonzero(label == s))[:most] for s in (True, False)]
        )
        kept.sort()
        rows, label = rows[kept], label[kept]
    return rows, label, positive


def _known(database: str | Path | None) -> dict[str, np.ndarray]:
    if database is None:
        return {}
    from omicllm._bridges import memelite

    return memelite.read_meme(database)


def _with_shuffled(codes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shuffled = codes.copy()
    for row in shuffled:
        end = int(np.max(np.flatnonzero(row < search.UNKNOWN), initial=-1)) + 1
        row[:end] = search.dinucleotide_shuffle(row[:end], rng)
    label = np.arange(2 * len(codes)) < len(codes)
    return np.concatenate([codes, shuffled]), label


def _row(name: str, matrix: np.ndarray, hit: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """Line of the table from the sequences tested."""
    n, m = int(label.sum()), int((~label).sum())
    a, b = int((hit & label).sum()), int((hit & ~label).sum())
    return {
        "motif": name, "consensus": search.consensus(matrix), "width": len(matrix),
        "positives": n, "negatives": m, "share_positive": a / max(n, 1),
        "share_negative": b / max(m, 1), "pval": search.enrichment(a, n, b, m),
        "qval": np.nan, "match": "", "match_pval": np.nan,
    }  # fmt: skip


def _denovo(
    found: list[search.Motif], codes: np.ndarray, label: np.ndarray, held: np.ndarray,
    names: np.ndarray, *, both_strands: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    rows, sites = [], []
    for i, motif in enumerate(found):
        name = f"motif_{i + 1}"
        best = search.best_sites(codes, motif.log_odds, both_strands=both_strands)
        hit = best.score >= motif.threshold
        row = _row(name, motif.matrix, hit[held], label[held])
        # Sites that earlier motifs took are not counted again: these are the search's own counts.
        a, b = motif.found[2:]
        row["share_positive"] = a / max(row["positives"], 1)
        row["share_negative"] = b / max(row["negatives"], 1)
        row["pval"], row["sites"] = motif.pval, int((hit & label).sum())
        rows.append(row)
        chosen = np.flatnonzero(hit & label)
        sites.append(
            _site_table(name, codes, chosen, names, best.start[chosen], best.forward[chosen],
                        best.score[chosen], len(motif.matrix))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)), _joined(sites)


def _scan(
    known: dict[str, np.ndarray], codes: np.ndarray, label: np.ndarray, names: np.ndarray,
    pval: float, *, both_strands: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    from omicllm._bridges import memelite

    one_hot = (codes[:, None, :] == search.ALPHABETICAL[:, None]).astype(np.int8)
    rows, sites = [], []
    hits = memelite.scan(known, one_hot, threshold=pval, both_strands=both_strands)
    for (name, matrix), frame in zip(known.items(), hits, strict=True):
        best = frame.sort_values("score", ascending=False).drop_duplicates("sequence_name")
        best = best.sort_values("sequence_name")
        at = best["sequence_name"].to_numpy(dtype=np.int64)
        hit = np.zeros(len(codes), dtype=bool)
        hit[at] = True
        rows.append(_row(name, matrix, hit, label) | {"sites": int((hit & label).sum())})
        kept = label[at]
        own = best[kept]
        sites.append(
            _site_table(name, codes, at[kept], names, own["start"].to_numpy(dtype=np.int64),
                        (own["strand"] == "+").to_numpy(),
                        own["score"].to_numpy(dtype=np.float64) * np.log(2), len(matrix))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)), _joined(sites)


def _site_table(
    name: str, codes: np.ndarray, rows: np.ndarray, names: np.ndarray, start: np.ndarray,
    forward: np.ndarray, score: np.ndarray, width: int,
) -> pd.DataFrame:  # fmt: skip
    letters = np.array(list("ATCGN"))
    words = codes[rows[:, None], start[:, None] + np.arange(width)]
    words[~forward] = search.COMPLEMENT[words[~forward, ::-1]]
    return pd.DataFrame(
        {
            "motif": name, "sequence": names[rows], "start": start,
            "strand": np.where(forward, "+", "-").astype(object), "score": score.astype(float),
            "word": np.array(["".join(w) for w in letters[words]], dtype=object),
        }
    )  # fmt: skip


def _joined(sites: list[pd.DataFrame]) -> pd.DataFrame:
    names = ("motif", "sequence", "start", "strand", "score", "word")
    return pd.concat(sites) if sites else pd.DataFrame({n: [] for n in names})


def _match(
    table: pd.DataFrame, matrices: list[np.ndarray], known: dict[str, np.ndarray],
    *, both_strands: bool,
) -> None:  # fmt: skip
    from omicllm._bridges import memelite

    best, p = memelite.matches(matrices, list(known.values()), both_strands=both_strands)
    table["match"] = np.array(list(known), dtype=object)[best]
    table["match_pval"] = p


def _stacked(matrices: list[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(matrices), max(map(len, matrices), default=0), 4), dtype=np.float32)
    for row, matrix in zip(out, matrices, strict=True):
        row[: len(matrix)] = matrix
    return out


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Row names of a table in `uns`: strings, which every file format keeps."""
    out = frame.copy()
    out.index = pd.Index([str(i) for i in range(len(out))])
    return out
