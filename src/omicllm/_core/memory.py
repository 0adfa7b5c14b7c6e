"""Memory that arrays will take, against what is left: said before the work that makes them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def check(what: str, arrays: Mapping[str, tuple[Sequence[int], str]], *, instead: str) -> None:
    """Raise MemoryError when arrays that are about to be made do not fit into memory.

    Only arrays that are certain to be made, and to exist at one time, belong here: a call that
    would have gone through is never refused.

    Parameters
    ----------
    what
        The call that makes them.
    arrays
        What each holds -> its shape and dtype.
    instead
        What the caller can do.

    Raises
    ------
    MemoryError
        They need more than :func:`available`.
    """
    sizes = {
        name: math.prod(map(int, shape)) * np.dtype(dtype).itemsize
        for name, (shape, dtype) in arrays.items()
    }
    needed, left = sum(sizes.values()), available()
    if needed <= left:
        return
    listed = "; ".join(
        f"{name}, {' x '.join(f'{int(n):,}' for n in arrays[name][0])} {arrays[name][1]}, "
        f"{as_bytes(size)}"
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])
    )
    msg = (
        f"{what} is about to make arrays of {as_bytes(needed)}, and {as_bytes(left)} of memory are "
        f"left ({listed}). {instead}"
    )
    raise MemoryError(msg)


def as_bytes(n: float) -> str:
    """A size of memory, with one unit."""
    for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 2**10:.0f} KiB"


def available() -> int:
    """Bytes that this process may still take: of the machine with its swap, and of its cgroups.

    Where the system does not say what is free (macOS), all the memory that it has.
    """
    try:
        lines = (line.split() for line in _MEMINFO.read_text(encoding="utf-8").splitlines())
        known = {fields[0].rstrip(":"): 1024 * int(fields[1]) for fields in lines}
        swap, machine = known.get("SwapFree", 0), known["MemAvailable"]
    except (OSError, KeyError):
        swap, machine = 0, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_left_in_groups()]) + swap


def _left_in_groups() -> Iterable[int]:
    """Bytes left in each control group (container, job) of this process that has a limit."""
    for folder, (most, used, prefix) in _groups():
        try:
            limit = (folder / most).read_text(encoding="utf-8").strip()
            held = int((folder / used).read_text(encoding="utf-8"))
            rows = (folder / "memory.stat").read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            continue
        if not limit.isdigit():
            continue
        stat = dict(row.split() for row in rows if row.count(" ") == 1)
        # Pages of files that were read are counted as used, and given back when they are needed.
        files = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        yield max(0, int(limit) - held + files)


def _groups() -> Iterable[tuple[Path, tuple[str, str, str]]]:
    """Folders of the memory groups of this process, and how their files are called there."""
    new = ("memory.max", "memory.current", "")
    old = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    try:
        lines = _OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = _GROUPS, new
        elif "memory" in controllers.split(","):
            root, files = _GROUPS / "memory", old
        else:
            continue
        # A group is bound by the limits of those around it; in a container the path may not exist.
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            yield group, files
            if group == root:
                break
