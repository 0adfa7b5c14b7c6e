"""Haplotypes without rare alleles: the ablation that asks what rare variants teach."""

from __future__ import annotations

import numpy as np

from omicllm.genome.haplotypes import Alleles


class CommonAlleles(Alleles):
    """Variants of one contig whose rare alleles are replaced by the most frequent one.

    Mostly that is the reference; where the reference is rare itself, it is the common alternate.

    Parameters
    ----------
    source
        Variants and who carries them; not changed.
    people
        Rows of the people whose haplotypes are counted (those who train).
    min_af
        Alleles of a smaller share of their haplotypes are rare. Missing alleles count as
        reference, as in the sequences.
    """

    def __init__(self, source: Alleles, people: np.ndarray, min_af: float) -> None:
        self.__dict__.update(source.__dict__)
        self.counted, self.min_af = people, min_af

    def numbers(self, columns: slice) -> np.ndarray:
        """Allele of each haplotype at some variants, as in :class:`Alleles`, none of them rare."""
        found = super().numbers(columns).reshape(self.n_people, 2, -1)
        # Without phase both haplotypes carry the code of the pair: count one allele on each.
        pair = found[:, 0] >= self.pair
        low, high = np.divmod(found[:, 0] - self.pair, self.pair)
        alleles = found.copy()
        alleles[:, 0], alleles[:, 1] = np.where(pair, low, found[:, 0]), np.where(
            pair, high, found[:, 1]
        )  # fmt: skip
        counted = alleles[self.counted].reshape(-1, alleles.shape[-1])
        kinds = int(alleles.max(initial=0)) + 1
        share = np.stack([(counted == a).mean(axis=0) for a in range(kinds)])
        rare = share[alleles, np.arange(share.shape[1])] < self.min_af
        alleles = np.where(rare, share.argmax(axis=0), alleles).astype(found.dtype)
        less, more = alleles.min(axis=1), alleles.max(axis=1)
        code = np.where(less == more, more, (less + 1) * self.pair + more)
        out = np.where(pair[:, None], code[:, None], alleles)
        return out.reshape(2 * self.n_people, -1).astype(found.dtype)
