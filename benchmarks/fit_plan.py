"""Measure the constants of `ol.plan` and write them into the package.

Each verb is run on simulated data of several sizes; seconds and bytes are fitted by non-negative
least squares on the relative error. ``--measured FILE`` keeps what was measured, so that runs are
not repeated; name verbs to do only these.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
from _common import table
from _plan_cases import CASES
from _plan_runs import measured
from scipy.optimize import nnls

import omicllm

TARGET = Path(omicllm.__file__).parent / "_core" / "plan_constants.json"


def fitted(rows: list[dict], what: str, wanted: np.ndarray) -> dict[str, float]:
    """Constants of least relative error, none negative.

    Weights are refined so that twice too much and half as much count alike. A little ridge keeps
    sizes that the runs cannot tell apart from all weight on one of them.
    """
    names = list(rows[0]["planned"][what])
    F = np.array([[r["planned"][what][n] for n in names] for r in rows], dtype=float)
    unit = np.median(wanted) / np.maximum(F.max(axis=0), 1e-300)
    guess = wanted
    for _ in range(20):
        weight = 1.0 / np.sqrt(wanted * guess)
        A = np.vstack([F * unit * weight[:, None], 0.03 * np.eye(len(names))])
        constant, _ = nnls(A, np.concatenate([wanted * weight, np.zeros(len(names))]))
        guess = np.sqrt(guess * np.maximum(F * unit @ constant, wanted / 10))
    found = zip(names, constant * unit, strict=True)
    return {n: float(f"{c:.4g}") for n, c in found if c > 0}


def constants(rows: list[dict], read: float, pace: float) -> dict:
    """Constants of one verb; rows measured at another pace are brought to the common one."""
    seconds = np.array([r["seconds"] * pace / r["speed"] for r in rows])
    seconds -= read * np.array([r["planned"]["values"] for r in rows])
    n_bytes = np.array([r["bytes"] - r["planned"]["exact"] for r in rows], dtype=float)
    return {
        "seconds": fitted(rows, "seconds", np.maximum(seconds, 1e-3)),
        "memory": fitted(rows, "memory", np.maximum(n_bytes, 2.0**18)),
    }


def main() -> None:
    """Measure and fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases to measure (all)")
    parser.add_argument("--measured", type=Path, help="file that keeps what was measured")
    args = parser.parse_args()
    kept = json.loads(args.measured.read_text()) if args.measured and args.measured.exists() else {}
    for name in args.names or CASES:
        if name not in kept or args.names:
            kept[name] = measured(name, CASES[name].fit)
            print(f"{name}: {[round(r['seconds'], 2) for r in kept[name]]} s", flush=True)
            if args.measured:
                args.measured.write_text(json.dumps(kept))
    if "read" not in kept:
        kept["read"] = reading()
        if args.measured:
            args.measured.write_text(json.dumps(kept))
    every = [r for name, rows in kept.items() if name != "read" for r in rows]
    pace = float(np.median([r["speed"] for r in every]))
    verbs, report = {}, []
    if args.names and TARGET.exists():  # the others stay as they are
        old = json.loads(TARGET.read_text())
        verbs, pace, kept["read"] = old["verbs"], old["speed"], old["read"]
    for name, rows in kept.items():
        if name == "read" or not rows:
            continue
        verbs[rows[0]["planned"]["variant"]] = own = constants(rows, kept["read"], pace)
        report.append({"verb": name, "runs": len(rows)} | misses(rows, own, kept["read"], pace))
    table(report)
    text = {
        "note": "Seconds and bytes of a unit of each size, of one core; benchmarks/fit_plan.py.",
        "date": datetime.date.today().isoformat(), "speed": pace, "read": kept["read"],
        "verbs": dict(sorted(verbs.items())),
    }  # fmt: skip
    TARGET.write_text(json.dumps(text, indent=1) + "\n")


def misses(rows: list[dict], own: dict, read: float, pace: float) -> dict[str, float]:
    """Largest ratio of predicted and measured, either way, on the runs fitted to."""
    out = {}
    for what in ("seconds", "memory"):
        ratio = []
        for r in rows:
            p = r["planned"]
            guess = sum(own[what].get(k, 0.0) * v for k, v in p[what].items())
            if what == "seconds":
                guess, real = guess + read * p["values"], r["seconds"] * pace / r["speed"]
            else:
                guess, real = guess + p["exact"], max(r["bytes"], 2.0**20)
            ratio.append(max(guess / real, real / guess))
        out[what] = float(np.max(ratio))
    return out


def reading() -> float:
    """Seconds per stored value of reading a backed csr matrix in blocks of rows."""
    import time

    from _plan_cases import section, stored

    from omicllm._core.inputs import row_blocks

    adata = stored(section(20_000, 1000), "backed")
    start = time.process_time()
    stored_values = sum(block.nnz for _, block in row_blocks(adata.X))
    return float(f"{(time.process_time() - start) / stored_values:.3g}")


if __name__ == "__main__":
    main()
