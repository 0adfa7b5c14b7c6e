"""Arithmetic of the Student-t mixture: densities, one pass over the data, one maximisation.

Everything is vectorised over components and runs over blocks of rows, so no array larger than
(block, components) is formed besides results that were asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Parameters", "Prior", "Sums", "component_log_density", "expect", "maximise", "reseed"]

NU_BOUNDS = (2.1, 200.0)
# A component holding less than half a gene counts as empty.
EMPTY = 0.5
# Numbers in one block of scores (2 MB in float64), small enough to stay in cache.
_BLOCK_ELEMENTS = 2**18
_BISECTIONS = 45


@dataclass(frozen=True)
class Parameters:
    """Mixture of K diagonal Student-t components in D dimensions."""

    weights: torch.Tensor  # (K,), sums to 1
    means: torch.Tensor  # (K, D)
    variances: torch.Tensor  # (K, D), diagonal of the scale matrix
    dof: torch.Tensor  # (K,), degrees of freedom

    def to(self, like: torch.Tensor) -> Parameters:
        """Copy on the device and in the precision of another tensor."""
        return Parameters(*(getattr(self, f.name).to(like) for f in fields(self)))


@dataclass(frozen=True)
class Prior:
    """Dirichlet prior of the weights, normal-inverse-Wishart prior of means and variances."""

    alpha0: float
    kappa0: float
    rho0: float
    m0: torch.Tensor  # (D,)
    s0: torch.Tensor  # (D,)

    @property
    def pseudo_count(self) -> float:
        """Observations the variance prior is worth: rho0 + D + 2, one less without kappa0."""
        return self.rho0 + len(self.s0) + (2 if self.kappa0 > 0 else 1)

    def log_density(self, p: Parameters) -> float:
        """Log prior of the parameters, up to a constant."""
        value = -0.5 * (self.pseudo_count * p.variances.log() + self.s0 / p.variances).sum()
        if self.alpha0 > 1:
            value = value + (self.alpha0 - 1) * p.weights.log().sum()
        if self.kappa0 > 0:
            gap = (p.means - self.m0).square() / p.variances
            value = value - 0.5 * self.kappa0 * gap.sum()
        return float(value)


@dataclass(frozen=True)
class Sums:
    """What one pass over the data leaves behind: sums over rows i, for every component k."""

    size: torch.Tensor  # (K,)    sum r
    scaled: torch.Tensor  # (K,)    sum r u
    first: torch.Tensor  # (K, D)  sum r u z
    second: torch.Tensor  # (K, D)  sum r u z^2
    log_scale: torch.Tensor  # (K,)    sum r (log u - u)
    row_log_density: torch.Tensor  # (N,)


def _coefficients(p: Parameters) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Factors with ``delta / nu = z^2 a + z b + c`` and the log of the density at the mean."""
    dim = p.means.shape[1]
    a = 1.0 / (p.variances * p.dof[:, None])
    b = -2.0 * p.means * a
    c = (p.means.square() * a).sum(1)
    half = 0.5 * p.dof
    peak = (
        torch.lgamma(half + 0.5 * dim)
        - torch.lgamma(half)
        - 0.5 * dim * (p.dof.log() + math.log(math.pi))
        - 0.5 * p.variances.log().sum(1)
    )
    return a.T.contiguous(), b.T.contiguous(), c, peak


def component_log_density(z: torch.Tensor, p: Parameters) -> torch.Tensor:
    """Log density of every row under every component, (N, K); gradient flows through `z`."""
    a, b, c, peak = _coefficients(p)
    distance = (z.square() @ a + z @ b + c).clamp_min(0.0)
    return peak - 0.5 * (p.dof + z.shape[1]) * distance.log1p()


def _blocks(n_rows: int, n_components: int) -> Iterator[slice]:
    step = max(1, _BLOCK_ELEMENTS // n_components)
    for start in range(0, n_rows, step):
        yield slice(start, start + step)


def expect(z: torch.Tensor, p: Parameters) -> Sums:
    """E step in log space, reduced at once to the sums the M step needs.

    Parameters
    ----------
    z
        Centred data, (N, D): the second moments below lose digits when far from zero.
    p
        Current parameters.
    """
    n_rows, dim = z.shape
    a, b, c, peak = _coefficients(p)
    power = 0.5 * (p.dof + dim)
    offset = p.weights.log() + peak
    log_ratio = ((p.dof + dim) / p.dof).log()
    size, scaled, log_scale = (torch.zeros_like(p.dof) for _ in range(3))
    first, second = torch.zeros_like(p.means), torch.zeros_like(p.means)
    rows = z.new_empty(n_rows)
    for part in _blocks(n_rows, len(p.dof)):
        x = z[part]
        square = x.square()
        distance = torch.addmm(c, square, a).addmm_(x, b).clamp_min_(0.0)
        # log u = log((nu + D) / nu) - log(1 + delta / nu), so one logarithm serves both steps.
        log_tail = torch.log1p(distance)
        joint = torch.addcmul(offset, log_tail, power, value=-1.0)
        rows[part] = total = joint.logsumexp(1)
        r = joint.sub_(total[:, None]).exp_()
        size += r.sum(0)
        log_scale -= log_tail.mul_(r).sum(0)
        ru = r.div_(distance.add_(1.0))
        scaled += ru.sum(0)
        first.addmm_(ru.T, x)
        second.addmm_(ru.T, square)
    ratio = log_ratio.exp()
    scaled *= ratio
    log_scale += log_ratio * size - scaled
    return Sums(size, scaled, first * ratio[:, None], second * ratio[:, None], log_scale, rows)


def _nu_objective(nu: torch.Tensor, size: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Terms of the expected log posterior that depend on nu."""
    half = 0.5 * nu
    return size * (half * half.log() - torch.lgamma(half)) + slope * half


def _solve_nu(size: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Root of ``log(nu/2) - psi(nu/2) + 1 + slope / size`` in the bracket, by bisection.

    The left side falls with nu, so a root outside the bracket gives the nearer end, which is then
    the constrained maximum.
    """
    target = 1.0 + slope / size
    low = torch.full_like(size, NU_BOUNDS[0])
    high = torch.full_like(size, NU_BOUNDS[1])
    for _ in range(_BISECTIONS):
        half = 0.25 * (low + high)
        rising = half.log() - torch.special.digamma(half) + target > 0
        low = torch.where(rising, 2.0 * half, low)
        high = torch.where(rising, high, 2.0 * half)
    return 0.5 * (low + high)


def _update_dof(s: Sums, old: torch.Tensor, dim: int, shared_below: float) -> torch.Tensor:
    """Degrees of freedom of every component; small ones share one value.

    Sharing is a constraint on the small components, so the shared value can fit some worse than
    what they had: where the small components lose as a group, only those that gain take it.
    """
    half = 0.5 * (old + dim)
    slope = s.log_scale + s.size * (torch.special.digamma(half) - half.log())
    size = s.size.clamp_min(torch.finfo(old.dtype).tiny)
    new = torch.where(s.size > 0, _solve_nu(size, slope), old)
    small = s.size < shared_below
    if bool(small.any()) and float(s.size[small].sum()) > 0:
        pooled = _solve_nu(size[small].sum()[None], slope[small].sum()[None])
        shared = pooled.expand(int(small.sum()))
        gain = _nu_objective(shared, size[small], slope[small]) - _nu_objective(
            old[small], size[small], slope[small]
        )
        new[small] = shared if float(gain.sum()) >= 0 else torch.where(gain > 0, shared, old[small])
    return new


def maximise(
    s: Sums, old: Parameters, prior: Prior, shared_below: float, *, update_dof: bool = True
) -> Parameters:
    """M step: the parameters that maximise the expected log posterior.

    A component without genes keeps its mean and takes the mode of the variance prior.
    """
    n_rows = len(s.row_log_density)
    weights = s.size + (prior.alpha0 - 1.0)
    weights = (weights / (n_rows + len(weights) * (prior.alpha0 - 1.0))).clamp_min(1e-300)
    mass = (prior.kappa0 + s.scaled)[:, None]
    present = mass > 1e-12
    means = (prior.kappa0 * prior.m0 + s.first) / mass.clamp_min(1e-12)
    means = torch.where(present, means, old.means)
    scatter = s.second - 2.0 * means * s.first + means.square() * s.scaled[:, None]
    scatter = scatter.clamp_min(0.0) + prior.kappa0 * (means - prior.m0).square()
    variances = (prior.s0 + scatter) / (prior.pseudo_count + s.size)[:, None]
    new = Parameters(weights, means, variances, old.dof)
    if not update_dof:
        return new
    return replace(new, dof=_update_dof(s, old.dof, means.shape[1], shared_below))


def reseed(z: torch.Tensor, p: Parameters, s: Sums, prior: Prior, nu: float) -> Parameters:
    """Move empty components onto the worst explained rows, with the prior's variances."""
    empty = (s.size < EMPTY).nonzero().flatten()
    worst = s.row_log_density.topk(len(empty), largest=False).indices
    weights, means, variances, dof = (getattr(p, f.name).clone() for f in fields(p))
    weights[empty] = 1.0 / len(z)
    means[empty] = z[worst]
    variances[empty] = prior.s0 / prior.pseudo_count
    dof[empty] = nu
    return Parameters(weights / weights.sum(), means, variances, dof)
