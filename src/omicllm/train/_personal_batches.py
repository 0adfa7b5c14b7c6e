"""Batches of people, or pairs of people, with the distinct haplotypes they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import IterableDataset

from omicllm.nn.genome_input import reverse_complement
from omicllm.train._ranks import share_of_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Gene -> tokens of its distinct haplotypes and rows of each person.
    Sequences = Callable[[int], tuple[np.ndarray, np.ndarray]]

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class PersonalSampler:
    """Draws people, or pairs of people, gene by gene.

    Parameters
    ----------
    sequences
        Gene -> (tokens int8 (n_unique, length), index (n_people, 2)).
    target
        (n_people, n_genes): what predictions are compared with.
    part
        bool (n_people, n_genes): who may be drawn.
    pairs
        Draw pairs; else single people.
    min_gap
        Least difference of percentile (0 to 100) between the two of a pair.
    """

    def __init__(
        self, sequences: Sequences, target: np.ndarray, part: np.ndarray, *, pairs: bool,
        min_gap: float = 0.0,
    ) -> None:  # fmt: skip
        self.sequences, self.target, self.pairs, self.min_gap = sequences, target, pairs, min_gap
        self.people = [np.flatnonzero(column) for column in part.T]
        least = 2 if pairs else 1
        self.genes = np.array([g for g, p in enumerate(self.people) if len(p) >= least], dtype=int)

    def draw(self, g: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """People of `n` items at most: int (k, 2) or (k, 1)."""
        people = self.people[g]
        if not self.pairs:
            return rng.permutation(people)[:n, None]
        first = rng.integers(0, len(people), 4 * n)
        second = (first + rng.integers(1, len(people), 4 * n)) % len(people)
        if self.min_gap:
            order = np.argsort(np.argsort(self.target[people, g]))
            percentile = 100 * (order + 1) / len(people)
            kept = np.abs(percentile[first] - percentile[second]) > self.min_gap
            first, second = first[kept], second[kept]
        return np.stack([people[first], people[second]], axis=1)[:n]

    def batch(
        self, items: list[tuple[int, np.ndarray]], rng: np.random.Generator | None, shift: int
    ) -> Batch:
        """Distinct haplotypes of a batch, which of them each item needs, and targets.

        With `rng`, each gene is turned to the other strand with probability 1/2 and shifted by up
        to `shift` bases, all its haplotypes alike; what is shifted in is unknown (N).

        Returns
        -------
        int8 (n, length), int64 (items, people, 2), float32 (items, people).
        """
        rows, index, target, n = [], [], [], 0
        for g, people in items:
            tokens, which = self.sequences(g)
            used, at = np.unique(which[people], return_inverse=True)
            x = torch.from_numpy(np.ascontiguousarray(tokens[used]))
            if rng is not None:
                x = shifted(x, int(rng.integers(-shift, shift + 1)))
                if rng.random() < 0.5:
                    x = reverse_complement(x)
            rows.append(x)
            index.append(torch.from_numpy(at.reshape(*people.shape, 2)) + n)
            target.append(self.target[people, g])
            n += len(used)
        y = torch.from_numpy(np.concatenate(target).astype(np.float32))
        return torch.cat(rows), torch.cat(index), y


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """Tokens (n, length) moved right by `by` bases; N where nothing is left."""
    if by == 0:
        return x
    out = torch.full_like(x, 4)
    if by > 0:
        out[:, by:] = x[:, :-by]
    else:
        out[:, :by] = x[:, -by:]
    return out


class PersonalItems(IterableDataset):
    """Batches of one epoch; the same for one seed, other in every epoch unless fixed."""

    def __init__(
        self, sampler: PersonalSampler, *, per_gene: int, batch_size: int, genes_per_batch: int,
        seed: int, shift: int, fixed: bool,
    ) -> None:  # fmt: skip
        self.sampler, self.per_gene, self.seed, self.shift = sampler, per_gene, seed, shift
        self.chunk = max(1, batch_size // genes_per_batch)
        self.genes_per_batch, self.fixed, self.n_done = genes_per_batch, fixed, 0
        self.n_batches = len(self._plan(np.random.default_rng([seed, 0])))

    def _plan(self, rng: np.random.Generator) -> list[list[tuple[int, np.ndarray]]]:
        items = []
        for g in self.sampler.genes.tolist():
            people = self.sampler.draw(g, self.per_gene, rng)
            # By the number asked for, so that every epoch has as many batches.
            n = self.per_gene if self.sampler.pairs else len(people)
            pieces = max(1, round(n / self.chunk))
            items += [(g, piece) for piece in np.array_split(people, pieces) if len(piece)]
        order = np.arange(len(items)) if self.fixed else rng.permutation(len(items))
        n = -(-len(items) // self.genes_per_batch)
        return [[items[i] for i in some] for some in np.array_split(order, n)] if n else []

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, 0 if self.fixed else self.n_done])
        self.n_done += 1
        # Every process draws for all, so that all agree; one keeps its share of each batch.
        for items in self._plan(rng):
            own = [(g, share_of_rank(people)) for g, people in items]
            yield self.sampler.batch(own, None if self.fixed else rng, self.shift)

    def __len__(self) -> int:
        return self.n_batches
