"""What `model.PersonalExpression` reads: expression, parts, haplotypes in the order of people."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs, parts
from omicllm.genome.rare_alleles import CommonAlleles

if TYPE_CHECKING:
    from anndata import AnnData

#: Tokens that are kept between epochs, bytes.
_CACHE = 2 * 2**30


class PersonalTables:
    """Expression of people, and who trains.

    Parameters
    ----------
    people
        Expression, people x genes.
    layer
        Layer instead of ``X``.
    split_key
        As in `omicllm._core.parts`.
    genes
        Numbers of the genes that are modelled.
    train_fraction
        Share of each gene's training people that train; the others are in no part.
    seed
        Draws the order in which people are taken, the same for all genes.

    Attributes
    ----------
    y, z
        float64 (n_people, n_genes): expression, and standardised with the training people's mean
        and standard deviation.
    train, val
        bool (n_people, n_genes).
    """

    def __init__(
        self, people: AnnData, layer: str | None, split_key: str, genes: np.ndarray, *,
        train_fraction: float = 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        y = inputs.dense_rows(people, layer)[:, genes]
        known = np.isfinite(y)
        part = parts.by_gene(people, split_key)[:, genes]
        self.y = np.where(known, y, np.nan)
        self.train, self.val = (part == parts.TRAIN) & known, (part == parts.VAL) & known
        if train_fraction < 1:
            order = np.random.default_rng(seed).permutation(len(part))
            asked = np.rint(train_fraction * self.train.sum(axis=0))
            self.train[order] &= np.cumsum(self.train[order], axis=0) <= asked
        trained = self.train.sum(axis=0) >= 2
        if not trained.any():
            msg = "No gene has two training people with expression."
            raise ValueError(msg)
        seen = np.where(self.train, self.y, np.nan)
        mean, sd = np.zeros(len(genes)), np.ones(len(genes))
        mean[trained], sd[trained] = (f(seen[:, trained], axis=0) for f in (np.nanmean, np.nanstd))
        self.z = (self.y - mean) / np.where(sd > 0, sd, 1)
        self.level = float(seen[self.train].mean())


class PersonalSequences:
    """Haplotypes of modelled genes, rows in the order of people; recent genes are kept.

    Parameters
    ----------
    haplotypes
        From :func:`omicllm.pp.haplotypes`, with ``length=``.
    people
        Names, in the order wanted; all of `haplotypes` when None.
    genes
        Names.
    min_af
        Alleles that are rarer than this among the haplotypes of training people are replaced by
        the most frequent allele.
    train
        bool (n_people, n_genes), who trains; needed where `min_af` is above 0. At a gene without
        training people those who train anywhere are counted.

    Raises
    ------
    KeyError
        Genes without a window.
    ValueError
        People without haplotypes; `min_af` of haplotypes whose alleles are not at hand.
    """

    def __init__(
        self, haplotypes: Any, people: Any | None, genes: list[str], *, min_af: float = 0.0,
        train: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.haplotypes, self.genes = haplotypes, genes
        self.min_af, self.train = min_af, train
        if min_af > 0 and getattr(haplotypes, "_alleles", None) is None:
            msg = "min_af= needs haplotypes made by ol.pp.haplotypes."
            raise ValueError(msg)
        known = set(haplotypes.names)
        absent = [g for g in genes if g not in known]
        if absent:
            raise checks.missing(
                absent[0], "the windows of haplotypes", haplotypes.names,
                hint="Make them with ol.pp.haplotypes(geno, genome=..., windows=..., length=...).",
            )  # fmt: skip
        self.people = [str(p) for p in (haplotypes.people if people is None else people)]
        row = {name: i for i, name in enumerate(haplotypes.people)}
        lost = [p for p in self.people if p not in row]
        if lost:
            msg = (
                f"{len(lost)} of {len(self.people)} people have no haplotypes "
                f"({checks.listed(lost, most=3)})."
            )
            raise ValueError(msg)
        self.rows = np.array([row[p] for p in self.people], dtype=np.int64)
        self._kept: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._bytes = 0

    def __call__(self, g: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int8 (n_unique, length) and rows of people (n_people, 2) of one gene."""
        if g in self._kept:
            self._kept.move_to_end(g)
            return self._kept[g]
        tokens, index = self._common(g)[self.genes[g]]
        used, at = np.unique(index[self.rows], return_inverse=True)
        found = tokens[used], at.reshape(-1, 2)
        self._kept[g] = found
        self._bytes += found[0].nbytes
        while self._bytes > _CACHE and len(self._kept) > 1:
            _, (old, _) = self._kept.popitem(last=False)
            self._bytes -= old.nbytes
        return found

    def _common(self, g: int) -> Any:
        """The haplotypes, without rare alleles if so asked."""
        if self.min_af == 0 or self.train is None:
            return self.haplotypes
        who = self.train[:, g]
        counted = self.rows[who if who.any() else self.train.any(axis=1)]
        out = copy(self.haplotypes)
        chrom = out.windows[out.names.index(self.genes[g])].chrom
        if chrom in out._alleles:
            out._store = None  # sequences that were written before know rare alleles
            out._alleles = {chrom: CommonAlleles(out._alleles[chrom], counted, self.min_af)}
        return out


def check_lengths(sequences: PersonalSequences, trunk: Any) -> int:
    """Length of the sequences of the first gene, which the trunk must take.

    Raises
    ------
    ValueError
        Haplotypes of other lengths, or one that the trunk does not take.
    """
    length = sequences(0)[0].shape[1]
    if (sequences(0)[0] < 0).any() and getattr(sequences.haplotypes, "length", None) is None:
        msg = (
            "Haplotypes differ in length: make them with ol.pp.haplotypes(..., length=), a "
            f"multiple of {trunk.length_multiple}."
        )
        raise ValueError(msg)
    if length % trunk.length_multiple or (trunk.max_len and length > trunk.max_len):
        msg = (
            f"The haplotypes have {length} bases, but {trunk.name} takes multiples of "
            f"{trunk.length_multiple}"
            + (f" up to {trunk.max_len}" if trunk.max_len else "")
            + ": choose another length= in ol.pp.haplotypes."
        )
        raise ValueError(msg)
    return length
