"""`omicllm.io.read_lut`, `write_lut`: lookup tables in the published JSON format."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from omicllm._core import checks
from omicllm._core.files import whole_file
from omicllm._core.log import logger
from omicllm._core.text_files import read_json
from omicllm.codec.lookup_table import KEY_TYPES, LookupTable
from omicllm.codec.parameters import Parameters

#: Key types of the published format, and what reads a key. Nothing of the file is ever executed.
_READ = {"int": int, "float": float, "str": str}
#: The name of the published table: patch size, largest value (digits joined by dots), mu.
_GRAMMAR = re.compile(r"p(\d+)cm(\d+)mu(\d+)$")
_SUFFIX = ".parameters.json"
#: Counts and levels are kept in 64 bits.
_MOST = 2**63


def read_lut(
    path: str | Path,
    *,
    method: str | None = None,
    codepoints: str | None = None,
    **parameters: Any,
) -> LookupTable:
    """Read a lookup table from the published JSON format.

    The format holds ``mapping`` (value -> count, in rank order) and ``key_type``, but none of the
    parameters that the table needs. They are taken from the arguments, else from the file
    ``<name>.parameters.json`` beside it (as :func:`write_lut` makes it), else from an entry
    ``params`` of the file, else from a name that ends as the published one does
    (``p10cm1mu256``: patch size 10, largest value 1, mu 256), else from the defaults.

    Parameters
    ----------
    path
        JSON file.
    method
        ``"series"``, ``"image"`` or ``"text"``; it must go with the key type of the file.
    codepoints
        ``"reference"`` (the default where no parameters are kept with the table) or ``"safe"``.
    parameters
        Any of :class:`omicllm.codec.LookupTable.fit`: `bits`, `mu`, `max_value`, `patch_size` ...

    Returns
    -------
    The :class:`omicllm.codec.LookupTable`, values in the order of the file.

    Raises
    ------
    ValueError
        When the file is not of this format, has an unknown key type, or `method` does not go
        with it.

    Examples
    --------
    >>> table = ol.io.read_lut("lut.json", max_value=1.0, mu=256, patch_size=10)  # doctest: +SKIP
    """
    path = Path(path)
    content = _content(path)
    key_type, mapping = content["key_type"], content["mapping"]
    kinds = {kind: name for name, kind in KEY_TYPES.items()}
    found = kinds[key_type]
    if method is not None:
        checks.one_of("method", method, KEY_TYPES)
        if method != found:
            msg = f"{path.name} has keys of type {key_type!r}: a table for {found}, not {method}."
            raise ValueError(msg)
    known = {f.name for f in fields(Parameters)}
    unknown = sorted(set(parameters) - known)
    if unknown:
        msg = f"Unknown parameter(s) {checks.listed(unknown)}; there are {checks.listed(known)}."
        raise TypeError(msg)
    kept = {k: v for k, v in _kept(path, content).items() if k in known}
    if not kept:
        kept = {"codepoints": "reference", "tie_break": "reference", **_from_name(path)}
        if found == "series" and "max_value" not in {*kept, *parameters}:
            logger.warning(
                "%s comes without parameters: the published defaults are used", path.name
            )
    try:
        levels = [_READ[key_type](k) for k in mapping]
    except ValueError as error:
        msg = f"{path}: a value of the mapping is not of key type {key_type!r} ({error})."
        raise ValueError(msg) from error
    if found != "text" and not all(abs(k) < _MOST for k in levels):
        msg = f"{path}: the mapping has a value that is not finite or too large (under {_MOST})."
        raise ValueError(msg)
    if found == "series" and levels and "bits" not in {*kept, *parameters}:
        kept["bits"] = max(8, int(max(abs(k) for k in levels) - 1).bit_length())
    chosen = {**kept, **parameters, "method": found}
    if codepoints is not None:
        chosen["codepoints"] = codepoints
    return LookupTable(_keys(levels, key_type), list(mapping.values()), **chosen)


def write_lut(table: LookupTable, path: str | Path, *, overwrite: bool = True) -> None:
    """Write a lookup table in the published JSON format, and its parameters beside it.

    The published table comes out byte for byte as it was read. The parameters go to
    ``<name>.parameters.json``, which :func:`read_lut` finds again and other programs ignore.

    Parameters
    ----------
    table
        The table.
    path
        File to write.
    overwrite
        Replace a file that is there.

    Returns
    -------
    None.

    Raises
    ------
    FileExistsError
        When the file exists and `overwrite` is False.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        msg = f"{path} exists already. Choose another name or pass overwrite=True."
        raise FileExistsError(msg)
    mapping = {
        str(k): int(c) for k, c in zip(table.levels.tolist(), table.counts.tolist(), strict=True)
    }
    # The order of the mapping is the rank order: never sort its keys.
    text = json.dumps({"mapping": mapping, "key_type": table.key_type})
    with whole_file(path) as file:
        file.write_text(text, encoding="utf-8")
    beside = json.dumps(table.parameters.as_dict(), indent=1)
    with whole_file(_beside(path)) as file:
        file.write_text(beside + "\n", encoding="utf-8")


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + _SUFFIX)


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path, what="lookup table", object_pairs_hook=_no_twice)
    if not isinstance(content, dict) or not {"mapping", "key_type"} <= set(content):
        msg = f"{path} is no lookup table: it lacks 'mapping' or 'key_type'."
        raise ValueError(msg)
    if not isinstance(content["key_type"], str) or content["key_type"] not in _READ:
        msg = (
            f"{path} has the key type {str(content['key_type'])[:60]!r}; known are "
            f"{checks.listed(_READ)}. Nothing of it was executed."
        )
        raise ValueError(msg)
    mapping = content["mapping"]
    whole = isinstance(mapping, dict) and all(
        isinstance(c, int) and not isinstance(c, bool) and 0 <= c < _MOST for c in mapping.values()
    )
    if not whole:
        msg = f"{path}: 'mapping' must give a whole number of at least 0 (under 2**63) for each."
        raise ValueError(msg)
    return content


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        msg = "A value occurs more than once in the file."
        raise ValueError(msg)
    return out


def _kept(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    beside = _beside(path)
    if beside.exists():
        kept = read_json(beside, what="file of parameters")
        if not isinstance(kept, dict):
            msg = f"{beside} is no file of parameters: it must be a JSON object."
            raise ValueError(msg)
        return kept
    params = content.get("params")
    return dict(params) if isinstance(params, dict) else {}


def _from_name(path: Path) -> dict[str, Any]:
    match = _GRAMMAR.search(path.stem)
    if match is None:
        return {}
    patch, largest, mu = match.groups()
    return {"patch_size": int(patch), "max_value": float(".".join(largest)), "mu": float(mu)}


def _keys(levels: list[Any], key_type: str) -> np.ndarray:
    kind = {"int": np.int64, "float": np.float64, "str": object}[key_type]
    out = np.empty(len(levels), dtype=kind)
    out[:] = levels
    return out
