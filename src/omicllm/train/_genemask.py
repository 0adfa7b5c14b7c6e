"""Training of `model.GeneMaskLM`: batches of masked or labelled rows, and the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from omicllm.genome.corpus import sample_corpus, stream_fasta
from omicllm.genome.kmers import CLS, PAD, SEP, KmerCounter, KmerTokenizer, base_codes, kmer_numbers
from omicllm.genome.masking import mask_tokens, token_ranks
from omicllm.genome.pmi import descending_ranks, normalised_pmi
from omicllm.train._ranks import log_means, share_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from omicllm.nn.kmer_bert import KmerBert

#: Pieces that are shuffled together, in batches.
_SHUFFLED = 64
#: Words seen less often have no rank of their own when ranks come from the corpus itself.
_MIN_COUNT = 11
#: Batches in a row without a masked token, after which no more are tried.
_IN_VAIN = 10_000


class _Steps(IterableDataset):
    """A fixed number of batches per epoch, from a stream that goes on over epochs."""

    def __init__(self, batches: Iterator[Any], n_steps: int) -> None:
        self.batches, self.n_steps, self.n_done = batches, n_steps, 0

    def skip(self, n: int) -> None:
        """Pass over the batches that an earlier run has shown."""
        for _ in range(n):
            next(self.batches)
        self.n_done = n

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.n_steps):
            self.n_done += 1
            yield next(self.batches)


class BatchData(pl.LightningDataModule):
    """Feeds ready-made batches.

    Parameters
    ----------
    batches
        Called with the number of this process and how many there are; gives an endless iterator
        over pairs of int64 arrays: token ids, and labels of tokens or rows.
    n_steps
        Batches in an epoch.
    """

    def __init__(self, batches: Callable[[int, int], Iterator[Any]], n_steps: int) -> None:
        super().__init__()
        self.batches, self.n_steps = batches, n_steps
        self._steps: _Steps | None = None
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """Batches shown so far, for a checkpoint."""
        return {"n_batches": 0 if self._steps is None else self._steps.n_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches an interrupted run has shown."""
        self._seen = state["n_batches"]

    def train_dataloader(self) -> DataLoader:
        """One loader over ready-made steps."""
        trainer = self.trainer
        rank, size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        stream = (tuple(torch.from_numpy(a) for a in pair) for pair in self.batches(rank, size))
        self._steps = _Steps(stream, self.n_steps)
        self._steps.skip(self._seen)
        return DataLoader(self._steps, batch_size=None)


class KmerBertPlan(pl.LightningModule):
    """AdamW with linear warm-up and decay, on masked tokens or on classes.

    Parameters
    ----------
    module
        The network.
    task
        ``"mask"`` or ``"class"``.
    lr, weight_decay
        Of AdamW; betas .9 and .98, epsilon 1e-6; no decay of biases and layer norms.
    n_steps, warmup
        Steps in all, and the share of them in which the rate rises.
    """

    def __init__(
        self,
        module: KmerBert,
        *,
        task: str,
        lr: float,
        weight_decay: float,
        n_steps: int,
        warmup: float,
    ) -> None:
        super().__init__()
        self.module, self.task = module, task
        self.lr, self.weight_decay = lr, weight_decay
        self.n_steps, self.warmup = n_steps, warmup

    def configure_optimizers(self) -> Any:
        """AdamW, and its schedule by step."""
        named = [p for p in self.module.named_parameters() if p[1].requires_grad]
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.98), eps=1e-6)
        rise = max(1, round(self.warmup * self.n_steps))

        def rate(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return max(0.0, (self.n_steps - step) / max(1, self.n_steps - rise))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        """Loss of one batch."""
        ids, labels = batch
        if self.task == "mask":
            loss = self.module.masked_loss(ids, labels)
        else:
            loss = torch.nn.functional.cross_entropy(self.module.class_scores(ids).float(), labels)
        log_means(self, len(ids), loss=loss)
        return loss


def trimmed(ids: np.ndarray) -> np.ndarray:
    """Rows as int64, without columns that are pads throughout."""
    width = int((ids != PAD).sum(axis=1).max(initial=1))
    return np.ascontiguousarray(ids[:, :width]).astype(np.int64)


def rows_of_pieces(pieces: Sequence[np.ndarray], tokenizer: KmerTokenizer) -> np.ndarray:
    """``[CLS] ... [SEP]`` rows of base numbers, padded at the end."""
    tokens = [tokenizer.from_codes(p) for p in pieces]
    out = np.full((len(tokens), max(map(len, tokens)) + 2), PAD, dtype=np.int64)
    for row, piece in zip(out, tokens, strict=True):
        row[0], row[len(piece) + 1] = CLS, SEP
        row[1 : len(piece) + 1] = piece
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
    fasta: str | Path | None,
    sequences: Sequence[str] | None,
    tokenizer: KmerTokenizer,
    *,
    batch_size: int,
    max_tokens: int,
    n_steps: int,
    curriculum: bool,
    seed: int,
    masking: dict[str, Any],
) -> Callable[[int, int], Iterator[tuple[np.ndarray, np.ndarray]]]:
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
                    fasta,
                    max_bases=longest,
                    min_bases=min(k + 4, longest),
                    other="unknown",
                    rng=rng,
                    rank=rank,
                    world_size=size,
                ):
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
        n_rows = max(1, batch_size // size)
        stream, step = pieces(rank, size), 0
        pool: list[np.ndarray] = []
        in_vain = 0
        while True:
            while len(pool) < _SHUFFLED * n_rows:
                pool.append(next(stream))
            order = rng.permutation(len(pool))
            for first in range(0, len(pool) // 2, n_rows):
                chosen = [pool[i] for i in order[first : first + n_rows]]
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
            used = -(-(len(pool) // 2) // n_rows) * n_rows
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
