"""The two files of a saved model."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.checks import ReadableKeyError, listed
from omicllm._core.files import damaged, read_json, whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
#: Entry of the metadata of the weights, and what tells descriptions apart.
_TOLD, _MARK = "description", "mark"
#: Entry of the description: hash of the arrays.
_DIGEST = "arrays"


#: What a description holds, and of which type.
_ENTRIES = {
    "class": str, "schema_version": int, "version": str, "is_trained": bool, "var_names": list,
    "init_params": dict, "setup_args": dict, "attributes": dict, "history": dict,
}  # fmt: skip


def write(folder: Path, tensors: dict[str, np.ndarray], description: dict[str, Any]) -> None:
    """Write both files, of which each is whole at any moment.

    The weights carry the description too: a process that dies after the first file leaves weights
    that know what they are, beside the description of the model that was there before. The
    description bears a digest of the arrays and of itself, so that reading tells damage.
    """
    from safetensors.numpy import save_file

    described = {**description, _DIGEST: _digest(tensors)}
    text = json.dumps({**described, _MARK: _hash(described)}, indent=1)
    with whole_file(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={_TOLD: text})
    with whole_file(folder / DESCRIPTION) as path:
        path.write_text(text, encoding="utf-8")


def _hash(description: Mapping[str, Any]) -> str:
    bare = {k: v for k, v in description.items() if k != _MARK}
    return hashlib.sha256(json.dumps(bare).encode()).hexdigest()[:16]


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of names, types, shapes and values of arrays."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        found.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        found.update(value.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


@contextmanager
def _opened(folder: Path) -> Iterator[Any]:
    """The open file of weights.

    Raises
    ------
    DamagedFileError
        It is truncated, empty, or something else.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"it cannot be read as weights ({error})") from error


def description_of(folder: Path) -> dict[str, Any]:
    """Description of a saved model: the one its weights carry, where the file is an older one.

    Raises
    ------
    FileNotFoundError
        When there is none.
    DamagedFileError
        When it cannot be read, or lacks entries.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            msg = f"There is no saved model in {folder} ({name} is missing)."
            raise FileNotFoundError(msg)
    told = read_json(folder / DESCRIPTION)
    with _opened(folder) as file:
        text = (file.metadata() or {}).get(_TOLD, "{}")
    try:
        carried = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(folder / WEIGHTS, "the description in it is no JSON") from error
    if isinstance(carried, dict) and carried and carried.get(_MARK) != told.get(_MARK):
        told = carried
    absent = [k for k, kind in _ENTRIES.items() if not isinstance(told.get(k), kind)]
    if absent:
        raise damaged(folder / DESCRIPTION, f"it lacks {listed(absent)}, or they are no such thing")
    return told


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of a saved model; see :func:`verify`.

    Raises
    ------
    FileNotFoundError
        When there is none.
    DamagedFileError
        When one of the files cannot be read.
    """
    told = description_of(folder)
    with _opened(folder) as file:
        return told, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def verify(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    """Raise DamagedFileError when files hold something else than was written to them.

    Models that were saved before there were digests are taken as they are.
    """
    mark, digest = description.get(_MARK), description.get(_DIGEST)
    if mark is not None and mark != _hash(description):
        raise damaged(folder / DESCRIPTION, "it was changed after the model was saved")
    if digest is not None and digest != _digest(arrays):
        raise damaged(folder / WEIGHTS, "its arrays were changed after the model was saved")


def check_fit(module: Any, state: Mapping[str, Any], folder: Path) -> None:
    """Raise DamagedFileError unless `state` holds the weights of `module`, by name and shape."""
    mine = module.state_dict()
    other = sorted(k for k in mine if k not in state or not _alike(state[k], mine[k]))
    extra = sorted(set(state) - set(mine))
    if other or extra:
        why = (
            f"{len(other)} of {len(mine)} arrays of the network are missing or of another shape or "
            f"type ({listed(other, most=3)}), {len(extra)} are left over"
        )
        raise damaged(folder / WEIGHTS, why)


def _alike(given: Any, wanted: Any) -> bool:
    """Whether an array goes into another; a single number is stored as an array of one."""
    same = given.shape == wanted.shape or given.numel() == wanted.numel() == 1
    return bool(same and given.is_floating_point() == wanted.is_floating_point())


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """Turn the errors of a description that lacks something into one that names the file."""
    try:
        yield
    except ReadableKeyError:
        raise
    except ValueError as error:  # of the caller's arguments, or of what the file says
        error.add_note(f"This was raised while {folder} was loaded.")
        raise
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        why = f"what it says does not make a model ({type(error).__name__}: {error})"
        raise damaged(folder / DESCRIPTION, why) from error


def mark_of(description: Mapping[str, Any]) -> str:
    """What further files of the model bear, to tell that they belong to it; "" in old models."""
    return str(description.get(_MARK, ""))


def numbers(frame: Any) -> list[float]:
    """A curve of the history, as JSON holds it."""
    return [float(v) for v in np.asarray(frame, dtype=float).ravel()]


def curve(values: list[float]) -> Any:
    """Undo :func:`numbers`: a frame with one row per epoch."""
    import pandas as pd

    return pd.DataFrame({"value": values}, index=pd.RangeIndex(len(values), name="epoch"))
