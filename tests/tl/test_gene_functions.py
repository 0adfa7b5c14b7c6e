"""`tl.gene_functions`: enrichment at matched levels, votes of neighbours, inputs, errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import only_declared_written, round_trip, same, same_object, slots
from scipy import sparse, stats

import omicllm as ol
from omicllm.stats.gene_sets import matched_enrichment, membership, read_gene_sets
from omicllm.stats.scores import auroc, benjamini_hochberg, upper_tail
from omicllm.stats.voting import cross_validated_votes, fold_of_members, precision_at

SETS = {f"program {p}": [f"Gene{i}" for i in range(p, 40, 4)] for p in range(4)}


@pytest.fixture
def embedded(tiny):
    ol.tl.sigel(tiny, n_clusters=4)
    return tiny


def test_one_bin_is_fishers_exact_test():
    rng = np.random.default_rng(0)
    members = sparse.csc_matrix((rng.random((60, 3)) < 0.3).astype(np.float32))
    groups = rng.integers(0, 4, 60)
    found = matched_enrichment(members, groups, np.zeros(60, dtype=np.int64))
    for g in range(4):
        for s in range(3):
            inside, in_set = groups == g, members.toarray()[:, s] > 0
            table = [
                [(inside & in_set).sum(), (inside & ~in_set).sum()],
                [(~inside & in_set).sum(), (~inside & ~in_set).sum()],
            ]
            wanted = stats.fisher_exact(table, alternative="greater").pvalue
            assert found["pval"][g, s] == pytest.approx(wanted, rel=1e-9)
            assert found["expected"][g, s] == pytest.approx(inside.sum() * in_set.sum() / 60)


def test_matching_by_level_is_a_permutation_within_bins():
    rng = np.random.default_rng(1)
    bins = np.repeat([0, 1, 2], 20)
    groups = (rng.random(60) < np.array([0.1, 0.3, 0.7])[bins]).astype(np.int64)
    in_set = rng.random(60) < np.array([0.1, 0.2, 0.6])[bins]
    members = sparse.csc_matrix(in_set[:, None].astype(np.float32))
    found = matched_enrichment(members, groups, bins)
    observed, drawn = (groups == 1)[in_set].sum(), []
    for _ in range(20_000):
        moved = in_set.copy()
        for b in range(3):
            moved[bins == b] = rng.permutation(in_set[bins == b])
        drawn.append((groups == 1)[moved].sum())
    assert found["pval"][1, 0] == pytest.approx(np.mean(np.array(drawn) >= observed), abs=0.01)
    assert found["expected"][1, 0] == pytest.approx(np.mean(drawn), abs=0.05)
    # Without the levels the strong genes of the cluster look like a finding.
    plain = matched_enrichment(members, groups, np.zeros(60, dtype=np.int64))
    assert plain["pval"][1, 0] < found["pval"][1, 0]


def test_scores_of_many_tests():
    p = np.array([[0.01, np.nan, 0.04], [0.03, 0.5, 0.01]])
    wanted = stats.false_discovery_control(p[np.isfinite(p)])
    np.testing.assert_allclose(benjamini_hochberg(p)[np.isfinite(p)], wanted)
    assert np.isnan(benjamini_hochberg(p)[0, 1])
    assert auroc(np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1], dtype=bool)) == 0.875
    assert np.isnan(auroc(np.arange(3), np.zeros(3, dtype=bool)))
    np.testing.assert_allclose(upper_tail(np.array([0, 2.5, 9]), np.arange(4)), [1, 0.4, 0.2])


def test_votes_by_hand():
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(30, 4)).astype(np.float32)
    members = sparse.csc_matrix((rng.random((30, 2)) < 0.4).astype(np.float32))
    members.sort_indices()
    fold = fold_of_members(members, 3, rng)
    votes, area, hidden = cross_validated_votes(Z, members, fold, 5)
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, np.inf)
    weight = np.exp(-((distance / np.sort(distance, axis=1)[:, 4:5]) ** 2))
    weight /= weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(votes, weight @ members.toarray(), atol=1e-5)
    own = members.indices[: members.indptr[1]]
    areas = []
    for f in range(3):
        label = np.zeros(30)
        label[own[fold[: len(own)] != f]] = 1
        score = weight @ label
        test = own[fold[: len(own)] == f]
        np.testing.assert_allclose(
            hidden[: len(own)][fold[: len(own)] == f], score[test], atol=1e-5
        )
        outside = np.setdiff1d(np.arange(30), own)
        wins = score[test][:, None] > score[outside][None]
        areas.append(wins.mean())
    assert area[0] == pytest.approx(np.mean(areas), abs=1e-6)
    assert precision_at(np.array([0.5]), np.array([0.4, 0.6]), np.array([0.1, 0.7]), 1.0) == 0.5


def test_forms_of_gene_sets(tmp_path):
    wanted = {"a": ["x", "y"], "b": ["z"]}
    assert read_gene_sets({"a": ["x", "y", "x"], "b": ("z",)}) == wanted
    path = tmp_path / "sets.gmt"
    path.write_text("a\thttp://a\tx\ty\n\nb\t\tz\t\n")
    assert read_gene_sets(path) == read_gene_sets(str(path)) == wanted
    net = pd.DataFrame({"source": ["a", "a", "b"], "target": ["x", "y", "z"], "weight": 1.0})
    assert read_gene_sets(net) == wanted
    marks = membership(wanted, np.array(["z", "x"]), np.array([True, True])).toarray()
    assert marks.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_gene_sets(tmp_path / "other.gmt")
    path.write_text("a\tx\n")
    with pytest.raises(ValueError, match="line 1: a GMT line holds"):
        read_gene_sets(path)
    path.write_text("a\t\tx\na\t\ty\n")
    with pytest.raises(ValueError, match="'a' twice"):
        read_gene_sets(path)
    with pytest.raises(KeyError, match="'source' and 'target'"):
        read_gene_sets(net.rename(columns={"source": "set"}))
    with pytest.raises(TypeError, match="is one string"):
        read_gene_sets({"a": "xyz"})
    with pytest.raises(TypeError, match="not list"):
        read_gene_sets(["x"])
    with pytest.raises(ValueError, match="holds no set"):
        read_gene_sets({})


def test_planted_programs_are_found(embedded, tmp_path):
    before = slots(embedded)
    known = {name: genes[: len(genes) - 2] for name, genes in SETS.items()}
    ol.tl.gene_functions(embedded, gene_sets=known, n_neighbors=5)
    only_declared_written(before, embedded, "tl.gene_functions")
    round_trip(embedded, tmp_path)
    sets = ol.get.table(embedded, "gene_functions", table="sets")
    assert (sets["auroc"] > 0.9).all() and sets["size"].max() <= 8
    enriched = ol.get.table(embedded, "gene_functions", table="enrichment")
    assert enriched["pval"].is_monotonic_increasing and (enriched["qval"] >= enriched["pval"]).all()
    ol.tl.gene_functions(embedded, gene_sets=known, n_neighbors=5, groupby="program")
    enriched = ol.get.table(embedded, "gene_functions", table="enrichment")
    found = enriched[enriched["qval"] < 0.05]
    assert {f"program {c}" for c in found["cluster"]} == set(found["set"]) == set(SETS)
    proposed = ol.get.table(embedded, "gene_functions")
    left_out = {g: name for name, genes in SETS.items() for g in genes[-2:]}
    first = proposed[proposed["rank"] == 1].set_index("gene")
    right = [first.loc[g, "set"] == name for g, name in left_out.items()]
    assert np.mean(right) >= 0.75
    assert not any(g in known[s] for g, s in zip(proposed["gene"], proposed["set"], strict=True))
    assert first.loc[list(left_out), "precision"].between(0, 1).all()
    best = embedded.var["gene_functions"]
    assert best["Gene36"] == first.loc["Gene36", "set"] and best[["Gene3", "Gene4"]].isna().all()
    assert embedded.var["gene_functions_score"].dtype == np.float32


def test_contract(embedded):
    untouched = embedded.copy()
    call = {"gene_sets": SETS, "n_neighbors": 5}
    out = ol.tl.gene_functions(embedded, **call, copy=True)
    same_object(embedded, untouched)
    dense = embedded.copy()
    dense.X = dense.X.toarray()
    ol.tl.gene_functions(dense, **call, key_added="foo")
    assert same(out.uns["gene_functions"]["table"], dense.uns["foo"]["table"])
    assert set(ol.get.table(dense, "foo")) >= {"gene", "set", "score"}


def test_errors(tiny, embedded):
    bare = tiny.copy()
    del bare.varm["X_sigel"]
    with pytest.raises(KeyError, match=r"Make it with ol.tl.sigel\(adata\)"):
        ol.tl.gene_functions(bare, gene_sets=SETS)
    for change, error, message in (
        ({"groupby": "nope"}, KeyError, "'nope' is not in adata.var"),
        ({"gene_sets": {"a": ["GENE1", "GENE2"]}}, KeyError, "differ in case only"),
        ({"min_size": 30}, ValueError, "between 30 and 500 genes"),
        ({"n_neighbors": 38}, ValueError, "needs more than 38 genes"),
        ({"layer": "raw"}, KeyError, "'raw' is not in adata.layers"),
        ({"n_folds": 1}, ValueError, "n_folds must be"),
        ({"rng": "a"}, TypeError, "rng must be"),
    ):
        untouched = embedded.copy()
        with pytest.raises(error, match=message):
            ol.tl.gene_functions(embedded, **{"gene_sets": SETS, "n_neighbors": 5, **change})
        same_object(embedded, untouched)
    with pytest.raises(KeyError, match=r"ol.tl.gene_functions"):
        ol.get.table(embedded, "gene_functions")


@pytest.mark.parametrize("seed", range(2))
def test_p_values_of_random_sets_are_uniform_at_any_level(seed):
    """Sets drawn by level: not enriched in level clusters; many pairs give uniform-ish p."""
    rng = np.random.default_rng(seed)
    level = np.linspace(0.05, 1, 2000)
    bins = np.arange(2000) * 20 // 2000
    groups = (rng.random(2000) < level / level.max() * 0.9 + 0.05).astype(np.int64)
    chance = level / level.sum()
    members = np.zeros((2000, 300), dtype=np.float32)
    for s in range(300):
        members[rng.choice(2000, 60, replace=False, p=chance), s] = 1
    p = matched_enrichment(sparse.csc_matrix(members), groups, bins)["pval"][1]
    # Discrete p values lie above uniform ones; the within-bin trend of level must not undo that.
    assert np.mean(p < 0.05) < 0.09
    plain = matched_enrichment(sparse.csc_matrix(members), groups, np.zeros(2000, dtype=np.int64))
    assert np.mean(plain["pval"][1] < 0.05) > 0.3
