"""Span masking of k-mer tokens: DNABERT's scheme, and GeneMask's, which follows the PMI.

Neighbouring k-mers overlap in k - 1 bases, so a single masked token can be read off its
neighbours. Both schemes draw centres and mask the window of k tokens about each (six for k = 6,
offsets -2 to 3). GeneMask draws fewer centres; in each window it takes the token of the best PMI
rank, and about the better half of these tokens it masks all 2 k - 1 tokens that share a base with
them.

References
----------
Ji et al. 2021, DNABERT, doi:10.1093/bioinformatics/btab083; Roy et al. 2023, GeneMask,
arXiv:2307.15933.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from omicllm.genome.kmers import MASK, N_SPECIAL, KmerTokenizer

#: Chance that a token is a centre, as published.
CENTRES = {"dnabert": 0.025, "genemask": 0.0176}
#: The published code extends every centre where the better half would be fewer than this.
_FEWEST = 5
#: Label of tokens that take no part in the loss.
IGNORED = -100


def token_ranks(ranks: Any, k: int) -> np.ndarray:
    """PMI rank by token id (5 + 4**k,): 1 is the best; k-mers without a rank come last.

    Parameters
    ----------
    ranks
        Mapping or Series of k-mer -> rank, as :func:`omicllm.io.read_kmer_ranks` returns, or an
        array by token id.
    k
        Bases of a token.

    Raises
    ------
    ValueError
        When the array has another length, or a k-mer is not of this k.
    """
    tokenizer = KmerTokenizer(k)
    if not hasattr(ranks, "items") or isinstance(ranks, np.ndarray):
        out = np.array(ranks, dtype=np.float64)
        if out.shape != (len(tokenizer),):
            msg = f"ranks must have one value per token id ({len(tokenizer)}), not {out.shape}."
            raise ValueError(msg)
    else:
        out = np.full(len(tokenizer), np.nan)
        words = [str(w) for w in ranks.keys()]  # noqa: SIM118 - a Series iterates over values
        odd = [w for w in words if len(w) != k or set(w) - set("ACGT")]
        if odd or not words:
            msg = f"ranks must be of {k}-mers, but hold {odd[0]!r}." if odd else "ranks are empty."
            raise ValueError(msg)
        joined = "N".join(words)
        out[tokenizer.encode(joined)[:: k + 1]] = [ranks[w] for w in words]
    missing = ~np.isfinite(out)
    out[missing] = np.nanmax(np.where(missing, -np.inf, out)) + 1
    return out.astype(np.float32)


def mask_tokens(
    ids: Any,
    *,
    masking: Literal["genemask", "dnabert", "random"] = "genemask",
    rank_by: Literal["token", "position"] = "token",
    ranks: Any = None,
    k: int = 6,
    centre_share: float | None = None,
    curriculum: float | None = None,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    rng: np.random.Generator | int | None = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask tokens for masked language modelling.

    Parameters
    ----------
    ids
        Token ids (n, length) or (length,), with special tokens and pads, which are never masked.
    masking
        ``"genemask"``, ``"dnabert"``, or ``"random"`` (single tokens, no spans).
    rank_by
        Where GeneMask looks a rank up: by ``"token"``, the method as described, or by
        ``"position"``, which reproduces the released code: it reads the position in the row as if
        it were a token id, so that its choice does not depend on the sequence.
    ranks
        PMI ranks: an array by token id, or k-mer -> rank. Needed for ``"genemask"``.
    k
        Bases of a token.
    centre_share
        Chance that a token is a centre; .025 for DNABERT, .0176 for GeneMask, .152 for single
        tokens.
    curriculum
        How far training has come, 0 to 1. The rank that is looked for in each window moves from
        the last (words that do not belong together) to the first; 1 is GeneMask itself, as None.
    mask_share, random_share
        Share of masked tokens that become ``[MASK]``, and any k-mer; the rest keep their id.
    rng
        Seed, Generator or None.

    Returns
    -------
    Ids with masks (a new array of the type of `ids`), and labels: int64, the id where a token
    was masked, -100 elsewhere.

    Raises
    ------
    ValueError
        Missing ranks, ids outside the vocabulary, or an argument out of range.
    """
    ids = np.asarray(ids)
    _check(ids, masking, rank_by, ranks, k, centre_share, curriculum, mask_share, random_share)
    generator = np.random.default_rng(rng)
    rows = np.atleast_2d(ids)
    real = rows >= N_SPECIAL
    share = centre_share if centre_share is not None else CENTRES.get(masking, 0.152)
    centres = np.flatnonzero(generator.random(rows.shape, dtype=np.float32).ravel() < share)
    centres = centres[real.ravel()[centres]]
    chosen = np.zeros(rows.size, dtype=bool)
    if masking == "random":
        chosen[centres] = True
    else:
        row, window = _windows(centres, real, np.arange(-((k - 1) // 2), k // 2 + 1))
        chosen[window.ravel()] = True
        if masking == "genemask" and len(centres):
            by_id = token_ranks(ranks, k)
            if rank_by == "position":
                # Positions 1 to 4 read as special tokens, which the released code ranks first.
                by_id[:N_SPECIAL] = 0
                value = by_id[np.minimum(window % rows.shape[1], len(by_id) - 1)]
            else:
                value = by_id[rows.ravel()[window]]
            if curriculum is not None:
                last = float(by_id[N_SPECIAL:].max())
                value = np.abs(value - (1 + (1 - curriculum) * (last - 1)))
            best = window[np.arange(len(window)), value.argmin(axis=1)]
            kept = _better_half(row, value.min(axis=1))
            _, wide = _windows(best[kept], real, np.arange(-(k - 1), k))
            chosen[wide.ravel()] = True
    at = np.flatnonzero(chosen)
    at = at[real.ravel()[at]]  # an [UNK] inside a span has nothing to be learnt from
    labels = np.full(rows.size, IGNORED, dtype=np.int64)
    out = rows.ravel().copy()
    labels[at] = out[at]
    draw = generator.random(len(at), dtype=np.float32)
    out[at[draw < mask_share]] = MASK
    swapped = at[(draw >= mask_share) & (draw < mask_share + random_share)]
    out[swapped] = generator.integers(N_SPECIAL, N_SPECIAL + 4**k, len(swapped))
    return out.reshape(ids.shape), labels.reshape(ids.shape)


def _windows(
    centres: np.ndarray, real: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row of each centre, and flat positions (n, n_offsets) about it, cut at the row's ends."""
    width = real.shape[1]
    first = real.argmax(axis=1)
    last = width - 1 - real[:, ::-1].argmax(axis=1)
    row = centres // width
    low, high = row * width + first[row], row * width + last[row]
    return row, np.clip(centres[:, None] + offsets, low[:, None], high[:, None])


def _better_half(row: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Centres of the better half of each row by rank; all of them in a row with few."""
    order = np.lexsort((rank, row))
    sorted_row = row[order]
    size = np.bincount(row)
    place = np.arange(len(row)) - (np.cumsum(size) - size)[sorted_row]
    half = (size + 1) // 2
    return order[place < np.where(half < _FEWEST, size, half)[sorted_row]]


def _check(
    ids: np.ndarray, masking: str, rank_by: str, ranks: Any, k: int, centre_share: float | None,
    curriculum: float | None, mask_share: float, random_share: float,
) -> None:  # fmt: skip
    for name, value, allowed in (
        ("masking", masking, ("genemask", "dnabert", "random")),
        ("rank_by", rank_by, ("token", "position")),
    ):
        if value not in allowed:
            msg = f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}."
            raise ValueError(msg)
    if masking == "genemask" and ranks is None:
        msg = (
            "masking='genemask' needs ranks=: read them with ol.io.read_kmer_ranks(path), or make "
            "them with ol.pp.kmer_pmi. masking='dnabert' needs none."
        )
        raise ValueError(msg)
    if ids.ndim not in (1, 2) or ids.dtype.kind not in "iu":
        msg = f"ids must be whole numbers in one or two dimensions, not {ids.dtype} {ids.shape}."
        raise ValueError(msg)
    n_ids = len(KmerTokenizer(k))
    if ids.size and (ids.min() < 0 or ids.max() >= n_ids):
        msg = f"ids reach from {ids.min()} to {ids.max()}; {k}-mers have 0 to {n_ids - 1}."
        raise ValueError(msg)
    shares = {
        "centre_share": centre_share, "curriculum": curriculum, "mask_share": mask_share,
        "random_share": random_share, "mask_share + random_share": mask_share + random_share,
    }  # fmt: skip
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1 + 1e-12:
            msg = f"{name} must lie between 0 and 1, not {share!r}."
            raise ValueError(msg)
