"""K-mers: token ids, tokens and counts per second, memory of a stream, and the published ranking.

Random sequence of `--mb` million bases, one thread. Ids are compared with the vocabulary spelt out
word by word (k = 3 to 6); speed with a loop over strings in the same run. Rates are per second of
wall time and of CPU time: on a shared machine the second is the fairer one. The ranking is compared
with the published file, from the counts behind it.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
from _common import DATA, table

import omicllm as ol


def rates(what: str, mb: float, call) -> dict:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"what": what, "Mb": mb, "Mb/s wall": mb / wall, "Mb/s CPU": mb / cpu}


def best(*runs: dict) -> dict:
    return max(runs, key=lambda r: r["Mb/s CPU"])


def allocated(call) -> float:
    """Peak of allocated memory, MiB."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def same_ids(k: int) -> bool:
    words = ["".join(w) for w in product("ATCG", repeat=k)]
    known = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    sequence = "".join(np.random.default_rng(k).choice(list("ACGTN"), 20_000))
    own = ol.genome.KmerTokenizer(k).encode(sequence).tolist()
    return own == [known.get(sequence[i : i + k], 1) for i in range(len(sequence) - k + 1)]


def looped(sequence: str, k: int = 6) -> list[int]:
    known = {w: i + 5 for i, w in enumerate("".join(w) for w in product("ATCG", repeat=k))}
    return [known.get(sequence[i : i + k], 1) for i in range(len(sequence) - k + 1)]


def pmi_rows() -> list[dict]:
    import anndata
    import pandas as pd
    from scipy.stats import spearmanr

    frame = pd.read_csv(DATA / "dna" / "kmer6_counts_recovered.csv")
    published = ol.io.read_kmer_ranks(DATA / "dna" / "norm_pmi_score_ranking_6mer.csv.gz")
    rows = []
    for total in ("reference", "length"):
        X = frame["count"].to_numpy(float)[None]
        adata = anndata.AnnData(X, var=pd.DataFrame(index=frame["kmer"]))
        ol.pp.kmer_pmi(adata, total=total)
        ours, theirs = adata.var["pmi_rank"], published[adata.var_names]
        rows.append(
            {
                "total": total,
                "Spearman": float(spearmanr(ours, theirs)[0]),
                "top 100 in common": int(((ours <= 100) & (theirs <= 100)).sum()),
            }
        )
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=50)
    args = parser.parse_args()
    table([{"k": k, "ids as in the vocabulary": same_ids(k)} for k in (3, 4, 5, 6)])
    print()
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    raw = letters[np.random.default_rng(0).integers(0, 4, args.mb * 10**6)].tobytes()
    tokenizer = ol.genome.KmerTokenizer(6)
    rows = [
        best(*(rates("tokens, k = 6", args.mb, lambda: tokenizer.encode(raw)) for _ in range(3))),
        rates("the same, a loop over strings", 1.0, lambda: looped(raw[: 10**6].decode())),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fa"
        lines = [raw[i : i + 60] for i in range(0, len(raw), 60)]
        path.write_bytes(b">a\n" + b"\n".join(lines) + b"\n")
        packed = Path(folder) / "a.fa.gz"
        packed.write_bytes(gzip.compress(path.read_bytes(), 6))
        peak = allocated(lambda: ol.pp.kmer_counts(fasta=path))
        for name, file in (("FASTA", path), ("FASTA.gz", packed)):
            row = best(
                *(rates(f"counts of lengths 1 to 6, {name}", args.mb,
                        lambda f=file: ol.pp.kmer_counts(fasta=f)) for _ in range(3))
            )  # fmt: skip
            rows.append(row)
    table(rows)
    print(f"\nmost memory allocated while counting: {peak:.0f} MiB\n")
    table(pmi_rows())


if __name__ == "__main__":
    main()
