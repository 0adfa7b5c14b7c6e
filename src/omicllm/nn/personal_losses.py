"""Losses of expression models on personal sequences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Added to a count before Anscombe's square root.
_ANSCOMBE = 3 / 8
#: Added to a rate before its logarithm, so that a rate of 0 has a finite loss.
_SMALLEST_RATE = 1e-8


def smape(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Symmetric mean absolute percentage error: mean of 2 |a - b| / (|a| + |b|), 0 for 0 and 0.

    Parameters
    ----------
    predicted, observed
        Of one shape.

    Returns
    -------
    A scalar between 0 and 2.
    """
    scale = predicted.abs() + observed.abs()
    error = 2 * (predicted - observed).abs() / scale.clamp(min=torch.finfo(scale.dtype).tiny)
    return torch.where(scale > 0, error, torch.zeros_like(error)).mean()


def pair_regression(predicted: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Mean of ((p1 - p2) - (z1 - z2))^2.

    Parameters
    ----------
    predicted, z
        (n, 2): two people at one gene.

    Returns
    -------
    A scalar.
    """
    return (predicted.diff(dim=1) - z.diff(dim=1)).square().mean()


def pair_counts(predicted: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Half the sum of SMAPE of both people, and SMAPE of their difference.

    Parameters
    ----------
    predicted, y
        (n, 2).

    Returns
    -------
    A scalar.
    """
    each = (smape(predicted[:, 0], y[:, 0]) + smape(predicted[:, 1], y[:, 1])) / 2
    return each + smape(predicted[:, 0] - predicted[:, 1], y[:, 0] - y[:, 1])


def anscombe_difference(signal: torch.Tensor) -> torch.Tensor:
    """(a1 - a2) / sqrt(2) with a = 2 sqrt(s + 3/8), standard normal for two equal Poisson means.

    Parameters
    ----------
    signal
        (n, 2), not negative.

    Returns
    -------
    (n,).
    """
    a = 2 * torch.sqrt(signal + _ANSCOMBE)
    return (a[:, 0] - a[:, 1]) / math.sqrt(2)


def pair_classification(signal: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of Phi((a1 - a2) / sqrt(2)) with the label y1 >= y2.

    Parameters
    ----------
    signal
        (n, 2), predicted tracks, not negative.
    y
        (n, 2), observed.

    Returns
    -------
    A scalar.
    """
    first = (y[:, 0] >= y[:, 1]).to(signal.dtype)
    # Phi(-x) = 1 - Phi(x); its logarithm without cancellation, whichever person is ahead.
    return -torch.special.log_ndtr(anscombe_difference(signal) * (2 * first - 1)).mean()


def pair_accuracy(predicted: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Share of pairs (n, 2) whose order is predicted; a tie counts as the first being higher."""
    ahead = predicted[:, 0] >= predicted[:, 1]
    return (ahead == (y[:, 0] >= y[:, 1])).float().mean()


def strategy_loss(strategy: str, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Loss of a strategy.

    Parameters
    ----------
    strategy
        ``"single_counts"``, ``"single_z"``, ``"pair_regression"``, ``"pair_counts"`` or
        ``"pair_classification"``.
    predicted, target
        (n, 1) for one person, (n, 2) for pairs.

    Returns
    -------
    A scalar.
    """
    if strategy == "single_counts":
        return smape(predicted, target)
    if strategy == "single_z":
        return (predicted - target).square().mean()
    pairs = {
        "pair_regression": pair_regression,
        "pair_counts": pair_counts,
        "pair_classification": pair_classification,
    }
    return pairs[strategy](predicted, target)


def poisson_nll(rate: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Poisson negative log-likelihood without its constant: mean of rate - y log(rate + 1e-8).

    Parameters
    ----------
    rate, observed
        Tracks (n, bins, n_tracks), not negative.

    Returns
    -------
    A scalar.
    """
    return (rate - observed * torch.log(rate + _SMALLEST_RATE)).mean()


def measured_error(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the entries that are not NaN; 0 where there are none.

    Parameters
    ----------
    predicted, observed
        (n, n_cells): effects of variants, and what an assay measured.

    Returns
    -------
    A scalar.
    """
    known = torch.isfinite(observed)
    error = torch.where(known, predicted - observed, torch.zeros_like(predicted)).square()
    return error.sum() / known.sum().clamp(min=1)


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Sum of losses by name, each times its weight (1 where none is given).

    Parameters
    ----------
    losses
        Name -> scalar.
    weights
        Name -> weight.

    Returns
    -------
    A scalar.
    """
    return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
