"""Synthetic profiles drawn per class: eight samplers on arrays, without loops over rows or genes.

Every sampler draws blocks of rows with a stream of its own, named by class and block, so the
result depends on the seed alone and not on the number of threads.

References
----------
Phenotype driven data augmentation of transcriptomic cohorts, Bioinformatics Advances 2025,
10.1093/bioadv/vbaf124. SMOTE: Chawla et al. 2002, J Artif Intell Res 16:321.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from omicllm._core import blocks
from omicllm.sampling.recombination import (
    Crossover,
    Replacement,
    Smote,
    dense,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Samplers whose rows are Poisson draws, so that they must be given counts.
COUNT_SAMPLERS = ("gamma_poisson", "poisson", "unmod_poisson", "unmod_gamma_poisson")
#: Samplers that recombine rows, whatever the values are.
ROW_SAMPLERS = ("replacement", "smote", "local_crossover", "global_crossover")
SAMPLERS = COUNT_SAMPLERS + ROW_SAMPLERS
#: Values of a block: large enough for numpy, small enough for the cache.
_BLOCK = 2**17
#: A variance below this share of the squared mean is rounding error.
_NO_VARIANCE = 1e-12

Dispersion = Literal["reference", "matched"]


@dataclass(frozen=True)
class Options:
    """What samplers are told beside the data.

    Attributes
    ----------
    r
        Rows of the class whose mean and variance one synthetic row is drawn from
        (``gamma_poisson``, ``poisson``).
    dispersion
        ``"reference"``: the Gamma has the variance v of the r rows, which holds Poisson noise
        already. ``"matched"``: max(v - m, 0), so that the noise is counted once.
    k
        Nearest neighbours of ``smote``.
    blocks
        Per class, columns and the rows that may give them (crossover).
    """

    r: int = 5
    dispersion: Dispersion = "reference"
    k: int = 5
    blocks: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]] = field(default_factory=list)


def subsets(n: int, size: int, r: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` uniform subsets of min(r, size) of ``range(size)``: Floyd's algorithm, by columns.

    Returns
    -------
    int64 (n, min(r, size)); rows hold distinct numbers.
    """
    r = min(r, size)
    out = np.empty((n, r), dtype=np.int64)
    for k, last in enumerate(range(size - r, size)):
        pick = rng.integers(0, last + 1, size=n)
        taken = (out[:, :k] == pick[:, None]).any(axis=1)
        out[:, k] = np.where(taken, last, pick)
    return out


def closed_forms(
    method: str, mean: np.ndarray, variance: np.ndarray, n: int, r: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance per gene of synthetic rows, from those of a class of `n` rows.

    Parameters
    ----------
    method
        ``"gamma_poisson"`` (reference dispersion), ``"poisson"``, ``"unmod_poisson"`` or
        ``"replacement"``; the others have no closed form.
    mean, variance
        Class mean and unbiased class variance of each gene.
    """
    r = min(r, n)
    between = variance * (1 / r - 1 / n)
    forms = {
        "gamma_poisson": mean + between + (variance if r > 1 else 0),
        "poisson": mean + between,
        "unmod_poisson": mean,
        "replacement": variance * (n - 1) / n,
    }
    if method not in forms:
        msg = f"There is no closed form for {method!r}; there is for {sorted(forms)}."
        raise ValueError(msg)
    return mean, forms[method]


class ClassRows:
    """Counts of one class, handed out as dense float64 blocks."""

    def __init__(self, X: Any, rows: np.ndarray) -> None:
        self.n = len(rows)
        self.values: Any = X[rows].astype(np.float64)

    def moments(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and unbiased variance over each row of `index` (n, r): two (n, n_genes).

        Sums of whole numbers are exact, so a gene that is zero or constant in the rows has a
        variance of exactly zero.
        """
        r = index.shape[1]
        total = dense(self.values[index[:, 0]])
        squares = total * total
        for k in range(1, r):
            rows = dense(self.values[index[:, k]])
            total += rows
            rows *= rows
            squares += rows
        squares *= r
        squares -= total * total
        squares /= max(r * (r - 1), 1)
        total /= r
        return total, squares


def gamma_poisson_rates(
    mean: np.ndarray, variance: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Gamma rates with a given mean and variance; no variance gives the mean, no mean gives 0."""
    flat = variance <= _NO_VARIANCE * mean * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = mean * mean / variance
        scale = variance / mean
    shape[flat] = 1.0
    rates = rng.standard_gamma(shape)
    rates *= scale
    rates[flat] = mean[flat]
    return rates


class _FromRows:
    """`gamma_poisson` and `poisson`: the moments of r distinct rows of the class."""

    def __init__(
        self, X: Any, rows: np.ndarray, options: Options, rng: np.random.Generator, *, gamma: bool
    ) -> None:
        self.rows, self.options, self.gamma = ClassRows(X, rows), options, gamma

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        chosen = subsets(n, self.rows.n, self.options.r, rng)
        mean, variance = self.rows.moments(chosen)
        if self.gamma:
            if self.options.dispersion == "matched":
                variance = np.maximum(variance - mean, 0.0)
            mean = gamma_poisson_rates(mean, variance, rng)
        return rng.poisson(mean)


class _FromClass:
    """`unmod_poisson` and `unmod_gamma_poisson`: one rate per class and gene."""

    def __init__(
        self, X: Any, rows: np.ndarray, options: Options, rng: np.random.Generator, *, gamma: bool
    ) -> None:
        class_values = X[rows].astype(np.float64)
        mean = np.asarray(class_values.mean(axis=0)).reshape(1, -1)
        if gamma:
            squares = (
                class_values.multiply(class_values)
                if sparse.issparse(class_values)
                else class_values * class_values
            )
            # Sums of whole numbers are exact: no variance is lost to rounding here.
            n = len(rows)
            spread = n * np.asarray(squares.sum(axis=0)) - (n * mean) ** 2
            variance = np.maximum(spread, 0.0).reshape(1, -1) / max(n * (n - 1), 1)
            if options.dispersion == "matched":
                variance = np.maximum(variance - mean, 0.0)
            mean = gamma_poisson_rates(mean, variance, rng)
        self.rates = mean[0]

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(self.rates, size=(n, len(self.rates)))


def _sampler(
    method: str, X: Any, rows: np.ndarray, c: int, options: Options, rng: np.random.Generator
) -> Callable[[int, np.random.Generator], Any]:
    if method in ("gamma_poisson", "poisson"):
        return _FromRows(X, rows, options, rng, gamma=method == "gamma_poisson")
    if method in ("unmod_gamma_poisson", "unmod_poisson"):
        return _FromClass(X, rows, options, rng, gamma=method == "unmod_gamma_poisson")
    if method == "replacement":
        return Replacement(X, rows)
    if method == "smote":
        return Smote(X, rows, options.k)
    return Crossover(X, options.blocks[c])


def sample(
    method: str,
    X: Any,
    codes: np.ndarray,
    n_new: Sequence[int] | np.ndarray,
    *,
    entropy: int,
    options: Options | None = None,
    n_jobs: int = 1,
    on_client: bool = False,
) -> Any:
    """Draw synthetic rows for each class.

    Parameters
    ----------
    method
        One of `SAMPLERS`.
    X
        Real rows (n, n_genes), ndarray or csr_matrix.
    codes
        Class of each row, 0 to ``len(n_new) - 1``; rows with -1 are not used.
    n_new
        Rows to draw for each class.
    entropy
        Seed, a whole number of any size.
    options
        See `Options`.
    n_jobs
        Threads. The result does not depend on it.
    on_client
        Draw on the caller's dask client when there is one.

    Returns
    -------
    Rows in the order of classes, (sum(n_new), n_genes), stored as `X` is (csr_matrix or ndarray),
    in its floating type (integers become float32 or float64, whichever holds them).
    """
    options = options or Options()
    dtype = np.result_type(X.dtype, np.float32)
    genes = X.shape[1]
    step = max(1, _BLOCK // max(1, genes))
    tasks, samplers, first = [], [], 0
    for c, n in enumerate(n_new):
        if n:
            rows = np.flatnonzero(codes == c)
            samplers.append(_sampler(method, X, rows, c, options, stream(entropy, c, -1)))
            tasks += [
                (
                    len(samplers) - 1,
                    min(step, n - start),
                    stream(entropy, c, start // step),
                    first + start,
                )
                for start in range(0, n, step)
            ]
        first += n
    as_sparse = sparse.issparse(X)
    out = None if as_sparse else np.empty((first, genes), dtype=dtype)

    def keep(block: Any, start: int) -> Any:
        if out is None:
            return sparse.csr_matrix(block, dtype=dtype)
        out[start : start + len(block)] = block
        return None

    if on_client and blocks.active_client() is not None:
        calls = ((which, n, rng) for which, n, rng, _ in tasks)
        drawn = blocks.run(_drawn, calls, tuple(samplers), lazy=True)
        parts = [keep(block, task[-1]) for task, block in zip(tasks, drawn, strict=True)]
    else:
        # The pool keeps order, and with one thread a block is dropped as soon as it is kept.
        with ThreadPoolExecutor(n_jobs) as pool:
            parts = list(pool.map(lambda t: keep(samplers[t[0]](t[1], t[2]), t[3]), tasks))
    if out is not None:
        return out
    return (
        sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, genes), dtype=dtype)
    )


def _drawn(which: int, n: int, rng: np.random.Generator, samplers: Sequence[Callable]) -> Any:
    return samplers[which](n, rng)
