"""The part of `omicllm.pp.split` whose parts depend on the gene: people and genes held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm.stats.splits import deal_contigs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

CLASSES = ("random", "population", "unseen")


def personal(
    source: AnnData, *, groupby: str | None, test: Sequence[str] | None, test_size: float,
    val_size: float, gene_shares: Sequence[float], rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """Slots of a split by gene.

    Raises
    ------
    KeyError
        No such column or population.
    ValueError
        Shares that are no shares; no population where one is needed; genes without a contig;
        fewer contigs than classes.
    """
    import pandas as pd

    shares = np.asarray(gene_shares, dtype=np.float64)
    if shares.shape != (3,) or (shares < 0).any() or not np.isclose(shares.sum(), 1):
        msg = f"gene_shares must be three shares that sum to 1, not {tuple(gene_shares)}."
        raise ValueError(msg)
    if "chrom" not in source.var:
        column = "chrom"
        hint = "Whole contigs are dealt: put the contig of each gene into adata.var['chrom']."
        raise checks.missing(column, "adata.var", source.var, hint=hint)
    held = np.zeros(source.n_obs, dtype=bool)
    if shares[1] > 0:
        if groupby is None or not test:
            msg = (
                "method='personal' holds out a population: name the column with groupby= and the "
                "population with test=, or give it no genes (gene_shares=(0.8, 0, 0.2))."
            )
            raise ValueError(msg)
        population = inputs.obs_column(source, groupby, argument="groupby").astype(str)
        for name in test:
            if name not in population:
                raise checks.missing(name, f"obs[{groupby!r}]", np.unique(population))
        held = np.isin(population, list(test))
    contigs = pd.Series(np.asarray(source.var["chrom"])).astype(object)
    codes, names = pd.factorize(contigs.where(contigs.notna() & (contigs != "")))
    if (codes < 0).any():
        genes = source.var_names[codes < 0]
        msg = f"{len(genes)} genes have no contig ({checks.listed(genes, most=5)})."
        raise ValueError(msg)
    if len(names) < (shares > 0).sum():
        msg = (
            f"{len(names)} contig(s) cannot be dealt to {int((shares > 0).sum())} classes of "
            "genes: genes of one contig stay together."
        )
        raise ValueError(msg)
    of_gene = deal_contigs(codes, shares)
    n = source.n_obs
    shuffled = np.zeros(n, dtype=bool)
    shuffled[rng.permutation(n)[: round(test_size * n)]] = True
    part = np.zeros((n, source.n_vars), dtype=np.int8)
    part[:, of_gene == 2] = 2
    for number, tested in ((0, shuffled), (1, held)):
        rest = np.flatnonzero(~tested)
        for g in np.flatnonzero(of_gene == number):
            part[tested, g] = 2
            part[rng.permutation(rest)[: round(val_size * n)], g] = 1
    classes = pd.Categorical.from_codes(of_gene, CLASSES)
    return {"layers:{root}": part, "var:{root}_class": classes}
