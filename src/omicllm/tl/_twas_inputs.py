"""What `omicllm.tl.twas` reads out of a MuData: expression, split, and dosages by gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, inputs, parts
from omicllm._core.blocks import is_lazy
from omicllm._core.log import logger
from omicllm.genome import windows as arithmetic
from omicllm.genome.fasta import require_contigs
from omicllm.genome.places import as_contigs, places_of
from omicllm.tl._genotypes import calls_of, rows_of_people

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from omicllm.genome.dosage import Calls

#: The published length of context.
_LENGTH = 49_152
#: Training people below which nothing is fitted.
_FEWEST = 20


@dataclass
class Cohort:
    """Expression of people, and who trains and tests.

    Attributes
    ----------
    Y
        float64 (n_people, n_genes); NaN where missing.
    train, test
        bool (n_people, n_genes).
    genes
        Gene names.
    order
        Where the object has these people and genes.
    """

    Y: np.ndarray
    train: np.ndarray
    test: np.ndarray
    genes: np.ndarray
    order: inputs.NameOrder

    def as_in_object(self, table: Any) -> Any:
        """A table with the column ``gene``, its genes in the order of the object."""
        place = np.argsort(self.order.var)
        number = {gene: place[i] for i, gene in enumerate(self.genes)}
        rows = np.argsort([number[gene] for gene in table["gene"]], kind="stable")
        return table.iloc[rows].set_axis(table.index)


class Genotypes:
    """Dosages of the people of the expression table, by gene.

    Parameters
    ----------
    calls
        Of the people of the expression table, variants in the order of the object.
    haploid
        What an allele of a haploid call counts.
    usable
        bool (n_variants,): variants the models may see.
    orders
        For each length of window, variants of each gene: functions of the gene's number.
    lazy
        The object is lazy: genes may be fitted on the caller's dask client.
    """

    def __init__(
        self, calls: Calls, usable: np.ndarray, orders: Sequence[Any], *,
        haploid: Literal["double", "single"] = "double", lazy: bool = False,
    ) -> None:  # fmt: skip
        self.dosage, self.usable, self.orders = calls.dosage(haploid), usable, orders
        self.missing = calls.missing if calls.missing.nnz else None
        self.single = calls.haploid if calls.haploid.nnz else None
        self.most = 2.0 if haploid == "double" else 1.0
        self.lazy = lazy
        self.n_total = self.dosage.shape[1]

    def of_gene(
        self, g: int, train: np.ndarray, min_af: float, window: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the variants that vary enough, and everybody's dosages (n_people, k).

        `window` is the number of the window's length.
        """
        at = self.orders[window](g)
        at = at[self.usable[at]]
        D = self.filled(at, train)
        af = self._frequency(D[train], at, train)
        kept = (np.minimum(af, 1 - af) >= min_af) & (D[train].std(axis=0) > 1e-9)
        return at[kept], D[:, kept]

    def _frequency(self, D: np.ndarray, at: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Share of alleles that are not the reference among training people."""
        if self.single is None:
            return np.asarray(D.mean(axis=0) / 2)
        single = self.single[:, at].toarray()[train]
        alleles = np.where(single, D / self.most, D)
        called = np.where(single, 1.0, 2.0)
        if self.missing is not None:
            known = ~self.missing[:, at].toarray()[train]
            alleles, called = alleles * known, called * known
        return np.asarray(alleles.sum(axis=0) / np.maximum(called.sum(axis=0), 1))

    def filled(self, at: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Dosages of some variants (n_people, k); missing ones are the mean over `train`."""
        D = self.dosage[:, at].toarray().astype(np.float64)
        if self.missing is not None:
            absent = self.missing[:, at].toarray()
            D[absent] = np.nan
            with np.errstate(invalid="ignore"):
                known = (~absent[train]).sum(axis=0)
                level = np.nansum(D[train], axis=0) / np.maximum(known, 1)
            D = np.where(absent, level, D)
        return D


def read_cohort(
    mdata: MuData, rna: str, geno: str, *, layer: str | None, split_key: str,
    windows: Sequence[int | None] = (None,), window_key: str = "window", snps: bool = True,
    training: bool = True, haploid: Literal["double", "single"] = "double",
) -> tuple[Cohort, Genotypes]:  # fmt: skip
    """Check and gather everything.

    Without `training` nothing is fitted: no gene needs a window or training people, and where
    there is no split everybody is a test person.

    Raises
    ------
    KeyError, ValueError
        As `omicllm.tl.twas` says.
    """
    people, variants = inputs.resolve(mdata, rna), inputs.resolve(mdata, geno)
    genes = inputs.gene_names(people)
    row = rows_of_people(people, variants, rna=rna, geno=geno)
    # Folds and draws go by name: the people of both modalities may be in any order.
    people, order = inputs.by_name(people)
    genes, row = genes[order.var], row[order.obs]
    if variants.n_obs > people.n_obs:
        logger.warning(
            "%d people in %r have no expression and are not used", variants.n_obs - people.n_obs,
            geno,
        )  # fmt: skip
    Y = inputs.dense_rows(people, layer)
    Y[np.isinf(Y)] = np.nan
    known = np.isfinite(Y)
    if not training and split_key not in people.layers and split_key not in people.obs:
        train, test = np.zeros_like(known), known
    else:
        part = parts.by_gene(people, split_key)
        train, test = (part == parts.TRAIN) & known, (part == parts.TEST) & known
    few = train.sum(axis=0) < _FEWEST
    if training and few.any():
        msg = (
            f"{int(few.sum())} of {len(genes)} genes have fewer than {_FEWEST} training people "
            f"with expression ({checks.listed(genes[few], most=3)})."
        )
        raise ValueError(msg)
    orders = [by_gene(people, variants, w, window_key) for w in windows] if training else []
    usable = np.ones(variants.n_vars, dtype=bool)
    if snps:
        ref, alt = _texts(variants, "ref"), _texts(variants, "alt")
        usable = np.array([len(r) == 1 and len(a) == 1 for r, a in zip(ref, alt, strict=True)])
        usable &= alt != "*"
    lazy = inputs.storage(inputs.stored(people, layer)) == "dask" or is_lazy(variants.X)
    calls = calls_of(variants, row)
    genotypes = Genotypes(calls, usable, orders, haploid=haploid, lazy=lazy)
    return Cohort(Y, train, test, genes, order), genotypes


def _texts(variants: AnnData, column: str) -> np.ndarray:
    if column not in variants.var:
        raise checks.missing(
            column, "geno.var", variants.var, hint="Read genotypes with ol.io.read_vcf."
        )
    return np.asarray(variants.var[column].astype(str), dtype=object)


def by_gene(people: AnnData, variants: AnnData, window: int | None, key: str) -> Any:
    """A function from the number of a gene to its variants."""
    everything = np.arange(variants.n_vars)
    if window is None and f"{key}_start" in people.var:
        frame = people.var[[f"{key}_{c}" for c in arithmetic.COLUMNS]].copy()
        frame.columns = list(arithmetic.COLUMNS)
        frame["chrom"] = as_contigs(frame["chrom"])
    elif {"chrom", "tss"} <= set(people.var.columns):
        sites = arithmetic.start_sites(people.var)
        frame = arithmetic.around(sites, length=_LENGTH if window is None else window)
    elif window is not None:
        absent = "chrom" if "chrom" not in people.var else "tss"
        hint = "window= needs to know where genes start."
        raise checks.missing(absent, "var of the expression", people.var, hint=hint)
    else:
        logger.warning("nothing says where genes are: every gene is predicted from all variants")
        return lambda g: everything
    chrom, pos = places_of(variants.var)
    pos = pos - 1
    known = list(dict.fromkeys(chrom))
    wanted = [str(c) for c in dict.fromkeys(frame["chrom"]) if c != ""]
    if known and wanted and not set(wanted) & set(known):
        require_contigs(wanted, known, where="geno.var['chrom']")
    columns = {}
    for c in set(wanted) & set(known):
        here = np.flatnonzero(chrom == c)
        columns[c] = here[np.argsort(pos[here], kind="stable")]
    places = list(zip(frame["chrom"].astype(str), frame["start"], frame["end"], strict=True))

    def of(g: int) -> np.ndarray:
        c, start, end = places[g]
        if c not in columns:
            return everything[:0]
        low, high = np.searchsorted(pos[columns[c]], (start, end))
        return columns[c][low:high]

    return of


def distances(people: AnnData, variants: AnnData, key: str) -> Any:
    """A function of a gene's number and variants: bases from the start site, in its direction.

    The start site is ``var["tss"]``, else the middle of the gene's window.
    """
    _, pos = places_of(variants.var)
    var = people.var
    if "tss" in var:
        site = var["tss"].to_numpy(dtype=np.float64)
        strand = arithmetic.strands_of(var["strand"]).to_numpy() if "strand" in var else None
    else:
        site = (var[f"{key}_start"] + var[f"{key}_end"]).to_numpy(dtype=np.float64) // 2 + 1
        strand = var[f"{key}_strand"].astype(str).to_numpy()

    def of(g: int, at: np.ndarray) -> np.ndarray:
        far = pos[at] - site[g]
        return -far if strand is not None and strand[g] == "-" else far

    return of
