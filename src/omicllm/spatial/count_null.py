r"""Gene images without a pattern: counts that follow the depth of spots, or random spots.

A zero-inflated negative binomial with zero share :math:`\pi`, dispersion :math:`\phi` and mean
:math:`m_i` has variance :math:`m_i + \alpha m_i^2` with :math:`\alpha = (\pi+\phi)/(1-\pi)`, so one
number per gene gives residuals of variance 1 in every spot, whatever makes the gene vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Largest overdispersion.
_MOST = 50.0
_CLASSES = 256


@dataclass(frozen=True)
class Fit:
    """Expected counts of some genes and their overdispersion.

    Attributes
    ----------
    mean
        float32 (n_genes, n_pixels).
    alpha
        float32 (n_genes, 1).
    """

    mean: np.ndarray
    alpha: np.ndarray

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """Pearson residuals, clipped at the root of the number of pixels, mean 0, variance 1."""
        m = self.mean
        r = (x - m) / np.sqrt(np.maximum(m * (1.0 + self.alpha * m), 1e-12))
        bound = np.float32(np.sqrt(x.shape[1]))
        np.clip(r, -bound, bound, out=r)
        r -= r.mean(axis=1, keepdims=True)
        sd = r.std(axis=1, keepdims=True)
        return np.divide(r, sd, out=np.zeros_like(r), where=sd > 1e-6)


def fit_depth(
    x: np.ndarray, share: np.ndarray, bounds: np.ndarray, *, free: bool, steps: int = 5
) -> Fit:
    r"""Expected counts given the depth of spots.

    Parameters
    ----------
    x
        Counts, float32 (n_genes, n_pixels).
    share
        Share of its section's counts in each pixel, :math:`s_i`.
    bounds
        First pixel of each section, and the end.
    free
        Fit :math:`m_i = c\, s_i^{\gamma}` with an exponent per gene and section by Newton steps of
        the quasi-likelihood, so that genes that ignore depth (:math:`\gamma = 0`) have no pattern
        either. Otherwise :math:`\gamma = 1`.
    steps
        Newton steps.
    """
    mean = np.empty_like(x)
    sections = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    for s in sections:
        mean[:, s] = x[:, s].sum(axis=1, keepdims=True) * share[s].astype(np.float32)
    alpha = _overdispersion(x, mean)
    if free:
        for s in sections:
            mean[:, s] = _free_exponent(x[:, s], share[s], alpha, steps)
        alpha = _overdispersion(x, mean)
    return Fit(mean, alpha)


def _overdispersion(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    square = np.einsum("ij,ij->i", mean, mean)
    excess = x - mean
    over = np.einsum("ij,ij->i", excess, excess) - mean.sum(axis=1)
    return np.clip(over / np.maximum(square, 1e-12), 0.0, _MOST)[:, None].astype(np.float32)


def _free_exponent(x: np.ndarray, share: np.ndarray, alpha: np.ndarray, steps: int) -> np.ndarray:
    """Expected counts with a depth exponent per gene; a weak prior holds it near 1."""
    log_share = np.log(np.maximum(share, 1e-12))
    centre = float(share @ log_share / share.sum())
    slope = (log_share - centre).astype(np.float32)
    total = x.sum(axis=1, keepdims=True)
    level = (np.log(np.maximum(total, 1e-9)) + centre).astype(np.float32)
    gamma = np.ones_like(level)
    mean = np.exp(level + gamma * slope)
    for _ in range(steps):
        inverse = 1.0 / (1.0 + alpha * mean)
        weight, error = mean * inverse, (x - mean) * inverse
        s0, s1 = weight.sum(axis=1), weight @ slope
        s2 = weight @ slope**2 + 1.0
        e0, e1 = error.sum(axis=1), error @ slope - (gamma[:, 0] - 1.0)
        det = np.maximum(s0 * s2 - s1**2, 1e-12)
        level += np.clip((s2 * e0 - s1 * e1) / det, -1.0, 1.0)[:, None]
        gamma += np.clip((s0 * e1 - s1 * e0) / det, -1.0, 1.0)[:, None]
        mean = np.exp(np.clip(level + gamma * slope, -30.0, 20.0))
    return np.where(total > 0, mean, np.float32(0.0))


def draw_zinb(x: np.ndarray, fit: Fit, rng: np.random.Generator) -> np.ndarray:
    """Draw counts of a zero-inflated negative binomial with the mean and variance of a fit.

    The share of added zeros is the one at which the expected number of zeros is that of `x`.
    """
    alpha = fit.alpha.astype(np.float64)
    # Zeros depend on the mean smoothly: some hundred classes of pixels stand for all.
    order = np.argsort(fit.mean.sum(axis=0), kind="stable")
    groups = np.array_split(order, min(_CLASSES, len(order)))
    mean = np.stack([fit.mean[:, g].mean(axis=1) for g in groups], axis=1).astype(np.float64)
    size = np.array([len(g) for g in groups]) / len(order)
    wanted = (x == 0).mean(axis=1, keepdims=True)
    low, high = np.zeros_like(alpha), alpha / (1.0 + alpha)
    for _ in range(12):
        zeros = (low + high) / 2
        phi = np.maximum(alpha * (1.0 - zeros) - zeros, 1e-6)
        none = np.exp(-np.log1p(phi * mean / (1.0 - zeros)) / phi) @ size[:, None]
        fewer = zeros + (1.0 - zeros) * none < wanted
        low, high = np.where(fewer, zeros, low), np.where(fewer, high, zeros)
    zeros = low
    phi = np.maximum(alpha * (1.0 - zeros) - zeros, 1e-6)
    rate = fit.mean / (1.0 - zeros)
    over = phi[:, 0] > 1e-3
    rate[over] *= rng.gamma(1.0 / phi[over], size=(int(over.sum()), x.shape[1])) * phi[over]
    drawn = rng.poisson(rate).astype(np.float32)
    drawn[rng.random(drawn.shape, dtype=np.float32) < zeros] = 0.0
    return drawn


def draw_permuted(x: np.ndarray, bounds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values of each gene at random pixels of the same section."""
    parts = [rng.permuted(x[:, a:b], axis=1) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return np.concatenate(parts, axis=1)
