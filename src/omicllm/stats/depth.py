"""What sequencing depth does to log-normalised counts."""

from __future__ import annotations

import numpy as np

#: Counts that a profile is scaled to before the logarithm.
TARGET = 1e4
#: Means from which on a second-order expansion replaces the sum over counts.
_LARGE = 20.0
_MOST = 60
#: Expectations are made at multiples of this log depth and interpolated: a row then has the same
#: value whatever other rows there are.
_STEP = 1 / 32


def log_normalised(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """log(1 + 10,000 x / L), float64 (n, g), from counts (n, g) and totals (n,)."""
    return np.log1p(TARGET / np.maximum(total, 1.0)[:, None] * counts)


def expected_log(share: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Expectation of log(1 + 10,000 x / L) for Poisson counts x of mean L times the share.

    A gene with few counts is zero in many observations, and more so in shallow ones: its
    log-normalised value rises with the depth L although its share is the same everywhere.

    Parameters
    ----------
    share
        (g,) share of each gene in the profile.
    total
        (n,) counts of each observation.

    Returns
    -------
    float64 (n, g).
    """
    from scipy.special import gammaln

    total = np.maximum(np.asarray(total, dtype=np.float64), 1.0)
    mean = np.maximum(np.outer(total, share), 1e-12)
    unit = np.broadcast_to((TARGET / total)[:, None], mean.shape)
    out = np.log1p(unit * mean) - 0.5 * unit**2 * mean / (1 + unit * mean) ** 2
    few = mean < _LARGE
    m, u = mean[few], unit[few]
    log_m, value = np.log(m), np.zeros(int(few.sum()))
    for x in range(1, _MOST + 1):
        value += np.exp(x * log_m - m - gammaln(x + 1)) * np.log1p(u * x)
    out[few] = value
    return out


def expected_log_by_depth(share: np.ndarray, total: np.ndarray) -> np.ndarray:
    """As :func:`expected_log`, interpolated in log depth (error below 1e-3)."""
    return _by_log_depth(share, np.log(np.maximum(total, 1.0))[None], np.ones(1))


def _by_log_depth(share: np.ndarray, log_depth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sum (n, g) over depths (m, n) of expectations, interpolated between even depths."""
    place = log_depth / _STEP
    low = np.floor(place).astype(np.int64)
    nodes = np.unique(np.concatenate([low.ravel(), low.ravel() + 1]))
    values = expected_log(share, np.exp(nodes * _STEP))
    out = np.zeros((log_depth.shape[1], len(share)))
    for w, first, part in zip(weight, low, place - low, strict=True):
        at = np.searchsorted(nodes, first)
        out += w * ((1 - part)[:, None] * values[at] + part[:, None] * values[at + 1])
    return out


def depth_slope(share: np.ndarray, total: float) -> np.ndarray:
    """Derivative (g,) of :func:`expected_log` by the logarithm of the share, at one depth."""
    step = 0.1
    up, down = (expected_log(share * np.exp(s), np.array([total]))[0] for s in (step, -step))
    return (up - down) / (2 * step)


def unknown_depth(
    share: np.ndarray, relative: np.ndarray, level: float, spread: float
) -> np.ndarray:
    """Expected log-normalised values where the depth of a section is not known.

    Parameters
    ----------
    share
        (g,) share of each gene.
    relative
        (n,) log depth of each observation relative to its section.
    level, spread
        Mean and standard deviation of the log depth of a section.

    Returns
    -------
    float64 (n, g), averaged over five points of the normal distribution of the log depth.
    """
    points = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])
    weight = np.exp(-0.5 * points**2)
    return _by_log_depth(share, level + spread * points[:, None] + relative, weight / weight.sum())
