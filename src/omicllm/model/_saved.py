"""The two files of a saved model."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
#: Entry of the metadata of the weights, and what tells descriptions apart.
_TOLD, _MARK = "description", "mark"


def write(folder: Path, tensors: dict[str, np.ndarray], description: dict[str, Any]) -> None:
    """Write both files, of which each is whole at any moment.

    The weights carry the description too: a process that dies after the first file leaves weights
    that know what they are, beside the description of the model that was there before.
    """
    from safetensors.numpy import save_file

    mark = hashlib.sha256(json.dumps(description).encode()).hexdigest()[:16]
    text = json.dumps({**description, _MARK: mark}, indent=1)
    with whole_file(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={_TOLD: text})
    with whole_file(folder / DESCRIPTION) as path:
        path.write_text(text)


def description_of(folder: Path) -> dict[str, Any]:
    """Description of a saved model: the one its weights carry, where the file is an older one.

    Raises
    ------
    FileNotFoundError
        When there is none.
    """
    from safetensors import safe_open

    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).exists():
            msg = f"There is no saved model in {folder} ({name} is missing)."
            raise FileNotFoundError(msg)
    told = json.loads((folder / DESCRIPTION).read_text())
    with safe_open(folder / WEIGHTS, framework="np") as file:
        carried = json.loads((file.metadata() or {}).get(_TOLD, "{}"))
    return carried if carried and carried[_MARK] != told.get(_MARK) else told


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of a saved model.

    Raises
    ------
    FileNotFoundError
        When there is none.
    """
    from safetensors import safe_open

    told = description_of(folder)
    with safe_open(folder / WEIGHTS, framework="np") as file:
        return told, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


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
