"""Student-t mixture: time of one EM iteration at the size of a Visium slide.

N = 16,060 genes, K = 500 components, D = 32 dimensions, made-up data. Iterations go on from
a fitted start, so that k-means++ is not in the time; the best of some repeats is shown, as the
machine may be shared. The published code needs about 360 CPU seconds per iteration at this size
(extrapolated from smaller ones), because it forms an N x N product for every component.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from _common import peak_gib, table

from omicllm.nn import StudentTMixture


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--genes", type=int, default=16060)
    parser.add_argument("--components", type=int, default=500)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(400, args.width)) * 1.5
    Z = centres[rng.integers(400, size=args.genes)]
    Z = Z + rng.standard_t(5, size=Z.shape)

    start = time.perf_counter()
    begun = StudentTMixture(args.components, max_iter=1).fit(Z)
    print(f"k-means++ start and first iteration: {time.perf_counter() - start:.2f} s wall")

    def fit() -> tuple[float, float, StudentTMixture]:
        wall, cpu = time.perf_counter(), time.process_time()
        mixture = StudentTMixture(args.components, max_iter=args.iterations, tol=0.0)
        mixture.fit(Z, init=begun)
        return time.perf_counter() - wall, time.process_time() - cpu, mixture

    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        before = peak_gib()
        fits = [fit() for _ in range(args.repeats)]
        wall, cpu = np.min([f[:2] for f in fits], axis=0) / args.iterations
        steps = np.diff(fits[0][2].history_)
        rows.append(
            {
                "threads": threads,
                "wall s per iteration": float(wall),
                "CPU s per iteration": float(cpu),
                "peak GiB": peak_gib(),
                "GiB more than before": peak_gib() - before,
                "smallest step of objective": float(steps.min()),
            }
        )
    table(rows)
    print(f"an N x N array of float64 would take {args.genes**2 * 8 / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
