"""Cross-validated axes: three routes, one answer; signal stands out from noise."""

from __future__ import annotations

import numpy as np
import pytest

from omicllm.stats import spectrum
from omicllm.stats.spectrum import cross_validated_axes


def data(n_genes: int, n_pixels: int, *, strength=(9.0, 6.0, 4.0), seed: int = 0):
    """Unit noise plus as many orthogonal patterns as there are strengths."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_genes, n_pixels))
    patterns = np.linalg.qr(rng.normal(size=(n_pixels, max(1, len(strength)))))[0]
    for s, pattern in zip(strength, patterns.T, strict=False):
        X += s * rng.normal(size=(n_genes, 1)) * pattern
    return X.astype(np.float32), patterns[:, : len(strength)]


def folds(n_genes: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(5).permutation(n_genes) % n


@pytest.mark.parametrize("block", [2048, 17])
def test_three_routes_agree(monkeypatch, block):
    monkeypatch.setattr(spectrum, "_BLOCK", block)
    X, _ = data(90, 60)
    part, k = folds(90), 3
    found = {
        "pixels": spectrum._by_pixels(X.__getitem__, part, 60, k),
        "genes": spectrum._by_genes(X.__getitem__, part, k),
        "iteration": spectrum._by_iteration(X.__getitem__, part, 60, k, np.random.default_rng(0)),
    }
    truth = np.linalg.svd(X.astype(np.float64), full_matrices=False)[2][:k].T
    axes, held_out, trace = found.pop("pixels")
    assert trace == pytest.approx((X.astype(np.float64) ** 2).sum(), rel=1e-5)
    np.testing.assert_allclose(np.abs((axes * truth).sum(axis=0)), 1.0, atol=1e-4)
    for name, (other, variance, total) in found.items():
        cosine = np.abs((axes * other).sum(axis=0))
        np.testing.assert_allclose(cosine, 1.0, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(np.linalg.norm(other, axis=0), 1.0, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(variance, held_out, rtol=1e-2, err_msg=name)
        assert total == pytest.approx(trace, rel=1e-4), name


def test_held_out_variance_by_hand():
    X, _ = data(40, 12)
    part = folds(40, 2)
    wanted = np.zeros(2)
    for j in range(2):
        axes = np.linalg.svd(X[part != j].astype(np.float64), full_matrices=False)[2][:2].T
        wanted += ((X[part == j] @ axes) ** 2).sum(axis=0)
    np.testing.assert_allclose(
        spectrum._by_pixels(X.__getitem__, part, 12, 2)[1], wanted, rtol=1e-3
    )


@pytest.mark.parametrize("shape", [(150, 400), (600, 120)])
def test_pure_noise_is_level(shape):
    X, _ = data(*shape, strength=())
    found = cross_validated_axes(X.__getitem__, *shape, 20)
    assert found.rest == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(found.held_out, found.rest, rtol=0.35)
    assert found.held_out.mean() == pytest.approx(found.rest, rel=0.1)
    # What the same genes give, without cross-validation, is far above that level.
    naive = np.linalg.svd(X, compute_uv=False)[:20] ** 2 / shape[0]
    assert naive.mean() > 1.5 * found.held_out.mean()


@pytest.mark.parametrize("shape", [(150, 400), (600, 120)])
def test_signal_is_found_and_trusted(shape):
    X, patterns = data(*shape)
    found = cross_validated_axes(X.__getitem__, *shape, 10)
    inside = np.linalg.norm(found.axes[:, :3].T @ patterns, axis=0)
    assert (inside > 0.9).all()
    snr = found.signal_to_noise
    assert (snr[:3] > 5).all() and (snr[3:] < 1).all() and (snr >= 0).all()


def test_shape_sign_and_seed():
    X, _ = data(50, 200)
    found = cross_validated_axes(X.__getitem__, 50, 200, 500)
    assert found.axes.dtype == np.float32 and found.axes.shape == (200, 39)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(39), atol=1e-3)
    top = found.axes[np.abs(found.axes).argmax(axis=0), np.arange(39)]
    assert (top > 0).all()
    again = cross_validated_axes(X.__getitem__, 50, 200, 500)
    assert np.array_equal(found.axes, again.axes) and found.rest == again.rest


def test_wide_data_take_the_iteration(monkeypatch):
    X, patterns = data(150, 400)
    whole = cross_validated_axes(X.__getitem__, 150, 400, 3)
    monkeypatch.setattr(spectrum, "WHOLE", 10)
    called = []
    route = spectrum._by_iteration
    monkeypatch.setattr(spectrum, "_by_iteration", lambda *a: called.append(1) or route(*a))
    wide = cross_validated_axes(X.__getitem__, 150, 400, 3)
    assert called
    np.testing.assert_allclose((whole.axes * wide.axes).sum(axis=0), 1.0, atol=1e-3)


def test_few_pixels_leave_no_axes():
    X, _ = data(300, 12)
    found = cross_validated_axes(X.__getitem__, 300, 12, 50)
    assert found.axes.shape == (12, 12)
    assert found.rest == pytest.approx(1.0, abs=0.3)
