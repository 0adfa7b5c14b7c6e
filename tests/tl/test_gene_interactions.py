"""`tl.gene_interactions`: known pairs, networks, sections, conditions, inputs, errors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import make_tiny
from helpers import only_declared_written, round_trip, same, same_object, slots
from scipy import stats

import omicllm as ol
from omicllm.stats import pairs as pairing
from omicllm.stats.pattern_change import block_parts, block_tiles


def same_program(adata):
    names, program = adata.var_names, np.arange(adata.n_vars) % 4
    a, b = np.triu_indices(adata.n_vars, 1)
    keep = program[a] == program[b]
    return list(zip(names[a[keep]], names[b[keep]], strict=True))


@pytest.fixture(scope="module")
def embedded():
    adata = make_tiny(80)
    ol.tl.sigel(adata)
    return adata


@pytest.fixture(scope="module")
def sections():
    parts = {f"s{i}": make_tiny(60, seed=i) for i in range(4)}
    new = make_tiny(60, seed=9).X.toarray()
    for name in ("s2", "s3"):  # Gene0 joins another program in the second condition
        X = parts[name].X.toarray()
        X[:, 0] = new[:, 1]
        parts[name].X = X
    adata = ad.concat(parts, label="slide", index_unique="-")
    adata.obs["condition"] = np.where(adata.obs["slide"].isin(["s0", "s1"]), "a", "b")
    ol.tl.sigel(adata, batch_key="slide")
    return adata


def test_known_pairs(embedded, tmp_path):
    adata = embedded.copy()
    before = slots(adata)
    pairs = same_program(adata)
    given = pairs[::2]
    ol.tl.gene_interactions(adata, known_pairs=given)
    only_declared_written(before, adata, "tl.gene_interactions")
    round_trip(adata, tmp_path)
    scores = adata.uns["gene_interactions"]["baseline"]
    assert scores["auc"] > 0.85 and 0.5 < scores["coexpression"] <= 1 and scores["n_test"] > 100
    table = ol.get.table(adata, "gene_interactions")
    assert table["score"].dropna().between(0, 1).all()
    usable = [p for p in given if not {"Gene3", "Gene4"} & set(p)]
    assert table["known"].sum() == len(usable)
    truth = {frozenset(p) for p in pairs}
    strong = table[~table["known"] & (table["score"] > 0.5)]
    right = [frozenset(p) in truth for p in zip(strong["gene_a"], strong["gene_b"], strict=True)]
    assert len(right) > 5 and np.mean(right) > 0.6
    assert adata.var["gene_interactions_degree"][["Gene3", "Gene4"]].sum() == 0


def test_forms_of_known_pairs(embedded):
    pairs = same_program(embedded)[:200]
    net = pd.DataFrame(pairs, columns=["source", "target"]).assign(weight=1.0)[
        ["weight", "source", "target"]
    ]
    doubled = [*pairs, *[(b, a) for a, b in pairs], ("Gene0", "Gene0"), ("Gene0", "absent")]
    tables = []
    for form in (pairs, net, doubled, pd.DataFrame(pairs)):
        out = ol.tl.gene_interactions(embedded, known_pairs=form, n_repeats=1, copy=True)
        tables.append(ol.get.table(out, "gene_interactions"))
    for other in tables[1:]:
        assert same(other, tables[0])


def test_network(embedded, tmp_path):
    adata = embedded.copy()
    before = slots(adata)
    ol.tl.gene_interactions(adata, n_neighbors=5, n_bootstraps=10)
    only_declared_written(before, adata, "tl.gene_interactions")
    round_trip(adata, tmp_path)
    table = ol.get.table(adata, "gene_interactions")
    assert table["stability"].between(0, 1).all() and table["stability"].is_monotonic_decreasing
    Z = pd.DataFrame(adata.varm["X_sigel"], index=adata.var_names)
    first = table.iloc[0]
    assert first["score"] == pytest.approx(
        Z.loc[first["gene_a"]] @ Z.loc[first["gene_b"]], abs=1e-5
    )
    program = pd.Series(np.arange(80) % 4, index=adata.var_names)
    right = program[table["gene_a"]].to_numpy() == program[table["gene_b"]].to_numpy()
    stable = table["stability"] >= 0.7
    assert stable.sum() > 10 and right[stable].mean() > 0.95
    degree = adata.var["gene_interactions_degree"]
    assert degree.sum() == 2 * (table["stability"] >= 0.5).sum()


def test_sections_and_conditions(sections, tmp_path):
    adata = sections.copy()
    before = slots(adata)
    ol.tl.gene_interactions(
        adata, batch_key="slide", condition_key="condition", n_neighbors=5, n_bootstraps=8
    )
    only_declared_written(before, adata, "tl.gene_interactions")
    round_trip(adata, tmp_path)
    table = ol.get.table(adata, "gene_interactions")
    assert (table["n_sections"] == 4).all() and table["i2"].between(0, 1).all()
    assert list(adata.uns["gene_interactions"]["conditions"]) == ["a", "a", "b", "b"]
    moved = (table["gene_a"] == "Gene0") | (table["gene_b"] == "Gene0")
    other = np.where(table["gene_a"] == "Gene0", table["gene_b"], table["gene_a"])
    program = np.array([int(g[4:]) % 4 for g in other])
    gained, lost = moved & (program == 1), moved & (program == 0)
    assert table["change"][gained].mean() > 0.2 and table["change"][lost].mean() < -0.2
    assert table["change_pval"][moved].median() < table["change_pval"][~moved].median()
    assert table["i2"][gained].mean() > table["i2"][~moved].mean()
    together = ol.tl.gene_interactions(
        adata, batch_key="slide", n_neighbors=5, n_bootstraps=3, copy=True
    )
    columns = set(ol.get.table(together, "gene_interactions"))
    assert "n_sections" in columns and "change" not in columns


def test_contract(embedded):
    adata = embedded.copy()
    untouched = adata.copy()
    for call in ({"n_bootstraps": 3}, {"known_pairs": same_program(adata), "n_repeats": 1}):
        out = ol.tl.gene_interactions(adata, **call, copy=True)
        same_object(adata, untouched)
        other = adata.copy()
        other.X = other.X.toarray()
        ol.tl.gene_interactions(other, **call, key_added="foo")
        assert same(other.uns["foo"]["table"], out.uns["gene_interactions"]["table"])
        assert same(other.var["foo_degree"], out.var["gene_interactions_degree"])


@pytest.mark.parametrize(
    "call,error,message",
    [
        ({"key": "other"}, KeyError, r"Make it with ol.tl.other\(adata\)"),
        ({"known_pairs": [("Gene0", "Gene5")]}, ValueError, "1 of 1 known pairs"),
        ({"known_pairs": [("GENE0", "GENE5")]}, KeyError, "differ in case only"),
        ({"known_pairs": [("Gene0", "Gene5", "x")]}, ValueError, "two gene names each"),
        ({"n_neighbors": 90}, ValueError, "needs more than 90 genes"),
        ({"condition_key": "program"}, ValueError, "with batch_key="),
        ({"batch_key": "nope"}, KeyError, "'nope' is not in adata.obs"),
        ({"batch_key": "half"}, KeyError, r"ol.tl.sigel\(adata, batch_key=...\)"),
        ({"input": "values"}, ValueError, "need counts"),
        ({"spatial_key": "nope"}, KeyError, "'nope' is not in adata.obsm"),
        ({"min_count": 10**6}, ValueError, "0 genes with an embedding have at least"),
        ({"n_folds": 1}, ValueError, "n_folds must be"),
        ({"rng": "a"}, TypeError, "rng must be"),
    ],
)
def test_errors(embedded, call, error, message):
    adata = embedded.copy()
    adata.obs["half"] = np.where(np.arange(120) < 60, "x", "y")
    untouched = adata.copy()
    with pytest.raises(error, match=message):
        ol.tl.gene_interactions(adata, **call)
    same_object(adata, untouched)
    with pytest.raises(KeyError, match=r"ol.tl.gene_interactions"):
        ol.get.table(adata, "gene_interactions")


def test_two_conditions_are_needed(sections):
    for key, message in (("slide", "must tell two conditions"), ("array_row", "one condition")):
        with pytest.raises(ValueError, match=message):
            ol.tl.gene_interactions(sections, batch_key="slide", condition_key=key)


def test_folds_share_no_gene():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 50, (400, 2))
    tested = np.zeros(400, dtype=int)
    for train, test in pairing.gene_splits(pairs, 50, 3, rng):
        assert not set(pairs[train].ravel()) & set(pairs[test].ravel())
        tested += test
    assert tested.max() == 1


def test_other_pairs_are_matched():
    rng = np.random.default_rng(0)
    bins = np.arange(100) // 20
    pairs = np.unique(np.sort(rng.integers(0, 100, (300, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    known = {tuple(p) for p in pairs.tolist()}
    others = pairing.rematched(pairs, known, bins, rng)
    assert len(others) > 0.9 * len(pairs)
    assert not {pairing.ordered(*p) for p in others.tolist()} & known

    def levels(p):
        return np.sort(np.sort(bins[p], axis=1) @ [10, 1])

    assert np.abs(levels(others).mean() - levels(pairs).mean()) < 2


def test_nothing_is_learned_from_random_pairs():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(200, 10)).astype(np.float32)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    pairs = np.unique(np.sort(rng.integers(0, 200, (900, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    scores, _ = pairing.cross_validated_pairs(
        Z, lambda p: rng.random(len(p)), pairs, np.arange(200) // 50, n_folds=3, n_repeats=5,
        rng=rng,
    )  # fmt: skip
    assert abs(scores["auc"] - 0.5) < 0.06


def test_heterogeneity_and_contrast_by_simulation():
    rng = np.random.default_rng(0)
    error, shown = np.full((4, 3000), 0.1), np.ones((4, 3000), dtype=bool)
    cosine = 0.4 + 0.1 * rng.normal(size=(4, 3000))
    i2, p = pairing.heterogeneity(cosine, error, shown)
    assert stats.kstest(p, "uniform").pvalue > 0.01 and np.median(i2) < 0.3
    second = np.array([False, False, True, True])
    change, p = pairing.contrast(cosine, error, shown, second)
    assert abs(change.mean()) < 0.01 and np.mean(p < 0.05) < 0.06
    cosine[second] += 0.6
    assert np.median(pairing.contrast(cosine, error, shown, second)[1]) < 1e-3
    shown[1:] = False
    assert np.isnan(pairing.heterogeneity(cosine, error, shown)[1]).all()


def test_block_parts_add_up():
    adata = make_tiny(60)
    tile = block_tiles(adata.obsm["spatial"])
    assert np.bincount(tile).min() >= 6 and len(np.unique(tile)) == 16
    one = block_parts(adata.X.tocsc(), np.zeros(120, dtype=np.int64))
    many = block_parts(adata.X.tocsc(), tile)
    np.testing.assert_allclose(many.sum(axis=0), one[0], atol=1e-3)


@pytest.mark.parametrize("named", [True, False])
def test_genes_in_another_order_have_the_same_network(sections, named):
    adata = sections.copy()
    call = {"batch_key": "slide", "n_neighbors": 5, "n_bootstraps": 2}
    at = np.random.default_rng(0).permutation(adata.n_vars)
    other = adata[:, at].copy()
    if not named:  # as it was stored before names were
        other.uns["sigel"]["X_sections"] = other.uns["sigel"]["X_sections"][:, at]
        del other.uns["sigel"]["genes"]
    for one in (adata, other):
        ol.tl.gene_interactions(one, **call)
    left, right = (
        ol.get.table(a, "gene_interactions").set_index(["gene_a", "gene_b"]).sort_index()
        for a in (adata, other)
    )
    assert list(left.index) == list(right.index)
    for column in ("score", "stability", "i2", "n_sections"):
        np.testing.assert_allclose(right[column], left[column], atol=1e-5, err_msg=column)
