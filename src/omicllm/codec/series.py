"""Companding of a profile: real values to integer levels and back.

The mu-law of telephony (ITU-T G.711) in its continuous form: with M the largest value, S = 2^bits,
y = clip(x / M, -1, 1),

    level = trunc(S * sign(y) * ln(1 + mu |y|) / ln(1 + mu)),

so that small values are told apart more finely than large ones. Every dtype is taken as float64:
the published code compands float32 partly in float32 and gives other levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Values worked on at once: the temporaries stay in the processor's cache.
_CHUNK = 65536
#: Up to so many bits a first guess in float32 is right for nearly every value.
_FAST_BITS = 12


def levels(
    x: Any,
    *,
    bits: int = 8,
    mu: float = 255.0,
    max_value: float = 65536.0,
    rounding: str = "trunc",
) -> np.ndarray:
    """Levels of values, in [-2^bits, 2^bits] and of the same shape.

    Up to 12 bits a level is first computed in float32. Where the result lies so near a step that
    rounding could have crossed it, the formula is evaluated again in float64, so that the levels
    are those of float64 throughout.

    Parameters
    ----------
    x
        Values of any shape and real dtype.
    bits, mu, max_value
        Parameters S = 2^bits, mu and M of the formula.
    rounding
        ``"trunc"`` (towards zero; every decoded value is at most as large as its original) or
        ``"nearest"`` (half the error).

    Returns
    -------
    int16 array (int32 above 13 bits).

    Raises
    ------
    ValueError
        When a value is NaN. (Infinite values saturate.)
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiu" or x.dtype.itemsize > 8 or x.dtype == np.float16:
        x = x.astype(np.float64)
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(flat.shape, dtype=np.int16 if bits <= 13 else np.int32)
    # Beyond these, the scale of the fast steps leaves float32.
    step = _fast if bits <= _FAST_BITS and 1e-30 < max_value < 1e30 else _exact
    for start in range(0, flat.size, _CHUNK):
        piece = slice(start, start + _CHUNK)
        step(flat[piece], out[piece], 1 << bits, mu, max_value, 0.5 * (rounding == "nearest"))
    return out.reshape(x.shape)


def _refuse_nan(largest: Any) -> None:
    if np.isnan(largest):
        msg = "The values hold NaN, which has no level. Fill or drop such values first."
        raise ValueError(msg)


def _magnitude(x: np.ndarray, S: int, mu: float, M: float) -> np.ndarray:
    """S ln(1 + mu y) / ln(1 + mu) in float64, in the order of operations of the published code."""
    y = np.minimum(np.abs(x.astype(np.float64)) / M, 1.0)
    return S * (np.log(1 + mu * y) / np.log(1 + mu))


def _exact(x: np.ndarray, out: np.ndarray, S: int, mu: float, M: float, shift: float) -> None:
    _refuse_nan(x.max())
    np.copysign(np.floor(_magnitude(x, S, mu, M) + shift), x, out=out, casting="unsafe")


def _floating(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32 if x.dtype.itemsize <= 2 else np.float64)


def _fast(x: np.ndarray, out: np.ndarray, S: int, mu: float, M: float, shift: float) -> None:
    # Whole numbers have one value whose absolute value is not among them: -128 of int8.
    a = np.abs(x if x.dtype.kind == "f" and x.dtype.itemsize > 2 else _floating(x))
    _refuse_nan(a.max())
    # Larger values are cut half a level above S: saturated ones then lie near no step.
    top = M * ((1 + mu) ** ((S + 0.5 - shift) / S) - 1) / mu
    if a.dtype != np.float32:
        a = np.minimum(a, top).astype(np.float32)
    else:
        np.minimum(a, np.float32(top), out=a)
    a *= np.float32(mu / M)
    a += np.float32(1)
    np.log(a, out=a)
    a *= np.float32(S / np.log1p(mu))
    # Eight times the error of the float32 steps above: log and products to a few units in the
    # last place, and 1 + z to one, which weighs more where ln(1 + mu) is small.
    error = S * (4e-6 + 1e-6 / np.log1p(mu))
    high = (a + np.float32(shift + error)).astype(np.int16)
    low = (a + np.float32(shift - error)).astype(np.int16)
    unsure = np.flatnonzero(high != low)
    if unsure.size:
        high[unsure] = np.floor(_magnitude(x[unsure], S, mu, M) + shift)
    # +1 or -1 by the sign of x, in small integers.
    sign = (x < 0).view(np.int8) * np.int8(-2) + np.int8(1)
    np.multiply(high, sign, out=out)


def values(
    level: Any, *, bits: int = 8, mu: float = 255.0, max_value: float = 65536.0
) -> np.ndarray:
    """Values that levels decode to, float64.

    With f = level / 2^bits: x = M clip(sign(f) ((1 + mu)^|f| - 1) / mu, -1, 1).

    Parameters
    ----------
    level
        Levels.
    bits, mu, max_value
        As for :func:`levels`.
    """
    f = np.asarray(level, dtype=np.float64) / (1 << bits)
    y = np.sign(f) * (((1 + mu) ** np.abs(f) - 1) / mu)
    return max_value * np.clip(y, -1, 1)


def padded(level: np.ndarray, patch_size: int | None) -> np.ndarray:
    """Repeat the last level until the length is a multiple of `patch_size`; flattens its input."""
    flat = np.asarray(level).reshape(-1)
    if patch_size is None or flat.size == 0 or flat.size % patch_size == 0:
        return flat
    return np.pad(flat, (0, -flat.size % patch_size), mode="edge")


def psnr(x: Any, decoded: Any, max_value: float) -> float:
    """Peak signal-to-noise ratio of one profile in dB, 20 log10(M / RMSE); 100 where exact."""
    x, decoded = np.asarray(x, dtype=np.float64).ravel(), np.asarray(decoded).ravel()
    error = float(np.sqrt(np.mean((x - decoded[: x.size]) ** 2))) if x.size else 0.0
    return 100.0 if error == 0 else float(20 * np.log10(max_value / error))
