"""The only writer: sets declared slots, records parameters, logs what it wrote.

All values are computed before `write` is called, and a failed write is undone, so an object is
either unchanged or complete.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.keys import KEYS, uns_name
from omicllm._core.log import logger
from omicllm._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from mudata import MuData


@dataclass
class Result:
    """What one verb has to say about an object.

    Attributes
    ----------
    verb
        Row of the key table, for example ``"tl.sigel"``.
    values
        Slot of that row -> value.
    params
        Parameters of the call; None values are left out, Generators and paths become text.
    arrays
        Further entries of ``uns[root]``.
    key_added
        Replaces the root.
    mod
        Modality it is written to, where a verb writes to several.
    """

    verb: str
    values: dict[str, Any]
    params: Mapping[str, Any]
    arrays: Mapping[str, Any] = field(default_factory=dict)
    key_added: str | None = None
    mod: str | None = None

    def __post_init__(self) -> None:
        if self.key_added is not None and not isinstance(self.key_added, str):
            msg = f"key_added must be text, not {self.key_added!r}."
            raise TypeError(msg)


class NotSavedError(OSError):
    """Results were written, but the model that made them could not be saved where it was asked.

    Attributes
    ----------
    model
        The model: ``error.model.save("elsewhere")``.
    data
        The object with the results; with ``copy=True`` the copy.
    folder
        Temporary folder (or file) where the model was saved instead; None where that failed too.
    """

    def __init__(self, message: str, model: Any, data: Any, folder: str | None) -> None:
        super().__init__(message)
        self.model, self.data, self.folder = model, data, folder


@dataclass
class Saved:
    """What became of ``save=``: where the model lies, or why it does not lie there."""

    model: Any
    path: str | None = None
    error: Exception | None = None
    instead: str | None = None

    def raise_for(self, data: Any) -> None:
        """Raise NotSavedError when saving failed; `data` holds the results."""
        if self.error is None:
            return
        kept = "as the attribute `model` of this error"
        if self.instead is not None:
            kept += f", and in {self.instead}"
        msg = (
            f"save= failed: {type(self.error).__name__}: {self.error}. The results are written; "
            f"the model is kept {kept}."
        )
        raise NotSavedError(msg, self.model, data, self.instead) from self.error


def saved(model: Any, path: Any, write_to: Callable[[Any], None] | None = None) -> Saved:
    """Save a trained model where ``save=`` says; a failure is kept for `write` to raise.

    The work is done by then, so that results are written first. A model that cannot be saved where
    it was asked is saved in a temporary folder.

    Parameters
    ----------
    model
        What was trained.
    path
        Value of ``save=``; with None nothing is done.
    write_to
        Function of a path that saves; by default ``model.save``.
    """
    if path is None:
        return Saved(model)
    write_to = write_to or model.save
    try:
        write_to(path)
    except Exception as error:  # noqa: BLE001 - whatever it is, hours of work come first
        folder = tempfile.mkdtemp(prefix="omicllm-")
        instead: str | None = str(Path(folder) / Path(path).name)
        try:
            write_to(instead)
        except Exception:  # noqa: BLE001 - as above
            shutil.rmtree(folder, ignore_errors=True)
            instead = None
        return Saved(model, None, error, instead)
    return Saved(model, str(path))


def write(
    data: AnnData | MuData,
    *results: Result,
    mod: str | None = None,
    copy: bool = False,
    saved: Saved | None = None,
) -> Any:
    """Write results into `data` (or into a copy of it, which is then returned).

    Parameters
    ----------
    data
        AnnData, or MuData with `mod`.
    results
        One per verb that has something to say.
    mod
        Modality of a MuData, for results that do not name their own.
    copy
        Return a changed copy (a backed object is read into memory) and leave `data` alone.
    saved
        What became of ``save=``.

    Raises
    ------
    NotSavedError
        When the model could not be saved; the results are written all the same.
    """
    for result in results:
        _check_declared(result)
    out = _copied(data) if copy else data
    targets = []
    for result in results:
        name = result.mod or mod
        targets.append(out if name is None else out.mod[name])
        if targets[-1].is_view:
            # A view has no slots of its own; anndata would do this at assignment, and warn.
            view = targets[-1]
            view._init_as_actual(view.to_memory() if view.isbacked else view.copy())
    done: list[tuple[Any, str, Any]] = []
    try:
        for result, adata in zip(results, targets, strict=True):
            _write_one(adata, result, done)
    except BaseException:
        for target, key, old in reversed(done):
            if old is _ABSENT:
                if key in target:
                    del target[key]
            else:
                target[key] = old
        raise
    if saved is not None:
        saved.raise_for(out)
    return out if copy else None


_ABSENT = object()


def _copied(data: Any) -> Any:
    if getattr(data, "isbacked", False):
        return data.to_memory()
    return data.copy()


def _check_declared(result: Result) -> None:
    keys = KEYS[result.verb]
    unknown = [s for s in result.values if s not in keys.slots]
    unknown += [a for a in result.arrays if a not in keys.arrays]
    if unknown:
        msg = f"{result.verb} wants to write {unknown}, which its row of the key table lacks."
        raise RuntimeError(msg)


def _write_one(adata: AnnData, result: Result, done: list[tuple[Any, str, Any]]) -> None:
    keys = KEYS[result.verb]
    written: dict[str, list[str]] = {}
    for slot, value in result.values.items():
        attribute, key = keys.name(slot, result.key_added)
        target = getattr(adata, attribute)
        done.append((target, key, target.get(key, _ABSENT)))
        target[key] = value
        written[attribute] = [*written.get(attribute, []), key]
        logger.info("added %r to adata.%s", key, attribute)
    name = uns_name(result.verb, result.key_added)
    entry = {
        "params": storable(result.params),
        "keys": {a: np.array(ks, dtype=object) for a, ks in written.items()},
        "version": __version__,
        **{k: storable(v) for k, v in result.arrays.items() if v is not None},
    }
    done.append((adata.uns, name, adata.uns.get(name, _ABSENT)))
    adata.uns[name] = entry
    logger.info("added %r to adata.uns", name)


def storable(value: Any) -> Any:
    """Turn a value into what comes back from h5ad and zarr as it is.

    None, which stands for a default, is left out, and ``/`` in a name becomes ``|``. Sequences
    become arrays, of text where types are mixed; paths and generators become text.
    """
    if hasattr(value, "items") and not hasattr(value, "to_numpy"):
        items: dict[str, Any] = {}
        for k, v in value.items():
            name = str(k).replace("/", "|")  # a slash would split an h5ad key
            while name in items:
                name += "|"
            if v is not None:
                items[name] = v
        return {k: storable(v) for k, v in items.items()}
    if isinstance(value, (list, tuple)):
        if all(isinstance(v, str) for v in value):
            return np.array(value, dtype=object)
        array = np.array(value)
        return array if array.dtype != object else np.array([str(v) for v in value], dtype=object)
    if isinstance(value, np.random.Generator):
        return "generator"
    if isinstance(value, PurePath):
        return str(value)
    return value
