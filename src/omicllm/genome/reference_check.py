"""Whether variants and reference belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core.checks import listed
from omicllm._core.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omicllm.genome.fasta import Genome
    from omicllm.genome.haplotypes import Alleles, Window


def check_reference(
    genome: Genome, alleles: dict[str, Alleles], windows: Sequence[Window], names: np.ndarray,
    at: dict[str, np.ndarray],
) -> None:  # fmt: skip
    """Raise ValueError when variants inside the windows have a REF that the genome lacks.

    Variants where the genome has no base (N, IUPAC codes) are left out of `alleles`, with a
    warning that counts them.

    Parameters
    ----------
    genome
        The reference.
    alleles
        Contig -> variants.
    windows
        Windows.
    names
        Names of all variants.
    at
        Contig -> number of each of its variants among all.
    """
    bad: set[int] = set()
    seen: set[int] = set()
    unknown: dict[str, set[int]] = {chrom: set() for chrom in alleles}
    for window in windows:
        if window.chrom not in alleles:
            continue
        here = alleles[window.chrom]
        numbers = at[window.chrom][here.order]
        reference = genome.tokens(window.chrom, window.start, window.end)
        other, none = here.mismatches(reference, window.start)
        bad.update(numbers[other].tolist())
        unknown[window.chrom].update(none.tolist())
        seen.update(numbers[here.touching(window.start, window.end)].tolist())
    if bad:
        shown = names[sorted(bad)]
        msg = (
            f"{len(bad)} of {len(seen)} variants in the windows have a REF allele that is not "
            f"what {genome.path.name} holds there ({listed(shown, most=3)}). The VCF and the "
            "FASTA are of different genome builds, or the positions are shifted."
        )
        raise ValueError(msg)
    n = sum(map(len, unknown.values()))
    if not n:
        return
    left = [str(names[at[c][alleles[c].order[i]]]) for c, found in unknown.items() for i in found]
    for chrom, found in unknown.items():
        alleles[chrom].leave_out(np.array(sorted(found), dtype=np.int64))
    logger.warning(
        "%d of %d variants in the windows are left out: %s has N or a code of several bases where "
        "they have their REF (%s)",
        n,
        len(seen),
        genome.path.name,
        listed(sorted(left), most=3),
    )
