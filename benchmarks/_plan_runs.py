"""Runs of verbs in processes of their own: processor time, and peak memory beside the object."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path


def measured(name: str, points: list[dict], *, limit: int = 300) -> list[dict]:
    """Run a case at some sizes, in one process for the case that forks one for each size.

    The packages are loaded, and a small call is made, before the first fork: what is measured is
    neither the import of packages nor the compilation of loops.
    """
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(threads, "1")}
    env["NUMBA_THREADING_LAYER"] = "workqueue"  # the others do not survive a fork
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), name, json.dumps(points), str(limit)],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(x[4:]) for x in done.stdout.splitlines() if x.startswith("ROW ")]
    if len(rows) < len(points):
        print(f"{name}: {len(rows)} of {len(points)} runs", done.stdout[-500:], done.stderr[-1500:])
    return rows


def _status(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return 1024 * int(line.split()[1])
    return 0


def _run(case, point: dict, *, tell: bool) -> None:
    import resource

    import omicllm as ol
    from omicllm._core.plan import speed

    data, kwargs = case.inputs(point)
    room, verb = case.verb.split(".")
    function = getattr(getattr(ol, room), verb)
    row = {"point": point} | ({"planned": _planned(case.verb, data, kwargs)} if tell else {})
    pace = speed.__wrapped__()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what making the object left behind is no room
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    held, before = _status("VmRSS"), resource.getrusage(resource.RUSAGE_SELF)
    function(*([] if data is None else [data]), **kwargs)
    after, peak = resource.getrusage(resource.RUSAGE_SELF), _status("VmHWM")
    row["bytes"] = peak - held
    row["seconds"] = sum(getattr(after, f) - getattr(before, f) for f in ("ru_utime", "ru_stime"))
    row["speed"] = min(pace, speed.__wrapped__())
    if tell:
        print("ROW " + json.dumps(row), flush=True)


def _planned(verb: str, data, kwargs: dict) -> dict:
    """What the plan is made of, and the plan where there are constants."""
    from omicllm import _plan
    from omicllm._core import plan as core
    from omicllm._core.inputs import resolve
    from omicllm._core.plan_sizes import Sizes, sizes_of

    given, first = _plan._arguments(verb, kwargs)
    if first == "mdata":
        sizes = Sizes(data, data.n_obs, data.n_vars)
    else:
        sizes = None if data is None else sizes_of(resolve(data))
    cost = _plan.MODELS[verb](sizes, given)
    out = {"variant": cost.variant, "exact": cost.exact, "values": cost.values,
           "seconds": cost.seconds, "memory": cost.memory}  # fmt: skip
    try:
        out["predicted"] = core.predicted(cost)
    except (NotImplementedError, FileNotFoundError):
        out["predicted"] = None
    return json.loads(json.dumps(out, default=float))


def _main() -> None:
    from _plan_cases import CASES

    name, points, limit = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    case = CASES[name]
    warnings.simplefilter("ignore")
    _run(case, CASES[name].fit[0], tell=False)
    if os.environ.get("PLAN_DEBUG"):
        return
    for point in points:
        child = os.fork()
        if child == 0:
            signal.alarm(limit)
            code = 1
            try:
                _run(case, point, tell=True)
                code = 0
            except Exception as error:  # noqa: BLE001 - told, and the next size is run
                print("ERROR", point, repr(error)[:400], flush=True)
            finally:
                os._exit(code)
        os.waitpid(child, 0)


if __name__ == "__main__":
    _main()
