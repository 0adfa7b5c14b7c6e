"""Smoothing over a graph against dense algebra, and the amount that cross-validation picks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from omicllm.spatial.smoothing import AMOUNTS, cross_validation, laplacian, smooth


def square(side: int) -> sparse.csr_matrix:
    path = sparse.diags([np.ones(side - 1)] * 2, [-1, 1])
    eye = sparse.eye(side)
    return sparse.csr_matrix(sparse.kron(path, eye) + sparse.kron(eye, path))


def test_laplacian_by_hand():
    path = sparse.csr_matrix(np.array([[0, 1, 0], [1, 0, 2], [0, 2, 0]]))
    wanted = np.array([[1, -1, 0], [-1, 3, -2], [0, -2, 2]]) / 2.0
    np.testing.assert_allclose(laplacian(path).toarray(), wanted)


@pytest.mark.parametrize("amount", [0.1, 30.0])
def test_smoother_solves_its_equations(amount):
    rng = np.random.default_rng(0)
    L, P, w = laplacian(square(7)), rng.normal(size=(49, 3)), rng.uniform(0.01, 1, 49)
    dense = np.linalg.solve(np.diag(w) + amount * L.toarray(), w[:, None] * P)
    np.testing.assert_allclose(smooth(P, L, amount, weights=w), dense, atol=1e-3)
    plain = np.linalg.solve(np.eye(49) + amount * L.toarray(), P)
    np.testing.assert_allclose(smooth(P, L, amount), plain, atol=1e-3)


def test_spots_without_neighbours_stay():
    graph = sparse.block_diag([square(3), sparse.csr_matrix((1, 1))]).tocsr()
    P = np.random.default_rng(0).normal(size=(10, 2))
    np.testing.assert_allclose(smooth(P, laplacian(graph), 5.0)[-1], P[-1])


def test_cross_validation_equals_its_dense_formula():
    rng = np.random.default_rng(0)
    L, P = laplacian(square(8)), rng.normal(size=(64, 2))
    P -= P.mean(axis=0)
    found = cross_validation(P, L, np.random.default_rng(1), steps=64)
    for i in (0, 10, 20):
        S = np.linalg.inv(np.eye(64) + AMOUNTS[i] * L.toarray())
        left = ((P - S @ P) ** 2).sum(axis=0) / 64
        wanted = left / (np.trace(np.eye(64) - S) / 64) ** 2
        np.testing.assert_allclose(found[i], wanted, rtol=0.03)


def test_noise_asks_for_more_smoothing():
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(30), 30)
    signal, noise = np.sin(x / 4)[:, None], rng.normal(size=(900, 1))
    L = laplacian(square(30))
    picked = [
        AMOUNTS[cross_validation(signal + s * noise, L, rng).sum(axis=1).argmin()]
        for s in (0.02, 0.5, 3.0)
    ]
    assert picked[0] < picked[1] < picked[2]
    errors = [
        np.mean((smooth(signal + 0.5 * noise, L, a) - signal) ** 2)
        for a in (picked[1], AMOUNTS[0], AMOUNTS[-1])
    ]
    assert errors[0] < min(errors[1:]) / 2
    weights = np.full(900, 0.3)  # a common weight changes nothing
    again = cross_validation(signal + 0.5 * noise, L, np.random.default_rng(5), weights=weights)
    plain = cross_validation(signal + 0.5 * noise, L, np.random.default_rng(5))
    np.testing.assert_allclose(again, 0.3 * plain)
