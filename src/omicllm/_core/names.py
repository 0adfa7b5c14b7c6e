"""Find genes by name, and say what went wrong when most of them are not there."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from omicllm._core.checks import ReadableKeyError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENSEMBL = re.compile(r"^ENS[A-Z]*[GT]\d{6,}(\.\d+)?$")

#: Under so many names say nothing about how names are written.
_FEW = 3


def describe(names: Sequence[str]) -> str:
    """What a set of gene names looks like: Ensembl ids, with version, or symbols and their case."""
    names = [str(n) for n in names[:200]]
    if not names:
        return "no names"
    matches = [_ENSEMBL.match(n) for n in names]
    if sum(m is not None for m in matches) * 2 > len(names):
        version = any(m and m.group(1) for m in matches)
        return "Ensembl ids" + (" with a version suffix" if version else "")
    letters = [n for n in names if any(c.isalpha() for c in n)]
    upper = sum(n.isupper() for n in letters)
    title = sum(n[:1].isupper() and not n.isupper() for n in letters)
    if upper * 2 > len(letters):
        return "upper-case symbols (human style)"
    if title * 2 > len(letters):
        return "capitalised symbols (mouse style)"
    return "symbols"


def unique(names: Iterable[str], *, what: str = "var_names") -> np.ndarray:
    """Return names as an array of str, or raise ValueError when some occur twice."""
    array = np.asarray([str(n) for n in names], dtype=object)
    values, counts = np.unique(array.astype(str), return_counts=True)
    if (counts > 1).any():
        twice = values[counts > 1]
        msg = (
            f"{what} holds {len(twice)} name(s) more than once ({listed(twice, most=5)}). "
            "Make them unique first: adata.var_names_make_unique()."
        )
        raise ValueError(msg)
    return array


def _change(wanted: Sequence[str], available: Sequence[str], argument: str) -> str:
    """A change of all names that would match most of them; "" when none does."""
    have = set(available)
    lower = {a.lower() for a in have}
    stripped = {a.split(".")[0] for a in have}
    n = len(wanted)
    if sum(w.lower() in lower for w in wanted) * 2 > n:
        return f"They differ in case only: change the case of {argument}."
    if sum(w.split(".")[0] in stripped for w in wanted) * 2 > n:
        return f"They differ in the version suffix only: cut it off, in var_names and {argument}."
    if "Ensembl" in describe(wanted) + describe(available) and (
        describe(wanted)[:7] != describe(available)[:7]
    ):
        return (
            f"Ids and symbols do not match: put the ids you use in {argument} into var_names "
            "(for example adata.var_names = adata.var['gene_id'])."
        )
    return ""


def _close(names: Sequence[str], available: Sequence[str]) -> str:
    """Names that may have been meant, for the first few."""
    from difflib import get_close_matches

    found = {name: get_close_matches(name, available, n=3) for name in names[:3]}
    return "; ".join(f"{name!r}: {listed(like)}" for name, like in found.items() if like)


def positions(
    wanted: str | Sequence[str],
    available: Iterable[str],
    *,
    argument: str = "genes",
    where: str = "adata.var_names",
) -> np.ndarray:
    """Positions (int64) of `wanted` in `available`, exact names only, in the order asked.

    Raises
    ------
    KeyError
        When a name is not there. The message lists names like it; when under half are there, it
        says what both sets of names look like and what changes them.
    ValueError
        When a name asked for is there more than once.
    """
    wanted = [wanted] if isinstance(wanted, str) else [str(w) for w in wanted]
    names = [str(a) for a in available]
    index = {name: i for i, name in enumerate(names)}
    absent = [w for w in wanted if w not in index]
    if absent:
        msg = f"{len(absent)} of {len(wanted)} {argument} not in {where}: {listed(absent, most=5)}."
        many = len(absent) * 2 > len(wanted)
        change = _change(wanted, names, argument) if many else ""
        styles = describe(wanted), describe(names)
        # One or two names are no evidence of another style.
        if many and styles[0] != styles[1] and (change or len(wanted) >= _FEW):
            msg += (
                f" The names asked for look like {styles[0]}, those of {where} like "
                f"{styles[1]} ({listed(names, most=3)})."
            )
        elif not change and (close := _close(absent, names)):
            msg += f" Names like it: {close}."
        else:
            msg += f" There are {listed(names, most=3)}."
        msg += f" {change or f'Check the names given as {argument}.'}"
        raise ReadableKeyError(msg)
    if len(index) < len(names):
        counted = Counter(names)
        if twice := [w for w in dict.fromkeys(wanted) if counted[w] > 1]:
            msg = (
                f"{listed(twice, most=5)}: asked for with {argument}, but more than once in "
                f"{where}. Make the names unique first, as with var_names_make_unique()."
            )
            raise ValueError(msg)
    return np.array([index[w] for w in wanted], dtype=np.int64)
