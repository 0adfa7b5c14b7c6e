r"""Smoothing of spot profiles over a sparse graph, by as much as the data ask for.

The smoother minimises, over :math:`S`,

.. math:: \sum_i w_i \|s_i - p_i\|^2 + \frac{\lambda}{2} \sum_{ij} a_{ij} \|s_i - s_j\|^2

(Tikhonov regularisation on a graph), so :math:`(W + \lambda L) S = W P` with the graph Laplacian
:math:`L`. :math:`\lambda` minimises generalised cross-validation (Craven and Wahba 1979), whose
numerator and trace come from Lanczos quadrature (Golub and Meurant 1994) and random probes
(Hutchinson 1990): nothing of size n x n is made.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

#: Amounts of smoothing that are tried; 0.03 is next to none, 1000 next to a constant.
AMOUNTS = np.geomspace(0.03, 1000.0, 32)


def laplacian(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    """Laplacian (n, n) of a symmetric graph, divided by the mean degree."""
    A = sparse.csr_matrix(graph, dtype=np.float64)
    degree = np.asarray(A.sum(axis=1)).ravel()
    return ((sparse.diags(degree) - A) / max(degree.mean(), 1e-12)).tocsr()


def cross_validation(
    P: np.ndarray,
    L: sparse.csr_matrix,
    rng: np.random.Generator,
    *,
    weights: np.ndarray | None = None,
    amounts: np.ndarray = AMOUNTS,
    steps: int = 40,
) -> np.ndarray:
    r"""Generalised cross-validation of the smoother for each amount and component.

    :math:`\frac{1}{n}\|h(L)\,p\|^2 / (\frac{1}{n}\mathrm{tr}\,h(L))^2` with
    :math:`h(t) = \lambda t / (1 + \lambda t)`, the part that the smoother takes away. One Lanczos
    run per column serves all amounts. Weights scale the values (by their square roots) and not the
    penalty: with weights in the penalty too, the criterion assumes that all variation within a
    domain is counting noise, which is false where spots are cells, and asks for too little.

    Parameters
    ----------
    P
        (n, k) values of the components.
    L
        Laplacian.
    rng
        For the sign probes of the trace (more of them where n is small).
    weights
        (n,) weights of the spots.
    amounts, steps
        Values of lambda; length of a Lanczos run.

    Returns
    -------
    float64 (n_amounts, k).
    """
    n, k = P.shape
    probes = int(np.clip(200_000 // n, 8, 400))
    scaled = P if weights is None else P * np.sqrt(weights)[:, None]
    Z = np.hstack([scaled - scaled.mean(axis=0), rng.choice([-1.0, 1.0], (n, probes))])
    square = (Z**2).sum(axis=0)
    q = Z / np.sqrt(np.maximum(square, 1e-300))
    del Z
    before, beta = np.zeros_like(q), np.zeros(q.shape[1])
    diagonal, beside = [], []
    for _ in range(min(steps, n - 1)):
        v = L @ q - beta * before
        a = (q * v).sum(axis=0)
        v -= a * q
        beta = np.sqrt((v**2).sum(axis=0))
        diagonal.append(a)
        beside.append(beta)
        before, q = q, v / np.maximum(beta, 1e-12)
    D, B = np.array(diagonal), np.array(beside)
    left, trace = np.empty((len(amounts), k)), np.zeros(len(amounts))
    for j in range(k + probes):
        node, vector = np.linalg.eigh(
            np.diag(D[:, j]) + np.diag(B[:-1, j], 1) + np.diag(B[:-1, j], -1)
        )
        product = np.outer(amounts, np.maximum(node, 0.0))
        h = product / (1.0 + product)
        if j < k:
            left[:, j] = (h**2) @ vector[0] ** 2 * square[j] / n
        else:
            trace += h @ vector[0] ** 2 / probes
    return left / np.maximum(trace, 1e-300)[:, None] ** 2


def smooth(
    P: np.ndarray,
    L: sparse.csr_matrix,
    amount: float,
    *,
    weights: np.ndarray | None = None,
    tol: float = 1e-5,
    max_iter: int = 500,
) -> np.ndarray:
    r"""Solve :math:`(W + \lambda L) S = W P` by conjugate gradients, all columns at once.

    Parameters
    ----------
    P
        (n, k) values.
    L
        Laplacian.
    amount
        lambda.
    weights
        (n,) positive weights of the spots; all 1 by default.
    tol, max_iter
        Largest residual relative to the right-hand side, and iterations.

    Returns
    -------
    float64 (n, k).
    """
    w = np.ones(len(P)) if weights is None else weights
    M = (sparse.diags(w) + amount * L).tocsr()
    right = P * w[:, None]
    inverse = (1.0 / M.diagonal())[:, None]
    S = np.array(P, dtype=np.float64)
    residual = right - M @ S
    z = inverse * residual
    direction, rz = z.copy(), (residual * z).sum(axis=0)
    enough = tol * np.sqrt((right**2).sum(axis=0)) + 1e-300
    for _ in range(max_iter):
        if (np.sqrt((residual**2).sum(axis=0)) <= enough).all():
            break
        q = M @ direction
        step = rz / np.maximum((direction * q).sum(axis=0), 1e-300)
        S += step * direction
        residual -= step * q
        z = inverse * residual
        new = (residual * z).sum(axis=0)
        direction = z + new / np.maximum(rz, 1e-300) * direction
        rz = new
    return S
