"""Small genomes and VCF files for the tests of the genome room."""

from __future__ import annotations

import random
from importlib.metadata import PackageNotFoundError, version

import pytest

HEADER = (
    "##fileformat=VCFv4.2\n{contigs}"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{people}\n"
)


def installed(name: str):
    """Mark that skips a test where a distribution is not installed."""
    try:
        version(name)
        here = True
    except PackageNotFoundError:
        here = False
    return pytest.mark.skipif(not here, reason=f"{name} is not installed (an extra)")


def write_fasta(path, contigs: dict[str, str], width: int = 20):
    """A FASTA file with lines of `width` bases."""
    text = ""
    for name, bases in contigs.items():
        lines = "\n".join(bases[i : i + width] for i in range(0, len(bases), width))
        text += f">{name} made up\n{lines}\n"
    path.write_text(text)
    return path


def write_vcf(path, records, people, contigs=("c",), length=1000):
    """A VCF file; a record is (chrom, pos, ref, alt, genotypes)."""
    lines = "".join(f"##contig=<ID={c},length={length}>\n" for c in contigs)
    text = HEADER.format(contigs=lines, people="\t".join(people))
    for chrom, pos, ref, alt, genotypes in records:
        calls = "\t".join(genotypes)
        text += f"{chrom}\t{pos}\trs{pos}\t{ref}\t{alt}\t.\t.\t.\tGT\t{calls}\n"
    path.write_text(text)
    return path


def random_records(seed: int, n_people: int = 3, length: int = 60, n: int = 10, phase: str = "|"):
    """A random sequence, and records of every kind on it, many of which overlap."""
    r = random.Random(seed)
    reference = "".join(r.choice("ACGT") for _ in range(length))
    records = []
    for _ in range(n):
        at = r.randrange(length - 6)
        kind = r.choice("sidmcx")
        ref = reference[at : at + (1 if kind in "si" else r.randint(1, 5))]
        anything = "".join(r.choice("ACGT") for _ in range(r.randint(1, 5)))
        alts = {
            "s": [r.choice("ACGT")], "i": [ref + anything], "d": [ref[0]],
            "m": [anything[: len(ref)].ljust(len(ref), "A")], "c": [anything],
            "x": [ref[0], ref + "G", anything],
        }[kind]  # fmt: skip
        alts = [a for a in dict.fromkeys(alts) if a != ref]
        if not alts:
            continue
        calls = []
        for _ in range(n_people):
            pair = [r.choice([".", *range(len(alts) + 1)]) for _ in range(2)]
            calls.append((phase or r.choice("|/")).join(map(str, pair)))
        records.append(("c", at + 1, ref, ",".join(alts), calls))
    return reference, sorted(records, key=lambda record: record[1])
