"""The network of SPAM, part by part."""

from __future__ import annotations

import pytest
import torch

from omicllm.nn.tissue_fusion import BiasedCrossAttention, SpatialEncoder, TissueFusion


def network(tokens="multi", likelihood="zinb"):
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(7, 3))[0]
    return TissueFusion(
        5, 7, axes, width=16, n_heads=4, n_tokens=4, tokens=tokens, likelihood=likelihood
    ).eval()


def batch(b=6, k=4):
    torch.manual_seed(1)
    known = torch.arange(b) % 2 == 0
    return torch.randn(b, 5), torch.randn(b, k, 5), torch.rand(b, k), torch.randn(b, 7), known


def test_single_token_leaves_attention_no_choice():
    block = BiasedCrossAttention(16, 4).eval()
    x, token = torch.randn(3, 16), torch.randn(3, 1, 16)
    biased = block(x, token, torch.tensor([[5.0], [-5.0], [0.0]]))
    torch.testing.assert_close(block(x, token), biased)


def test_attention_reads_the_token_that_biases_favour():
    block = BiasedCrossAttention(16, 4).eval()
    x, tokens = torch.randn(2, 16), torch.randn(2, 3, 16)
    bias = torch.tensor([[0.0, -50.0, -50.0]]).repeat(2, 1)
    torch.testing.assert_close(
        block(x, tokens, bias), block(x, tokens[:, :1]), atol=1e-5, rtol=1e-4
    )


def test_neighbours_without_weight_do_not_count():
    encoder = SpatialEncoder(8).eval()
    states = torch.randn(2, 3, 8)
    weight = torch.tensor([[1.0, 2.0, 0.0]]).repeat(2, 1)
    torch.testing.assert_close(encoder(states, weight), encoder(states[:, :2], weight[:, :2]))


@pytest.mark.parametrize("tokens", ["multi", "single"])
def test_genes_are_read_where_they_are_known(tokens):
    net = network(tokens)
    x, around, weight, genes, known = batch()
    one = net.fuse(x, around, weight, genes, known)
    other = net.fuse(x, around, weight, genes + 1, known)
    changed = (one - other).abs().amax(1) > 1e-6
    assert torch.equal(changed, known)
    assert one.shape == (6, 16)


def test_nothing_is_added_before_training():
    net = network()
    assert net.deviation(net.fuse(*batch())).abs().max() == 0


def test_rates_are_shares_of_the_profile():
    net = network()
    share = torch.tensor([0.05, 0.1, 0.1, 0.05, 0.1, 0.1, 0.1, 0.4])
    zero = torch.zeros(2, 7)
    rates = net.rates(zero, zero, share.log(), torch.ones(7))
    torch.testing.assert_close(rates, share[:-1].expand(2, 7))
    more = zero.clone()
    more[0, 2] = 1.0
    changed = net.rates(zero, more, share.log(), torch.ones(7))
    assert changed[0, 2] > rates[0, 2]
    assert (changed.sum(1) < 1).all()


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson", "gaussian"])
def test_likelihoods_prefer_the_truth(likelihood):
    net = network(likelihood=likelihood)
    rates = torch.full((50, 7), 0.05)
    total = torch.full((50,), 400.0)
    torch.manual_seed(2)
    counts = torch.poisson(total[:, None] * rates)
    values = torch.log1p(1e4 * counts / total[:, None])
    mean = values.mean(0).expand(50, 7)
    good = net.log_likelihood(counts, total, rates, values, mean).mean()
    bad = net.log_likelihood(counts, total, rates * 3, values, mean + 2).mean()
    assert good > bad
