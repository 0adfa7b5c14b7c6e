"""Genes chosen from clusters."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from omicllm.stats.gene_choice import best_of_clusters, loading_clusters


def test_each_cluster_gives_the_same_share_of_its_best():
    score = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, np.nan])
    cluster = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1, 1])
    np.testing.assert_array_equal(best_of_clusters(score, cluster, 4, pool=2), [0, 1, 4, 5])
    # The pool is cut first: with two genes wanted, six are looked at.
    np.testing.assert_array_equal(best_of_clusters(score, cluster, 2, pool=3), [0, 1, 4])
    np.testing.assert_array_equal(best_of_clusters(score, cluster, 100), np.arange(8))
    assert len(best_of_clusters(score, np.full(10, -1), 4)) == 0


def test_rare_clusters_are_represented():
    score = np.concatenate([np.linspace(2, 3, 290), np.linspace(0, 1, 10)])
    cluster = np.repeat([0, 1], [290, 10])
    chosen = best_of_clusters(score, cluster, 200)
    assert (cluster[chosen] == 1).sum() == 7 and 299 in chosen


def test_genes_of_a_programme_cluster_together():
    rng = np.random.default_rng(0)
    F, program = rng.normal(size=(500, 3)), np.arange(60) % 3
    level = rng.uniform(0.5, 5, 60)
    Y = level * (F[:, program] + 0.7 * rng.normal(size=(500, 60)) + 4)
    found = loading_clusters(sparse.csc_matrix(Y), F, np.ones(500), 3, 0)
    assert adjusted_rand_score(program, found) == 1
