"""Classes of observations: the column of labels, its codes, and the rows that count."""

from __future__ import annotations

from typing import Any

import numpy as np

from omicllm._core.checks import listed, missing
from omicllm._core.log import logger


def label_column(data: Any, key: str) -> Any:
    """Column of labels of an AnnData, or of a MuData (its own obs, else that of a modality).

    Raises
    ------
    KeyError
        No such column.
    ValueError
        Modalities that disagree about a label.
    """
    import pandas as pd

    if key in data.obs:
        return pd.Series(np.asarray(data.obs[key], dtype=object), index=data.obs_names)
    mods = getattr(data, "mod", {})
    holders = [m for m in mods if key in mods[m].obs]
    if not holders:
        where = "mdata.obs" if mods else "adata.obs"
        raise missing(key, where, data.obs, hint="Name a column with labels_key=.")
    out = pd.Series(np.full(data.n_obs, None, dtype=object), index=data.obs_names)
    for name in holders:
        column = mods[name].obs[key].astype(object)
        column = column[column.notna()]
        both = column.index[out.loc[column.index].notna()]
        differ = [i for i in both if str(out[i]) != str(column[i])]
        if differ:
            msg = f"Modalities disagree about {key!r} of {listed(differ, most=3)}."
            raise ValueError(msg)
        out.loc[column.index] = column
    return out


def class_codes(column: Any, key: str) -> tuple[np.ndarray, list[str]]:
    """Number of each row's class (-1 without a label) and class names, sorted.

    Missing values, empty text, ``"nan"`` and ``"NOLBL"`` are no labels.
    """
    import pandas as pd

    values = pd.Series(np.asarray(column, dtype=object))
    text = values.map(lambda v: str(v).strip(), na_action="ignore")
    text = text.where(text.notna() & ~text.isin(["", "nan", "NOLBL"]), None)
    codes, names = pd.factorize(text, sort=True)
    if not len(names):
        msg = f"No row has a label in obs[{key!r}]."
        raise ValueError(msg)
    return codes.astype(np.int64), [str(n) for n in names]


def real_rows(data: Any, codes: np.ndarray) -> np.ndarray:
    """Rows that no sampler drew; all rows where a class has drawn rows only."""
    if "synthetic" not in data.obs:
        return np.ones(len(codes), dtype=bool)
    real = np.asarray(data.obs["synthetic"]).astype(str) != "True"
    lost = set(codes[codes >= 0].tolist()) - set(codes[real & (codes >= 0)].tolist())
    return np.ones(len(codes), dtype=bool) if lost else real


def limited(codes: np.ndarray, rows: Any) -> np.ndarray:
    """Codes with -1 outside `rows` (a mask or numbers; None for all)."""
    if rows is None:
        return codes
    keep = np.zeros(len(codes), dtype=bool)
    keep[np.asarray(rows)] = True
    return np.where(keep, codes, -1)


def trainable(codes: np.ndarray, names: list[str]) -> np.ndarray:
    """Classes that have rows to train on; a warning for those that have one.

    Raises
    ------
    ValueError
        Fewer than two.
    """
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    used = np.flatnonzero(sizes)
    if len(used) < 2:
        shown = listed([names[i] for i in used])
        msg = f"Two classes are needed to train a classifier; the labelled rows have {shown}."
        raise ValueError(msg)
    alone = [names[i] for i in np.flatnonzero(sizes == 1)]
    if alone:
        logger.warning(
            "only one row has the class %s: it is learned from that row alone", listed(alone)
        )
    return used


def in_classes(codes: np.ndarray, names: list[str], classes: list[str]) -> np.ndarray:
    """Codes counted in `classes` instead of `names`.

    Raises
    ------
    ValueError
        Rows of another class.
    """
    new = [n for i, n in enumerate(names) if n not in classes and (codes == i).any()]
    if new:
        msg = f"The trained model has no class {listed(new)} (it has {listed(classes)})."
        raise ValueError(msg)
    place = [classes.index(n) if n in classes else -1 for n in names]
    return np.array([*place, -1])[codes]
