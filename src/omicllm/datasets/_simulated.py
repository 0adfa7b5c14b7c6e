"""Made-up sets with a known answer, from a seed: a tissue, people with genomes, sequences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import ndimage, sparse

from omicllm._core import checks
from omicllm._core.rng import generator

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from omicllm._core.rng import RNG

#: What the transcription factor of :func:`simulated_people` and the promoters bind to.
MOTIF = "TGACTCAT"


def planted_programs(
    *,
    n_genes: int = 600,
    n_programs: int = 20,
    shape: tuple[int, int] = (36, 31),
    depth: float = 3.0,
    rng: RNG = 0,
) -> AnnData:
    """Make a section whose genes follow known spatial programs.

    A program is a smooth random field. Four fifths of the genes follow one each, more or less
    strongly, the rest none; levels of genes and depths of spots vary, and counts are negative
    binomial. A gene embedding should bring the genes of a program together.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_programs
        Number of programs.
    shape
        Rows and columns of the hexagonal array.
    depth
        Mean count of a gene in a spot.
    rng
        Seed, numpy Generator or None.

    Returns
    -------
    AnnData
        Counts in ``X`` (csr float32), ``obs`` array_row and array_col, ``obsm["spatial"]``, and
        ``var["program"]``: the program of the gene, -1 for none.

    Raises
    ------
    ValueError
        When a number is too small.
    """
    import anndata

    checks.whole_number("n_genes", n_genes, at_least=2)
    checks.whole_number("n_programs", n_programs)
    rows, columns = (checks.whole_number("shape", n, at_least=4) for n in shape)
    draw = generator(rng)

    fields = draw.normal(size=(n_programs, rows, columns))
    width = max(min(rows, columns) / 8, 1)
    fields = ndimage.gaussian_filter(fields, (0, width, width)).reshape(n_programs, -1)
    fields = (fields - fields.mean(axis=1, keepdims=True)) / fields.std(axis=1, keepdims=True)

    program = draw.integers(n_programs, size=n_genes)
    program[draw.random(n_genes) < 0.2] = -1
    strength = np.where(program < 0, 0, draw.uniform(0.4, 1.2, n_genes))
    pattern = np.exp(strength[:, None] * fields[program])
    pattern /= pattern.mean(axis=1, keepdims=True)
    level = depth * draw.lognormal(-0.5, 1.0, n_genes)  # of mean `depth`
    spot = draw.lognormal(-0.045, 0.3, rows * columns)
    mean = (level[:, None] * pattern * spot).T
    counts = draw.poisson(mean * draw.gamma(10, 0.1, mean.shape))

    row, col = np.divmod(np.arange(rows * columns), columns)
    array_col = 2 * col + row % 2
    adata = anndata.AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(
            {"array_row": row, "array_col": array_col},
            index=[f"spot{i}" for i in range(len(row))],
        ),
        var=pd.DataFrame({"program": program}, index=[f"Gene{g}" for g in range(n_genes)]),
    )
    adata.obsm["spatial"] = np.stack([array_col * 50.0, row * np.sqrt(3) * 50.0], axis=1)
    return adata


def simulated_people(
    folder: str | Path,
    *,
    n_people: int = 200,
    n_genes: int = 4,
    length: int = 1024,
    n_variants: int = 20,
    heritability: float = 0.5,
    rng: RNG = 0,
) -> MuData:
    """Make a genome, phased genotypes of people on it, and their expression.

    Near each gene lie six copies of one motif, three of which some people lack by a variant.
    Expression is the number of whole copies on both haplotypes, plus noise. Haplotypes come from
    eight founders, so that variants go together as they do in people.

    Parameters
    ----------
    folder
        Where ``genome.fa`` is written (made if it does not exist).
    n_people, n_genes
        Numbers of people and of genes.
    length
        Bases around the start of a gene within which its variants and motifs lie.
    n_variants
        Variants of each gene, at least 3: those are the ones that act.
    heritability
        Share of the variance of expression that comes from variants.
    rng
        Seed, numpy Generator or None.

    Returns
    -------
    MuData
        ``rna`` (people x genes): expression in ``X``, the part that variants make in
        ``layers["genetic"]``, ``var`` chrom, tss, strand. ``geno`` (people x variants): alleles in
        ``X``, ``layers["hap1"]``, ``layers["hap2"]``, ``var`` chrom, pos, ref, alt, af, causal.

    Raises
    ------
    ValueError
        When a number is too small, or the copies and variants do not fit into `length`.
    """
    import anndata
    import mudata

    checks.whole_number("n_people", n_people, at_least=2)
    checks.whole_number("n_genes", n_genes)
    checks.whole_number("n_variants", n_variants, at_least=3)
    if length < max(512, 8 * n_variants):
        msg = f"length={length} is too short for six motifs and {n_variants} variants."
        raise ValueError(msg)
    checks.share("heritability", heritability)
    if heritability == 0:
        msg = "heritability must be above 0: expression comes from variants here."
        raise ValueError(msg)
    draw = generator(rng)

    bases = draw.choice(list("ACGT"), n_genes * 2 * length)
    carried = np.zeros((2, n_people, n_genes, n_variants), dtype=np.int8)
    pos = np.zeros((n_genes, n_variants), dtype=np.int64)
    causal = np.zeros((n_genes, n_variants), dtype=bool)
    for g in range(n_genes):
        middle = g * 2 * length + length
        sites = middle + 12 * draw.choice(np.arange(-16, 16), 6, replace=False)
        for at in sites:
            bases[at : at + 8] = list(MOTIF)
        breaking = sites[:3] + draw.integers(0, 8, 3)
        inside = {at + i for at in sites for i in range(8)}
        free = [p for p in range(middle - length // 2 + 20, middle + length // 2 - 20)
                if p not in inside]  # fmt: skip
        pos[g] = np.sort(
            np.concatenate([breaking, draw.choice(free, n_variants - 3, replace=False)])
        )
        causal[g] = np.isin(pos[g], breaking)
        carried[:, :, g] = _mosaics(draw, n_people, n_variants)
    broken = (carried * causal).sum(axis=(0, 3))  # copies, on both haplotypes
    genetic = -broken.astype(np.float64)

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_fasta(folder / "genome.fa", {"c": "".join(bases)})
    flat = pos.ravel()
    ref = bases[flat]
    alt = np.array([draw.choice([b for b in "ACGT" if b != r]) for r in ref])
    haplotypes = carried.reshape(2, n_people, -1)
    people = [f"person{i}" for i in range(n_people)]
    geno = anndata.AnnData(
        sparse.csc_matrix(haplotypes.sum(axis=0, dtype=np.int8)),
        obs=pd.DataFrame(index=people),
        var=pd.DataFrame(
            {
                "chrom": "c",
                "pos": flat + 1,
                "ref": ref.astype(object),
                "alt": alt.astype(object),
                "af": haplotypes.mean(axis=(0, 1)),
                "causal": causal.ravel(),
            },
            index=[f"c:{p + 1}:{r}:{a}" for p, r, a in zip(flat, ref, alt, strict=True)],
        ),
    )
    for name, alleles in zip(("hap1", "hap2"), haplotypes, strict=True):
        geno.layers[name] = sparse.csc_matrix(alleles)

    noise = draw.normal(size=genetic.shape) * genetic.std(axis=0)
    noise *= np.sqrt((1 - heritability) / heritability)
    centred = genetic - genetic.mean(axis=0)
    rna = anndata.AnnData(
        (3 + 0.4 * (centred + noise)).astype(np.float32),
        obs=pd.DataFrame(index=people),
        var=pd.DataFrame(
            {
                "chrom": "c",
                "tss": [g * 2 * length + length + 1 for g in range(n_genes)],
                "strand": "+",
            },
            index=[f"Gene{g}" for g in range(n_genes)],
        ),
    )
    rna.layers["genetic"] = (0.4 * centred).astype(np.float32)
    return mudata.MuData({"rna": rna, "geno": geno})


def simulated_genome(path: str | Path, *, n_bases: int = 1_000_000, rng: RNG = 0) -> Path:
    """Write a FASTA file of one made-up contig that has words which hold together.

    Bases follow one another as in a genome that is rich in A and T and poor in CG, and a tenth of
    it are copies of five repeats of 300 bases, of which each has a tenth of its bases changed.

    Parameters
    ----------
    path
        File to write (``.fa``).
    n_bases
        Length of the contig.
    rng
        Seed, numpy Generator or None.

    Returns
    -------
    `path`.

    Raises
    ------
    ValueError
        When `n_bases` is below 1,000.
    """
    checks.whole_number("n_bases", n_bases, at_least=1000)
    draw = generator(rng)
    codes = _markov(draw, n_bases)
    repeats = [_markov(draw, 300) for _ in range(5)]
    for at in draw.choice(n_bases - 300, n_bases // 3000, replace=False):
        copy = repeats[draw.integers(5)].copy()
        changed = draw.random(300) < 0.1
        copy[changed] = draw.integers(4, size=changed.sum())
        codes[at : at + 300] = copy
    path = Path(path)
    _write_fasta(path, {"made": "".join(np.array(list("ACGT"))[codes])})
    return path


def simulated_sequences(
    *, n: int = 400, length: int = 70, motif: str = MOTIF, share: float = 0.5, rng: RNG = 0
) -> AnnData:
    """Make sequences of two classes; some of class 1 hold a motif, at any place and strand.

    Parameters
    ----------
    n
        Number of sequences; every second one is of class 1.
    length
        Bases of each.
    motif
        What is planted.
    share
        Share of class 1 that holds it.
    rng
        Seed, numpy Generator or None.

    Returns
    -------
    AnnData
        One observation per sequence, ``obs`` sequence, label (0 or 1) and split (train, every
        third test).

    Raises
    ------
    ValueError
        When the motif is longer than the sequences, or a number is too small.
    """
    import anndata

    checks.whole_number("n", n, at_least=6)
    checks.whole_number("length", length)
    checks.share("share", share)
    if not motif or set(motif) - set("ACGT") or len(motif) > length:
        msg = f"motif must be of A, C, G and T, and at most length={length} long; not {motif!r}."
        raise ValueError(msg)
    draw = generator(rng)
    other = motif[::-1].translate(str.maketrans("ACGT", "TGCA"))
    letters = np.array(list("ACGT"))
    label = np.arange(n) % 2
    sequences = []
    for one in label:
        bases = "".join(letters[_markov(draw, length)])
        if one and draw.random() < share:
            at = int(draw.integers(length - len(motif) + 1))
            word = motif if draw.random() < 0.5 else other
            bases = bases[:at] + word + bases[at + len(motif) :]
        sequences.append(bases)
    obs = pd.DataFrame(
        {
            "sequence": np.array(sequences, dtype=object),
            "label": label,
            "split": np.where(np.arange(n) // 2 % 3 == 2, "test", "train").astype(object),
        },
        index=[f"seq{i}" for i in range(n)],
    )
    return anndata.AnnData(obs=obs)


def _mosaics(draw: np.random.Generator, n_people: int, n_variants: int) -> np.ndarray:
    """Alleles (2, people, variants) of haplotypes that come from eight founders."""
    founders = draw.random((8, n_variants)) < draw.uniform(0.15, 0.5, n_variants)
    one, other = founders[draw.integers(0, 8, (2, 2, n_people))]
    # One haplotype in twenty goes over from a founder to another somewhere.
    crossed = draw.random((2, n_people)) < 0.05
    where = np.where(crossed, draw.integers(1, n_variants, (2, n_people)), n_variants)
    return np.where(np.arange(n_variants) < where[..., None], one, other).astype(np.int8)


def _markov(draw: np.random.Generator, n: int) -> np.ndarray:
    """Base codes (0 to 3 for A, C, G, T), each drawn by the one before; CG is rare."""
    follow = np.array(
        [[0.33, 0.17, 0.24, 0.26], [0.35, 0.26, 0.05, 0.34],
         [0.29, 0.21, 0.26, 0.24], [0.22, 0.20, 0.25, 0.33]]
    )  # fmt: skip
    # Chains of a thousand bases side by side: their ends do not follow one another.
    n_chains = -(-n // 1000)
    u = draw.random((min(n, 1000), n_chains))
    codes = np.empty(u.shape, dtype=np.int64)
    codes[0] = draw.integers(4, size=n_chains)
    edges = follow.cumsum(axis=1)[:, :3]
    for i in range(1, len(u)):
        codes[i] = (u[i, :, None] > edges[codes[i - 1]]).sum(axis=1)
    return codes.T.ravel()[:n]


def _write_fasta(path: Path, contigs: dict[str, str], width: int = 80) -> None:
    """Write sequences in lines of `width` bases."""
    with path.open("w") as file:
        for name, bases in contigs.items():
            file.write(f">{name}\n")
            file.writelines(f"{bases[i : i + width]}\n" for i in range(0, len(bases), width))
