"""What `omicllm.tl.ult` left in an object: the table, the strings, the genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks, inputs
from omicllm._core.log import warn
from omicllm.codec.lookup_table import LookupTable
from omicllm.get._ult import ENCODE_ANEW, whole_table

if TYPE_CHECKING:
    from anndata import AnnData

    from omicllm.model._ult_codec import ProfileCodec

#: Characters that are counted at a time.
_BLOCK = 1 << 22
_HINT = "Make it with ol.tl.ult(adata)."


@dataclass
class Stored:
    """Strings and how to read them.

    Attributes
    ----------
    source
        The AnnData that results are written into.
    params
        ``params`` of the `uns` entry.
    strings
        One per observation (or per gene for gene images).
    table
        The lookup table.
    codec
        Profiles: table and genes.
    shape
        Images: shape of each.
    axis
        ``"obs"`` or ``"var"``.
    """

    source: AnnData
    params: dict[str, Any]
    strings: np.ndarray
    table: LookupTable
    codec: ProfileCodec | None = None
    shape: tuple[int, ...] | None = None
    axis: str = "obs"

    @property
    def method(self) -> str:
        """``"series"``, ``"image"`` or ``"text"``."""
        return self.table.parameters.method

    def gene_order(self) -> np.ndarray:
        """Place of each gene of the object among the characters of a string.

        Raises
        ------
        ValueError
            When the object has genes that were not encoded.
        """
        assert self.codec is not None  # profiles only
        encoded = self.codec.var_names[""]
        index = {name: i for i, name in enumerate(encoded.tolist())}
        names = [str(v) for v in self.source.var_names]
        absent = [n for n in names if n not in index]
        if absent:
            msg = (
                f"{len(absent)} of {len(names)} genes of adata were not encoded "
                f"({checks.listed(absent, most=3)}): the table was fitted on other genes. Run "
                "ol.tl.ult(adata) on these."
            )
            raise ValueError(msg)
        return np.array([index[n] for n in names], dtype=np.int64)


def stored(data: Any, key: str, mod: str | None) -> Stored:
    """Read the results of :func:`omicllm.tl.ult` named `key`.

    Of a MuData, strings of the modality itself, else the segments of the modality in the strings
    of the whole object.
    """
    from omicllm.model._ult_codec import ProfileCodec

    source = inputs.resolve(data, mod)
    joined = key not in source.uns and mod is not None and key in data.uns
    holder = data if joined else source
    if key not in holder.uns or "params" not in holder.uns[key]:
        raise checks.missing(key, "adata.uns", holder.uns, hint=_HINT)
    entry = holder.uns[key]
    params = dict(entry["params"])
    axis = "obs" if key in holder.obs else "var"
    if key not in getattr(holder, axis):
        raise checks.missing(key, "adata.obs", holder.obs, hint=_HINT)
    strings = np.asarray(getattr(holder, axis)[key], dtype=object)
    if "modalities" in entry:
        if mod is None or not joined:
            raise checks.missing(key, "adata.uns", holder.uns, hint=_HINT)
        own = {k: v for k, v in params.items() if k != "max_value"}
        names = [str(n) for n in np.asarray(params["modalities"]).ravel()]
        codec = ProfileCodec.from_dict(
            {n: dict(entry["modalities"][n]) for n in names}, own, joint=bool(params["joint"])
        )
        if mod not in codec.tables:
            raise checks.missing(mod, "the modalities that were encoded", codec.tables, hint="")
        place = list(codec.tables).index(mod)
        rows = data.obs_names.get_indexer(source.obs_names)
        segments = [codec.split(str(s))[place] for s in strings[rows]]
        one = ProfileCodec(
            {"": codec.tables[mod]}, {"": codec.var_names[mod]}, {"": codec.scales[mod]}
        )
        return Stored(source, params, np.array(segments, dtype=object), one.tables[""], one)
    whole_table(entry, params, key)
    table = LookupTable.from_arrays(entry, params)
    _warn_of_others(strings, table, params, key)
    out = Stored(source, params, strings, table, axis=axis)
    if out.method == "series":
        genes = np.asarray([str(v) for v in np.asarray(entry["var_names"])])
        out.codec = ProfileCodec({"": table}, {"": genes})
    if out.method == "image":
        out.shape = tuple(int(s) for s in np.asarray(entry["shape"]))
    return out


def _warn_of_others(
    strings: np.ndarray, table: LookupTable, params: dict[str, Any], key: str
) -> None:
    """Say so when a table that counted these strings counted fewer of a character than there are.

    Joined objects keep the strings of all, but may keep the table of one. Copies of what was
    counted hold a multiple of each count.
    """
    if not params.get("fitted", False):
        return
    found = np.zeros(0x110000, dtype=np.int64)
    step = max(1, _BLOCK // max(1, max((len(str(s)) for s in strings), default=1)))
    for start in range(0, len(strings), step):
        text = "".join(map(str, strings[start : start + step]))
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        found += np.bincount(codes, minlength=len(found))
    there, counts = found[np.asarray(table.codes, dtype=np.int64)], np.asarray(table.counts)
    if (there > counts).any() and (there * counts.sum() != counts * there.sum()).any():
        worst = int(np.argmax(there - counts))
        warn(
            f"The strings hold {chr(int(table.codes[worst]))!r} {there[worst]} times, but the "
            f"table in adata.uns[{key!r}] counted {counts[worst]}, as after joining objects. What "
            f"was encoded with another table is read wrong. {ENCODE_ANEW}"
        )


def layer_of(found: Stored, layer: str | None, mod: str | None) -> str | None:
    """The layer that was encoded, unless another one is named."""
    if layer is not None:
        return layer
    used = found.params.get("layer")
    if used is not None and hasattr(used, "get"):
        used = used.get(mod)
    return None if used is None else str(used)
