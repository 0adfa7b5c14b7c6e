"""Text codec: speed of strings and tables, 8 to 16 bits, and out of core.

    python benchmarks/bench_ult_codec.py [--cells 20000] [--disk 1000000] [--only memory]

Times are CPU seconds of one thread, best of three. The baseline is a plain numpy prototype in the
same run: the formula in float64 over the whole matrix, one look-up, and strings from an array of
characters.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _common import peak_gib, table
from scipy import sparse

import omicllm as ol
from omicllm.codec import LookupTable

GENES, PATCH, MU, LARGEST = 2000, 8, 255.0, 5.0


def cpu(call, repeats: int = 3):
    """Shortest CPU time of some calls, and the last result."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def prototype_levels(X: np.ndarray, bits: int) -> np.ndarray:
    y = np.clip(X.astype(np.float64) / LARGEST, -1, 1)
    f = np.sign(y) * np.log(1 + MU * np.abs(y)) / np.log(1 + MU)
    return np.trunc(2**bits * f).astype(np.int32)


def prototype_encode(X: np.ndarray, codes: np.ndarray, bits: int) -> list[str]:
    n, m = X.shape
    words = m // PATCH
    out = np.full((n, words, PATCH + 1), ord(" "), dtype=np.uint32)
    out[:, :, :PATCH] = codes[prototype_levels(X, bits) + 2**bits].reshape(n, words, PATCH)
    flat = np.ascontiguousarray(out.reshape(n, -1)[:, :-1])
    return flat.view(f"<U{flat.shape[1]}").ravel().tolist()


def prototype_decode(strings: list[str], values: np.ndarray) -> np.ndarray:
    codes = np.array(strings).view(np.uint32).reshape(len(strings), -1)
    kept = np.arange(codes.shape[1]) % (PATCH + 1) != PATCH
    return values[codes[:, kept]]


def strings(X: np.ndarray) -> None:
    """Encode and decode, against the prototype."""
    rows = []
    given = {"max_value": LARGEST, "mu": MU, "patch_size": PATCH}
    for bits in (8, 12, 16):
        lut = LookupTable.fit(X, bits=bits, **given)
        codes = np.full(2 * 2**bits + 1, lut.codes[-1], dtype=np.uint32)
        codes[lut.levels + 2**bits] = lut.codes
        values = np.zeros(int(lut.codes.max()) + 1)
        values[lut.codes] = ol.codec.series.values(lut.levels, bits=bits, mu=MU, max_value=LARGEST)
        ours, text = cpu(lambda lut=lut: lut.encode(X))
        plain, same = cpu(lambda c=codes, b=bits: prototype_encode(X, c, b), 2)
        assert text == same, "the prototype gives other strings"
        back, decoded = cpu(lambda lut=lut, t=text: lut.decode_rows(t))
        plain_back, other = cpu(lambda t=text, v=values: prototype_decode(t, v), 2)
        assert np.array_equal(decoded, other)
        million = X.size / 1e6
        rows.append(
            {
                "bits": bits, "values in the table": len(lut),
                "encode, M values/s": million / ours, "prototype": million / plain,
                "times": plain / ours, "decode, M values/s": million / back,
                "its prototype": million / plain_back,
            }
        )  # fmt: skip
        del decoded, other, text, same
    table(rows)


def tables(X: np.ndarray) -> None:
    """Counting: linear in cells, and memory flat over blocks."""
    rows = []
    n = len(X)
    for bits in (8, 12, 16):
        for share in (4, 2, 1):
            part = X[: n // share]
            for tie_break in ("value", "reference"):
                seconds, _ = cpu(
                    lambda p=part, b=bits, t=tie_break: LookupTable.fit(
                        p, bits=b, max_value=LARGEST, tie_break=t
                    ),
                    3 if tie_break == "value" else 1,
                )
                rows.append(
                    {
                        "bits": bits, "tie_break": tie_break, "cells": len(part),
                        "CPU s": seconds, "M values/s": part.size / 1e6 / seconds,
                    }
                )  # fmt: skip
        if bits == 8:
            seconds, _ = cpu(lambda: np.bincount(prototype_levels(X, 8).ravel() + 256), 2)
            rows.append(
                {"bits": 8, "tie_break": "numpy prototype, no ranks", "cells": n,
                 "CPU s": seconds, "M values/s": X.size / 1e6 / seconds}
            )  # fmt: skip
    table(rows)


def write_sparse(path: Path, cells: int, density: float = 0.05) -> None:
    """A sparse h5ad written block by block, so that it never lies in memory as a whole."""
    import anndata
    import h5py
    import pandas as pd

    names = pd.Index([f"c{i}" for i in range(cells)])
    genes = pd.Index([f"g{i}" for i in range(GENES)])
    empty = sparse.csr_matrix((cells, GENES), dtype=np.float32)
    anndata.AnnData(empty, pd.DataFrame(index=names), pd.DataFrame(index=genes)).write_h5ad(path)
    rng = np.random.default_rng(0)
    with h5py.File(path, "a") as file:
        group = file["X"]
        del group["data"], group["indices"]
        data = group.create_dataset("data", (0,), "f4", maxshape=(None,), chunks=(1 << 20,))
        where = group.create_dataset("indices", (0,), "i4", maxshape=(None,), chunks=(1 << 20,))
        per = int(GENES * density)
        pointers = np.arange(cells + 1, dtype=np.int64) * per
        del group["indptr"]
        group.create_dataset("indptr", data=pointers)
        step = 20_000
        for start in range(0, cells, step):
            n = min(step, cells - start)
            first = rng.integers(0, GENES // per, size=(n, per))
            columns = (first + np.arange(per) * (GENES // per)).astype(np.int32)
            values = np.log1p(rng.negative_binomial(1, 0.2, size=(n, per)) + 1).astype(np.float32)
            for dataset, block in ((data, values), (where, columns)):
                dataset.resize((dataset.shape[0] + block.size,))
                dataset[-block.size :] = block.ravel()


def own_peak_gib() -> float:
    """Largest memory of this process alone: rusage keeps that of the parent before the start."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return peak_gib()


def disk(cells: int, path: str) -> None:
    """Table and strings of a sparse matrix on disk; run in a process of its own for its memory."""
    import anndata

    ol.model.ULT  # noqa: B018  (imports are no part of the work)
    before = own_peak_gib()
    adata = anndata.read_h5ad(path, backed="r")
    ol.model.ULT.setup_anndata(adata)
    model = ol.model.ULT(adata, max_value=5.0)
    start = time.perf_counter()
    model.train()
    fitted = time.perf_counter() - start
    after_table = own_peak_gib()
    start, characters = time.perf_counter(), 0
    for block in model.encode_blocks(adata):
        characters += sum(map(len, block))
    encoded = time.perf_counter() - start
    table(
        [
            {
                "cells": cells, "table, s": fitted, "strings, s": encoded,
                "characters": characters, "peak GiB, imports": before,
                "peak GiB, table": after_table, "peak GiB, all": own_peak_gib(),
            }
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--disk", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["memory", "disk"])
    args = parser.parse_args()
    if args.only != "disk":
        in_memory(args.cells)
    if args.only != "memory":
        out_of_core(args.disk)


def in_memory(cells: int) -> None:
    X = np.random.default_rng(0).normal(size=(cells, GENES)).astype(np.float32)
    print(f"\nStrings, {cells} x {GENES} float32\n")
    strings(X)
    print(f"\nTables, up to {cells} x {GENES} float32\n")
    tables(X)


def out_of_core(most: int) -> None:
    print("\nOut of core: sparse on disk\n", flush=True)
    context = multiprocessing.get_context("spawn")
    for cells in (most // 10, most):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.h5ad"
            write_sparse(path, cells)
            process = context.Process(target=disk, args=(cells, str(path)))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
