"""`omicllm.tl.motifs`: words that distinguish one set of sequences from another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs, results
from omicllm._core import rng as rngs
from omicllm._core.log import logger
from omicllm.genome import motif_regions as regions
from omicllm.genome import motifs as search
from omicllm.pp._sequences import sequences_of
from omicllm.stats.scores import benjamini_hochberg
from omicllm.tl import _motif_tables as tables

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

#: Fewest sequences of a set.
_FEWEST = 10
#: Attributions are high above this quantile of those of the other classes.
_HIGH = 0.95
METHODS = ("denovo", "attention", "attribution", "rgadem", "scan")


@docs.fill()
def motifs(
    adata: AnnData | MuData,
    *,
    method: Literal["denovo", "attention", "attribution", "rgadem", "scan"] = "denovo",
    labels_key: str | None = "label",
    positive: Any = None,
    sequence_key: str = "sequence",
    model: Any = None,
    held_out: str | None = None,
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

    Motifs are sought in half of the sequences, and tested on the other half, where nothing is
    chosen any more: motif, threshold and number of motifs come from the first. So the p values
    hold, whatever was tried. Only ``"scan"`` takes motifs from a database and tests them on all
    sequences.

    Parameters
    ----------
    adata
        Annotated data with one sequence per observation, or a MuData with `mod`.
    method
        - ``"denovo"``: words that separate the classes, grown by expectation maximisation
          (:func:`omicllm.genome.motifs.find_motifs`).
        - ``"attention"``: regions that a fine-tuned `model` attends to, as in DNABERT: their words
          that are enriched in the class, aligned into matrices.
        - ``"attribution"``: the same from regions that its score of the class rests on, by
          integrated gradients.
        - ``"rgadem"``: Bioconductor's rGADEM on the positive sequences of the discovery half;
          needs R with rGADEM, and rpy2 (extra ``r``).
        - ``"scan"``: the motifs of a `database`.
    labels_key
        Column of `obs` with classes; observations without a label are left out. None compares all
        sequences with shuffled ones that have the same pairs of neighbouring bases.
    positive
        The class whose motifs are sought, against all others. With two classes the last in sorted
        order (1 of 0 and 1) when None.
    sequence_key
        Column of `obs` with sequences.
    model
        A :class:`omicllm.model.GeneMaskLM` that was trained to classify these sequences, or the
        folder it was saved to, for ``"attention"`` and ``"attribution"``.
    held_out
        Column of `obs` that is true for the sequences to take p values from; a random half when
        None. With a `model`, name those that it was not trained on.
    n_motifs
        Motifs sought, at most. The search ends earlier when no word of six bases is enriched:
        p value of .05, corrected for the number of words; for words of regions a false discovery
        rate of .005, and three regions that hold it.
    width
        Widest motif, 6 to 30; rGADEM has widths of its own.
    both_strands
        Look at the other strand too.
    max_sequences
        Sequences of each set, at most (drawn at random); None for all.
    database
        MEME-format file, for ``"scan"``. With other methods the most similar motif of it is
        named. Needs memelite (extra ``motif``).
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
        ``share_negative`` of them with a site; ``p`` (one-sided Fisher test of these), ``q``
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
        No such column or class, or a class that `model` does not know.
    TypeError
        A `model` that scores no bases.
    ValueError
        A sequence that is missing, short or holds other letters than ACGTN; under ten sequences
        in a set; ``"scan"`` without `database`, ``"attention"`` or ``"attribution"`` without
        `model` or labels; a side of `held_out` without a class.
    RuntimeError
        A `model` without a classifier.
    ImportError
        `database` without memelite, ``"rgadem"`` without R, rGADEM or rpy2.

    Notes
    -----
    Identical sequences are kept in one half, unless `held_out` says otherwise. Sequences that
    overlap without being identical may still fall on both sides and make p values too small:
    remove them first. The same happens when a model was trained on held-out sequences. Classes
    that differ in composition or length differ in words too: such "motifs" are real differences,
    but not binding sites. Read the results with :func:`omicllm.get.table`, draw them with
    :func:`omicllm.pl.motif_logo`.
    """
    source, _ = inputs.by_name(inputs.resolve(adata, mod), var=False)
    checks.one_of("method", method, METHODS)
    checks.whole_number("n_motifs", n_motifs)
    checks.whole_number("width", width, at_least=6)
    if width > 30:
        msg = f"width must be at most 30, not {width}."
        raise ValueError(msg)
    if max_sequences is not None:
        checks.whole_number("max_sequences", max_sequences, at_least=_FEWEST)
    checks.share("scan_pval", scan_pval)
    unheard: list[str] = []
    if method not in ("attention", "attribution"):
        unheard += ["model"]
    if method == "scan":
        unheard += ["n_motifs", "width", "held_out"]
    else:
        unheard += ["scan_pval"]
    if method == "rgadem":
        unheard += ["width"]
    checks.no_effect(motifs, locals(), unheard, because=f"with method={method!r}")
    if method == "scan" and database is None:
        msg = "method='scan' needs database=, the path of a MEME-format file."
        raise ValueError(msg)
    sequences = sequences_of(source, sequence_key, min_bases=6)
    generator = rngs.generator(rng)
    rows, label, positive = _sets(source, labels_key, positive, max_sequences, generator)
    reader = _reader(model, method, labels_key, warn=held_out is None)
    known = _known(database)
    codes = search.padded([sequences[i] for i in rows])
    if labels_key is None:
        codes, label = _with_shuffled(codes, generator)
    names = np.asarray(source.obs_names, dtype=object)[rows]
    if method == "scan":
        matrices = list(known.values())
        table, sites = tables.scanned_table(
            known, codes, label, names, scan_pval, both_strands=both_strands
        )
        order = np.argsort(table["p"].to_numpy(), kind="stable")
        table, matrices = table.iloc[order], [matrices[i] for i in order]
    else:
        held = _held_out(source, held_out, rows, label)
        if held is None:
            held = search.halves(codes, label, generator)
        search_in: dict[str, Any] = {"n_motifs": n_motifs, "both_strands": both_strands}
        if method == "denovo":
            found = search.find_motifs(
                codes, label, held, width=min(width, codes.shape[1]), **search_in
            )
        elif method == "rgadem":
            found = _by_rgadem(sequences, rows, codes, label, held, generator, **search_in)
        else:
            high = _regions(
                reader, method, positive, [sequences[i] for i in rows], label, held, codes.shape[1]
            )
            found = regions.motifs_of_regions(
                codes, label, held, high, width=min(width, codes.shape[1]), **search_in
            )
        matrices = [m.matrix for m in found]
        table, sites = tables.tested_table(
            found, codes, label, held, names, both_strands=both_strands
        )
        if known and found:
            tables.add_matches(table, matrices, known, both_strands=both_strands)
    if not len(table):
        logger.warning("no word is enriched in the sequences: no motif was found")
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    result = results.Result(
        "tl.motifs",
        {},
        {
            "method": method, "labels_key": labels_key,
            "positive": None if positive is None else str(positive), "sequence_key": sequence_key,
            "model": None if model is None else type(reader).__name__, "held_out": held_out,
            "n_motifs": n_motifs, "width": width, "both_strands": both_strands,
            "max_sequences": max_sequences, "database": database, "scan_pval": scan_pval,
            "rng": rngs.recorded(rng),
        },
        {
            "table": tables.numbered(table), "matrices": tables.stacked(matrices),
            "sites": tables.numbered(sites),
        },
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


def _reader(model: Any, method: str, labels_key: str | None, *, warn: bool) -> Any:
    """The classifier that regions come from, or None; checks what the method needs."""
    if method == "rgadem":
        from omicllm._bridges import r

        r.connect("rGADEM")
    if method not in ("attention", "attribution"):
        return None
    if model is None:
        msg = f"method={method!r} needs model=, a GeneMaskLM trained on such sequences and labels."
        raise ValueError(msg)
    if labels_key is None:
        msg = f"method={method!r} compares classes: name their column with labels_key=."
        raise ValueError(msg)
    if isinstance(model, (str, Path)):
        from omicllm.model import GeneMaskLM

        model = GeneMaskLM.load(model)
    if not callable(getattr(model, "get_base_scores", None)):
        msg = f"model= must be a GeneMaskLM or its folder, not {type(model).__name__}."
        raise TypeError(msg)
    if warn:
        logger.warning(
            "half of the sequences is held out at random: if the model was trained on some of "
            "these, p values are too small; name those it has not seen with held_out="
        )
    return model


def _held_out(
    source: AnnData, key: str | None, rows: np.ndarray, label: np.ndarray
) -> np.ndarray | None:
    """Rows that a column holds out; shuffled sequences go with their own."""
    if key is None:
        return None
    column = np.asarray(inputs.obs_column(source, key, argument="held_out"))[rows]
    if column.dtype != bool:
        msg = f"adata.obs[{key!r}] (held_out=) must be true or false, not {column.dtype}."
        raise ValueError(msg)
    held = np.resize(column, len(label))
    for name, side in (("held out", held), ("searched", ~held)):
        for kind, of_class in (("positive", label), ("negative", ~label)):
            if not (side & of_class).any():
                msg = f"By adata.obs[{key!r}] no {kind} sequence is {name}."
                raise ValueError(msg)
    return held


def _by_rgadem(
    sequences: list[str], rows: np.ndarray, codes: np.ndarray, label: np.ndarray, held: np.ndarray,
    rng: np.random.Generator, *, n_motifs: int, both_strands: bool,
) -> list[search.Motif]:  # fmt: skip
    from omicllm._bridges import r

    searched = np.flatnonzero((label & ~held)[: len(rows)])
    matrices = r.gadem(
        [sequences[i] for i in rows[searched]], n_motifs=n_motifs, seed=int(rng.integers(1, 2**31))
    )
    return regions.motifs_of_matrices(
        codes, label, held, matrices[:n_motifs], both_strands=both_strands
    )


def _regions(
    model: Any, method: str, positive: Any, sequences: list[str], label: np.ndarray,
    held: np.ndarray, width: int,
) -> np.ndarray:  # fmt: skip
    """Bases that the model looks at in the discovery half: bool (n, width)."""

    def scores(of: np.ndarray) -> list[np.ndarray]:
        rows = np.flatnonzero(of & ~held)
        return model.get_base_scores([sequences[i] for i in rows], method=method, positive=positive)

    cutoff = None
    if method == "attribution":
        cutoff = max(0.0, float(np.nanquantile(np.concatenate(scores(~label)), _HIGH)))
    high = np.zeros((len(sequences), width), dtype=bool)
    high[label & ~held] = regions.high_regions(scores(label), width, cutoff=cutoff)
    return high
