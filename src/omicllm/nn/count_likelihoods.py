"""Log-likelihoods of counts and of log-normalised values, element by element."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["LIKELIHOODS", "gaussian", "negative_binomial", "poisson", "zinb"]

#: Names that models take.
LIKELIHOODS = ("zinb", "nb", "poisson", "gaussian")


def poisson(x: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of counts `x` of mean `mu`."""
    return torch.xlogy(x, mu) - mu - torch.lgamma(x + 1)


def negative_binomial(x: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of counts of mean `mu` and variance mu + mu^2 / theta.

    Parameters
    ----------
    x
        Counts.
    mu, theta
        Mean and inverse dispersion, positive; they broadcast with `x`.

    Returns
    -------
    Tensor of the broadcast shape.
    """
    total = torch.log(theta + mu)
    return (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
        + theta * (torch.log(theta) - total)
        + torch.xlogy(x, mu)
        - x * total
    )


def zinb(
    x: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor, zi_logits: torch.Tensor
) -> torch.Tensor:
    """Log-likelihood of the zero-inflated negative binomial.

    Parameters
    ----------
    x, mu, theta
        As in :func:`negative_binomial`.
    zi_logits
        Logit of the probability of an extra zero.

    Returns
    -------
    Tensor of the broadcast shape.

    Notes
    -----
    With p = sigmoid(logit): log(p + (1 - p) NB(0)) at zero, log(1 - p) + log NB(x) elsewhere. In
    terms of softplus both stay finite for logits of any size.
    """
    count = negative_binomial(x, mu, theta)
    # Both branches of a `where` are differentiated, and both are finite.
    zero = F.softplus(count - zi_logits) - F.softplus(-zi_logits)
    more = count - F.softplus(zi_logits)
    return torch.where(x < 0.5, zero, more)


def gaussian(x: torch.Tensor, mean: torch.Tensor, log_sd: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of values with mean `mean` and standard deviation exp(`log_sd`)."""
    z = (x - mean) * torch.exp(-log_sd)
    return -0.5 * z.square() - log_sd - 0.9189385332046727
