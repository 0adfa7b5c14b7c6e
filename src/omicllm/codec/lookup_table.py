"""`LookupTable`: one character per value, the most frequent value first."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core.log import logger
from omicllm.codec import image, series, text
from omicllm.codec.code_points import reference_code_points, safe_code_points
from omicllm.codec.coding import Coding
from omicllm.codec.counting import History, by_value
from omicllm.codec.instances import PIECE, Universe, patches, row_pieces, stream, totals
from omicllm.codec.parameters import Parameters
from omicllm.codec.strings import rows_to_strings, strings_to_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Of the three methods: the kind of key in the published file.
KEY_TYPES = {"series": "int", "image": "float", "text": "str"}


class LookupTable:
    """Values, how often each was counted, and the character that stands for each.

    A transform turns a profile, an image or a text into patches of values; values are counted and
    ranked by count, and the value of rank i gets the i-th character. A string of characters, with a
    separator between patches, then stands for the instance.

    Parameters
    ----------
    levels
        Values in rank order: whole numbers (series), floats (image) or tokens (text).
    counts
        How often each was counted, same order. Sorted by count when they are not (stable).
    parameters
        Fields of :class:`omicllm.codec.Parameters` by name.

    Attributes
    ----------
    levels, counts
        In rank order.
    characters
        str, one character per rank.
    codes
        Code points, uint32, in rank order.
    parameters
        All parameters.

    Examples
    --------
    >>> from omicllm.codec import LookupTable
    >>> table = LookupTable.fit([[0.0, 1.0, 0.0, 3.0]], max_value=3.0, patch_size=4)
    >>> strings = table.encode([[0.0, 0.0, 1.0, 3.0]])
    >>> table.decode(strings)[0].round(1).tolist()
    [0.0, 0.0, 1.0, 3.0]

    References
    ----------
    Unified lookup tables: Mach. Learn.: Sci. Technol. (2025), doi 10.1088/2632-2153/ae143c.
    """

    def __init__(
        self, levels: Any, counts: Any, *, codes: np.ndarray | None = None, **parameters: Any
    ) -> None:
        self.parameters = Parameters(**parameters)
        kind = {"int": np.int64, "float": np.float64, "str": object}[self.key_type]
        self.levels = np.asarray(levels, dtype=kind).reshape(-1)
        self.counts = np.asarray(counts, dtype=np.int64).reshape(-1)
        if len(self.levels) != len(self.counts):
            msg = f"There are {len(self.levels)} values and {len(self.counts)} counts."
            raise ValueError(msg)
        if len(set(self.levels.tolist())) != len(self.levels):
            msg = "A value occurs more than once in the table."
            raise ValueError(msg)
        if (np.diff(self.counts) > 0).any():
            order = np.argsort(-self.counts, kind="stable")
            self.levels, self.counts = self.levels[order], self.counts[order]
        self._given_codes = None if codes is None else np.asarray(codes, dtype=np.uint32)

    # -- making -----------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        instances: Any,
        *,
        method: str = "series",
        tie_break: str = "value",
        codepoints: str = "safe",
        bits: int = 8,
        mu: float = 255.0,
        max_value: float = 65536.0,
        patch_size: int | None = 8,
        offset: int = 33,
        separator: str | None = None,
        max_coefficients: int = 3,
        precision: int = 1,
        unseen: str | None = None,
        unknown: str = "raise",
        rounding: str = "trunc",
    ) -> LookupTable:
        """Count the values of instances and rank them.

        Parameters
        ----------
        instances
            Profiles (a matrix with one per row, dense or CSR, or a list of arrays of any length),
            images, or texts; an iterable of matrices is taken block by block.
        method
            ``"series"``, ``"image"`` or ``"text"``.
        tie_break, codepoints, bits, mu, max_value, patch_size, offset, separator
            See :class:`omicllm.codec.Parameters`.
        max_coefficients, precision, unseen, unknown, rounding
            See :class:`omicllm.codec.Parameters`.
        """
        table = cls(
            [],
            [],
            method=method,
            tie_break=tie_break,
            codepoints=codepoints,
            bits=bits,
            mu=mu,
            max_value=max_value,
            patch_size=patch_size,
            offset=offset,
            separator=separator or "",
            max_coefficients=max_coefficients,
            precision=precision,
            unseen=unseen or "",
            unknown=unknown,
            rounding=rounding,
        )
        return table.update(instances)

    def update(self, instances: Any) -> LookupTable:
        """Count further instances in place; the ranks follow. Returns the table.

        With ``tie_break="value"`` the result does not depend on order or blocks; with
        ``"reference"`` it is that of adding the instances one by one.
        """
        p = self.parameters
        universe = Universe(p)
        ids = universe.ids(self.levels)
        start = np.zeros(universe.size, dtype=np.int64)
        start[ids] = self.counts
        if p.tie_break == "value":
            total = totals(instances, p, universe, start)
            present = np.flatnonzero(total)
            keys = universe.keys(present)
            order = by_value(keys, total[present])
            self._set(keys[order], total[present][order])
        else:
            history = History(ids, start)
            for block, instance in stream(instances, p, universe):
                history.add(block, instance)
            self._set(universe.keys(history.order), history.counts[history.order])
        return self

    def merge(self, other: LookupTable) -> LookupTable:
        """Add the counts of another table in place. Returns the table.

        With ``tie_break="reference"`` new values follow in the order of `other`, then one stable
        sort by count.

        Raises
        ------
        ValueError
            When the tables were made with different transforms.
        """
        mine, theirs = self._transform(), other._transform()
        differ = [k for k in mine if mine[k] != theirs[k]]
        if differ:
            differences = ", ".join(f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in differ)
            msg = f"The tables count different things ({differences}) and cannot be merged."
            raise ValueError(msg)
        total = dict(zip(self.levels.tolist(), self.counts.tolist(), strict=True))
        for level, count in zip(other.levels.tolist(), other.counts.tolist(), strict=True):
            total[level] = total.get(level, 0) + count
        keys = np.array(list(total), dtype=self.levels.dtype)
        counts = np.array(list(total.values()), dtype=np.int64)
        if self.parameters.tie_break == "value":
            order = by_value(keys, counts)
        else:
            order = np.argsort(-counts, kind="stable")
        self._set(keys[order], counts[order])
        return self

    def _transform(self) -> dict[str, Any]:
        """Parameters that decide what is counted."""
        p = self.parameters
        names = {
            "series": ("method", "bits", "mu", "max_value", "rounding"),
            "image": ("method", "patch_size", "max_coefficients", "precision"),
            "text": ("method", "patch_size"),
        }[p.method]
        return {name: getattr(p, name) for name in names}

    def _set(self, levels: np.ndarray, counts: np.ndarray) -> None:
        self.levels, self.counts = levels, counts
        self._given_codes = None
        for name in ("codes", "_coding", "characters"):
            self.__dict__.pop(name, None)

    # -- characters -------------------------------------------------------------------------

    @property
    def key_type(self) -> str:
        """Kind of value: ``"int"``, ``"float"`` or ``"str"``."""
        return KEY_TYPES[self.parameters.method]

    @cached_property
    def codes(self) -> np.ndarray:
        """Code points in rank order, uint32."""
        if self._given_codes is not None:
            return self._given_codes
        p = self.parameters
        make = safe_code_points if p.codepoints == "safe" else reference_code_points
        codes = make(len(self.levels), offset=p.offset, separator=p.separator)
        lost = len(codes) - len(np.unique(codes))
        if lost:
            logger.warning(
                "%d values share the character '?' (surrogates, as published) and cannot be told "
                "apart when decoded; codepoints='safe' keeps them",
                lost,
            )
        return codes

    @cached_property
    def characters(self) -> str:
        """One character per rank."""
        return "".join(map(chr, self.codes.tolist()))

    @cached_property
    def _coding(self) -> Coding:
        if not len(self.levels):
            msg = "The lookup table is empty: fit it on data first (LookupTable.fit)."
            raise ValueError(msg)
        return Coding(self)

    def lookup(self, values: Any) -> list[str]:
        """Characters of values as they are in the table (levels, coefficients or tokens).

        Values that are not there follow the parameter `unseen`.
        """
        coding = self._coding
        return [chr(c) for c in coding.codes_of(values).tolist()]

    # -- strings ----------------------------------------------------------------------------

    def encode(self, instances: Any) -> list[str]:
        """One string per instance.

        Parameters
        ----------
        instances
            As for :meth:`fit`.

        Raises
        ------
        ValueError
            When the table is empty, a value is NaN, or a value is not in the table and
            ``unseen="raise"``.
        """
        return list(chain.from_iterable(self.encode_blocks(instances)))

    def encode_blocks(self, instances: Any) -> Iterator[list[str]]:
        """Strings in blocks of rows, for data whose strings would not fit into memory."""
        coding, p = self._coding, self.parameters
        if p.method == "series":
            for piece in row_pieces(instances):
                codes = coding.rows(piece)
                yield rows_to_strings(codes, p.patch_size, p.separator)
            return
        for instance in instances:
            coded = (coding.codes_of(w).tolist() for w in patches(instance, p))
            yield [p.separator.join("".join(map(chr, word)) for word in coded)]

    def decode(
        self,
        strings: Iterable[str],
        shapes: Sequence[tuple[int, ...]] | None = None,
        *,
        rescale: bool = True,
    ) -> list[Any]:
        """Profiles, images or texts from strings.

        Parameters
        ----------
        strings
            Made with this table.
        shapes
            Images: shape of each original.
        rescale
            Images: shift and scale to [0, 1], as published (absolute brightness is lost).

        Returns
        -------
        Series: float64 arrays of padded length (cut them to the length of the profile). Images:
        float64 arrays. Text: str.

        Raises
        ------
        ValueError
            When the table is empty; a word has another length than a patch; a character is not in
            the table and ``unknown="raise"``.
        """
        strings = [strings] if isinstance(strings, str) else list(strings)
        if self.parameters.method == "series":
            same = self.decode_rows(strings)
            if same is not None:
                return list(same)
        coding = self._coding
        if self.parameters.method == "image" and (shapes is None or len(shapes) != len(strings)):
            msg = "Images need shapes=, one (H, W) or (H, W, C) per string."
            raise ValueError(msg)
        shape: Iterable[Any] = shapes if shapes is not None else [None] * len(strings)
        return [coding.decoded(s, t, rescale) for s, t in zip(strings, shape, strict=True)]

    def decode_rows(self, strings: Sequence[str], dtype: Any = np.float64) -> np.ndarray | None:
        """Profiles of equal length as one matrix (n, padded length); None where lengths differ."""
        p, coding = self.parameters, self._coding
        if p.method != "series" or not len(strings) or len(set(map(len, strings))) > 1:
            return None
        out = None
        step = max(1, PIECE // max(1, len(strings[0])))
        for start in range(0, len(strings), step):
            codes = strings_to_rows(strings[start : start + step], p.patch_size, p.separator)
            if codes is None:
                return None
            if out is None:
                out = np.empty((len(strings), codes.shape[1]), dtype=dtype)
            out[start : start + step] = coding.values_of(codes)
        return out

    def quality(self, instances: Iterable[Any]) -> np.ndarray:
        """How well each instance survives encoding and decoding, float64.

        Peak signal-to-noise ratio in dB (series: the peak is `max_value`; images: both divided by
        their maxima), or for text the share of matching characters.
        """
        p, out = self.parameters, []
        for instance in instances:
            one = [np.asarray(instance)] if p.method != "text" else [instance]
            shapes = [one[0].shape] if p.method == "image" else None
            decoded = self.decode(self.encode(one), shapes)[0]
            if p.method == "series":
                out.append(series.psnr(one[0], decoded, p.max_value))
            elif p.method == "image":
                out.append(image.psnr(one[0], decoded))
            else:
                out.append(text.similarity(instance, decoded))
        return np.array(out, dtype=np.float64)

    # -- storage ----------------------------------------------------------------------------

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Levels, counts and code points, for a file that holds arrays."""
        levels = self.levels.astype(np.int32) if self.key_type == "int" else self.levels
        return {"levels": levels, "counts": self.counts, "codepoints": self.codes}

    @classmethod
    def from_arrays(cls, arrays: Any, parameters: Any) -> LookupTable:
        """Table from :meth:`as_arrays` and parameters by name; the code points are kept."""
        known = {f.name for f in fields(Parameters)}
        known_parameters = {k: _scalar(v) for k, v in parameters.items() if k in known}
        known_parameters.setdefault("patch_size", None)  # h5ad holds no None
        codes = np.asarray(arrays["codepoints"], dtype=np.uint32)
        return cls(arrays["levels"], arrays["counts"], codes=codes, **known_parameters)

    def __len__(self) -> int:
        return len(self.levels)

    def __repr__(self) -> str:
        p = self.parameters
        return f"LookupTable({p.method}, {len(self)} values, {int(self.counts.sum())} counted)"


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
