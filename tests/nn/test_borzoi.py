"""The Borzoi: sizes, what its parts compute, checkpoints."""

import json

import numpy as np
import pytest
import torch

import omicllm as ol
from omicllm.nn.enformer import central
from omicllm.nn.genome_trunk import load_trunk
from omicllm.nn.relative_attention import window_basis

TINY = {"dim": 24, "depth": 1, "heads": 2, "attn_dim_key": 4, "attn_dim_value": 6,
        "n_features": 8, "widths": [8, 8, 10, 10, 12, 12], "dim_head": 20}  # fmt: skip


def tiny(**more):
    torch.manual_seed(0)
    trunk = ol.nn.Borzoi(**{**TINY, "output_heads": {"human": 5}, **more})
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
        trunk = ol.nn.Borzoi()
    assert sum(p.numel() for p in trunk.parameters()) == pytest.approx(185.9e6, abs=5e4)
    assert (trunk.dim, trunk.bin_size, trunk.length_multiple) == (1536, 32, 128)
    names = trunk.state_dict()
    assert names["res_tower.8.conv_layer.weight"].shape == (1280, 1056, 5)
    assert names["unet1.1.conv_layer.weight"].shape == (1536, 1280, 5)
    assert names["transformer.7.0.fn.1.to_rel_k.weight"].shape == (512, 32)
    assert names["separable0.conv_layer.0.weight"].shape == (1536, 1, 3)
    assert names["human_head.weight"].shape == (7611, 1920, 1)
    assert isinstance(tiny(), ol.nn.GenomeTrunk)


def test_windows():
    basis = window_basis(20, 8).numpy()
    assert basis.shape == (39, 8) and set(np.unique(basis)) == {-1, 0, 1}
    wide = basis[19:, :4].sum(axis=0)
    assert (np.diff(wide) > 0).all() and wide[-1] == 20, "the last window holds every distance"
    width = 21 ** (np.arange(1, 5) / 4) - 1
    distance = np.abs(np.arange(-19, 20))[:, None]
    # The last width is n up to rounding: no distance lies that close to the others.
    np.testing.assert_array_equal(basis[:, :4], distance < width)
    np.testing.assert_array_equal(basis[:, 4:], np.sign(np.arange(-19, 20))[:, None] * basis[:, :4])


def test_embeddings_and_tracks():
    trunk, rows = tiny(), drawn()
    with torch.no_grad():
        bins, tracks = trunk.embed(rows), trunk(rows)["human"]
        assert bins.shape == (2, 16, 24) and tracks.shape == (2, 16, 5) and (tracks > 0).all()
        torch.testing.assert_close(trunk.tracks(rows, [3, 1]), tracks[..., [3, 1]])
        some = trunk.tracks(embedding=bins[:, 4:9], index=2)
        torch.testing.assert_close(some, tracks[:, 4:9, 2:3])
        cropped = tiny(target_length=6).embed(rows)
        torch.testing.assert_close(cropped, central(bins, 6), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 128, not 544"):
        trunk.embed(drawn(1, 544))
    with pytest.raises(IndexError, match="has 5 tracks"):
        trunk.tracks(rows, 5)
    with pytest.raises(KeyError, match="no head 'mouse'"):
        trunk.tracks(rows, head="mouse")
    with pytest.raises(ValueError, match="widths must be six numbers"):
        tiny(widths=[8, 8])


def test_every_part_matters_locally_or_far():
    """A base changes its own bin through the skips, and far bins through the transformer."""
    trunk, rows = tiny(), np.random.default_rng(3).integers(0, 4, (1, 1024)).astype(np.int8)
    with torch.no_grad():
        before = trunk.embed(rows)
        rows[0, 700] = (rows[0, 700] + 1) % 4
        change = (trunk.embed(rows) - before).abs().amax(dim=(0, 2))
    assert change.argmax() in (20, 21, 22) and change[0] > 0


def test_checkpointing_changes_no_gradient():
    grads = []
    for on in (False, True):
        trunk = tiny(checkpointing=on)
        trunk.embed(drawn(1, 256)).square().sum().backward()
        skipped = ("final", "human")
        grads.append([p.grad for n, p in trunk.named_parameters() if not n.startswith(skipped)])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_published_layout(tmp_path):
    from safetensors.torch import save_file

    trunk = tiny()
    extra = {"mouse_head.weight": torch.ones(2, 20, 1)}
    save_file(
        {**{k: v.contiguous() for k, v in trunk.state_dict().items()}, **extra},
        tmp_path / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    config = {**TINY, "output_heads": {"human": 5}, "model_type": "borzoi"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_trunk(tmp_path)
    assert isinstance(loaded, ol.nn.Borzoi)
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed(drawn()), trunk.embed(drawn()))
