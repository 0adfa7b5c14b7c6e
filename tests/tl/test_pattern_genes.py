"""`tl.pattern_genes`: every way to say a pattern, its null, inputs, errors."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import only_declared_written, round_trip, same, same_object, slots
from scipy import sparse, stats

import omicllm as ol
from omicllm.spatial import patterns
from omicllm.stats.pattern_test import excess_pvalues, likeness_pvalues


@pytest.fixture
def tissue(tiny):
    """The small set with its regions: where each planted pattern is."""
    x = np.asarray(tiny.obs["array_col"] // 2) / 9
    y = np.asarray(tiny.obs["array_row"]) / 11
    tiny.obs["side"] = np.where(x > 0.5, "right", "left")
    tiny.obs["third"] = np.array(["low", "middle", "high"])[np.minimum((x * 3).astype(int), 2)]
    tiny.obs["corner"] = (x > 0.5) & (y > 0.5)
    return tiny


def best(adata, n=6):
    return set(adata.var["program"][adata.var["pattern_score"].nlargest(n).index])


@pytest.mark.parametrize(
    "asked,program",
    [
        ({"region": "right", "groupby": "side"}, 0),
        ({"region": "left", "groupby": "side"}, 1),
        ({"mask": "corner"}, 3),
        ({"levels": {"low": 90, "middle": 50, "high": 5}, "groupby": "third"}, 0),
        ({"levels": {"low": 5, "high": 90}, "groupby": "third"}, 1),
        ({"image": np.tile(np.exp(-8 * (np.arange(12) / 11 - 0.5)[:, None] ** 2), (1, 11))}, 2),
    ],
)
def test_finds_the_planted_genes(tissue, tmp_path, asked, program):
    before = slots(tissue)
    ol.tl.pattern_genes(tissue, n_null=100, **asked)
    only_declared_written(before, tissue, "tl.pattern_genes")
    assert best(tissue) == {program}
    round_trip(tissue, tmp_path)
    assert list(tissue.var_names) == [f"Gene{i}" for i in range(40)]
    assert tissue.var["pattern_score"].isna().tolist() == [i in (3, 4) for i in range(40)]
    q, p = tissue.var["pattern_qval"], tissue.var["pattern_pval"]
    assert q.dropna().between(0, 1).all() and (q.dropna() >= p.dropna() - 1e-6).all()


def test_like_a_gene(tissue):
    ol.tl.sigel(tissue)
    ol.tl.pattern_genes(tissue, like="Gene9")
    assert tissue.var["pattern_score"].idxmax() == "Gene9"
    assert np.isnan(tissue.var["pattern_qval"]["Gene9"]) and best(tissue, 5) == {1}
    Z = tissue.varm["X_sigel"]
    np.testing.assert_allclose(tissue.var["pattern_score"].drop(["Gene3", "Gene4"]), np.delete(
        Z @ Z[9], [3, 4]), atol=1e-6)  # fmt: skip
    with pytest.raises(ValueError, match="has no counts"):
        ol.tl.pattern_genes(tissue, like="Gene3")


def test_models(tissue, tmp_path):
    call = {"region": "right", "groupby": "side", "n_null": 50}
    fitted = ol.tl.pattern_genes(tissue, **call, copy=True)
    ol.tl.sigel(tissue, save=tmp_path / "model")
    ol.tl.pattern_genes(tissue, **call)
    given = ol.tl.pattern_genes(tissue, **call, model=tmp_path / "model", copy=True)
    loaded = ol.model.SIGEL.load(tmp_path / "model")
    handed = ol.tl.pattern_genes(tissue, **call, model=loaded, copy=True)
    for other in (fitted, given, handed):
        np.testing.assert_allclose(
            other.var["pattern_score"], tissue.var["pattern_score"], atol=1e-4
        )


def test_model_of_another_section(tissue, tmp_path):
    from conftest import make_tiny

    ol.tl.sigel(make_tiny(seed=1), save=tmp_path / "model")
    ol.tl.pattern_genes(tissue[:100].copy(), mask="corner", n_null=50, model=tmp_path / "model")
    part = tissue[tissue.obs["array_row"] < 10].copy()  # another grid: the encoder is transferred
    ol.tl.pattern_genes(part, region="right", groupby="side", n_null=50, model=tmp_path / "model")
    assert best(part) == {0}


def test_storages_copy_and_key(tissue):
    call = {"mask": tissue.obs["corner"].to_numpy(), "n_null": 50}
    untouched = tissue.copy()
    out = ol.tl.pattern_genes(tissue, **call, copy=True)
    same_object(tissue, untouched)
    for change in (lambda X: X.toarray(), lambda X: X.tocsc(), lambda X: X.astype(np.float64)):
        other = tissue.copy()
        other.X = change(other.X)
        ol.tl.pattern_genes(other, **call, key_added="foo")
        for name in ("score", "pval", "qval"):
            assert same(other.var[f"foo_{name}"], out.var[f"pattern_{name}"])


def test_sections():
    import anndata as ad
    from conftest import make_tiny

    two = ad.concat({"a": make_tiny(), "b": make_tiny(seed=1)}, label="slide", index_unique="-")
    two.var["program"] = np.arange(40) % 4
    two.obs["right"] = two.obs["array_col"] > 9
    ol.tl.pattern_genes(two, mask="right", batch_key="slide", n_null=50)
    assert best(two) == {0}
    with pytest.raises(ValueError, match="dict of section"):
        ol.tl.pattern_genes(two, image=np.zeros((12, 11)), batch_key="slide")


@pytest.mark.parametrize(
    "call,error,message",
    [
        ({}, ValueError, "given: none"),
        ({"like": "Gene1", "mask": "corner"}, ValueError, "given: 'like', 'mask'"),
        ({"like": "Gene1"}, KeyError, r"Make it with ol.tl.sigel\(adata\)"),
        ({"region": "right"}, ValueError, "region= needs groupby="),
        ({"region": "up", "groupby": "side"}, KeyError, "'up' is not in adata.obs.'side'."),
        ({"region": "up", "groupby": "nope"}, KeyError, "'nope' is not in adata.obs"),
        ({"levels": {"left": 5}, "groupby": "side"}, ValueError, "at least two regions"),
        ({"levels": {"left": 5, "right": 105}, "groupby": "side"}, ValueError, "between 0 and 100"),
        ({"mask": np.ones(3, bool)}, ValueError, "one value per observation"),
        ({"mask": np.ones(120, bool)}, ValueError, "same at every observation"),
        ({"mask": np.arange(120)}, ValueError, "True and False only"),
        ({"image": np.zeros((3, 3))}, ValueError, r"the grid \(12, 11\)"),
        ({"image": np.full((12, 11), np.nan)}, ValueError, "NaN or infinite"),
        ({"mask": "corner", "layer": "raw"}, KeyError, "'raw' is not in adata.layers"),
        ({"mask": "corner", "model": "nowhere"}, FileNotFoundError, "no saved model"),
        ({"mask": "corner", "rng": "a"}, TypeError, "rng must be"),
    ],
)
def test_errors(tissue, call, error, message):
    untouched = tissue.copy()
    with pytest.raises(error, match=message):
        ol.tl.pattern_genes(tissue, **call)
    same_object(tissue, untouched)


def test_mean_and_variance_are_found_again():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.1, 20, 3000)
    cv2 = 0.3 + 1.2 / mean
    variance = cv2 * mean**2 * rng.gamma(20, 1 / 20, 3000)
    trend = patterns.dispersion_trend(mean, variance)
    assert trend.a0 == pytest.approx(0.3, abs=0.05) and trend.a1 == pytest.approx(1.2, abs=0.1)
    assert np.isinf(patterns.DispersionTrend(0.0, 0.9).size(np.array(2.0)))


def test_graded_draws():
    rng = np.random.default_rng(0)
    X = sparse.csc_matrix(rng.poisson(np.linspace(1, 10, 50), (400, 50)).astype(np.float32))
    members = {"a": np.arange(200), "b": np.arange(200, 390)}
    means = patterns.level_means(X, members, {"a": 0, "b": 90})
    assert means["a"] == X[:200].mean(axis=0).max() and means["b"] < 2.5
    strength = rng.random(400)
    drawn = patterns.graded_counts(means, members, patterns.DispersionTrend(0.1, 1), strength, rng)
    assert np.isnan(drawn[390:]).all()
    assert drawn[:200].mean() == pytest.approx(means["a"], rel=0.1)
    assert (np.diff(drawn[:200][np.argsort(strength[:200])]) >= 0).all()


def test_surrogates_keep_values_and_smoothness():
    rng = np.random.default_rng(0)
    position = np.stack(np.divmod(np.arange(900), 30), axis=1).astype(float)
    modes = patterns.smooth_modes(position, 80)
    np.testing.assert_allclose(modes.T @ modes, np.eye(modes.shape[1]), atol=1e-8)
    pattern = (position[:, 0] > 14).astype(float)
    made = patterns.surrogates(pattern, modes, 50, rng)
    assert (np.sort(made, axis=1) == np.sort(pattern)).all()

    def roughness(v):
        image = v.reshape(30, 30)
        return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()

    rough = [roughness(m) for m in made]
    assert np.median(rough) < 0.25 * roughness(rng.permutation(pattern))
    correlation = [np.corrcoef(pattern, m)[0, 1] for m in made]
    assert abs(np.mean(correlation)) < 0.25


def test_pvalues():
    rng = np.random.default_rng(0)
    null = np.tanh(rng.normal(0.1, 0.3, (2000, 200)))
    p = excess_pvalues(np.tanh(rng.normal(0.1, 0.3, 2000)), null)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert excess_pvalues(np.array([0.99]), null[:1])[0] < 1e-6
    like = likeness_pvalues(np.concatenate([np.tanh(rng.normal(0, 0.1, 5000)), [0.9] * 50]))
    assert stats.kstest(like[:5000], "uniform").pvalue > 1e-3 and like[-1] < 1e-10
