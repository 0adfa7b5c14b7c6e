"""Sequences as rows of tokens, and the batches `model.GeneMaskLM` is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm.genome.corpus import sample_corpus, stream_fasta
from omicllm.genome.kmers import CLS, PAD, SEP, KmerCounter, KmerTokenizer, base_codes, kmer_numbers
from omicllm.genome.masking import mask_tokens, token_ranks
from omicllm.genome.pmi import descending_ranks, normalised_pmi
from omicllm.train._ranks import share_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

#: Pieces that are shuffled together, in batches.
_SHUFFLED = 64
#: Words seen less often have no rank of their own when ranks come from the corpus itself.
_MIN_COUNT = 11
#: Batches in a row without a masked token, after which no more are tried.
_IN_VAIN = 10_000


def trimmed(ids: np.ndarray) -> np.ndarray:
    """Rows as int64, without columns that are pads throughout."""
    width = int((ids != PAD).sum(axis=1).max(initial=1))
    return np.ascontiguousarray(ids[:, :width]).astype(np.int64)


def rows_of_pieces(pieces: Sequence[np.ndarray], tokenizer: KmerTokenizer) -> np.ndarray:
    """``[CLS] ... [SEP]`` rows of base numbers, padded at the end."""
    tokens = [tokenizer.from_codes(p) for p in pieces]
    out = np.full((len(tokens), max(map(len, tokens)) + 2), PAD, dtype=np.int64)
    for row, own in zip(out, tokens, strict=True):
        row[0], row[len(own) + 1] = CLS, SEP
        row[1 : len(own) + 1] = own
    return out


def corpus_ranks(fasta: str | Path | None, sequences: Sequence[str] | None, k: int) -> np.ndarray:
    """PMI ranks by token id, from the corpus itself."""
    counter = KmerCounter(k)
    if fasta is not None:
        for block in stream_fasta(fasta, other="unknown"):
            if block.start == 0:
                counter.add(np.array([4], dtype=np.uint8))  # no word reaches over two contigs
            counter.add(block.codes)
    else:
        counter.add(base_codes("N".join(sequences or []), other="unknown"))
    ranks = descending_ranks(normalised_pmi(counter.finish(), min_count=_MIN_COUNT))
    if np.isnan(ranks).all():
        msg = (
            f"No {k}-mer occurs {_MIN_COUNT} times in the corpus: pass ranks=, or a larger corpus, "
            "or masking='dnabert'."
        )
        raise ValueError(msg)
    return token_ranks(np.concatenate([np.full(5, np.nan), ranks]), k)


def _has_word(codes: np.ndarray, k: int) -> bool:
    """Whether `k` known bases follow each other."""
    return len(codes) >= k and bool((kmer_numbers(codes, k) >= 0).any())


def masked_batches(
    fasta: str | Path | None, sequences: Sequence[str] | None, tokenizer: KmerTokenizer, *,
    batch_size: int, max_tokens: int, n_steps: int, curriculum: bool, seed: int,
    masking: dict[str, Any],
) -> Callable[[int, int], Iterator[tuple[np.ndarray, np.ndarray]]]:  # fmt: skip
    """Make endless streams of masked batches, one per process.

    A FASTA is cut anew in every pass; sequences are shown in a new order, in pieces of
    `max_tokens`.
    """
    k = tokenizer.k
    longest = max_tokens + k - 1

    def pieces(rank: int, size: int) -> Iterator[np.ndarray]:
        epoch, parts, usable = 0, [], False
        for sequence in sequences or []:
            codes = base_codes(sequence, other="unknown")
            cut = range(0, max(1, len(codes) - k + 1), max_tokens)
            parts += [codes[i : i + longest] for i in cut]
        while True:
            rng = np.random.default_rng([seed, epoch])
            n = 0
            if fasta is not None:
                for piece in sample_corpus(
                    fasta, max_bases=longest, min_bases=min(k + 4, longest), other="unknown",
                    rng=rng, rank=rank, world_size=size,
                ):  # fmt: skip
                    n += 1
                    usable = usable or _has_word(piece.codes, k)
                    yield piece.codes
            else:
                for i in rng.permutation(len(parts))[rank::size]:
                    n += 1
                    usable = usable or _has_word(parts[i], k)
                    yield parts[i]
            if not n:
                msg = "The corpus has no piece that is long enough to train on."
                raise ValueError(msg)
            if not usable:
                msg = (
                    f"No piece of the corpus has {k} known bases (A, C, G, T) in a row: there is "
                    "nothing to learn from. Give other sequences, or a smaller k."
                )
                raise ValueError(msg)
            epoch += 1

    def batches(rank: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng([seed, 1 + rank])
        own = max(1, batch_size // size)
        stream, step = pieces(rank, size), 0
        pool: list[np.ndarray] = []
        in_vain = 0
        while True:
            while len(pool) < _SHUFFLED * own:
                pool.append(next(stream))
            order = rng.permutation(len(pool))
            for first in range(0, len(pool) // 2, own):
                chosen = [pool[i] for i in order[first : first + own]]
                ids = rows_of_pieces(chosen, tokenizer)
                progress = min(1.0, step / n_steps) if curriculum else None
                out, labels = mask_tokens(ids, k=k, curriculum=progress, rng=rng, **masking)
                in_vain += 1
                if in_vain > _IN_VAIN:
                    msg = (
                        f"{_IN_VAIN} batches in a row had no token to predict: raise "
                        "centre_share=, or give sequences with more known bases."
                    )
                    raise ValueError(msg)
                if (labels >= 0).any():
                    step, in_vain = step + 1, 0
                    yield out, labels
            used = -(-(len(pool) // 2) // own) * own
            pool = [pool[i] for i in order[used:]]

    return batches


def labelled_batches(
    ids: np.ndarray, codes: np.ndarray, batch_size: int, seed: int
) -> Callable[[int, int], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Make endless streams of labelled batches, in a new order in every pass."""
    if not len(ids):
        msg = "There is no sequence to train on."
        raise ValueError(msg)

    def batches(rank: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng([seed, 1])
        while True:
            order = rng.permutation(len(ids))
            for first in range(0, len(order), batch_size):
                rows = share_of_rank(order[first : first + batch_size], rank, size)
                yield trimmed(ids[rows]), codes[rows].astype(np.int64)

    return batches
