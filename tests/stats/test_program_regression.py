"""The closed-form part of SPAM."""

from __future__ import annotations

import numpy as np
import pytest
from made_tissue import made_section

from omicllm.spatial.surroundings import neighbors, position_features
from omicllm.stats.agreement import gene_pearson
from omicllm.stats.depth import (
    depth_slope,
    expected_log,
    expected_log_by_depth,
    log_normalised,
    unknown_depth,
)
from omicllm.stats.program_regression import ProgramRegression
from omicllm.stats.tissue_context import TissueContext


def read(*adatas):
    """Blocks, counts, totals and sections."""
    blocks, counts = [], []
    for a in adatas:
        F, xy = a.obsm["X_classical"].astype(float), a.obsm["spatial"] / 100
        graph = neighbors(xy, np.zeros(len(xy)), 8)
        blocks.append({"own": F, "position": position_features(xy), "around": graph.average(F)})
        counts.append(a.X.toarray())
    sections = np.repeat(np.arange(len(adatas)), [a.n_obs for a in adatas])
    joined = {k: np.vstack([b[k] for b in blocks]) for k in blocks[0]}
    X = np.vstack(counts)
    return joined, X, X.sum(1), sections


def fitted(*adatas, **kwargs):
    blocks, X, total, sections = read(*adatas)
    shares = np.stack(
        [X[sections == s].sum(0) / X[sections == s].sum() for s in np.unique(sections)]
    )
    Y = log_normalised(X, total)
    return ProgramRegression(n_programs=6, **kwargs).fit(
        blocks, Y, shares, total, sections, sections, one_patient=False
    ), Y


def test_expected_log_is_the_mean_of_poisson_draws():
    rng = np.random.default_rng(0)
    share, total = np.array([1e-4, 1e-3, 2e-2]), np.array([300.0, 8000.0])
    x = rng.poisson(total[None, :, None] * share, (100_000, 2, 3))
    drawn = log_normalised(x.reshape(-1, 3), np.tile(total, 100_000)).reshape(x.shape).mean(0)
    np.testing.assert_allclose(expected_log(share, total), drawn, atol=0.02)


def test_many_depths_are_interpolated():
    rng = np.random.default_rng(0)
    share, total = np.array([1e-4, 2e-3, 3e-2]), 1000 * rng.lognormal(0, 1, 500)
    np.testing.assert_allclose(
        expected_log_by_depth(share, total), expected_log(share, total), atol=0.01
    )
    relative = rng.normal(0, 0.5, 500)
    many = unknown_depth(share, relative, 7.0, 1.0)
    few = np.vstack([unknown_depth(share, part, 7.0, 1.0) for part in np.split(relative, 10)])
    np.testing.assert_allclose(many, few, atol=0.01)
    same = unknown_depth(share, np.zeros(100), 7.0, 1.0)
    np.testing.assert_allclose(same, unknown_depth(share, np.zeros(1), 7.0, 1.0).repeat(100, 0))


@pytest.mark.parametrize("other", [[], [-900.0], [1e3], np.linspace(-6, 9, 700)], ids=len)
def test_what_depth_makes_of_a_row_does_not_depend_on_other_rows(other):
    share, relative = np.array([1e-4, 2e-3, 3e-2]), np.linspace(-1.3, 1.1, 40)
    every = np.concatenate([relative, np.clip(other, -30, 30)])
    made = unknown_depth(share, every, 7.0, 1.5)[: len(relative)]
    np.testing.assert_array_equal(made, unknown_depth(share, relative, 7.0, 1.5))
    alone = np.vstack([unknown_depth(share, relative[i : i + 1], 7.0, 1.5) for i in range(40)])
    np.testing.assert_allclose(made, alone, rtol=1e-12)
    # Against the sum itself, without interpolation.
    points = np.array([-1.5, -0.75, 0, 0.75, 1.5])
    weight = np.exp(-(points**2) / 2)
    exact = sum(
        w / weight.sum() * expected_log(share, np.exp(7.0 + 1.5 * p + relative))
        for p, w in zip(points, weight, strict=True)
    )
    np.testing.assert_allclose(made, exact, atol=2e-4)
    total = np.exp(7 + every)
    np.testing.assert_array_equal(
        expected_log_by_depth(share, total)[:40], expected_log_by_depth(share, total[:40])
    )


def test_depth_beyond_training_is_that_of_training():
    model, _ = fitted(*(made_section(f"s{i}", seed=i) for i in (1, 2)))
    low, high = model.depth_range_
    sections = np.zeros(4, dtype=int)
    wild = model.depth_effect(np.array([low, high, -1e9, 1e9]), sections)
    np.testing.assert_allclose(wild[2:], wild[:2], atol=1e-12)


def test_depth_matters_most_where_counts_are_few():
    slope = [depth_slope(np.array([3e-4]), L)[0] for L in (2000.0, 2e5)]
    assert slope[0] > 0
    share = np.array([3e-4])
    flat = unknown_depth(share, np.zeros(1), np.log(1000), 0.0)
    np.testing.assert_allclose(flat, expected_log(share, np.array([1000.0])), rtol=1e-5)


def test_new_sections_are_predicted():
    model, _ = fitted(*(made_section(f"s{i}", seed=i) for i in (1, 2)))
    blocks, X, total, sections = read(made_section("new", seed=9))
    guess = model.predict(blocks, sections)
    assert gene_pearson(log_normalised(X, total), guess).mean() > 0.4
    assert model.gain_[0] > 0.3


def test_noise_is_shrunk_to_nothing():
    model, _ = fitted(*(made_section(f"s{i}", seed=i, link=False, side=20) for i in (1, 2)))
    blocks, X, total, sections = read(made_section("new", seed=9, link=False, side=20))
    guess = model.predict(blocks, sections)
    truth = log_normalised(X, total)
    assert np.abs(gene_pearson(truth, guess)).mean() < 0.1
    assert guess.std(axis=0).mean() < 0.2 * truth.std(axis=0).mean()


def test_stain_shift_of_a_section_does_not_matter():
    model, _ = fitted(*(made_section(f"s{i}", seed=i) for i in (1, 2)))
    blocks, _, _, sections = read(made_section("new", seed=9))
    moved = {**blocks, "own": blocks["own"] + 7, "around": blocks["around"] + 7}
    np.testing.assert_allclose(
        model.predict(blocks, sections), model.predict(moved, sections), atol=1e-8
    )


def test_held_out_scores_are_of_models_without_the_group():
    a, b = made_section("a", seed=1), made_section("b", seed=2)
    model, _ = fitted(a, b)
    changed = b.copy()
    changed.X = changed.X[::-1]
    other, _ = fitted(a, changed)
    # Section a's held-out scores come from b alone: other counts of b give others.
    first = slice(0, a.n_obs)
    assert not np.allclose(model.out_of_fold_[first], other.out_of_fold_[first])
    # The programs' axes move too, so the reverse is checked through gains.
    assert other.gain_.sum() < model.gain_.sum()


def test_arrays_give_the_model_back():
    model, _ = fitted(made_section("a", seed=1), made_section("b", seed=2))
    again = ProgramRegression.from_arrays(model.arrays())
    blocks, _, _, sections = read(made_section("new", seed=9))
    np.testing.assert_array_equal(model.predict(blocks, sections), again.predict(blocks, sections))
    np.testing.assert_array_equal(model.slopes(), again.slopes())


def test_many_features_and_rows_are_cut_down(monkeypatch):
    import omicllm.stats.program_regression as module

    monkeypatch.setattr(module, "_MAX_COMPONENTS", 4)
    monkeypatch.setattr(module, "_MAX_CENTRES", 40)
    model, _ = fitted(made_section("a", seed=1), made_section("b", seed=2))
    assert model.rotation_["own"].shape == (10, 4)
    assert all(len(m.centres) == 40 for m in model.members_ if m.kind == "kernel")


def context(model, Y, a, b, blocks, sections):
    error = Y - model.predict(blocks, sections)
    coords = [a.obsm["spatial"] / 100, b.obsm["spatial"] / 100]
    rows = [np.flatnonzero(sections == s) for s in (0, 1)]
    return TissueContext.fitted(error, coords, rows, model.axes_, np.random.default_rng(0))


def test_measured_observations_and_genes_correct_predictions():
    a, b = made_section("a", seed=1), made_section("b", seed=2)
    model, Y = fitted(a, b)
    blocks, _, _, sections = read(a, b)
    found = context(model, Y, a, b, blocks, sections)
    new = made_section("new", seed=9, link=False)  # the image says nothing here
    blocks, X, total, sections = read(new)
    truth, guess = log_normalised(X, total), model.predict(blocks, sections)
    measured = np.arange(new.n_obs) % 5 == 0
    hidden = truth.copy()
    hidden[~measured] = np.nan
    corrected = found.krige(guess, hidden, measured, new.obsm["spatial"] / 100)
    before, after = (
        gene_pearson(truth[~measured], g[~measured]).mean() for g in (guess, corrected)
    )
    assert after > before + 0.1
    panel = np.arange(0, 30, 3)
    rest = np.setdiff1d(np.arange(30), panel)
    conditioned = found.condition(guess, truth[:, panel], panel)
    before, after = (gene_pearson(truth[:, rest], g[:, rest]).mean() for g in (guess, conditioned))
    assert after > before + 0.1
