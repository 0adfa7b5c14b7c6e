"""Genes over tissue pixels: sections, pooling, halves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from omicllm.spatial.image_set import image_set
from omicllm.spatial.images import rasterise
from omicllm.spatial.sections import SectionGrid


def made(agg: str = "sum"):
    """Counts of 8 genes over two sections, one of them with spots that share pixels."""
    rng = np.random.default_rng(0)
    X = rng.poisson(1.5, (50, 8)).astype(np.float32)
    order = rng.permutation(50)
    first, second = np.sort(order[:30]), np.sort(order[30:])
    grids = [
        SectionGrid("a", first, rng.permutation(42)[:30], (6, 7), agg),
        SectionGrid("b", second, rng.integers(0, 20, 20), (4, 5), agg),
    ]
    return X, grids


@pytest.mark.parametrize("agg", ["sum", "mean"])
def test_images_are_those_of_rasterise(agg):
    X, grids = made(agg)
    images = image_set(sparse.csc_matrix(X), grids)
    genes = np.array([5, 0])
    for i, grid in enumerate(grids):
        wanted = rasterise(X[grid.rows], grid.pixel, grid.shape, agg=agg)
        np.testing.assert_allclose(images.images(slice(None), i), wanted, rtol=1e-6)
        np.testing.assert_allclose(images.images(genes, i), wanted[genes], rtol=1e-6)
        section = images.sections[i]
        assert section.name == grid.name and section.shape == grid.shape
        flat = np.zeros(grid.shape[0] * grid.shape[1], dtype=bool)
        flat[grid.pixel] = True
        assert np.array_equal(section.occupancy, flat.reshape(grid.shape))
        assert np.array_equal(images.section_of[section.start : section.stop], [i] * flat.sum())
    assert images.n_pixels == images.sections[-1].stop == len(images.depth)
    if agg == "sum":
        np.testing.assert_allclose(images.gene_total, X.sum(axis=0))
        assert images.depth.sum() == pytest.approx(X.sum())
    np.testing.assert_array_equal(images.take(genes).dense(slice(None)), images.dense(genes))


def test_halves_sum_to_the_counts():
    X, grids = made()
    images = image_set(sparse.csc_matrix(X), grids)
    first, second = images.halves(np.random.default_rng(3))
    a, b = first.counts.toarray(), second.counts.toarray()
    assert np.array_equal(a + b, images.counts.toarray())
    assert (a >= 0).all() and (b >= 0).all() and np.array_equal(a, np.rint(a))
    assert a.any() and b.any() and not np.array_equal(a, b)
    again, _ = images.halves(np.random.default_rng(3))
    assert np.array_equal(again.counts.toarray(), a)
    other, _ = images.halves(np.random.default_rng(4))
    assert not np.array_equal(other.counts.toarray(), a)


def test_halves_are_independent_binomials():
    counts = sparse.csc_matrix(np.full((4000, 1), 10.0, dtype=np.float32))
    grid = SectionGrid("a", np.arange(4000), np.arange(4000), (40, 100), "sum")
    first, _ = image_set(counts, [grid]).halves(np.random.default_rng(0))
    values = first.counts.toarray().ravel()
    assert values.mean() == pytest.approx(5.0, abs=0.1)
    assert values.var() == pytest.approx(2.5, abs=0.25)


def test_pooling_keeps_counts():
    X, grids = made()
    whole = image_set(sparse.csc_matrix(X), grids)
    assert whole.patch == 1
    pooled = image_set(sparse.csc_matrix(X), grids, max_pixels=20)
    assert pooled.n_pixels <= 20 < whole.n_pixels
    np.testing.assert_allclose(pooled.gene_total, whole.gene_total)
    p = pooled.patch
    for i, section in enumerate(pooled.sections):
        full = whole.images(slice(None), i)
        h, w = section.shape
        padded = np.zeros((8, h * p, w * p), dtype=np.float32)
        padded[:, : full.shape[1], : full.shape[2]] = full
        wanted = padded.reshape(8, h, p, w, p).sum(axis=(2, 4))
        np.testing.assert_allclose(pooled.images(slice(None), i), wanted)
    assert image_set(sparse.csc_matrix(X), grids, max_pixels=whole.n_pixels).patch == 1


def test_sections_without_observations_are_left_out():
    X, grids = made()
    grids.append(SectionGrid("c", np.array([], dtype=int), np.array([], dtype=int), (3, 3), "sum"))
    images = image_set(sparse.csc_matrix(X), grids)
    assert [s.name for s in images.sections] == ["a", "b"]


def test_with_counts_leaves_the_set():
    X, grids = made()
    images = image_set(sparse.csc_matrix(X), grids)
    before = images.counts.copy()
    doubled = images.with_counts(images.counts.data * 2)
    assert np.array_equal(doubled.counts.toarray(), 2 * before.toarray())
    assert np.array_equal(images.counts.toarray(), before.toarray())
