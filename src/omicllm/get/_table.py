"""`omicllm.get.table`: any table that a verb wrote."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs
from omicllm._core.keys import KEYS, UNS_SUFFIX, uns_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

#: The table that comes without ``table=``: the first of these that there is.
MAIN = ("table", "summary", "scores", "prediction", "var", "obs")
#: What every entry of `uns` says of the call; no tables.
_OF_THE_CALL = ("params", "keys", "version")


@docs.fill()
def table(
    adata: AnnData | MuData, key: str, table: str | None = None, *, mod: str | None = None
) -> pd.DataFrame:
    """Return a table that a verb wrote.

    Parameters
    ----------
    {adata}
        Without `mod`, a MuData is searched: the object itself and its modalities.
    key
        Root of the results: the name that the verb gives them, such as ``"twas"``, or what was
        given with ``key_added=``. The table of keys lists the roots.
    table
        Which table: the name of one in ``uns[key]``; ``"var"`` or ``"obs"`` for the columns that
        were written there, genes or observations as index. By default the first that there is of
        ``"table"``, ``"summary"``, ``"scores"``, ``"prediction"``, ``"var"``, ``"obs"``; else the
        only one.
    {mod}

    Returns
    -------
    New DataFrame with the columns that the verb lists; columns of `var` and `obs` without the root
    in front (``"pattern_pval"`` is ``"pval"``). Text is plain text, also after a file made it
    categorical. Row labels that are mere numbers are counted from 0.

    Raises
    ------
    KeyError
        No such results, or no such table among them: says what is there.
    ValueError
        Several modalities hold the table, or several tables are there and none is the main one.

    See Also
    --------
    omicllm.get.svg_df, omicllm.get.variant_effects_df, omicllm.get.ism_df, omicllm.get.lut_df

    Examples
    --------
    >>> ol.get.table(mdata, "twas")  # doctest: +SKIP
    >>> ol.get.table(mdata, "twas", "windows")  # doctest: +SKIP
    >>> ol.get.table(adata, "pattern")  # genes, with score, pval and qval  # doctest: +SKIP
    """
    key = str(key)
    places = _places(adata, mod)
    found = {name: Results(source, key) for name, source in places.items()}
    holders = {name: results for name, results in found.items() if results.names}
    if not holders:
        raise _no_results(adata, key, places, mod)
    names = list(dict.fromkeys(n for results in holders.values() for n in results.names))
    wanted = _main(names, key) if table is None else str(table)
    chosen = [name for name, results in holders.items() if wanted in results.names]
    if not chosen:
        hint = _how_to_make(key, wanted)
        raise checks.missing(wanted, f"the tables of {key!r}", names, hint=hint)
    if len(chosen) > 1:
        held = checks.listed(name for name in chosen if name is not None)
        also = " The MuData itself has one too, in mdata.uns." if None in chosen else ""
        msg = f"Several modalities hold {wanted!r} of {key!r}: choose mod= ({held}).{also}"
        raise ValueError(msg)
    return holders[chosen[0]].read(wanted)


class _Column(NamedTuple):
    """A column that a verb wrote: its name in the object, and without the root."""

    stored: str
    short: str


class Results:
    """What verbs wrote in one object under one root, as far as it makes tables."""

    def __init__(self, source: AnnData | MuData, key: str) -> None:
        self.source = source
        self.columns: dict[str, list[_Column]] = {"var": [], "obs": []}
        self.frames: dict[str, Any] = {}
        for name in dict.fromkeys([key, *(key + suffix for suffix in UNS_SUFFIX.values())]):
            entry = source.uns.get(name)
            if not isinstance(entry, Mapping):
                continue
            for part, value in entry.items():
                if part not in _OF_THE_CALL and is_table(value):
                    self.frames.setdefault(part, value)
            self._add_columns(entry.get("keys", {}), key)
        if not self.names and getattr(source, "mod", None) is None:
            # Joining objects keeps columns without the entry that names them.
            for verb in _verbs(key):
                slots = [KEYS[verb].name(slot) for slot in KEYS[verb].slots]
                self._add_columns({a: [n for at, n in slots if at == a] for a, _ in slots}, key)

    def _add_columns(self, written: Mapping[str, Any], key: str) -> None:
        """Columns that were written, as far as they are still there."""
        roots = [key, *(key.removesuffix(s) for s in UNS_SUFFIX.values() if key.endswith(s))]
        for attribute, columns in self.columns.items():
            there = set(getattr(self.source, attribute).columns)
            for stored in np.ravel(written.get(attribute, [])).astype(str).tolist():
                starts = [f"{root}_" for root in roots if stored.startswith(f"{root}_")]
                column = _Column(stored, stored.removeprefix(starts[0]) if starts else stored)
                if stored in there and column not in columns:
                    columns.append(column)

    @property
    def names(self) -> list[str]:
        """Names of the tables."""
        return [*self.frames, *(a for a, columns in self.columns.items() if columns)]

    def read(self, name: str) -> pd.DataFrame:
        """One table."""
        if name in self.frames:
            return plain(self.frames[name])
        columns = self.columns[name]
        whole = getattr(self.source, name)
        frame = in_memory(whole[[c.stored for c in columns]])
        # Under a root as short as one of the columns two could get the same name.
        short = [c.short for c in columns]
        frame = frame.set_axis(
            [s if short.count(s) == 1 else c.stored for s, c in zip(short, columns, strict=True)],
            axis=1,
        )
        return plain(frame, numbered=False)


def is_table(value: Any) -> bool:
    """A DataFrame, or a dict of columns of one length."""
    if hasattr(value, "columns"):
        return True
    if not isinstance(value, Mapping) or not value:
        return False
    shapes = {np.shape(column) for column in value.values()}
    return len(shapes) == 1 and len(next(iter(shapes))) == 1


def in_memory(frame: Any) -> pd.DataFrame:
    """A DataFrame, also of one that is read lazily."""
    if hasattr(frame, "to_memory"):
        frame = frame.to_memory()
    if isinstance(frame, pd.DataFrame):
        return pd.DataFrame(frame)
    # A file sorts the names of a dict.
    return pd.DataFrame({name: np.asarray(frame[name]) for name in sorted(frame)})


def plain(frame: Any, *, numbered: bool = True) -> pd.DataFrame:
    """A new table with plain columns: a file makes text categorical, and row numbers text."""
    out = in_memory(frame).copy()
    if numbered and out.index.name is None and all(str(label).isdigit() for label in out.index):
        out = out.reset_index(drop=True)
    elif out.index.dtype != object:
        out.index = out.index.astype(object)
    for column in out:
        dtype = out[column].dtype
        if isinstance(dtype, pd.CategoricalDtype):
            out[column] = np.asarray(out[column])
        elif isinstance(dtype, pd.StringDtype):
            out[column] = out[column].astype(object).where(out[column].notna(), np.nan)
    return out


def _places(adata: AnnData | MuData, mod: str | None) -> dict[str | None, Any]:
    """Where tables may lie: the object, or a MuData and its modalities; None is the object."""
    modalities = getattr(adata, "mod", None)
    if mod is not None or modalities is None:
        return {None: inputs.resolve(adata, mod)}
    return {None: adata, **modalities}


def _main(names: Sequence[str], key: str) -> str:
    """The table that is meant without ``table=``."""
    first = [name for name in MAIN if name in names]
    if first:
        return first[0]
    if len(names) == 1:
        return names[0]
    msg = f"{key!r} has several tables: name one with table= ({checks.listed(names)})."
    raise ValueError(msg)


def _verbs(key: str) -> list[str]:
    """Verbs that write under a root."""
    return [verb for verb, row in KEYS.items() if key in (row.root, uns_name(verb))]


def _writes_to(key: str, home: str) -> bool:
    """Whether the tables of a root lie in one of the two modalities of personal genomes."""
    tables = [w for verb in _verbs(key) for w in KEYS[verb].arrays.values() if "DataFrame" in w]
    return any(what.startswith(f"of `{home}`") for what in tables)


def _how_to_make(key: str, wanted: str) -> str:
    """Which verb of this root writes a table, and what it holds."""
    for verb in _verbs(key):
        if wanted in KEYS[verb].arrays:
            return f"ol.{verb} may write it ({KEYS[verb].arrays[wanted]})."
    return "Name one of these with table=."


def _no_results(
    adata: AnnData | MuData, key: str, places: Mapping[str | None, Any], mod: str | None
) -> KeyError:
    """Say what was looked for and where, what is there, and what to do."""
    there = [
        (str(name), place)
        for place, source in places.items()
        for name in source.uns
        if Results(source, name).names
    ]
    elsewhere = [] if mod is None else _elsewhere(adata, key, mod)
    of_mudata = "the uns of the MuData and its modalities" if mod is None else f"mdata[{mod!r}].uns"
    where = "adata.uns" if getattr(adata, "mod", None) is None else of_mudata
    if any(key in source.uns for source in places.values()):
        where = f"the results with tables in {where}"
    shown = [name if place is None else f"{name} of {place}" for name, place in there]
    hint = _hint(key, [name for name, _ in there], elsewhere)
    return checks.missing(key, where, shown, hint=hint)


def _hint(key: str, there: Sequence[str], elsewhere: Sequence[str]) -> str:
    """What to do, with the names of results that are there and the modalities that hold these."""
    if elsewhere:
        return f"It is in another modality: mod={checks.listed(elsewhere)}."
    makers = [f"ol.{verb}" for verb in _verbs(key)]
    if makers:
        hint = f"Make it with {' or '.join(makers)}."
        homes = [home for home in ("rna", "geno") if _writes_to(key, home)]
        return hint + "".join(f" It is in what was given with {h}=: mod={h!r}." for h in homes)
    namesakes = [verb for verb in KEYS if verb.split(".")[1] == key]
    if namesakes:
        return f"ol.{namesakes[0]} writes under {KEYS[namesakes[0]].root!r}."
    near = get_close_matches(key, list(dict.fromkeys([*there, *(r.root for r in KEYS.values())])))
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _elsewhere(adata: Any, key: str, mod: str) -> list[str]:
    """Other modalities that hold the results."""
    others = {name: source for name, source in adata.mod.items() if name != mod}
    return [name for name, source in others.items() if Results(source, key).names]
