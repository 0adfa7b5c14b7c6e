"""Networks for patches: views, shapes, published names, transformers as the oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omicllm.nn import PatchNetwork, VisionTransformer
from omicllm.nn import foundation as f
from omicllm.nn.foundation import FOUNDATION_ENCODERS
from omicllm.nn.patch_encoder import PatchEncoder, colour_transform
from omicllm.nn.simclr import optical_density, random_views
from omicllm.nn.vision_transformer import ViTConfig

TINY = {"dim": 32, "depth": 2, "heads": 4, "hidden": 64, "patch": 8, "image": 32}

#: Million parameters and features, as published.
PUBLISHED = {
    "uni": (303.4, 1024), "uni2_h": (681.4, 1536), "hoptimus0": (1134.8, 1536),
    "hoptimus1": (1134.8, 1536), "h0_mini": (85.7, 768), "virchow": (631.2, 2560),
    "virchow2": (631.2, 2560), "gigapath": (1135.0, 1536), "phikon": (85.8, 768),
    "plip": (87.5, 768), "conch": (None, 512),
}  # fmt: skip


def random_weights(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return module.eval()


@pytest.mark.parametrize("name", FOUNDATION_ENCODERS)
def test_sizes_are_the_published_ones(name):
    with torch.device("meta"):
        model = VisionTransformer(FOUNDATION_ENCODERS[name].config)
    millions, features = PUBLISHED[name]
    assert model.config.n_features == features
    if millions:
        assert abs(sum(p.numel() for p in model.parameters()) / 1e6 - millions) < 0.06


def test_names_are_timms():
    model = VisionTransformer(ViTConfig(**TINY, registers=2, gated=True))
    names = set(model.state_dict())
    assert {
        "cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", "norm.bias",
        "blocks.1.norm1.weight", "blocks.1.attn.qkv.bias", "blocks.1.attn.proj.weight",
        "blocks.1.ls1.gamma", "blocks.1.norm2.bias", "blocks.1.mlp.fc1.weight",
        "blocks.1.mlp.fc2.bias", "blocks.1.ls2.gamma",
    } <= names  # fmt: skip
    assert model.state_dict()["blocks.0.mlp.fc2.weight"].shape == (32, 32), "half is the gate"


@pytest.mark.parametrize("registers,places", [(0, True), (3, True), (3, False)])
def test_positions_of_class_and_register_tokens(registers, places):
    model = random_weights(
        VisionTransformer(ViTConfig(**TINY, registers=registers, places_for_prefix=places))
    )
    assert model.pos_embed.shape[1] == 16 + (1 + registers if places else 0)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 32)
    both = VisionTransformer(ViTConfig(**TINY, registers=registers, pool="cls+mean"))
    assert random_weights(both)(torch.randn(2, 3, 32, 32)).shape == (2, 64)


def test_phikon_as_transformers_computes_it(tmp_path, monkeypatch):
    from safetensors.torch import load_file
    from transformers import ViTConfig as Config
    from transformers import ViTModel

    config = Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    theirs = random_weights(ViTModel(config, add_pooling_layer=False))
    theirs.save_pretrained(tmp_path)
    small = replace(FOUNDATION_ENCODERS["phikon"], config=ViTConfig(**TINY, scale=False, eps=1e-12))
    monkeypatch.setitem(f.FOUNDATION_ENCODERS, "phikon", small)
    ours = f.load_encoder("phikon", load_file(tmp_path / "model.safetensors"))
    x = torch.randn(3, 3, 32, 32)
    wanted = theirs(x).last_hidden_state[:, 0]
    torch.testing.assert_close(ours(x), wanted, atol=1e-4, rtol=1e-4)


def test_plip_as_transformers_computes_it(tmp_path, monkeypatch):
    from safetensors.torch import load_file
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    theirs = random_weights(CLIPVisionModel(config))
    theirs.save_pretrained(tmp_path)
    small = replace(
        FOUNDATION_ENCODERS["plip"], config=ViTConfig(**TINY, scale=False, eps=1e-5, clip=True)
    )
    monkeypatch.setitem(f.FOUNDATION_ENCODERS, "plip", small)
    state = load_file(tmp_path / "model.safetensors")
    # The published file holds the whole of CLIP.
    whole = {f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in state.items()}
    whole |= {"text_model.x": torch.zeros(2), "logit_scale": torch.zeros(1),
              "visual_projection.weight": torch.zeros(2, 2)}  # fmt: skip
    ours = f.load_encoder("plip", whole)
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x).pooler_output, atol=1e-4, rtol=1e-4)


def test_conch_keeps_the_visual_tower(monkeypatch):
    config = ViTConfig(**TINY, scale=False, pool="attention", pool_dim=16, pool_heads=2)
    monkeypatch.setitem(
        f.FOUNDATION_ENCODERS, "conch", replace(FOUNDATION_ENCODERS["conch"], config=config)
    )
    model = random_weights(VisionTransformer(config))
    state = {
        f"visual.{'' if k.startswith(('attn_pool', 'ln_')) else 'trunk.'}{k}": v
        for k, v in model.state_dict().items()
    }
    state |= {"visual.attn_pool_caption.query": torch.zeros(2), "text.x": torch.zeros(2)}
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(f.load_encoder("conch", state)(x), model(x))


def test_other_weights_are_refused(monkeypatch):
    config = ViTConfig(**TINY)
    monkeypatch.setitem(
        f.FOUNDATION_ENCODERS, "uni", replace(FOUNDATION_ENCODERS["uni"], config=config)
    )
    good = random_weights(VisionTransformer(config)).state_dict()
    assert f.load_encoder("uni", good | {"head.weight": torch.zeros(3)}) is not None
    for bad, message in (
        ({k: v for k, v in good.items() if k != "norm.bias"}, r"1 missing \(norm.bias"),
        (good | {"reg_token": torch.zeros(1, 4, 32)}, "1 left over"),
        (good | {"cls_token": torch.zeros(1, 1, 8)}, "1 of another shape"),
        ({"a": torch.zeros(1)}, "MahmoodLab/UNI"),
    ):
        with pytest.raises(ValueError, match=message):
            f.load_encoder("uni", bad, where="w.safetensors")


def test_the_patch_network_and_its_views():
    patches = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    density = optical_density(patches)
    assert density.shape == (6, 3, 32, 32) and (density >= 0).all()
    np.testing.assert_allclose(
        density[0, 1, 2, 3], -np.log10((int(patches[0, 2, 3, 1]) + 1) / 256), rtol=1e-4
    )
    views = [random_views(density, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    torch.testing.assert_close(views[0], views[1])
    assert views[0].shape == density.shape and not torch.allclose(views[0], views[2])
    network = PatchNetwork().eval()
    assert network(density).shape == (6, 256) == (6, network.dim)
    assert network.project(density).shape == (6, 64)


def test_a_frozen_encoder_leaves_the_module_as_it_was():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4), torch.nn.Dropout(0.5))
    module.train()
    patches = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    encoder = PatchEncoder(module)
    first, second = encoder(patches), encoder(patches)
    np.testing.assert_array_equal(first, second)
    assert module.training and first.dtype == np.float32
    values = colour_transform((0.5, 0.5, 0.5), (0.25, 0.5, 1))(patches)
    np.testing.assert_allclose(
        values[0, :, 1, 2], (patches[0, 1, 2] / 255 - 0.5) / [0.25, 0.5, 1], atol=1e-6
    )
