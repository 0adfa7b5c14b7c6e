"""The Enformer: what its parts compute, lengths, checkpoints."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

import omicllm as ol
from omicllm.genome import tokens as nucleotides
from omicllm.nn.enformer import PairPool, central, channels
from omicllm.nn.genome_input import one_hot, reverse_complement
from omicllm.nn.relative_attention import RelativeAttention, relative_basis

TINY = {"dim": 48, "depth": 2, "heads": 4, "dim_divisible_by": 12, "attn_dim_key": 8}


def tiny(**more):
    torch.manual_seed(0)
    trunk = ol.nn.Enformer(**TINY, **{"output_heads": {"human": 5, "mouse": 2}, **more})
    with torch.no_grad():
        for name, value in trunk.state_dict().items():
            if value.is_floating_point():
                value += 0.1 * torch.randn_like(value)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return trunk


def drawn(n=2, length=512, seed=0):
    return np.random.default_rng(seed).integers(-1, 5, (n, length)).astype(np.int8)


def test_full_width_is_the_published_network():
    with torch.device("meta"):
        trunk = ol.nn.Enformer()
    assert sum(p.numel() for p in trunk.parameters()) == 251_221_292
    assert (trunk.dim, trunk.bin_size, trunk.length_multiple) == (3072, 128, 128)
    names = trunk.state_dict()
    assert names["transformer.10.0.fn.1.to_rel_k.weight"].shape == (512, 192)
    assert names["conv_tower.5.1.fn.2.weight"].shape == (1536, 1536, 1)
    assert names["_heads.human.0.weight"].shape == (5313, 3072)
    assert channels(768, 1536, 6, 128) == [768, 896, 1024, 1152, 1280, 1536]


def test_position_features():
    n, k = 20, 3
    basis = relative_basis(n, 6 * k).numpy()
    assert basis.shape == (39, 18)
    distance = np.abs(np.arange(-19, 20))
    half_life = 2.0 ** np.linspace(3, np.log2(n), k)
    np.testing.assert_allclose(basis[:, :3], 0.5 ** (distance[:, None] / half_life), rtol=1e-5)
    np.testing.assert_array_equal(basis[:, 3:6], distance[:, None] < [1, 3, 7])
    mean = np.linspace(n / k, n, k)
    scale = (n / (2 * k)) ** 2 / mean
    density = stats.gamma.pdf(distance[:, None], mean / scale, scale=scale) + 1e-8
    np.testing.assert_allclose(
        basis[:, 6:9], density / density.max(axis=1, keepdims=True), rtol=1e-4
    )
    sign = np.sign(np.arange(-19, 20))[:, None]
    np.testing.assert_array_equal(basis[:, 9:], sign * basis[:, :9])
    with pytest.raises(ValueError, match="multiple of 6, not 8"):
        relative_basis(10, 8)


def test_attention_by_hand():
    torch.manual_seed(1)
    layer = RelativeAttention(12, heads=2, dim_key=4, dim_value=6, n_features=6)
    torch.nn.init.normal_(layer.to_out.weight)
    x = torch.randn(1, 7, 12)
    basis = relative_basis(7, 6)
    heads = []
    for h in range(2):
        q, k = (w.weight[4 * h : 4 * h + 4] @ x[0].T for w in (layer.to_q, layer.to_k))
        v = layer.to_v.weight[6 * h : 6 * h + 6] @ x[0].T
        scores = torch.zeros(7, 7)
        for i in range(7):
            for j in range(7):
                r = layer.to_rel_k.weight[4 * h : 4 * h + 4] @ basis[6 + j - i]
                qi = q[:, i] * 4**-0.5
                scores[i, j] = (qi + layer.rel_content_bias[0, h, 0]) @ k[:, j]
                scores[i, j] += (qi + layer.rel_pos_bias[0, h, 0]) @ r
        heads.append(scores.softmax(dim=1) @ v.T)
    wanted = torch.cat(heads, dim=1) @ layer.to_out.weight.T + layer.to_out.bias
    torch.testing.assert_close(layer(x)[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [8, 9])
def test_pool_is_a_softmax_over_pairs(n):
    torch.manual_seed(0)
    pool, x = PairPool(3), torch.randn(2, 3, n)
    torch.nn.init.normal_(pool.to_attn_logits.weight)
    scores = torch.einsum("oi,bin->bon", pool.to_attn_logits.weight[:, :, 0, 0], x)
    out = pool(x)
    assert out.shape == (2, 3, (n + 1) // 2)
    for j in range(n // 2):
        pair = slice(2 * j, 2 * j + 2)
        wanted = (scores[..., pair].softmax(dim=-1) * x[..., pair]).sum(dim=-1)
        torch.testing.assert_close(out[..., j], wanted)
    if n % 2:
        torch.testing.assert_close(out[..., -1], x[..., -1])


def test_input():
    rows = one_hot(np.array([0, 3, 4, -1, nucleotides.ALPHABET.index("R")]))
    wanted = [[1, 0, 0, 0], [0, 0, 0, 1], [0] * 4, [0.25] * 4, [0.5, 0, 0.5, 0]]
    np.testing.assert_allclose(rows, wanted)
    row = torch.from_numpy(drawn(3, 20))
    back = reverse_complement(row)
    np.testing.assert_array_equal(back, nucleotides.reverse_complement(row.numpy()))
    torch.testing.assert_close(reverse_complement(one_hot(row)), one_hot(back))


def test_embeddings_and_tracks():
    trunk, rows = tiny(), drawn()
    with torch.no_grad():
        bins, tracks = trunk.embed(rows), trunk(rows)
        assert bins.shape == (2, 4, 96) and trunk.dim == 96
        torch.testing.assert_close(trunk.embed(one_hot(rows)), bins)
        torch.testing.assert_close(trunk.embed(rows[0]), bins[:1], rtol=1e-4, atol=1e-6)
        assert tracks["human"].shape == (2, 4, 5) and (tracks["human"] > 0).all()
        torch.testing.assert_close(trunk.tracks(rows, [3, 1]), tracks["human"][..., [3, 1]])
        some = trunk.tracks(embedding=bins[:, 1:3], index=1, head="mouse")
        torch.testing.assert_close(some, tracks["mouse"][:, 1:3, 1:])
        cropped = tiny(target_length=2).embed(rows)
        torch.testing.assert_close(cropped, central(bins, 2), rtol=1e-4, atol=1e-6)
    with pytest.raises(IndexError, match="has 5 tracks"):
        trunk.tracks(rows, 5)
    with pytest.raises(KeyError, match="no head 'fly'"):
        trunk.tracks(rows, head="fly")


def test_checkpointing_changes_no_gradient():
    grads = []
    for on in (False, True):
        trunk = tiny(checkpointing=on)
        trunk.embed(drawn(1, 256)).square().sum().backward()
        grads.append([p.grad for n, p in trunk.named_parameters() if "_heads" not in n])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_bad_input():
    trunk = tiny()
    with pytest.raises(ValueError, match="multiple of 128, not 500: cut it to 384 or pad"):
        trunk.embed(drawn(1, 500))
    with pytest.raises(ValueError, match="Tokens run from -1 to 14; got 0 to 40"):
        trunk.embed(np.full((1, 128), 40) * (np.arange(128) > 0))
    with pytest.raises(ValueError, match=r"one-hot \(n, length, 4\), not \(1, 128, 3\)"):
        trunk.embed(torch.zeros(1, 128, 3))
    with pytest.raises(ValueError, match="multiple of 6, not 128 / 8"):
        ol.nn.Enformer(dim=128, heads=8)
    with pytest.raises(ValueError, match="multiple of dim_divisible_by=128, not 96"):
        ol.nn.Enformer(dim=96, heads=4)
    with pytest.raises(ValueError, match="4 central bins were asked for"):
        tiny(target_length=4).embed(drawn(1, 256))


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_published_layout(tmp_path, file):
    from safetensors.torch import save_file

    trunk = tiny()
    state = trunk.state_dict()
    if file.endswith("bin"):
        # What that package writes twice, and a table of TensorFlow's.
        state = {**state, "_trunk.1.0.weight": state["stem.0.weight"], "tf_gammas": torch.ones(2)}
        torch.save(state, tmp_path / file)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / file,
                  metadata={"format": "pt"})  # fmt: skip
    config = {**TINY, "output_heads": {"human": 5, "mouse": 2}, "model_type": "enformer"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = ol.nn.Enformer.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed(drawn()), trunk.embed(drawn()))
    without = ol.nn.Enformer.from_pretrained(tmp_path, output_heads={})
    assert not len(without._heads)
    with pytest.raises(ValueError, match="The weights do not fit: 0 are missing.*other|another"):
        ol.nn.Enformer.from_pretrained(tmp_path, attn_dim_key=16)
    with pytest.raises(FileNotFoundError, match="allow_download=True"):
        ol.nn.Enformer.from_pretrained("no/such-model")


def test_half_precision():
    trunk, rows = tiny(), drawn()
    with torch.no_grad():
        wanted = trunk.embed(rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = trunk.embed(rows).float()
        scale = wanted.abs().max()
        assert (mixed - wanted).abs().max() < 0.05 * scale
        assert trunk.to(torch.bfloat16).embed(rows).dtype == torch.bfloat16
