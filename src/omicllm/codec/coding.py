"""The maps of a lookup table, laid out for whole matrices: level to code point and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from omicllm.codec import image, series, text
from omicllm.codec.strings import code_dtype, words

if TYPE_CHECKING:
    from omicllm.codec.lookup_table import LookupTable


class Coding:
    """What encoding and decoding with one table need, computed once.

    Parameters
    ----------
    table
        A table with at least one value.
    """

    def __init__(self, table: LookupTable) -> None:
        self.p = table.parameters
        self.codes = table.codes.astype(code_dtype(table.codes))
        order = np.argsort(table.levels, kind="stable")
        self.keys, self.key_codes = table.levels[order], self.codes[order]
        # Ascending keys: where characters coincide (surrogates), the largest key wins.
        self.key_of = np.full(int(self.codes.max()) + 2, -1, dtype=np.int64)
        self.key_of[self.key_codes] = np.arange(len(self.keys))
        if self.p.method == "series":
            S = self.p.steps
            # Code point 0 marks levels that are refused; it is no character of any table.
            self.dense = self.codes_of(np.arange(-S, S + 1), refused=0)
            self.values = np.append(series.values(self.keys, **self.p.companding), np.nan)[
                self.key_of
            ]

    # -- values to code points --------------------------------------------------------------

    def codes_of(self, values: Any, *, refused: int | None = None) -> np.ndarray:
        """Code points of table values; those that are not there follow `unseen`.

        Raises
        ------
        ValueError
            When ``unseen="raise"``, unless `refused` is given as the code point of such values.
        """
        values = np.asarray(values, dtype=None if self.p.method != "text" else object).reshape(-1)
        index = np.searchsorted(self.keys, values, side="left").clip(0, len(self.keys) - 1)
        if values.dtype.kind == "f":
            index[np.isnan(values)] = 0
        if self.p.unseen == "next":
            return self.key_codes[index]
        known = self.keys[index] == values
        if self.p.unseen == "nearest":
            below = np.maximum(index - 1, 0)
            closer = values - self.keys[below] < self.keys[index] - values
            return self.key_codes[np.where(~known & closer, below, index)]
        if refused is not None:
            return np.where(known, self.key_codes[index], self.codes.dtype.type(refused))
        if not known.all():
            self._refuse(values[~known])
        return self.key_codes[index]

    def _refuse(self, values: np.ndarray) -> None:
        distinct = list(dict.fromkeys(str(v) for v in values.tolist()))
        what = {"series": "level", "image": "coefficient", "text": "token"}[self.p.method]
        examples = ", ".join(distinct[:3])
        msg = (
            f"{len(distinct)} {what}(s) are not in the table (for example {examples}). "
            "Fit or update the table on data that hold them, or pass unseen='next'."
        )
        raise ValueError(msg)

    def rows(self, piece: Any) -> np.ndarray:
        """Code points (n, padded length) of a matrix of profiles, dense or CSR."""
        S, (n, width) = self.p.steps, piece.shape
        n_padding = -width % self.p.patch_size if self.p.patch_size else 0
        out = np.empty((n, width + n_padding), dtype=self.codes.dtype)
        if sparse.issparse(piece):
            level = series.levels(piece.data, **self.p.companding, rounding=self.p.rounding)
            out[...] = self.dense[S]
            target = (
                np.repeat(np.arange(n) * (width + n_padding), np.diff(piece.indptr)) + piece.indices
            )
            level += S
            out.reshape(-1)[target] = self.dense.take(level, mode="clip")
        else:
            level = series.levels(piece, **self.p.companding, rounding=self.p.rounding)
            level += S
            if n_padding:
                out[:, :width] = self.dense.take(level, mode="clip")
            else:
                np.take(self.dense, level, out=out, mode="clip")
        if n_padding:
            out[:, width:] = out[:, width - 1 : width]
        if self.p.unseen == "raise" and not out.all():
            dense = piece.toarray() if sparse.issparse(piece) else piece
            level = series.levels(dense, **self.p.companding, rounding=self.p.rounding)
            self._refuse(np.setdiff1d(level, self.keys))
        return out

    # -- code points to values --------------------------------------------------------------

    def values_of(self, codes: np.ndarray) -> np.ndarray:
        """Decoded values of code points, float64 (series)."""
        out = self.values.take(codes, mode="clip")
        if np.isnan(out).any():
            unknown = np.isnan(out)
            if self.p.unknown == "raise":
                self._refuse_characters(codes[unknown])
            if self.p.unknown == "max":
                out[unknown] = series.values(self.keys[-1], **self.p.companding)
        return out

    def _keys_of(self, codes: np.ndarray) -> np.ndarray:
        index = self.key_of.take(codes, mode="clip")
        unknown = index < 0
        if unknown.any():
            if self.p.unknown == "raise":
                self._refuse_characters(codes[unknown])
            keys = self.keys[index]
            keys[unknown] = self.keys[-1] if self.p.unknown == "max" else np.nan
            return keys
        return self.keys[index]

    def _refuse_characters(self, codes: np.ndarray) -> None:
        unique = sorted({int(c) for c in np.asarray(codes).ravel()})
        examples = ", ".join(f"U+{c:04X}" for c in unique[:3])
        msg = (
            f"{len(unique)} character(s) are not in the table (for example {examples}): was the "
            "text made with another table? Pass unknown='max' or 'nan' to decode the rest."
        )
        raise ValueError(msg)

    def decoded(self, string: str, shape: tuple[int, ...] | None, rescale: bool) -> Any:  # noqa: FBT001
        """Instance that a string stands for."""
        p = self.p
        parts = words(string, p.separator)
        if p.method == "text":
            return text.joined([self._keys_of(w).tolist() for w in parts])
        size = p.patch_size
        if p.method == "image":
            shape = tuple(shape or ())
            size = (1 if len(shape) == 2 else shape[2]) * p.max_coefficients**2
        for word in parts:
            if size is not None and len(word) != size:
                msg = f"A word has {len(word)} characters; words of this table have {size}."
                raise ValueError(msg)
        joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        if p.method == "series":
            return self.values_of(joined)
        coefficients = self._keys_of(joined).reshape(len(parts), size or 1)
        # As published, an image without contrast is divided by zero.
        constant = np.nan if p.codepoints == "reference" else 0.0
        return image.pixels(
            coefficients,
            shape or (),
            patch_size=p.patch_size or 1,
            max_coefficients=p.max_coefficients,
            rescale=rescale,
            constant=constant,
        )
