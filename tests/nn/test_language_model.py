"""`nn.language_model`: the short route to the label is that of the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omicllm.nn.language_model import LABEL, ProfileLM

VALUES = np.linspace(-2, 2, 9)


def network(**sizes):
    torch.manual_seed(0)
    return ProfileLM(VALUES, 12, 3, d_model=16, **sizes).eval()


def texts(n=5):
    return torch.randint(0, 9, (n, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("hidden", [False, True])
def test_class_logits_are_those_of_the_whole_llama(n_layers, hidden):
    net, ids = network(n_layers=n_layers), texts()
    keep = (
        torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) > 0.4 if hidden else None
    )
    mask = None
    if hidden:
        mask = torch.cat([keep, torch.ones(5, 1, dtype=torch.bool)], dim=1).long()
    with torch.no_grad():
        # Hidden tokens keep their position here, so numbers of positions are given.
        whole = net.lm(
            inputs_embeds=net.embed(ids), attention_mask=mask,
            position_ids=torch.arange(13)[None],
        ).logits[:, -1, net.first_class :]  # fmt: skip
        torch.testing.assert_close(net(ids, keep), whole, rtol=1e-4, atol=1e-5)


def test_a_text_with_positions_left_out_is_one_with_them_hidden():
    net, ids = network(), texts()
    at = torch.tensor([0, 3, 4, 8, 11])
    keep = torch.zeros(ids.shape, dtype=torch.bool)
    keep[:, at] = True
    with torch.no_grad():
        torch.testing.assert_close(net(ids[:, at], at=at), net(ids, keep))


def test_genes_vote_before_training():
    net = network()
    contrast = np.zeros((12, 3))
    contrast[:4, 0], contrast[4:8, 1], contrast[8:, 2] = 1, 1, 1
    ids = torch.full((3, 12), 4)
    for c in range(3):
        ids[c, 4 * c : 4 * c + 4] = 8
    net.start(contrast, ids)
    with torch.no_grad():
        logits = net(ids)
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]
    assert 0.2 < float((logits - logits.mean(dim=0)).std()) < 5


def test_next_character_loss_learns():
    net = network()
    ids = torch.arange(9).repeat(2)[None, :12].repeat(4, 1)
    first = float(net.text_loss(ids).detach())
    assert first == pytest.approx(np.log(9 + 3 + 3), rel=0.3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(30):
        loss = net.text_loss(ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first


def test_tokens_are_numbered_as_told():
    net = ProfileLM(VALUES, 4, 2, n_markers=2, d_model=16)
    assert net.first_marker == 9 + LABEL + 1 and net.first_class == 14
    assert net.lm.config.vocab_size == 16
