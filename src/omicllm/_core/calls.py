"""What every public function checks before it does anything, and before anything heavy loads.

The object is an AnnData or a MuData, the name of results can be stored, and the place to save to
can be written; and torch works with its own defaults, whatever the caller set.
:func:`omicllm._core.docs.fill` puts these checks around each function it decorates;
which of them apply is read from the signature.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from omicllm._core import checks, files, process
from omicllm._core.keys import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

#: Arguments that name what is read, and where it lies.
_READ = {
    "spatial_key": "obsm", "use_rep": "obsm", "patches_key": "obsm", "batch_key": "obs",
    "groupby": "obs", "labels_key": "obs", "condition_key": "obs", "split_key": "obs",
    "text_key": "obs", "layer": "layers", "use_varm": "varm", "connectivity_key": "obsp",
}  # fmt: skip
_OBJECTS = ("adata", "mdata", "geno")


def checked(
    function: Callable[P, R], *, saves: Literal["folder", "file"] = "folder"
) -> Callable[P, R]:
    """Put the common checks in front of a public function; `saves` is what ``save=`` names."""
    signature = inspect.signature(function)
    first = next(iter(signature.parameters), "")
    optional = {n for n, p in signature.parameters.items() if p.default is None}
    verb = ".".join([*function.__module__.split(".")[1:2], function.__name__])
    reads = [n for n in _READ if n in signature.parameters]
    embeds = any(slot.endswith(":X_{root}") for slot in KEYS[verb].slots) if verb in KEYS else False

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own message is the better one
        given = bound.arguments
        left_out = first in optional and given.get(first) is None
        if first in _OBJECTS and not left_out:
            check_object(given[first], mod=given.get("mod"), whole=first == "mdata")
        if given.get("key_added") is not None:
            root = given["key_added"] = root_of(given["key_added"], embeds=embeds)
            if verb in KEYS:
                read = {n: given.get(n, signature.parameters[n].default) for n in reads}
                _keep_input(verb, read, root)
        if isinstance(given.get("key"), str) and first == "adata" and not left_out:
            given["key"] = _stored_root(given["adata"], given.get("mod"), given["key"])
        if given.get("save") is not None:
            files.check_writable(given["save"], argument="save", kind=saves)
        with process.torch_defaults():
            return function(*bound.args, **bound.kwargs)

    return call


def check_object(data: Any, *, mod: str | None = None, whole: bool = False) -> None:
    """Raise unless `data` is an AnnData or a MuData; anndata is not imported to find out.

    Parameters
    ----------
    data
        What the caller gave.
    mod
        Modality that was asked for.
    whole
        The function reads several modalities, so that only a MuData will do.

    Raises
    ------
    TypeError
        Another type.
    ValueError
        An AnnData where a modality, or several, are needed.
    KeyError
        No such modality.
    """
    loaded = sys.modules.get("anndata")
    single = loaded is not None and isinstance(data, loaded.AnnData)
    # A DataFrame has a method of that name.
    if not single and not isinstance(getattr(data, "mod", None), Mapping):
        msg = f"Expected an AnnData or a MuData, not {type(data).__name__}."
        if type(data).__name__ == "SpatialData":
            there = checks.listed(data.tables)
            msg += f" Of a SpatialData hand over a table: sdata.tables[...] (there: {there})."
        raise TypeError(msg)
    if single and (whole or mod is not None):
        asked = f"mod={mod!r} was given" if mod is not None else "A MuData is needed"
        msg = f"{asked}, but the object is an AnnData, which has no modalities."
        if whole:
            msg += " Put expression and genotypes into one: mudata.MuData({'rna': ..., ...})."
        raise ValueError(msg)
    if mod is not None and mod not in data.mod:
        raise checks.missing(mod, "mdata.mod", data.mod, hint="Choose one of them with mod=.")


def root_of(key_added: Any, *, embeds: bool = False) -> str:
    """Check a name of results: it must come back from h5ad and zarr as it was.

    Of a function that writes ``X_<name>``, a leading ``X_`` of the name is not doubled.
    """
    if not isinstance(key_added, str):
        msg = f"key_added must be text, not {key_added!r}."
        raise TypeError(msg)
    root = key_added.removeprefix("X_") if embeds else key_added
    unusable = (
        (not root.strip(), "it is empty"),
        (any(c in root for c in "/\\\0"), "it holds a slash, a backslash or NUL"),
        (root.startswith("."), "it starts with a dot, as the files of zarr itself do"),
        (root.startswith("__"), "names with two underscores in front are reserved by zarr"),
        (root in ("_index", "zarr.json"), "that name is reserved"),
        (any("\ud800" <= c <= "\udfff" for c in root), "it holds half of a surrogate pair"),
        (len(root.encode(errors="replace")) > 200, "it is longer than 200 bytes"),
    )
    for wrong, why in unusable:
        if wrong:
            shown = key_added if len(key_added) < 60 else key_added[:60] + "..."
            msg = f"key_added={shown!r} cannot be stored in h5ad and zarr: {why}. Choose another."
            raise ValueError(msg)
    return root


def _keep_input(verb: str, read: dict[str, Any], root: str) -> None:
    """Raise when results of this name would replace what they are made from."""
    written = {KEYS[verb].name(slot, root) for slot in KEYS[verb].slots}
    for argument, name in read.items():
        if isinstance(name, str) and (_READ[argument], name) in written:
            msg = (
                f"key_added={root!r} would overwrite adata.{_READ[argument]}[{name!r}], which is "
                f"read ({argument}={name!r}). Choose another name."
            )
            raise ValueError(msg)


def _stored_root(data: Any, mod: str | None, key: str) -> str:
    """The root that results were stored under, where the name was given as ``X_<root>``."""
    target = data if mod is None else data.mod[mod]
    root = key.removeprefix("X_")
    return root if key not in target.uns and root in target.uns else key
