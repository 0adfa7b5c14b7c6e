"""`tl.compare_genes`: planted changes, shuffled conditions, both tests, inputs, errors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny
from helpers import only_declared_written, round_trip, same, same_object, slots
from scipy import stats

import omicllm as ol
from omicllm.stats import pattern_change as change
from omicllm.stats.scores import auroc

KEYS = {"batch_key": "slide", "condition_key": "condition"}


def joined(conditions="abab", n_genes=120, n_changed=0):
    """Sections with the same planted patterns; the first genes have another one in condition b."""
    parts = {}
    for i, condition in enumerate(conditions):
        one = make_tiny(n_genes, seed=i)
        one.X = one.X.toarray()
        if condition == "b":
            new = make_tiny(n_genes, seed=100 + i).X.toarray()
            for g in range(10, 10 + n_changed):
                one.X[:, g] = new[:, g + 1]
        one.obs["condition"] = condition
        parts[f"s{i}"] = one
    return ad.concat(parts, label="slide", index_unique="-")


@pytest.mark.parametrize("conditions", ["abab", "ab"])
def test_changed_genes_are_found(conditions, tmp_path):
    adata = joined(conditions, n_changed=12)
    before = slots(adata)
    ol.tl.compare_genes(adata, **KEYS)
    only_declared_written(before, adata, "tl.compare_genes")
    round_trip(adata, tmp_path)
    score = adata.var["compare_score"]
    tested = score.notna()
    changed = np.zeros(120, dtype=bool)
    changed[10:22] = True
    assert not tested.iloc[[3, 4]].any() and tested.sum() > 100
    assert auroc(score[tested].to_numpy(), changed[tested]) > 0.95
    assert adata.uns["compare"]["test"] == ("sections" if len(conditions) > 2 else "blocks")
    assert list(adata.uns["compare"]["conditions"]) == list(conditions)
    p = adata.var["compare_pval"][tested]
    assert np.median(p[changed[tested]]) < 0.05 and p.min() > 0


def test_uniform_when_nothing_changed():
    """Conditions mean nothing: pooled over ways to deal them, p values are uniform."""
    p = []
    for conditions in ("aabb", "abab", "abba"):
        adata = joined(conditions)
        ol.tl.compare_genes(adata, **KEYS)
        p.append(adata.var["compare_pval"].dropna())
        assert (adata.var["compare_qval"].dropna() > 0.05).all()
    assert stats.kstest(np.concatenate(p), "uniform").pvalue > 0.01


def test_too_few_sections_are_said_to_be(caplog):
    with caplog.at_level("WARNING", logger="omicllm"):
        ol.tl.compare_genes(joined("ab"), **KEYS)
    assert "too few for a test over sections" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", logger="omicllm"):
        ol.tl.compare_genes(joined("abb"), **KEYS)
    assert not caplog.text


def test_rotations_are_undone():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(200, 8)) * np.linspace(2, 0.5, 8)
    units = []
    for _ in range(3):
        turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
        full, first, second = (
            change.unit_rows((Z + 0.1 * rng.normal(size=Z.shape)) @ turn) for _ in range(3)
        )
        units.append(change.Unit(full, first, second))
    places, trust = change.common_axes(units, 100)
    distance = change.place_distances(places)
    assert distance.shape == (3, 3, 200) and np.median(distance[0, 1]) < 0.05
    assert np.median(trust) > 0.95
    moved = change.Unit(*(np.concatenate([v[50:51], v[1:]]) for v in (
        units[2].full, units[2].first, units[2].second)))  # fmt: skip
    distance = change.place_distances(change.common_axes([*units[:2], moved], 100)[0])
    assert change.contrast(distance, np.array([0, 0, 1])).argmax() == 0


def test_ways_to_deal_conditions():
    rng = np.random.default_rng(0)
    found = change.labelings(np.array([0, 0, 1, 1]), 100, rng)
    assert sorted(tuple(x) for x in found) == [(0, 1, 0, 1), (0, 1, 1, 0)]
    assert len(change.labelings(np.array([0, 0, 0, 1, 1, 1]), 100, rng)) == 9
    assert len(change.labelings(np.repeat([0, 1], 6), 50, rng)) == 50
    assert len(change.labelings(np.array([0, 1, 1]), 100, rng)) == 2


def test_halves_are_made_of_blocks():
    position = np.stack(np.divmod(np.arange(400), 20), axis=1).astype(float)
    first, second = change.block_halves(position, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(400)) and len(first) == len(second) == 200
    inside = np.isin(np.arange(400), first).reshape(20, 20)
    assert (inside[:, 1:] == inside[:, :-1]).mean() > 0.75


def test_standardised_by_genes_as_noisy():
    rng = np.random.default_rng(0)
    noise = rng.random(3000)
    z = change.beyond_noise(5 + rng.normal(size=3000) * noise, noise)
    assert abs(np.median(z)) < 0.1 and z.std() == pytest.approx(1, abs=0.15)
    assert z[noise < 0.2].std() == pytest.approx(z[noise > 0.8].std(), rel=0.2)


def test_null_scores_are_widened_to_the_bulk():
    rng = np.random.default_rng(0)
    null, score = rng.normal(size=20_000), 1.5 * rng.normal(size=20_000)
    score[:500] += 20
    assert change.inflation(score, null) == pytest.approx(1.5, rel=0.1)
    assert change.inflation(null / 2, null) == 1.0


def test_contract():
    adata = joined()
    untouched = adata.copy()
    out = ol.tl.compare_genes(adata, **KEYS, copy=True)
    same_object(adata, untouched)
    for kind in ("csc", "csr"):
        from scipy import sparse

        other = adata.copy()
        other.X = getattr(sparse, f"{kind}_matrix")(adata.X)
        ol.tl.compare_genes(other, **KEYS, key_added="foo")
        for name in ("score", "pval", "qval"):
            assert same(other.var[f"foo_{name}"], out.var[f"compare_{name}"])


@pytest.mark.parametrize(
    "make,call,error,message",
    [
        ("a", {}, ValueError, "at least two sections; there is one .'s0'"),
        ("aa", {}, ValueError, "at least two conditions; all 2 sections are 'a'"),
        ("ab", {"batch_key": "nope"}, KeyError, "'nope' is not in adata.obs"),
        ("ab", {"condition_key": "nope"}, KeyError, "'nope' is not in adata.obs"),
        ("ab", {"condition_key": "array_row"}, ValueError, "Section 's0' must have one condition"),
        ("ab", {"min_count": 10**6}, ValueError, "0 genes have at least 2000000 counts"),
        ("ab", {"spatial_key": "nope"}, KeyError, "'nope' is not in adata.obsm"),
        ("ab", {"layer": "nope"}, KeyError, "'nope' is not in adata.layers"),
        ("ab", {"rng": "a"}, TypeError, "rng must be"),
    ],
)
def test_errors(make, call, error, message):
    adata = joined(make)
    untouched = adata.copy()
    with pytest.raises(error, match=message):
        ol.tl.compare_genes(adata, **{**KEYS, **call})
    same_object(adata, untouched)


def test_values_that_are_no_counts():
    adata = joined()
    adata.X = np.log1p(adata.X)
    with pytest.raises(ValueError, match="not whole numbers"):
        ol.tl.compare_genes(adata, **KEYS)
