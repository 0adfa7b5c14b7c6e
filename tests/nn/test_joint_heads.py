"""Heads for other data, heads of trunks, and trunks that start anew."""

import torch
from made_people import Bins, tiny_trunk
from torch import nn

import omicllm as ol
from omicllm.nn.joint_heads import JointHeads, heads_of, random_start
from omicllm.nn.personal_network import PersonalNetwork


def small_borzoi():
    return ol.nn.Borzoi(
        dim=16, depth=1, heads=2, attn_dim_key=4, attn_dim_value=4, n_features=4,
        widths=(8, 8, 8, 8, 8, 8), dim_head=12, output_heads={"human": 3},
    )  # fmt: skip


def test_rates_and_activity():
    trunk = tiny_trunk(output_heads={"human": 4})
    tracks = {
        "human": {"n": 2, "own": [3, 1], "n_bins": 4, "pool": 1},
        "fly": {"n": 5, "own": None, "n_bins": 3, "pool": 2},
    }
    heads = JointHeads(trunk.dim, tracks=tracks, effects={"n": 3, "n_bins": 2})
    x = torch.randint(0, 4, (2, 64))
    with torch.no_grad():
        bins = trunk.embed(x)
        own = trunk.tracks(x)[:, 2:6][..., [3, 1]]
        torch.testing.assert_close(heads.rates(trunk, bins, "human"), own)
        every = nn.functional.softplus(heads.new["fly"](bins[:, 1:7]))
        by_hand = (every[:, 0::2] + every[:, 1::2]) / 2
        torch.testing.assert_close(heads.rates(trunk, bins, "fly"), by_hand)
        flat = bins[:, :2].reshape(2, -1)
        torch.testing.assert_close(heads.activity(bins[:, :2]), heads.effects(flat))
    assert list(heads.new) == ["fly"]


def test_every_weight_that_trains_gets_a_gradient():
    for trunk in (tiny_trunk(), small_borzoi()):
        assert list(heads_of(trunk)) == ["human"]
        for signal, track in ((False, None), (True, 1)):
            network = PersonalNetwork(trunk, signal=signal, track=track)
            network(torch.randint(0, 4, (2, 128))).sum().backward()
            for name, weight in network.named_parameters():
                assert (weight.grad is not None) == weight.requires_grad, (trunk.name, name)
            trunk.requires_grad_(True)
            network.zero_grad()
    assert heads_of(ol.nn.ModuleTrunk(Bins(), dim=6, bin_size=8, gives="channels")) == {}


def test_heads_only_is_undone():
    network = PersonalNetwork(tiny_trunk(), frozen_batch_norm=False, freeze="transformer")
    before = {n: p.requires_grad for n, p in network.named_parameters()}
    norm = network.trunk.conv_tower[0][0][0]
    with network.heads_only():
        wants = {n for n, p in network.named_parameters() if p.requires_grad}
        assert wants == {n for n in before if n.startswith("head.")}
        assert not network.train().trunk.conv_tower[0][0][0].training
        assert network(torch.zeros(1, 64, dtype=torch.int8)).grad_fn is not None
        assert network.embed(torch.zeros(1, 64, dtype=torch.int8)).grad_fn is None
    assert {n: p.requires_grad for n, p in network.named_parameters()} == before
    network.train()
    assert norm.training and not network.trunk.final_pointwise[1][0].training


def test_gradient_by_base_of_a_frozen_trunk():
    network = PersonalNetwork(tiny_trunk(), freeze="trunk")
    x = torch.rand(1, 64, 4, requires_grad=True)
    network(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_random_start_of_each_kind():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    borzoi = small_borzoi()
    fresh = random_start(borzoi)
    assert fresh.hparams == borzoi.hparams
    name = "transformer.0.1.fn.1.weight"
    assert not torch.equal(fresh.state_dict()[name], borzoi.state_dict()[name])
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=8)  # fmt: skip
    trunk = ol.nn.TransformersTrunk(BertModel(config), lambda *_: None, piece=8)
    fresh = random_start(trunk)
    name = "model.encoder.layer.0.output.dense.weight"
    assert not torch.equal(fresh.state_dict()[name], trunk.state_dict()[name])
    assert fresh.bin_size == 8
    assert not fresh.model.training
