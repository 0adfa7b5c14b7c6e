"""Principal axes of gene images whose variance is measured on genes that did not choose them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Residual = Callable[[np.ndarray], np.ndarray]

#: Widest matrix that is decomposed whole; above it, subspace iteration.
WHOLE = 4000
_BLOCK = 2048


@dataclass(frozen=True)
class Spectrum:
    """Axes over pixels and what is known of them.

    Attributes
    ----------
    axes
        float32 (n_pixels, k), orthonormal, leading first. The largest entry of each is positive.
    held_out
        float64 (k,): mean square along axis k of genes left out when the axis was found.
    rest
        Mean square per remaining axis, the level of pure noise.
    """

    axes: np.ndarray
    held_out: np.ndarray
    rest: float

    @property
    def signal_to_noise(self) -> np.ndarray:
        """Held-out variance over that of noise, less 1, and not below 0: float64 (k,)."""
        return np.maximum(self.held_out / self.rest - 1.0, 0.0)


def cross_validated_axes(
    residual: Residual, n_genes: int, n_pixels: int, k: int, *, folds: int = 5, seed: int = 0
) -> Spectrum:
    """Principal axes of gene images, with variances by cross-validation over genes.

    The variance of the genes that found an axis also counts their noise; the variance of other
    genes along it is signal plus the common level of noise, so their ratio says how far each
    axis can be trusted.

    Parameters
    ----------
    residual
        Takes gene numbers, returns their residual images float32 (n, n_pixels).
    n_genes, n_pixels
        Size of the data.
    k
        Axes wanted; lowered to what the data can give.
    folds
        Parts that genes are cut into at random.
    seed
        Seed of the folds, and of the start for wide data.
    """
    rng = np.random.default_rng(seed)
    folds = min(folds, max(2, n_genes // 4))
    part = rng.permutation(n_genes) % folds
    k = max(1, min(k, n_pixels, n_genes - -(-n_genes // folds) - 1))
    if n_genes <= WHOLE and n_genes < n_pixels:
        axes, held_out, trace = _by_genes(residual, part, k)
    elif n_pixels <= WHOLE:
        axes, held_out, trace = _by_pixels(residual, part, n_pixels, k)
    else:
        axes, held_out, trace = _by_iteration(residual, part % min(folds, 3), n_pixels, k, rng)
    held_out, trace = held_out / n_genes, trace / n_genes
    left = n_pixels - k
    # Where too few axes are left to speak of, the trailing ones are noise.
    few = left <= k // 4
    noise = np.median(held_out[k // 4 :]) if few else (trace - held_out.sum()) / left
    sign = np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    axes = np.ascontiguousarray((axes * sign).astype(np.float32))
    return Spectrum(axes, held_out, max(float(noise), 1e-6))


def _blocks(residual: Residual, genes: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(genes), _BLOCK):
        yield residual(genes[start : start + _BLOCK])


class _Sums(NamedTuple):
    """Axes, and over all genes the squares along each while hidden, and the squares of all."""

    axes: np.ndarray
    held_out: np.ndarray
    trace: float


def _leading(gram: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    value, vector = np.linalg.eigh(gram)
    return value[::-1][:k], np.ascontiguousarray(vector[:, ::-1][:, :k])


def _by_pixels(residual: Residual, part: np.ndarray, n: int, k: int) -> _Sums:
    """Few pixels: one (n, n) product per fold."""
    grams = []
    for j in range(part.max() + 1):
        gram = np.zeros((n, n), dtype=np.float32)
        for block in _blocks(residual, np.flatnonzero(part == j)):
            gram += block.T @ block
        grams.append(gram)
    total = np.sum(grams, axis=0)
    held_out = np.zeros(k)
    for gram in grams:
        axes = _leading(total - gram, k)[1]
        held_out += np.einsum("ik,ik->k", axes, gram @ axes)
    return _Sums(_leading(total, k)[1], held_out, float(np.trace(total, dtype=np.float64)))


def _by_genes(residual: Residual, part: np.ndarray, k: int) -> _Sums:
    """Few genes: everything follows from their (n_genes, n_genes) products."""
    n_genes = len(part)
    gram = np.zeros((n_genes, n_genes))
    starts = range(0, n_genes, _BLOCK)
    for a in starts:
        left = residual(np.arange(a, min(a + _BLOCK, n_genes)))
        for b in starts:
            if b < a:
                continue
            right = left if b == a else residual(np.arange(b, min(b + _BLOCK, n_genes)))
            gram[a : a + len(left), b : b + len(right)] = left @ right.T
            gram[b : b + len(right), a : a + len(left)] = (left @ right.T).T
    held_out = np.zeros(k)
    for j in range(part.max() + 1):
        out, fitted = np.flatnonzero(part == j), np.flatnonzero(part != j)
        value, vector = _leading(gram[np.ix_(fitted, fitted)], k)
        along = gram[np.ix_(out, fitted)] @ (vector / np.sqrt(np.maximum(value, 1e-9)))
        held_out[: along.shape[1]] += (along**2).sum(axis=0)
    value, vector = _leading(gram, k)
    scaled = (vector / np.sqrt(np.maximum(value, 1e-9))).astype(np.float32)
    axes = 0
    for a in starts:
        genes = np.arange(a, min(a + _BLOCK, n_genes))
        axes = axes + residual(genes).T @ scaled[genes]
    return _Sums(np.asarray(axes), held_out, float(np.trace(gram)))


def _by_iteration(
    residual: Residual, part: np.ndarray, n: int, k: int, rng: np.random.Generator
) -> _Sums:
    """Many of both: randomised subspace iteration (Halko et al. 2011), never an n x n array."""
    held_out, trace = np.zeros(k), 0.0
    for j in range(part.max() + 1):
        axes = _subspace(residual, np.flatnonzero(part != j), n, k, rng)
        for block in _blocks(residual, np.flatnonzero(part == j)):
            held_out += ((block @ axes).astype(np.float64) ** 2).sum(axis=0)
            trace += float((block.astype(np.float64) ** 2).sum())
    return _Sums(_subspace(residual, np.arange(len(part)), n, k, rng), held_out, trace)


def _subspace(
    residual: Residual, genes: np.ndarray, n: int, k: int, rng: np.random.Generator
) -> np.ndarray:
    def product(Q: np.ndarray) -> np.ndarray:
        out = np.zeros((n, Q.shape[1]), dtype=np.float32)
        for block in _blocks(residual, genes):
            out += block.T @ (block @ Q)
        return out

    basis = rng.standard_normal((n, min(n, k + 20))).astype(np.float32)
    basis = np.linalg.qr(basis)[0]
    for _ in range(4):
        basis = np.linalg.qr(product(basis))[0]
    small = basis.T @ product(basis)
    return basis @ _leading((small + small.T) / 2, k)[1]
