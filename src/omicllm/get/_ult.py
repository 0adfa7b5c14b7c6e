"""`omicllm.get.lut_df`: the lookup table of `ol.tl.ult`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omicllm._core import checks, docs, inputs

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@docs.fill()
def lut_df(
    adata: AnnData | MuData,
    *,
    key: str = "ult",
    modality: str | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Return the lookup table of :func:`omicllm.tl.ult`.

    Parameters
    ----------
    {adata}
        A MuData that was encoded as a whole needs no `mod`.
    key
        Root of the results.
    modality
        Which table of a MuData that was encoded as a whole; not needed for a joint table.
    {mod}

    Returns
    -------
    DataFrame in rank order: ``level``, ``count``, ``share``, ``character``, ``codepoint``, and for
    profiles ``value``, what the level decodes to.

    Raises
    ------
    KeyError
        When there are no such results.
    ValueError
        Joining objects left but a part of the table.
    """
    whole = mod is None and hasattr(adata, "mod")
    source = adata if whole else inputs.resolve(adata, mod)
    hint = "Make it with ol.tl.ult(adata)."
    entry = inputs.uns_entry(source, key, "params", hint=hint)
    params, arrays = dict(entry["params"]), entry
    if "modalities" not in entry:
        whole_table(entry, params, key)
    if "modalities" in entry:
        tables = entry["modalities"]
        name = modality or (next(iter(tables)) if bool(params["joint"]) else "")
        if name not in tables:
            raise checks.missing(name, "the modalities", tables, hint="Name one with modality=.")
        arrays = tables[name]
        params["max_value"] = float(arrays["max_value"]) * float(arrays["scale"])
    return _frame(arrays, params)


ENCODE_ANEW = (
    "Join the objects first and run ol.tl.ult on all of it, or encode both with one model=."
)


def whole_table(entry: Any, params: dict[str, Any], key: str) -> None:
    """Raise ValueError when joining objects left but a part of a lookup table."""
    from omicllm.codec.parameters import Parameters

    last = {"series": ("var_names",), "image": ("shape",)}.get(str(params.get("method")), ())
    absent = [n for n in ("levels", "counts", "codepoints", *last) if n not in entry]
    # h5ad holds no None, which patch_size may be.
    known = [f.name for f in fields(Parameters) if f.name != "patch_size"]
    absent += [f"params[{n!r}]" for n in known if n not in params]
    if absent:
        msg = (
            f"adata.uns[{key!r}] lacks {checks.listed(absent)}, as after joining objects whose "
            f"tables differ. {ENCODE_ANEW}"
        )
        raise ValueError(msg)


def _frame(arrays: Any, params: dict[str, Any]) -> pd.DataFrame:
    from omicllm.codec.series import values

    counts = np.asarray(arrays["counts"], dtype=np.int64)
    codes = np.asarray(arrays["codepoints"], dtype=np.int64)
    out = pd.DataFrame(
        {
            "level": np.asarray(arrays["levels"]),
            "count": counts,
            "share": counts / max(1, int(counts.sum())),
            "character": [chr(c) for c in codes],
            "codepoint": codes,
        }
    )
    if str(params["method"]) == "series":
        out["value"] = values(
            out["level"].to_numpy(),
            bits=int(params["bits"]),
            mu=float(params["mu"]),
            max_value=float(params["max_value"]),
        )
    return out
