"""Whether variants and reference belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omicllm._core.checks import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from omicllm.genome.fasta import Genome
    from omicllm.genome.haplotypes import Alleles, Window


def check_reference(
    genome: Genome, alleles: dict[str, Alleles], windows: Sequence[Window], names: np.ndarray,
    at: dict[str, np.ndarray],
) -> None:  # fmt: skip
    """Raise ValueError when variants inside the windows have a REF that the genome lacks.

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
    for window in windows:
        if window.chrom not in alleles:
            continue
        here = alleles[window.chrom]
        numbers = at[window.chrom][here.order]
        reference = genome.tokens(window.chrom, window.start, window.end)
        bad.update(numbers[here.mismatches(reference, window.start)].tolist())
        seen.update(numbers[here.touching(window.start, window.end)].tolist())
    if bad:
        shown = names[sorted(bad)]
        msg = (
            f"{len(bad)} of {len(seen)} variants in the windows have a REF allele that is not "
            f"what {genome.path.name} holds there ({listed(shown, most=3)}). The VCF and the "
            "FASTA are of different genome builds, or the positions are shifted."
        )
        raise ValueError(msg)
