"""Tables that say which patch of which image belongs to which observation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, text_files
from omicllm._core.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

#: Names of the columns of the published tables, in the order tried.
_IDS = ("spot_id", "cell_id", "barcode", "obs_name", "id")
_PATHS = ("patch_path", "image_path", "path", "filepath", "file")
#: Pairs of coordinates; the first that is there is taken.
_PAIRS = (("x_he_px", "y_he_px"), ("x_morph_px", "y_morph_px"), ("x_um", "y_um"), ("x", "y"))


def read_table(csv: str | Path, root: str | Path | None = None) -> pd.DataFrame:
    """Read a patch map; :func:`omicllm.io.read_patch_map` says what it looks like."""
    import pandas as pd

    path = Path(csv)
    frame = text_files.read_table(path, what="patch map")
    if frame.empty:
        msg = f"{path} holds a header and no patch."
        raise ValueError(msg)
    lower = {str(c).strip().lower(): c for c in frame.columns}
    large = "source_image" in lower
    id_column = _column(lower, _IDS, frame, 0, path)
    path_column = lower["source_image"] if large else _column(lower, _PATHS, frame, 1, path)
    pair = next((p for p in _PAIRS if p[0] in lower and p[1] in lower), None)
    if large:
        pair = ("x", "y") if {"x", "y"} <= set(lower) else pair
        if pair is None:
            msg = (
                f"{path} names a source_image but no place in it: columns x and y are "
                f"expected (there: {checks.listed(frame.columns)})."
            )
            raise ValueError(msg)
    ids = clean_ids(frame[id_column])
    _usable(ids, str(path))
    if (frame[path_column].str.strip() == "").any():
        msg = f"{path} has rows without a path (column {path_column!r})."
        raise ValueError(msg)
    base = Path(root) if root is not None else path.parent
    files = [str(base / str(p).strip()) for p in frame[path_column]]
    values = np.full((len(frame), 2), np.nan)
    if pair is not None:
        values = np.column_stack(
            [text_files.to_numbers(frame[lower[c]], path=path, column=lower[c]) for c in pair]
        )
        if large and not np.isfinite(values).all():
            msg = f"{path} has rows whose x or y is no number."
            raise ValueError(msg)
    table = pd.DataFrame(
        {"id": ids, "path": files, "x": values[:, 0], "y": values[:, 1], "crop": large}
    )
    logger.info("%s: %d patches, coordinates %s", path.name, len(table), pair)
    return table


def _column(
    lower: dict[str, Any], names: Iterable[str], frame: pd.DataFrame, place: int, path: Path
) -> Any:
    """The first known column, else the one at a place."""
    for name in names:
        if name in lower:
            return lower[name]
    if place >= frame.shape[1]:
        msg = f"{path} has no column of paths (there: {checks.listed(frame.columns)})."
        raise ValueError(msg)
    return frame.columns[place]


def _usable(ids: list[str], name: str) -> None:
    values, counts = np.unique(np.array(ids, dtype=object).astype(str), return_counts=True)
    if "" in values:
        msg = f"{name} has {int(counts[values == ''][0])} row(s) without an id."
        raise ValueError(msg)
    if (counts > 1).any():
        msg = f"{name} has ids more than once: {checks.listed(values[counts > 1], most=5)}."
        raise ValueError(msg)


def clean_ids(ids: Iterable[Any]) -> list[str]:
    """Ids as text, without blanks around them and without ``.0`` after whole numbers."""
    out = []
    for one in ids:
        text = str(one).strip()
        head, dot, tail = text.rpartition(".")
        out.append(head if dot and tail == "0" and head.isdigit() else text)
    return out


def matched_rows(
    table: pd.DataFrame, obs_names: Iterable[str], *, min_matched: float = 0.9
) -> np.ndarray:
    """Row of the table for each observation, by exact id; -1 where there is none.

    Raises
    ------
    ValueError
        Fewer than `min_matched` of the observations have a row. The message counts hits and says
        which change of ids would match more; nothing is changed by itself.
    """
    index = {one: i for i, one in enumerate(clean_ids(table["id"]))}
    names = clean_ids(obs_names)
    position = np.array([index.get(n, -1) for n in names], dtype=np.int64)
    hits = int((position >= 0).sum())
    logger.info("%d of %d observations have a row in the patch map", hits, len(names))
    if hits < min_matched * len(names):
        msg = (
            f"{hits} of {len(names)} observations are in the patch map, which has {len(index)} "
            f"ids. Its ids look like {checks.listed(list(index), most=3)}, the observations' like "
            f"{checks.listed(names, most=3)}. {_suggestion(list(index), names, hits)}"
        )
        raise ValueError(msg)
    return position


def _suggestion(ids: list[str], names: list[str], hits: int) -> str:
    """A change of ids that would match more observations."""
    have = set(names)
    tries = {
        "the last part after '-' cut off": [i.rsplit("-", 1)[0] for i in ids],
        "'-1' at the end": [f"{i}-1" for i in ids],
        "another case": [i.upper() for i in ids],
    }
    numbers = [i for i in ids if i.lstrip("-").isdigit()]
    if len(numbers) == len(ids):
        for shift in (-1, 1):
            tries[f"{shift:+d} added to each"] = [str(int(i) + shift) for i in ids]
    best = max(tries, key=lambda k: len(have & set(tries[k])))
    found = len(have & set(tries[best]))
    if found > hits:
        return f"Ids with {best} would match {found}: change the id column if that is right."
    return "Make the ids of the table and adata.obs_names the same."
