"""Drawing gene images: genes per second at 72 x 60, beside one numpy assignment in the same run.

Made-up sparse counts in the manner of Visium (about one entry in ten stored), one spot per pixel.
The numpy line is the least there is to do: one fancy-index assignment of the dense matrix into the
stack of images. Best of several repeats each, taken in turns, as the machine may be shared.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _common import table
from scipy import sparse

from omicllm.spatial.images import rasterise


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--genes", type=int, default=4000)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    shape, n_spots = (72, 60), 3460
    rng = np.random.default_rng(0)
    X = sparse.random(
        n_spots, args.genes, density=args.density, format="csc", dtype=np.float32, rng=rng
    )
    X.data[:] = rng.poisson(1.5, X.nnz) + 1
    pixel = np.sort(rng.choice(shape[0] * shape[1], n_spots, replace=False))
    dense = np.ascontiguousarray(X.toarray())

    def numpy_assignment() -> np.ndarray:
        images = np.zeros((args.genes, shape[0] * shape[1]), dtype=np.float32)
        images[:, pixel] = dense.T
        return images.reshape(-1, *shape)

    runs = {
        "one numpy assignment, dense": numpy_assignment,
        "rasterise, csc": lambda: rasterise(X, pixel, shape),
        "rasterise, dense": lambda: rasterise(dense, pixel, shape),
    }
    wanted = numpy_assignment()
    best = dict.fromkeys(runs, np.inf)
    for _ in range(args.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            images = run()
            best[name] = min(best[name], time.perf_counter() - start)
            if not np.array_equal(images, wanted):
                raise SystemExit(f"{name} gives other images")
    reference = best["one numpy assignment, dense"]
    table(
        [
            {
                "how": name,
                "genes/s": int(args.genes / seconds),
                "share of numpy's speed": reference / seconds,
            }
            for name, seconds in best.items()
        ]
    )


if __name__ == "__main__":
    main()
