"""Tables of one or more modalities: profiles to strings and back; free of torch and scvi."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm._core import names
from omicllm._core.checks import listed, missing
from omicllm.codec.lookup_table import LookupTable
from omicllm.model._ult_sources import BLOCK, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass
class ProfileCodec:
    """Lookup tables of one or more modalities, and the genes each of them was fitted on.

    Attributes
    ----------
    tables
        By name of the modality; with `joint` all entries are one table.
    var_names
        Genes by modality, in the order of the characters.
    scales
        By modality: with `joint`, values are divided by this before they are encoded.
    joint
        One table for all modalities.
    """

    tables: dict[str, LookupTable]
    var_names: dict[str, np.ndarray]
    scales: dict[str, float] = field(default_factory=dict)
    joint: bool = False

    @classmethod
    def fit(
        cls,
        data: Mapping[str, Source],
        *,
        max_value: Any = "auto",
        joint: bool = False,
        **parameters: Any,
    ) -> ProfileCodec:
        """Count levels, block by block.

        Parameters
        ----------
        data
            What `sources` gives.
        max_value
            Value that saturates; ``"auto"`` for the largest absolute value; a dict by modality.
        joint
            One table for all modalities, each scaled to its own `max_value`.
        parameters
            Of :class:`omicllm.codec.Parameters`.
        """
        for source in data.values():
            if not source.n_obs or not source.X.shape[0] or not source.X.shape[1]:
                of = f"modality {source.name!r}" if source.name else "adata"
                msg = f"There is nothing to count: {of} has shape {tuple(source.X.shape)}."
                raise ValueError(msg)
        if isinstance(max_value, str) and max_value != "auto":
            msg = f"max_value must be a positive number or 'auto', not {max_value!r}."
            raise ValueError(msg)
        # Bad parameters are refused before anything is read.
        given = max_value if isinstance(max_value, (int, float)) else 1.0
        shared = LookupTable([], [], **{**parameters, "max_value": 1.0 if joint else given})
        largest = {name: _largest(source, max_value) for name, source in data.items()}
        tables, scales = {}, {}
        for name, source in data.items():
            scales[name] = largest[name] if joint else 1.0
            table = shared if joint else LookupTable(
                [], [], **{**parameters, "max_value": largest[name]}
            )  # fmt: skip
            if table.parameters.tie_break == "reference":  # the order of the rows matters
                for _, _, block in source.blocks():
                    table.update(_scaled(block, scales[name]))
            else:
                own = table.parameters.as_dict()
                for _, _, counted in source.map(_counted, scales[name], own):
                    table.merge(counted)
            tables[name] = table
        genes = {name: source.var_names for name, source in data.items()}
        return cls(tables, genes, scales, joint)

    # -- encoding ---------------------------------------------------------------------------

    def aligned(self, data: Mapping[str, Source], *, reindex: bool = False) -> dict[str, Source]:
        """Sources with the genes of the tables, in their order.

        Raises
        ------
        ValueError
            When a modality or gene is missing, or (without `reindex`) genes are others or in
            another order: the place of a character is what says which gene it is.
        """
        if set(data) != set(self.tables):
            msg = (
                f"The tables are those of {listed(n or 'one AnnData' for n in self.tables)}, but "
                f"the object has {listed(n or 'no modalities' for n in data)}."
            )
            raise ValueError(msg)
        out = {}
        for name in self.tables:
            source, wanted = data[name], self.var_names[name]
            if not np.array_equal(source.var_names, wanted):
                source = _reindexed(source, wanted, reindex=reindex)
            out[name] = source
        return out

    def encode_blocks(
        self, data: Mapping[str, Source], *, reindex: bool = False
    ) -> Iterator[list[str]]:
        """Strings of the observations, in blocks of them."""
        aligned = self.aligned(data, reindex=reindex)
        if set(aligned) == {""}:
            scale = self.scales.get("", 1.0)
            for _, _, strings in aligned[""].map(_encoded, scale, self.tables[""]):
                yield strings
            return
        step = min(max(1, BLOCK // max(1, s.X.shape[1])) for s in aligned.values())
        n_obs = next(iter(aligned.values())).n_obs
        for start in range(0, n_obs, step):
            stop = min(n_obs, start + step)
            parts = [self._segments(s, start, stop) for s in aligned.values()]
            yield ["".join(p) for p in zip(*parts, strict=True)]

    def _segments(self, source: Source, start: int, stop: int) -> list[str]:
        """``<name>`` and the string of the modality; nothing after it where it is missing."""
        rows = np.arange(source.n_obs) if source.rows is None else source.rows
        some = rows[start:stop]
        part = Source(
            source.name, source.X, source.var_names, source.obs_names[start:stop], some,
            source.columns,
        )  # fmt: skip
        out = [f"<{source.name}>"] * (stop - start)
        given = (self.scales[source.name], self.tables[source.name])
        for where, there, strings in part.map(_encoded, *given):
            at = (
                np.arange(where.start, where.stop)
                if there is None
                else where.start + np.flatnonzero(there)
            )
            for i, string in zip(at, strings, strict=True):
                out[i] += string
        return out

    # -- decoding ---------------------------------------------------------------------------

    def decode(self, strings: Sequence[str], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Values by modality, (n, n_vars); NaN where a segment is empty."""
        strings = [str(s) for s in strings]
        if set(self.tables) == {""}:
            parts = [strings]
        else:
            parts = [list(p) for p in zip(*(self.split(s) for s in strings), strict=True)]
            parts = parts or [[] for _ in self.tables]
        out = {}
        for name, segments in zip(self.tables, parts, strict=True):
            full = np.array([bool(s) for s in segments], dtype=bool)
            decoded = self._decoded(name, [s for s in segments if s], dtype)
            if self.scales.get(name, 1.0) != 1.0:
                decoded = decoded * self.scales[name]
            if not full.all():
                values = np.full((len(segments), decoded.shape[1]), np.nan, dtype=dtype)
                values[full] = decoded
                decoded = values
            out[name] = decoded
        return out

    def _decoded(self, name: str, segments: list[str], dtype: Any) -> np.ndarray:
        wanted, length = len(self.var_names[name]), self._length(name)
        for i, segment in enumerate(segments):
            if len(segment) != length:
                msg = (
                    f"String {i} has {len(segment)} characters; {wanted} genes make {length}. It "
                    "was encoded with other genes, or cut."
                )
                raise ValueError(msg)
        if not segments:
            return np.empty((0, wanted), dtype=dtype)
        rows = self.tables[name].decode_rows(segments, dtype)
        if rows is None:
            rows = np.stack([v.astype(dtype) for v in self.tables[name].decode(segments)])
        return rows[:, :wanted]

    def _length(self, name: str) -> int:
        """Characters of a full segment: genes, padding and separators."""
        n, patch = len(self.var_names[name]), self.tables[name].parameters.patch_size
        return n if patch is None else -(-n // patch) * (patch + 1) - 1

    def split(self, string: str) -> list[str]:
        """Segments of the text of several modalities, without their markers."""
        out = []
        markers = [f"<{name}>" for name in self.tables]
        for i, name in enumerate(self.tables):
            if not string.startswith(markers[i]):
                msg = f"A text lacks the marker {markers[i]!r}: it was made with other modalities."
                raise ValueError(msg)
            string = string[len(markers[i]) :]
            after = markers[i + 1] if i + 1 < len(markers) else ""
            cut = self._length(name)
            rest = string[cut:]
            # By length first: published code points may hold the characters of a marker.
            if len(string) < cut or (rest if not after else not rest.startswith(after)):
                cut = 0
            out.append(string[:cut])
            string = string[cut:]
        if string:
            msg = f"A text has {len(string)} characters more than its modalities make."
            raise ValueError(msg)
        return out

    # -- storage ----------------------------------------------------------------------------

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Arrays by modality, for a file."""
        return {
            name: {
                **table.as_arrays(),
                "var_names": self.var_names[name].astype(object),
                "max_value": table.parameters.max_value,
                "scale": self.scales.get(name, 1.0),
            }
            for name, table in self.tables.items()
        }

    @classmethod
    def from_dict(
        cls, stored: Mapping[str, Any], parameters: Mapping[str, Any], *, joint: bool
    ) -> ProfileCodec:
        """Undo :meth:`as_dict`."""
        tables: dict[str, LookupTable] = {}
        for name, arrays in stored.items():
            own = {**parameters, "max_value": float(arrays["max_value"])}
            first = next(iter(tables.values())) if joint and tables else None
            tables[name] = first or LookupTable.from_arrays(arrays, own)
        genes = {n: np.asarray([str(v) for v in a["var_names"]]) for n, a in stored.items()}
        scales = {n: float(a["scale"]) for n, a in stored.items()}
        return cls(tables, genes, scales, joint)


def _largest(source: Source, max_value: Any) -> float:
    if hasattr(max_value, "items"):
        if source.name not in max_value:
            raise missing(source.name, "max_value", max_value, hint="Give one per modality.")
        max_value = max_value[source.name]
    if not (isinstance(max_value, str) and max_value == "auto"):
        return float(max_value)
    return max((one for _, _, one in source.map(_largest_of)), default=0.0) or 1.0


def _largest_of(block: Any) -> float:
    stored = block.data if sparse.issparse(block) else block
    return max(float(np.max(stored)), -float(np.min(stored))) if stored.size else 0.0


def _counted(block: Any, scale: float, parameters: Mapping[str, Any]) -> LookupTable:
    return LookupTable([], [], **parameters).update(_scaled(block, scale))


def _encoded(block: Any, scale: float, table: LookupTable) -> list[str]:
    return table.encode(_scaled(block, scale))


def _scaled(block: Any, scale: float) -> Any:
    return block if scale == 1.0 else block.astype(np.float64) / scale


def _reindexed(source: Source, wanted: np.ndarray, *, reindex: bool) -> Source:
    absent = sorted(set(wanted.tolist()) - set(source.var_names.tolist()))
    of = f" of modality {source.name!r}" if source.name else ""
    if not reindex or absent:
        new = sorted(set(source.var_names.tolist()) - set(wanted.tolist()))
        if absent or new:
            what = (
                f"{len(absent)} of its {len(wanted)} genes are not there "
                f"({listed(absent, most=3)}) and {len(new)} are new ({listed(new, most=3)})"
            )
        else:
            what = "they are the same genes in another order"
        hint = "" if absent else " Pass reindex=True to take them by name."
        msg = f"The table was fitted on other genes{of}: {what}.{hint}"
        raise ValueError(msg)
    at = names.positions(wanted.tolist(), source.var_names)
    return Source(source.name, source.X, wanted, source.obs_names, source.rows, at)
