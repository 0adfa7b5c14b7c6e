"""What a verb will need before it runs: the plan, and the cost that it is predicted from.

Seconds and bytes of a verb are sums of a few known numbers (values stored, floating-point
operations of a product, ...) times constants that ``benchmarks/fit_plan.py`` measured and wrote
into ``plan_constants.json``. Nothing here knows AnnData.
"""

from __future__ import annotations

import functools
import html
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omicllm._core.checks import listed

#: Share of the available memory that a plan may fill and still be said to fit.
_ROOM = 0.9


@dataclass
class Cost:
    """What a verb is predicted from.

    Attributes
    ----------
    variant
        Name of the constants: the verb, or ``verb:method``.
    seconds, memory
        Name -> number; each is multiplied by the constant of that name.
    exact
        Bytes that are known without a constant: results, and copies of what is stored.
    values
        Values that are read from where X lies, when that is not memory.
    path
        One sentence for each decision.
    advice
        What to change where it will not fit or takes long.
    on_gpu
        The heavy part runs on a GPU where there is one.
    """

    variant: str
    seconds: dict[str, float]
    memory: dict[str, float]
    exact: float = 0.0
    values: float = 0.0
    path: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    on_gpu: bool = False


@dataclass(frozen=True)
class Plan:
    """Predicted time and memory of a verb, and how it will go about its work.

    Attributes
    ----------
    verb
        Which verb.
    seconds
        Time on one core of this machine, once packages are loaded.
    peak_bytes
        Largest memory, beside what the object and the loaded packages hold.
    available_bytes
        Memory that this process may still take.
    path
        How the data will be read and where the work is done, a sentence each.
    advice
        What to change where memory does not suffice or hours are needed.
    """

    verb: str
    seconds: float
    peak_bytes: int
    available_bytes: int
    path: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the prediction is below nine tenths of the memory that is available."""
        return self.peak_bytes <= _ROOM * self.available_bytes

    def _lines(self) -> list[str]:
        verdict = "fits" if self.fits else "DOES NOT FIT"
        return [
            f"time    about {as_time(self.seconds)} on one core",
            f"memory  about {as_bytes(self.peak_bytes)} beside the object; "
            f"{as_bytes(self.available_bytes)} available: {verdict}",
            *(f"path    {line}" for line in self.path),
            *(f"change  {line}" for line in self.advice),
        ]

    def __repr__(self) -> str:
        return "\n".join([f"Plan of {self.verb}", *(f"  {line}" for line in self._lines())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in (line.split(None, 1) for line in self._lines())
        )
        return f"<table><caption>Plan of {html.escape(self.verb)}</caption>{rows}</table>"


def as_time(seconds: float) -> str:
    """A length of time, with one unit."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0.1):.1f} s"


def as_bytes(n: float) -> str:
    """A size of memory, with one unit."""
    for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 2**10:.0f} KiB"


@functools.cache
def constants() -> dict[str, Any]:
    """The measured constants."""
    text = Path(__file__).with_name("plan_constants.json").read_text(encoding="utf-8")
    return json.loads(text)


def predicted(cost: Cost) -> tuple[float, float]:
    """Seconds on this machine, and bytes."""
    known = constants()
    if cost.variant not in known["verbs"]:
        verb = cost.variant.split(":")[0]
        others = sorted(v for v in known["verbs"] if v.split(":")[0] == verb)
        msg = f"There is no cost model for {cost.variant}; measured were {listed(others, most=20)}."
        raise ValueError(msg)
    fitted = known["verbs"][cost.variant]
    seconds, memory = (
        sum(fitted[what].get(name, 0.0) * value for name, value in getattr(cost, what).items())
        for what in ("seconds", "memory")
    )
    seconds += known["read"] * cost.values
    return float(seconds * speed() / known["speed"]), float(memory + cost.exact)


@functools.cache
def speed() -> float:
    """Seconds of one core for a small fixed work, a product and a sort: best of three."""
    rng = np.random.default_rng(0)
    A, x = rng.random((300, 300)), rng.random(200_000)
    best = np.inf
    for _ in range(3):
        start = time.thread_time()
        (A @ A).sum()
        np.sort(x)
        np.bincount((x * 1000).astype(np.int64), weights=x)
        best = min(best, time.thread_time() - start)
    return float(best)


def available_bytes() -> int:
    """Memory that this process may still take: of the machine, and of its control group."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found += [1024 * int(v.split()[1]) for v in lines if v.startswith("MemAvailable")]
    except OSError:  # not on every system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    group = Path("/sys/fs/cgroup")
    for most, now in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = (group / most).read_text(encoding="utf-8").strip()
            used = (group / now).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if limit.isdigit():
            found.append(max(0, int(limit) - int(used)))
    return min(found)
