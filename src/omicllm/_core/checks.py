"""One wording for errors: what was looked for and where, what is there, which call creates it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def listed(names: Iterable[Any], *, most: int = 10) -> str:
    """Name up to `most` things in a message, and count the rest."""
    names = [str(n) for n in names if n is not None]  # anndata 0.13 has X as layer None
    if not names:
        return "none"
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def missing(key: str, where: str, available: Iterable[Any], *, hint: str = "") -> KeyError:
    """The error for a key that is not in `where`; `hint` says which call or argument creates it."""
    msg = f"{key!r} is not in {where} (there: {listed(available)})."
    return ReadableKeyError(f"{msg} {hint}".strip())


class ReadableKeyError(KeyError):
    """A KeyError whose message prints as written (KeyError shows the repr of its argument)."""

    def __str__(self) -> str:
        return str(self.args[0])


# So that a traceback calls it what it is caught as.
ReadableKeyError.__name__ = ReadableKeyError.__qualname__ = "KeyError"
ReadableKeyError.__module__ = "builtins"


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        msg = f"{name} must be one of {listed(allowed, most=30)}, not {value!r}."
        raise ValueError(msg)


def whole_number(name: str, value: Any, *, at_least: int = 1) -> int:
    """Return `value` as an int, or raise ValueError when it is no whole number >= `at_least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        msg = f"{name} must be a whole number of at least {at_least}, not {value!r}."
        raise ValueError(msg)
    return int(value)


def share(name: str, value: float, *, low: float = 0.0, high: float = 1.0) -> float:
    """Return `value` when it is a number in [low, high], else raise ValueError."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        msg = f"{name} must lie between {low:g} and {high:g}, not {value!r}."
        raise ValueError(msg)
    return float(value)


def finite_features(values: Any, names: Iterable[Any], *, where: str) -> np.ndarray:
    """Return features (n, d) as an array, or say in which observations they are not finite.

    Raises
    ------
    ValueError
        No numbers (n, d), or NaN, infinite or beyond what float32 holds.
    """
    for method in ("to_numpy", "toarray"):  # a table, a sparse matrix
        values = getattr(values, method)() if hasattr(values, method) else values
    features: np.ndarray = np.asarray(values)
    if features.ndim != 2 or features.dtype.kind not in "iuf":
        msg = (
            f"{where} must hold finite numbers (n_obs, d), not {features.dtype} of shape "
            f"{features.shape}."
        )
        raise ValueError(msg)
    with np.errstate(over="ignore"):
        finite = np.isfinite(features.astype(np.float32, copy=False))
    bad = np.flatnonzero(~finite.all(axis=1))
    if len(bad):
        rows = np.asarray(list(names), dtype=object)[bad]
        msg = (
            f"{where} must hold finite numbers (n_obs, d): those of {len(rows)} of {len(features)} "
            f"observations are not ({listed(rows, most=3)}). Drop those observations or make their "
            "features anew."
        )
        raise ValueError(msg)
    return features


def finite_coordinates(coords: np.ndarray, *, where: str) -> np.ndarray:
    """Return coordinates (n, 2) as float64, or say what is wrong with them.

    Raises
    ------
    ValueError
        When they are not two-dimensional, or not finite.
    """
    coords = np.asarray(coords)
    if coords.ndim != 2 or coords.shape[1] != 2:
        width = coords.shape[1] if coords.ndim == 2 else "no"
        msg = (
            f"{where} has {width} columns, but a gene image needs 2-D coordinates. Put the two "
            "axes of the section plane into their own obsm entry and name it with spatial_key=."
        )
        raise ValueError(msg)
    coords = coords.astype(np.float64)
    bad = ~np.isfinite(coords).all(axis=1)
    if bad.any():
        msg = (
            f"{where} holds NaN or infinite coordinates in {int(bad.sum())} of {len(bad)} rows "
            f"(first: row {int(np.flatnonzero(bad)[0])}). Drop those observations first."
        )
        raise ValueError(msg)
    return coords


#: Why arguments of training change nothing.
WITH_MODEL = "with model=, which is applied as it is"


def no_effect(
    function: Any, given: Mapping[str, Any], names: Iterable[str], *, because: str
) -> None:
    """Raise ValueError when arguments that would change nothing were given.

    Parameters
    ----------
    function
        The function that was called; an argument was given when it differs from the default in
        its signature.
    given
        Values of its arguments: ``locals()`` at its start.
    names
        Arguments without effect in this call.
    because
        What takes their effect away, for example ``"with model=, which is applied as it is"``.
    """
    import inspect

    parameters = inspect.signature(function).parameters
    idle = [n for n in names if not _is_default(given[n], parameters[n].default)]
    if idle:
        named = ", ".join(f"{n}=" for n in idle)
        has = "has" if len(idle) == 1 else "have"
        msg = f"{named} {has} no effect {because}: leave {'it' if len(idle) == 1 else 'them'} out."
        raise ValueError(msg)


def _is_default(value: Any, default: Any) -> bool:
    if value is default:
        return True
    plain = isinstance(value, (str, int, float, tuple, np.generic))
    return plain and type(value) is type(default) and value == default


def positive(name: str, value: float) -> float:
    """Return a finite number above zero as it is, or raise ValueError."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        msg = f"{name} must be a number above 0, not {value!r}."
        raise ValueError(msg)
    return value
