"""Who trains, who validates and who tests: one split for all genes, or one by gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from omicllm._core import checks, inputs

if TYPE_CHECKING:
    from anndata import AnnData

TRAIN, VAL, TEST, OUT = 0, 1, 2, 3
_NAMES = ("train", "val", "test")


def by_gene(people: AnnData, key: str) -> np.ndarray:
    """Part of every person at every gene: int8 (n_obs, n_vars), 0 train, 1 validation, 2 test.

    A layer of that name is used first, then a column of `obs` with train, val and test; other
    values of the column are 3, in no part.

    Raises
    ------
    KeyError
        Neither is there.
    ValueError
        A layer with other values; a column without anybody in train.
    """
    if key in people.layers:
        codes = inputs.readable(people.layers[key])
        codes = np.asarray(codes.toarray() if hasattr(codes, "toarray") else codes)
        if not np.isin(codes, (TRAIN, VAL, TEST)).all():
            msg = f"layers[{key!r}] must hold 0 (train), 1 (validation) and 2 (test)."
            raise ValueError(msg)
        return codes.astype(np.int8)
    if key not in people.obs:
        raise checks.missing(
            key, "obs and layers of the expression", [*people.obs, *people.layers],
            hint="Make it with ol.pp.split(mdata, mod=...), or name it with split_key=.",
        )  # fmt: skip
    part = people.obs[key].astype(str).to_numpy()
    if not (part == "train").any():
        names = checks.listed(np.unique(part))
        msg = f"obs[{key!r}] has nobody in 'train' (there: {names})."
        raise ValueError(msg)
    codes = np.full(people.n_obs, OUT, dtype=np.int8)
    for code, name in enumerate(_NAMES):
        codes[part == name] = code
    return np.broadcast_to(codes[:, None], (people.n_obs, people.n_vars))
