"""Masking: sequences per second and masked share, beside a loop over tokens in the same run.

512 tokens, one thread, published ranks (or random ones where the file is absent). The loop follows
the same rules one row and one centre at a time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _common import DATA, table

import omicllm as ol


def ranks() -> np.ndarray:
    from omicllm.genome.masking import token_ranks

    path = DATA / "dna" / "norm_pmi_score_ranking_6mer.csv.gz"
    if path.exists():
        return token_ranks(ol.io.read_kmer_ranks(path), 6)
    return np.concatenate([np.zeros(5), 1 + np.random.default_rng(0).permutation(4096)])


def looped(ids: np.ndarray, rank: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """GeneMask, one centre at a time."""
    masked = np.zeros(ids.shape, dtype=bool)
    for r, row in enumerate(ids.tolist()):
        end = len(row) - 2
        found = []
        for c in range(1, end + 1):
            if rng.random() < 0.0176:
                window = range(max(1, c - 2), min(end, c + 3) + 1)
                masked[r, window.start : window.stop] = True
                chosen = min(window, key=lambda p: rank[row[p]])
                found.append((rank[row[chosen]], chosen))
        found.sort()
        half = -(-len(found) // 2)
        for _, p in found if half < 5 else found[:half]:
            masked[r, max(1, p - 5) : min(end, p + 5) + 1] = True
    return masked


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=20_000)
    args = parser.parse_args()
    rank, rng = ranks(), np.random.default_rng(0)
    rows = []
    for batch in (10, 32, 256):
        ids = rng.integers(5, 4101, (batch, 512))
        ids[:, 0], ids[:, -1] = 2, 3
        for name, kwargs in (
            ("dnabert", {"masking": "dnabert"}),
            ("genemask, by token", {"ranks": rank}),
            ("genemask, by position", {"ranks": rank, "rank_by": "position"}),
        ):
            share, done = [], 0
            wall, cpu = time.perf_counter(), time.process_time()
            while done < args.sequences:
                labels = ol.genome.mask_tokens(ids, rng=rng, **kwargs)[1]
                share.append((labels[:, 1:-1] >= 0).mean())
                done += batch
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            rows.append(
                {
                    "masking": name, "batch": batch, "seq/s wall": round(done / wall),
                    "seq/s CPU": round(done / cpu), "masked %": 100 * float(np.mean(share)),
                }
            )  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    masked = looped(ids, rank, rng)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows.append(
        {
            "masking": "genemask, a loop over centres", "batch": 256,
            "seq/s wall": round(256 / wall), "seq/s CPU": round(256 / cpu),
            "masked %": 100 * float(masked[:, 1:-1].mean()),
        }
    )  # fmt: skip
    table(rows)


if __name__ == "__main__":
    main()
