"""What a lookup table must know beside its counts to encode and decode."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

METHODS = ("series", "image", "text")
CHOICES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "tie_break": ("value", "reference"),
    "codepoints": ("safe", "reference"),
    "unseen": ("next", "nearest", "raise"),
    "unknown": ("raise", "max", "nan"),
    "rounding": ("trunc", "nearest"),
}
#: Between patches of a profile or image, and between chunks of a text.
SEPARATORS = {"series": " ", "image": " ", "text": "\x1e"}


@dataclass(frozen=True)
class Parameters:
    """Parameters of a lookup table; the defaults are those of the published code.

    Attributes
    ----------
    method
        ``"series"``, ``"image"`` or ``"text"``.
    bits, mu, max_value, rounding
        Series: bits of the level (2^bits steps on each side of zero), compression, the value that
        saturates, and ``"trunc"`` (towards zero, as published) or ``"nearest"``.
    patch_size
        Values in a word (side of a square for images, characters of a chunk for text); None for
        one word without padding (series only).
    max_coefficients, precision
        Image: side of the corner of coefficients that is kept, and decimals of a coefficient.
    offset
        First code point.
    separator
        Character between words; by default a space, and U+001E for text.
    tie_break
        Order of values that are equally frequent: ``"value"`` (ascending; does not depend on the
        order of the data) or ``"reference"`` (history of the published code).
    codepoints
        ``"safe"`` (letters, digits, punctuation and symbols that survive Unicode normalisation,
        stripping and tokenizers) or ``"reference"`` (``offset + rank``, surrogates become ``?``).
    unseen
        What encodes a value that is not in the table: the ``"next"`` larger value (as published),
        the ``"nearest"``, or ``"raise"``. By default ``"next"`` with reference code points, else
        ``"nearest"``, and ``"raise"`` for text, where nearness means nothing.
    unknown
        What a character that is not in the table decodes to: ``"raise"``, ``"max"`` (the largest
        value) or ``"nan"``.
    """

    method: str = "series"
    bits: int = 8
    mu: float = 255.0
    max_value: float = 65536.0
    rounding: str = "trunc"
    patch_size: int | None = 8
    max_coefficients: int = 3
    precision: int = 1
    offset: int = 33
    separator: str = ""
    tie_break: str = "value"
    codepoints: str = "safe"
    unseen: str = ""
    unknown: str = "raise"

    def __post_init__(self) -> None:
        fill = object.__setattr__
        _one_of("method", self.method)
        if not self.separator:
            fill(self, "separator", SEPARATORS[self.method])
        if not self.unseen:
            text = "raise" if self.method == "text" else "nearest"
            fill(self, "unseen", "next" if self.codepoints == "reference" else text)
        for name in CHOICES:
            _one_of(name, getattr(self, name))
        self._check_numbers()
        if self.method == "text" and (self.unseen == "nearest" or self.unknown == "nan"):
            msg = "Text has no nearest value and no NaN: use unseen='raise' and unknown='raise'."
            raise ValueError(msg)

    def _check_numbers(self) -> None:
        fill = object.__setattr__
        smallest = {"bits": 1, "max_coefficients": 1, "precision": 0, "offset": 0}
        for name, low in smallest.items():
            fill(self, name, _whole(name, getattr(self, name), low))
        if self.bits > 20:
            msg = f"bits must be at most 20, not {self.bits}."
            raise ValueError(msg)
        if self.patch_size is not None:
            fill(self, "patch_size", _whole("patch_size", self.patch_size, 1))
        elif self.method != "series":
            msg = f"patch_size=None (one word) is for method='series', not {self.method!r}."
            raise ValueError(msg)
        if self.method == "image" and self.max_coefficients > (self.patch_size or 0):
            msg = f"max_coefficients must be at most patch_size, not {self.max_coefficients}."
            raise ValueError(msg)
        for name in ("mu", "max_value"):
            value = getattr(self, name)
            if isinstance(value, (str, bytes)) or not 0 < float(value) < float("inf"):
                msg = f"{name} must be a positive number, not {value!r}."
                raise ValueError(msg)
            fill(self, name, float(value))
        if len(self.separator) != 1:
            msg = f"separator must be one character, not {self.separator!r}."
            raise ValueError(msg)

    @property
    def steps(self) -> int:
        """Levels on each side of zero, S = 2^bits."""
        return 1 << self.bits

    @property
    def companding(self) -> dict[str, Any]:
        """The numbers S, mu and M of `omicllm.codec.series`."""
        return {"bits": self.bits, "mu": self.mu, "max_value": self.max_value}

    def as_dict(self) -> dict[str, Any]:
        """Parameters by name."""
        return asdict(self)


def _one_of(name: str, value: Any) -> None:
    if value not in CHOICES[name]:
        allowed = ", ".join(repr(v) for v in CHOICES[name])
        msg = f"{name} must be one of {allowed}, not {value!r}."
        raise ValueError(msg)


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < low:
        msg = f"{name} must be a whole number of at least {low}, not {value!r}."
        raise ValueError(msg)
    return int(value)
