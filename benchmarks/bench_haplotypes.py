"""Personal haplotypes at COMT: the same as bcftools consensus, and how many per second.

433 people, both haplotypes, windows of several lengths, some of which cut a deletion at an edge.
The baseline is bcftools consensus (through pysam), one call per person and haplotype, in the same
run; a walk over the records in plain Python is shown beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _common import DATA, table

import omicllm as ol
from omicllm.genome.tokens import decode

COMT = DATA / "genome" / "comt"
TSS = 4868


def windows(geno) -> pd.DataFrame:
    """Windows around the start site of COMT, and such as begin or end inside a deletion."""
    rows = [(f"{n} bp", TSS - 1 - n // 2, TSS - 1 + n // 2) for n in (2048, 4096, 8192)]
    rows += [("16,384 bp", 0, 16384), ("whole locus", 0, 35236)]
    deletions = geno.var[(geno.var.ref.str.len() > 2) & (geno.var.af > 0.01)]
    for i, (pos, ref) in enumerate(zip(deletions.pos[:2], deletions.ref[:2], strict=True)):
        inside = int(pos) + len(ref) // 2
        rows += [(f"begins in deletion {i + 1}", inside, inside + 4000)]
        rows += [(f"ends in deletion {i + 1}", max(0, inside - 4000), inside)]
    frame = pd.DataFrame(rows, columns=["name", "start", "end"]).set_index("name")
    return frame.assign(chrom="COMT_locus", strand="+")


def by_bcftools(person: str, which: int, fasta: Path) -> str:
    import pysam.bcftools

    out = pysam.bcftools.consensus(
        "-H", str(which), "-s", person, "-f", str(fasta), str(COMT / "comt.vcf.gz")
    )
    return "".join(out.split("\n")[1:])


def per_second(haplotypes, window, n: int) -> float:
    haplotypes[window]
    best = np.inf
    for _ in range(n):
        start = time.perf_counter()
        _, index = haplotypes[window]
        best = min(best, time.perf_counter() - start)
    return index.size / best


def plain_walk(geno, genome, window) -> float:
    """Haplotypes per second of a walk over the records with Python strings."""
    reference = genome.fetch(*window)
    inside = geno[:, (geno.var.pos > window[1]) & (geno.var.pos <= window[2])]
    records = list(zip(inside.var.pos, inside.var.ref, inside.var.alt, strict=True))
    numbers = inside.layers["hap1"][:100].toarray()
    start = time.perf_counter()
    for row in numbers:
        pieces, done = [], window[1]
        for number, (pos, ref, alt) in zip(row.tolist(), records, strict=True):
            if number > 0 and pos - 1 >= done:
                pieces += [reference[done - window[1] : pos - 1 - window[1]]]
                pieces += [alt.split(",")[number - 1]]
                done = pos - 1 + len(ref)
        "".join([*pieces, reference[done - window[1] :]])
    return len(numbers) / (time.perf_counter() - start)


def by_gvl(geno, genome, places: pd.DataFrame, repeats: int) -> None:
    """The backend of genvarloader beside ours: the same sequences, and how fast."""
    rows = []
    for deduplicate in (True, False):
        start = time.perf_counter()
        args = {"genome": genome, "windows": places, "deduplicate": deduplicate}
        theirs = ol.pp.haplotypes(geno, backend="gvl", **args)
        made = time.perf_counter() - start
        own = ol.pp.haplotypes(geno, **args)
        for name in map(str, places.index):
            pair = [h[name].tokens[h[name].index] for h in (own, theirs)]
            same = (pair[0] == pair[1]).all(axis=-1).sum() if pair[0].shape == pair[1].shape else 0
            rows.append({
                "window": name, "each once": deduplicate, "identical": f"{same} of {2 * len(geno)}",
                "numpy, haplotypes/s": per_second(own, name, repeats),
                "gvl, haplotypes/s": per_second(theirs, name, repeats),
                "gvl, s to write all windows": made,
            })  # fmt: skip
    table(rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=433)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--gvl", action="store_true", help="compare with genvarloader instead")
    args = parser.parse_args()
    genome = ol.io.Genome(COMT / "comt_hg19.fa")
    geno = ol.io.read_vcf(COMT / "comt.vcf.gz")[: args.people].copy()
    places = windows(geno)
    unique = ol.pp.haplotypes(geno, genome=genome, windows=places)
    every = ol.pp.haplotypes(geno, genome=genome, windows=places, deduplicate=False)
    if args.gvl:
        by_gvl(geno, genome, places, args.repeats)
        return
    rows = []
    for name, place in places.iterrows():
        tokens, index = unique[str(name)]
        own = [decode(row) for row in tokens]
        same, spent = 0, 0.0
        with tempfile.TemporaryDirectory() as folder:
            fasta = Path(folder) / "window.fa"
            text = genome.fetch(place.chrom, place.start, place.end)
            fasta.write_text(f">{place.chrom}:{place.start + 1}-{place.end}\n{text}\n")
            for i, person in enumerate(geno.obs_names):
                for side in (0, 1):
                    start = time.perf_counter()
                    wanted = by_bcftools(person, side + 1, fasta)
                    spent += time.perf_counter() - start
                    same += wanted == own[index[i, side]]
        rows.append(
            {
                "window": name, "identical": f"{same} of {index.size}", "unique": len(tokens),
                "haplotypes/s": per_second(unique, str(name), args.repeats),
                "without de-duplication": per_second(every, str(name), 3),
                "Python walk": plain_walk(geno, genome, (place.chrom, place.start, place.end)),
                "bcftools": index.size / spent,
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    table(rows)


if __name__ == "__main__":
    main()
