"""`ol.plan` against what verbs take: time and memory at sizes its constants were not fitted to.

Each verb at three sizes or more, the last one larger than any it was fitted to. Bar: within a
factor of 2 of what is measured, for time (processor seconds of one core) and memory (largest
resident set beside what the object and the packages hold). The constants that ship were measured
on one machine; the prediction is scaled by the pace of this one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from _common import table
from _plan_cases import CASES
from _plan_runs import measured

from omicllm._core.plan import constants

#: Below these a verb is done at once, and what is measured is noise.
_SECONDS, _BYTES = 0.1, 16 * 2**20


def main() -> None:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases (all)")
    parser.add_argument("--measured", type=Path, help="file that keeps what was measured")
    args = parser.parse_args()
    kept = json.loads(args.measured.read_text()) if args.measured and args.measured.exists() else {}
    rows = []
    for name in args.names or CASES:
        if name not in kept or args.names:
            kept[name] = measured(name, CASES[name].test)
            if args.measured:
                args.measured.write_text(json.dumps(kept))
        for run in kept[name]:
            rows.append(compared(name, run))
            print(rows[-1], flush=True)
    table(rows)
    for what in ("time", "memory"):
        ratio = np.array([r[f"{what} ratio"] for r in rows])
        inside = (ratio >= 0.5) & (ratio <= 2)
        print(f"{what}: {inside.sum()} of {len(ratio)} within a factor of 2")
        print(f"{what}: outside", [r["verb"] for r, ok in zip(rows, inside, strict=True) if not ok])


def compared(name: str, run: dict) -> dict:
    """One row: what was predicted and measured, and their ratio."""
    planned, known = run["planned"], constants()
    own = known["verbs"][planned["variant"]]
    seconds, n_bytes = (
        sum(own[what].get(k, 0.0) * v for k, v in planned[what].items())
        for what in ("seconds", "memory")
    )
    seconds = (seconds + known["read"] * planned["values"]) * run["speed"] / known["speed"]
    n_bytes += planned["exact"]
    return {
        "verb": name,
        "sizes": ", ".join(f"{k} {v}" for k, v in run["point"].items()),
        "s predicted": seconds, "s measured": run["seconds"],
        "time ratio": max(seconds, _SECONDS) / max(run["seconds"], _SECONDS),
        "MiB predicted": n_bytes / 2**20, "MiB measured": run["bytes"] / 2**20,
        "memory ratio": max(n_bytes, _BYTES) / max(run["bytes"], _BYTES),
    }  # fmt: skip


if __name__ == "__main__":
    main()
