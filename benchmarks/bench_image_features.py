"""Time and memory of image features: 4,000 patches of 96 pixels out of a full-resolution image.

Bar: under 60 s on two cores, memory flat in the number of patches. The image is the H&E of section
B4 at full resolution; positions are drawn at random. Memory before is
that of the image and the imports.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _common import DATA, peak_gib, table


def high_water(*, reset: bool = False) -> float:
    """Largest memory held since the last reset, GiB (Linux; elsewhere since the start)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_gib()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**20


def one(n: int, encoder: str) -> None:
    import anndata as ad
    from skimage.io import imread

    import omicllm as ol

    image = imread(DATA / "images" / "her2st_B4_HE_fullres.jpg")
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]

    def spots(k: int) -> ad.AnnData:
        adata = ad.AnnData(np.zeros((k, 0), dtype=np.float32))
        low = 200
        adata.obsm["spatial"] = rng.uniform((low, low), (width - low, height - low), (k, 2))
        return adata

    ol.pp.image_features(spots(64), image=image, size_um=96.0, mpp=1.0, encoder=encoder)
    adata = spots(n)
    before = high_water(reset=True)
    start, cpu = time.perf_counter(), time.process_time()
    ol.pp.image_features(adata, image=image, size_um=96.0, mpp=1.0, encoder=encoder)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    print(n, wall, used, before, high_water())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int)
    parser.add_argument("--encoder", default="classical")
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments.encoder)
        return
    rows = []
    for n in (500, 4000):
        run = subprocess.run(
            [sys.executable, __file__, "--one", str(n), "--encoder", arguments.encoder],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        n_done, wall, cpu, before, after = run.stdout.split()
        rows.append(
            {
                "patches": int(n_done), "wall s": float(wall), "CPU s": float(cpu),
                "ms CPU per patch": 1e3 * float(cpu) / int(n_done),
                "GiB before": float(before), "GiB peak": float(after),
            }
        )  # fmt: skip
    table(rows)


if __name__ == "__main__":
    main()
