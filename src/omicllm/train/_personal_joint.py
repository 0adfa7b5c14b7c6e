"""Batches of other data that expression is trained together with: tracks, reporter assays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from omicllm.genome import tokens as nucleotides
from omicllm.nn.genome_input import reverse_complement
from omicllm.train._personal_batches import shifted
from omicllm.train._ranks import share_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class TrackRows:
    """Sequences of a genome with their tracks, by row.

    Parameters
    ----------
    sequences
        str (n,), all of one length.
    tracks
        (n, n_bins, n_tracks).
    shift
        Largest shift of a sequence.
    """

    def __init__(self, sequences: np.ndarray, tracks: np.ndarray, *, shift: int) -> None:
        self.sequences, self.tracks, self.shift = sequences, tracks, shift

    def __call__(
        self, rows: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens int8 (n, length) and tracks float32 (n, n_bins, n_tracks).

        With `rng` the batch is shifted, and turned to the other strand with probability 1/2; the
        bins turn with it.
        """
        x = torch.from_numpy(np.stack([nucleotides.encode(s) for s in self.sequences[rows]]))
        y = torch.from_numpy(np.asarray(self.tracks[rows], dtype=np.float32))
        if rng is not None:
            x = shifted(x, int(rng.integers(-self.shift, self.shift + 1)))
            if rng.random() < 0.5:
                x, y = reverse_complement(x), y.flip(1)
        return x, y


class EffectRows:
    """Variants on a reporter with what they do there, by row.

    Parameters
    ----------
    ref, alt
        str (n,): sequences with either allele.
    effects
        (n, n_cells), NaN where a variant was not measured.
    width
        Length to which sequences are padded with N, about their centre.
    """

    def __init__(
        self, ref: np.ndarray, alt: np.ndarray, effects: np.ndarray, *, width: int
    ) -> None:
        self.ref, self.alt, self.effects, self.width = ref, alt, effects, width

    def __call__(
        self, rows: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens int8 (n, width) of either allele, and effects float32 (n, n_cells).

        A reporter reads its insert in one direction at one place: nothing is turned or shifted.
        """
        del rng
        ref, alt = (self._padded(s[rows]) for s in (self.ref, self.alt))
        return ref, alt, torch.from_numpy(np.asarray(self.effects[rows], dtype=np.float32))

    def _padded(self, sequences: np.ndarray) -> torch.Tensor:
        out = np.full((len(sequences), self.width), nucleotides.N, dtype=np.int8)
        for row, sequence in zip(out, sequences, strict=True):
            start = (self.width - len(sequence)) // 2
            row[start : start + len(sequence)] = nucleotides.encode(sequence)
        return torch.from_numpy(out)


class RowBatches(IterableDataset):
    """Batches of rows: in a new order every time, or always the same.

    Parameters
    ----------
    make
        Rows and a Generator (None for no augmentation) -> tensors.
    rows
        Numbers of the rows.
    batch_size
        Rows in a batch.
    seed
        Seed of the order.
    fixed
        In order, without augmentation.
    """

    def __init__(
        self, make: Callable[..., tuple[torch.Tensor, ...]], rows: np.ndarray, *,
        batch_size: int, seed: Sequence[int], fixed: bool,
    ) -> None:  # fmt: skip
        self.make, self.rows, self.batch_size = make, rows, batch_size
        self.seed, self.fixed, self.n_done = list(seed), fixed, 0
        self.n_batches = -(-len(rows) // batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        rng = np.random.default_rng([*self.seed, self.n_done])
        self.n_done += 1
        rows = self.rows if self.fixed else rng.permutation(self.rows)
        for some in np.array_split(rows, self.n_batches):
            yield self.make(share_of_rank(some), None if self.fixed else rng)

    def __len__(self) -> int:
        return self.n_batches


class Together(IterableDataset):
    """One batch of every source in each step: dict of batches by name.

    Parameters
    ----------
    sources
        Name -> data set of batches with a length.
    leading
        An epoch is as long as the longest of these; sources that end before begin anew, and what
        is left of longer ones is dropped (they begin in a new order in the next epoch).
    """

    def __init__(self, sources: Mapping[str, Any], leading: Sequence[str]) -> None:
        self.sources, self.leading = dict(sources), list(leading)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        running = {name: iter(source) for name, source in self.sources.items()}
        for _ in range(len(self)):
            batches = {}
            for name, source in self.sources.items():
                batch = next(running[name], None)
                if batch is None:
                    running[name] = iter(source)
                    batch = next(running[name])
                batches[name] = batch
            yield batches

    def __len__(self) -> int:
        return max(len(self.sources[name]) for name in self.leading)
