"""R packages through rpy2: mclust, the zero-inflated sampler of ZIM, and rGADEM's motifs."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PYTHON = "pip install 'omicllm[r]'"
_R = "apt-get install --no-install-recommends r-base-core"
_APT = {
    "mclust": "apt-get install --no-install-recommends r-base-core r-cran-mclust",
    "ZIM": "Rscript -e 'install.packages(\"ZIM\")'",
    "rGADEM": 'Rscript -e \'install.packages("BiocManager"); BiocManager::install("rGADEM")\'',
}

_MCLUST = """
function(Z, k, seed) {
  old <- if (exists(".Random.seed", globalenv())) get(".Random.seed", globalenv()) else NULL
  on.exit(if (!is.null(old)) assign(".Random.seed", old, globalenv()))
  set.seed(seed)
  fit <- Mclust(Z, G = k, modelNames = "EEE", verbose = FALSE)
  if (is.null(fit)) stop("mclust found no EEE model with ", k, " components")
  fit$z
}
"""

_ZINB = """
function(n, size, mean, zeros, seed) {
  old <- if (exists(".Random.seed", globalenv())) get(".Random.seed", globalenv()) else NULL
  on.exit(if (!is.null(old)) assign(".Random.seed", old, globalenv()))
  set.seed(seed)
  ZIM::rzinb(n, k = size, lambda = mean, omega = zeros)
}
"""

_GADEM = """
function(sequences, n_motifs, seed) {
  old <- if (exists(".Random.seed", globalenv())) get(".Random.seed", globalenv()) else NULL
  on.exit(if (!is.null(old)) assign(".Random.seed", old, globalenv()))
  set.seed(seed)
  given <- Biostrings::DNAStringSet(sequences)
  names(given) <- as.character(seq_along(sequences))
  found <- rGADEM::GADEM(given, seed = seed, nmotifs = n_motifs, verbose = FALSE)
  if (length(found@motifList) == 0) list() else unname(rGADEM::getPWM(found))
}
"""


@contextmanager
def _library_path_kept() -> Iterator[None]:
    """Undo what R does to LD_LIBRARY_PATH: later child processes could load other libraries."""
    name = "LD_LIBRARY_PATH"
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        os.unsetenv(name)  # R sets it behind the back of os.environ
        if before is not None:
            os.environ[name] = before


def _commands(package: str) -> str:
    """What to run where neither R nor rpy2 is there."""
    own = _APT[package]
    return f"{own} && {_PYTHON}" if own.startswith("apt") else f"{_R} && {_PYTHON} && {own}"


def connect(package: str) -> Any:
    """Return ``rpy2.robjects`` with an R package loaded.

    Parameters
    ----------
    package
        ``"mclust"``, ``"ZIM"`` or ``"rGADEM"``.

    Raises
    ------
    ImportError
        When rpy2, R or the package is missing; the message names the command.
    """
    try:
        with _library_path_kept():
            import rpy2.robjects as ro
    except Exception as error:  # without R, rpy2 raises whatever its loader meets
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = (
            f"R could not be started through rpy2 ({reason}). Install both with: "
            f"{_commands(package)}"
        )
        raise ImportError(msg) from error
    if not ro.r(f'nzchar(system.file(package = "{package}"))')[0]:
        msg = f"The R package {package!r} is not installed. Install it with: {_APT[package]}"
        raise ImportError(msg)
    ro.r(f"suppressPackageStartupMessages(library({package}))")
    return ro


def mclust(Z: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """Gaussian mixture with one covariance for all components, by mclust (model EEE).

    Parameters
    ----------
    Z
        (n, d) points.
    k
        Components.
    seed
        For the sample that the hierarchical start of large data is made from. R's random state
        is restored.

    Returns
    -------
    float64 (n, k) probabilities of the components.

    References
    ----------
    Scrucca et al. (2016), The R Journal 8:289.
    """
    ro = connect("mclust")
    Z = np.ascontiguousarray(Z, dtype=np.float64)
    values = ro.r.matrix(ro.FloatVector(Z.ravel()), nrow=Z.shape[0], byrow=True)
    out = ro.r(_MCLUST)(values, int(k), int(seed))
    return np.array(out, dtype=np.float64).reshape(Z.shape[0], -1)


def zinb(n: int, *, size: float, mean: float, zeros: float, seed: int = 0) -> np.ndarray:
    """Zero-inflated negative binomial draws by R's ZIM.

    Parameters
    ----------
    n
        Number of draws.
    size, mean
        Dispersion and mean of the negative binomial part.
    zeros
        Share of extra zeros.
    seed
        R's random state is restored.

    Returns
    -------
    float64 (n,).
    """
    ro = connect("ZIM")
    drawn = ro.r(_ZINB)(int(n), float(size), float(mean), float(zeros), int(seed))
    return np.array(drawn, dtype=np.float64)


def gadem(sequences: Sequence[str], *, n_motifs: int, seed: int = 0) -> list[np.ndarray]:
    """Motifs of a set of sequences by Bioconductor's rGADEM, in the order it reports them.

    Parameters
    ----------
    sequences
        Letters ACGTN.
    n_motifs
        Motifs at most.
    seed
        Of its genetic algorithm. R's random state is restored.

    Returns
    -------
    float64 (width, 4) each: probabilities of A, C, G, T.

    References
    ----------
    Li (2009), GADEM, doi:10.1089/cmb.2008.16TT; Droit et al., rGADEM (Bioconductor).
    """
    ro = connect("rGADEM")
    found = ro.r(_GADEM)(ro.StrVector(list(sequences)), int(n_motifs), max(int(seed), 1))
    matrices = [np.array(m, dtype=np.float64).reshape(4, -1, order="F") for m in found]
    return [m.T / m.T.sum(axis=1, keepdims=True) for m in matrices]
