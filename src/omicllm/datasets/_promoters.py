"""`omicllm.datasets.simulated_promoters`: sequences in which groups share words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core import rng as rngs
from omicllm._core.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData

_LETTERS = np.array(list("ACGT"))
#: Complement of each of the four letters, by number.
_COMPLEMENT = np.array([3, 2, 1, 0], dtype=np.int8)


def simulated_promoters(
    adata: AnnData,
    *,
    groups: str | Mapping[str, Any],
    folder: str | Path,
    length: int = 500,
    n_motifs: int = 3,
    motif_length: int = 8,
    rate: float = 0.8,
    gc: float = 0.5,
    n_contigs: int = 5,
    rng: int | np.random.Generator | None = 0,
) -> tuple[Path, pd.DataFrame]:
    """Write a simulated genome: a promoter for every gene, with words that groups of genes share.

    Nothing in it is real. Each group draws its own words ("motifs"); each gene of the group gets
    each of them with a given probability, at a random place of its promoter. All other bases are
    random. For teaching and tests, where the answer must be known.

    Parameters
    ----------
    adata
        Its genes, ``var_names``, get promoters.
    groups
        Column of `var`, or gene -> group. Genes without a group get no motif.
    folder
        Where ``promoters.fa`` and ``promoters.csv`` are written; made if need be.
    length
        Bases of a promoter.
    n_motifs
        Motifs of a group.
    motif_length
        Bases of a motif.
    rate
        Probability with which a gene gets each motif of its group.
    gc
        Share of G and C among random bases.
    n_contigs
        Contigs that genes are dealt to at random.
    rng
        Seed, numpy Generator or None.

    Returns
    -------
    Path of the FASTA file, and a DataFrame with one row per gene as
    :func:`omicllm.pp.gene_windows` takes it (``table=``): ``gene_name``, ``chrom``, ``tss``,
    ``strand``, and the truth, ``group`` and ``motifs``. The promoter is the `length` bases
    upstream of the start site: ``upstream=length``. The table is also written beside the FASTA.

    Raises
    ------
    KeyError
        No such column.
    ValueError
        Motifs that do not fit into the promoter; shares outside 0 to 1.

    Examples
    --------
    >>> fasta, table = ol.datasets.simulated_promoters(
    ...     adata, groups="sigel_cluster", folder="simulated"
    ... )  # doctest: +SKIP
    >>> ol.pp.gene_windows(adata, table=table, upstream=500)  # doctest: +SKIP
    """
    import pandas as pd

    names = inputs.gene_names(adata)
    for name, value in (
        ("length", length), ("n_motifs", n_motifs), ("motif_length", motif_length),
        ("n_contigs", n_contigs),
    ):  # fmt: skip
        checks.whole_number(name, value)
    checks.share("rate", rate)
    checks.share("gc", gc)
    if n_motifs * motif_length > length:
        msg = f"{n_motifs} motifs of {motif_length} bases do not fit into {length} bases."
        raise ValueError(msg)
    group = _groups(adata, groups, names)
    generator = rngs.generator(rng)
    base = np.array([1 - gc, gc, gc, 1 - gc]) / 2
    codes = generator.choice(4, size=(len(names), length), p=base).astype(np.int8)
    planted = [""] * len(names)
    for label in sorted(set(group) - {""}):
        motifs = generator.choice(4, size=(n_motifs, motif_length)).astype(np.int8)
        for gene in np.flatnonzero(group == label):
            chosen = motifs[generator.random(n_motifs) < rate]
            # Equal slots, one each: motifs do not overwrite each other.
            slot = length // n_motifs
            for i, motif in zip(generator.permutation(n_motifs), chosen, strict=False):
                start = i * slot + int(generator.integers(slot - motif_length + 1))
                codes[gene, start : start + motif_length] = motif
            planted[gene] = ",".join("".join(_LETTERS[m]) for m in chosen)
    table = pd.DataFrame(
        {
            "gene_name": names,
            "chrom": [f"sim{c + 1}" for c in generator.integers(n_contigs, size=len(names))],
            "tss": 0,
            "strand": np.where(generator.random(len(names)) < 0.5, "+", "-"),
            "group": group,
            "motifs": planted,
        }
    )
    contigs = _lay_out(codes, table, base, generator)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fasta = folder / "promoters.fa"
    _write(fasta, "".join(f">{name}\n{_wrapped(bases)}\n" for name, bases in contigs.items()))
    Path(f"{fasta}.fai").unlink(missing_ok=True)  # the index of an earlier file
    _write(folder / "promoters.csv", table.to_csv(index=False))
    return fasta, table


def _groups(adata: AnnData, groups: str | Mapping[str, Any], names: np.ndarray) -> np.ndarray:
    """Group of each gene as text, empty without one."""
    import pandas as pd

    if isinstance(groups, str):
        if groups not in adata.var:
            raise checks.missing(
                groups, "adata.var", adata.var, hint="Name a column with groups=, or pass a dict."
            )
        values = list(adata.var[groups])
    else:
        values = [groups.get(str(name)) for name in names]
    return np.array(["" if pd.isna(v) else str(v) for v in values], dtype=object)


def _lay_out(
    codes: np.ndarray, table: pd.DataFrame, base: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Contigs of promoters with random bases between them; start sites go into `table`."""
    parts: dict[str, list[np.ndarray]] = {}
    size: dict[str, int] = {}
    sites = np.zeros(len(table), dtype=np.int64)
    for gene, (chrom, strand) in enumerate(zip(table["chrom"], table["strand"], strict=True)):
        spacer = rng.choice(4, size=100, p=base).astype(np.int8)
        promoter = codes[gene] if strand == "+" else _COMPLEMENT[codes[gene][::-1]]
        start = size.get(chrom, 0) + len(spacer)
        end = start + len(promoter)
        # Counted from 1: the base after the promoter, or on the other strand the one before it.
        sites[gene] = end + 1 if strand == "+" else start
        parts.setdefault(chrom, []).extend([spacer, promoter])
        size[chrom] = end
    table["tss"] = sites
    tail = rng.choice(4, size=100, p=base).astype(np.int8)
    return {c: np.concatenate([*parts[c], tail]) for c in sorted(parts)}


def _wrapped(bases: np.ndarray, width: int = 80) -> str:
    text = "".join(_LETTERS[bases])
    return "\n".join(text[i : i + width] for i in range(0, len(text), width))


def _write(path: Path, text: str) -> None:
    with whole_file(path) as fresh:
        fresh.write_text(text, encoding="utf-8", newline="\n")
