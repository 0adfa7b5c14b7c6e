"""`ol.metrics.causal_auroc`."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import omicllm as ol


def made(n_genes=40, per_gene=25, seed=0):
    rng = np.random.default_rng(seed)
    genes = np.repeat(np.arange(n_genes), per_gene)
    causal = np.zeros(len(genes))
    causal[::per_gene] = 1
    return rng, genes, causal


def test_chance_and_perfection():
    rng, genes, causal = made()
    assert ol.metrics.causal_auroc(causal * rng.choice([-1, 1], len(genes)), causal, genes) == 1
    chance = [
        ol.metrics.causal_auroc(rng.normal(size=len(genes)), causal, genes) for _ in range(20)
    ]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.04)
    assert ol.metrics.causal_auroc(np.zeros(len(genes)), causal, genes) == 0.5


def test_scale_of_a_gene_does_not_count():
    rng, genes, causal = made()
    scores = rng.normal(size=len(genes)) + 2 * causal
    scaled = scores * rng.uniform(0.1, 10, 40)[genes]
    one, other = (ol.metrics.causal_auroc(s, causal, genes) for s in (scores, scaled))
    assert one == other and 0.7 < one < 1


def test_two_genes_by_hand():
    genes = np.repeat(["a", "b"], [3, 2])
    scores = np.array([0.5, -0.9, 0.1, 2.0, 3.0])
    causal = np.array([1, 0, np.nan, 1, 0])
    # Percentiles: a 2/3, 1, 1/3; b 1/2, 1. The only negatives are 1 and 1.
    wanted = roc_auc_score([1, 1, 0, 0], [2 / 3, 1 / 2, 1, 1])
    assert ol.metrics.causal_auroc(scores, causal, genes) == wanted == 0
    assert np.isnan(ol.metrics.causal_auroc(scores[:1], causal[:1], genes[:1]))


def test_bad_input():
    with pytest.raises(ValueError, match="of one length"):
        ol.metrics.causal_auroc(np.zeros(3), np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="take 0 where"):
        ol.metrics.causal_auroc(np.array([np.nan]), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="n_draws"):
        ol.metrics.causal_auroc(np.zeros(1), np.zeros(1), np.zeros(1), n_draws=0)
