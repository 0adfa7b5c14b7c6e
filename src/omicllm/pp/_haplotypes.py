"""`omicllm.pp.haplotypes`: personal sequences of every window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from omicllm._core import checks, docs, inputs
from omicllm._core.log import logger
from omicllm.genome import haplotypes as consensus
from omicllm.genome import windows as arithmetic
from omicllm.genome.dosage import HAPLOID, second_haplotype
from omicllm.genome.fasta import Genome, require_contigs
from omicllm.genome.gvl import Store, require_gvl
from omicllm.genome.places import places_of
from omicllm.genome.reference_check import check_reference

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

__all__ = ["Haplotypes", "haplotypes"]


@docs.fill()
def haplotypes(
    geno: AnnData | MuData,
    *,
    genome: Genome | str | Path,
    windows: pd.DataFrame | AnnData,
    length: int | None = None,
    reverse_complement: bool = True,
    unphased: Literal["refuse", "iupac"] = "refuse",
    haploid: Literal["single", "double"] = "single",
    deduplicate: bool = True,
    window_key: str = "window",
    backend: Literal["numpy", "gvl"] = "numpy",
    mod: str | None = None,
) -> Haplotypes:
    """Sequences of both haplotypes of every person in every window.

    Substitutions, insertions, deletions and records with several alternate alleles are applied as
    ``bcftools consensus -H 1`` and ``-H 2`` do. Windows are computed when they are asked for, and
    each sequence is kept once.

    Parameters
    ----------
    geno
        People x variants, from :func:`omicllm.io.read_vcf`; or a MuData with `mod`.
    genome
        FASTA file or :class:`omicllm.io.Genome`.
    windows
        DataFrame with ``chrom``, ``start``, ``end`` (0-based, half-open) and ``strand``; or the
        AnnData that :func:`gene_windows` wrote into.
    length
        Cut or pad every haplotype about its centre to this many bases. Without it a haplotype is
        as long as its insertions and deletions make it.
    reverse_complement
        Read windows with strand ``-`` in the direction of the gene.
    unphased
        Carried alleles without phase: ``"refuse"``, or write the ``"iupac"`` code of the two
        alleles into both haplotypes.
    haploid
        A haploid call (X and Y of men, MT) has its allele on the first haplotype, and the second
        is the reference (``"single"``, as in bcftools); or it has it on both (``"double"``, the
        default of the verbs that predict from people's sequences).
    deduplicate
        Keep each sequence once per window.
    window_key
        Root under which :func:`gene_windows` wrote, where `windows` is an AnnData.
    backend
        ``"numpy"``; or ``"gvl"`` (genvarloader, extra ``gvl``), which writes all windows into a
        temporary folder first, and then returns the same sequences. It is no faster; it is an
        independent check.
    {mod}

    Returns
    -------
    :class:`Haplotypes`. ``result[window]``, by number or name, is ``(tokens, index)``: int8
    (n_unique, length) with A 0, C 1, G 2, T 3, N 4, IUPAC codes from 5 (``"iupac"`` only, see
    `omicllm.genome.tokens`) and padding -1 at the end; and int32 (n_people, 2), the row of each
    person's first and second haplotype.

    Raises
    ------
    KeyError
        Layers or columns that are not there; contigs that differ between VCF, FASTA and windows
        (``chr22`` and ``22``: the other name is suggested).
    ValueError
        REF alleles that are not what the genome holds (counted; where it holds N or an IUPAC code
        the variant is left out, with a warning); genotypes without phase (counted); a window past
        the end of its contig, unless the genome was opened with ``outside="pad"``;
        ``unphased="iupac"`` with ``"gvl"``.
    ImportError
        ``backend="gvl"`` without genvarloader.

    Examples
    --------
    >>> personal = ol.pp.haplotypes(geno, genome="hg19.fa", windows=rna)  # doctest: +SKIP
    >>> tokens, index = personal["COMT"]  # doctest: +SKIP
    """
    source = inputs.resolve(geno, mod)
    checks.one_of("unphased", unphased, ("refuse", "iupac"))
    checks.one_of("haploid", haploid, HAPLOID)
    checks.one_of("backend", backend, ("numpy", "gvl"))
    if backend == "gvl":
        if unphased == "iupac":
            msg = "backend='gvl' writes no IUPAC codes: pass backend='numpy' with unphased='iupac'."
            raise ValueError(msg)
        require_gvl()
    if length is not None:
        checks.whole_number("length", length)
    of_genes = hasattr(windows, "var_names")
    if not of_genes:
        why = "with a table of windows="
        checks.no_effect(haplotypes, locals(), ("window_key",), because=why)
    for column in ("chrom", "pos", "ref", "alt"):
        if column not in source.var:
            raise checks.missing(
                column, "geno.var", source.var, hint="Read genotypes with ol.io.read_vcf."
            )
    if of_genes:
        frame = arithmetic.from_columns(windows.var, window_key)
    else:
        frame = arithmetic.without_absent(windows)
    places = arithmetic.as_windows(frame)
    genome = genome if isinstance(genome, Genome) else Genome(genome)
    for window in places:
        genome.check_window(*window[:3])
    contigs, _ = places_of(source.var)
    known = list(dict.fromkeys(contigs))
    if known and not any(c in genome for c in known):
        require_contigs(known, genome.lengths, where=genome.path.name)
    used = dict.fromkeys(w.chrom for w in places)
    if known and not any(c in known for c in used):
        require_contigs(used, known, where="geno.var['chrom']")
    at = {c: np.flatnonzero(contigs == c) for c in used if c in known}
    alleles = {c: _alleles(source, columns, unphased, haploid) for c, columns in at.items()}
    names = np.asarray(source.var_names.astype(str), dtype=object)
    check_reference(genome, alleles, places, names, at)
    if unphased == "refuse":
        _refuse_unphased(source, alleles, at, places)
    skipped = sum(a.n_skipped for a in alleles.values())
    if skipped:
        logger.warning("%d alleles are no sequences (<...> or breakends) and are left out", skipped)
    if not reverse_complement:
        places = [w._replace(strand="+") for w in places]
    return Haplotypes(
        [str(i) for i in frame.index], places, genome, alleles, list(source.obs_names),
        length=length, deduplicate=deduplicate, backend=backend, at=at,
    )  # fmt: skip


class Haplotypes:
    """Personal haplotypes, window by window; made by :func:`omicllm.pp.haplotypes`.

    Attributes
    ----------
    names
        Names of the windows (the index of the table).
    windows
        Their places.
    people
        Names of the people, in the order of the rows of ``index``.
    length
        Length of all haplotypes, where one was asked for.
    """

    def __init__(
        self, names: list[str], windows: list[consensus.Window], genome: Genome,
        alleles: dict[str, consensus.Alleles], people: list[str], *,
        length: int | None, deduplicate: bool, backend: str = "numpy",
        at: dict[str, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.names, self.windows, self.people = names, windows, people
        self.length = length
        self._genome, self._alleles, self._at = genome, alleles, at or {}
        self._options: dict[str, Any] = {"length": length, "deduplicate": deduplicate}
        self._store = None if backend == "numpy" else Store(alleles, windows, genome, len(people))
        self._row = {name: i for i, name in reversed(list(enumerate(names)))}

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Haplotypes({len(self)} windows x {len(self.people)} people)"

    def __getitem__(self, window: int | str) -> consensus.WindowHaplotypes:
        """Tokens of the unique haplotypes of one window, and each person's two rows."""
        if isinstance(window, str):
            if window not in self._row:
                raise checks.missing(window, "the windows", self.names)
            window = self._row[window]
        place = self.windows[window]
        n = len(self.people)
        number = range(len(self))[window]
        if self._store is not None and number in self._store.number:
            return consensus.finished(
                self._store.rows(number), np.arange(2 * n), place, n_people=n, **self._options
            )
        reference = self._genome.tokens(place.chrom, place.start, place.end)
        return consensus.build(
            self._alleles.get(place.chrom), reference, place, n_people=n,
            **self._options,
        )  # fmt: skip

    def left_out(self) -> np.ndarray:
        """Numbers of the variants whose first alternate allele is in no sequence."""
        parts = [
            self._at[chrom][alleles.order[alleles.skipped[alleles.skipped[:, 1] == 1, 0]]]
            for chrom, alleles in self._alleles.items()
        ]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)


def _alleles(
    source: AnnData, columns: np.ndarray, unphased: str, haploid: str
) -> consensus.Alleles:
    layers = {}
    for name in ("hap1", "hap2", "unphased", "haploid"):
        if name not in source.layers:
            if name in ("unphased", "haploid"):
                continue
            hint = (
                "Read genotypes with ol.io.read_vcf(path), field GT: dosages do not say what is on "
                "which haplotype."
            )
            raise checks.missing(name, "geno.layers", source.layers, hint=hint)
        layers[name] = inputs.columns(source.layers[name][:, columns])
    if haploid == "double":
        layers["hap2"] = second_haplotype(layers["hap1"], layers["hap2"], layers.get("haploid"))
    var = source.var.iloc[columns]
    return consensus.Alleles(
        places_of(var)[1], var["ref"].astype(str).tolist(), var["alt"].astype(str).tolist(),
        layers["hap1"], layers["hap2"], layers.get("unphased") if unphased == "iupac" else None,
    )  # fmt: skip


def _refuse_unphased(
    source: AnnData, alleles: dict[str, consensus.Alleles], at: dict[str, np.ndarray],
    places: list[consensus.Window],
) -> None:  # fmt: skip
    if "unphased" not in source.layers:
        return
    inside: set[int] = set()
    for window in places:
        if window.chrom in alleles:
            here = alleles[window.chrom]
            inside.update(at[window.chrom][here.order[here.touching(window.start, window.end)]])
    columns = np.array(sorted(inside), dtype=np.int64)
    flags = inputs.columns(source.layers["unphased"][:, columns])
    n = int((flags != 0).sum())
    if n:
        variants = int((np.asarray((flags != 0).sum(axis=0)).ravel() > 0).sum())
        msg = (
            f"{n} genotypes of {variants} variants in the windows carry an allele without phase "
            "(0/1): which haplotype it is on is not known. Phase them, or pass unphased='iupac' to "
            "write the code of both alleles into both haplotypes."
        )
        raise ValueError(msg)
