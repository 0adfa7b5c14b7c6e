"""`nn.MemoryAttention` and `nn.ImageCritic`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omicllm.nn import ImageCritic, MemoryAttention


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 30, generator=generator)
    z = torch.randn(6, 4, generator=generator)
    torch.manual_seed(0)
    return MemoryAttention(images, 4, width=8, hidden=16, temperature=0.5), images, z


def test_starts_as_attention_by_cosine(parts):
    net, images, z = parts
    unit = F.normalize(z, dim=1)
    weights = (unit[:2] @ unit.T / 0.5).softmax(dim=1)
    torch.testing.assert_close(net(z[:2], z), weights @ images, rtol=1e-5, atol=1e-5)


def test_a_gene_does_not_read_itself(parts):
    net, images, z = parts
    with torch.no_grad():
        net.signed.weight.normal_()
    own = torch.tensor([2, -1])
    weights = net.weights(z[[2, 3]], z, own)
    assert weights[0, 2] == 0 and weights[1, 3] != 0
    before = net(z[[2]], z, own[:1])
    net.images[2] += 5
    torch.testing.assert_close(net(z[[2]], z, own[:1]), before)


def test_small_weights_are_shrunk_to_zero():
    z = torch.eye(3)
    net = MemoryAttention(torch.eye(3), 3, width=3, temperature=0.1)
    weights = net.weights(z, z)
    np.testing.assert_array_equal(weights.detach().numpy(), np.eye(3))
    net = MemoryAttention(torch.eye(3), 3, width=3, temperature=10.0)
    assert (net.weights(z, z) > 0.3).all()


def test_every_weight_is_trained(parts):
    net, images, z = parts
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):  # zeros at the start hide some layers from the first gradient
        opt.zero_grad()
        loss = F.mse_loss(net(z, z, torch.arange(6)), images)
        loss.backward()
        opt.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_bad_arguments():
    with pytest.raises(ValueError, match="width=2 is less than the 4 features"):
        MemoryAttention(torch.zeros(3, 5), 4, width=2)
    with pytest.raises(ValueError, match="temperature must be positive"):
        MemoryAttention(torch.zeros(3, 5), 4, temperature=0.0)


def test_the_slope_of_the_critic_is_bounded():
    torch.manual_seed(0)
    critic = ImageCritic(20, hidden=(8, 4))
    with torch.no_grad():
        for layer in critic.layers[::2]:
            layer.parametrizations.weight.original.mul_(50)
    x = torch.randn(64, 20)
    for _ in range(30):
        critic(x)  # power iterations
    critic.eval()
    a, b = torch.randn(2, 500, 20)
    slope = (critic(a) - critic(b)).abs() / (a - b).norm(dim=1)
    assert critic(a).shape == (500,) and slope.max() < 1.05
