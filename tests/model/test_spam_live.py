"""`omicllm.model.SPAM` on patches: an encoder that is run, and adapted, by the model."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import torch
from made_tissue import made_section, made_sections
from torch import nn

import omicllm as ol
from omicllm.nn.vision_transformer import VisionTransformer, ViTConfig

try:
    metadata.version("peft")
except metadata.PackageNotFoundError as error:
    pytest.skip(f"{error} is not installed", allow_module_level=True)
SMALL = {"n_hidden": 16, "n_tokens": 4, "knn": 6, "n_programs": 6}
LORA = {"r": 2, "lora_alpha": 4}


def tiny(seed=0):
    torch.manual_seed(seed)
    net = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2, hidden=32, patch=8, image=16))
    for name, value in net.named_parameters():
        if "norm" not in name and "gamma" not in name:
            nn.init.normal_(value, std=0.3)
        if "gamma" in name:
            nn.init.ones_(value)
    return net


def with_patches(adata):
    """Patches whose colours are the first three image features."""
    x = adata.obsm.pop("X_classical")[:, :3]
    level = np.clip(128 + 25 * (x - x.mean(0)), 0, 255)
    noise = np.random.default_rng(0).integers(-20, 20, (adata.n_obs, 16, 16, 3))
    adata.obsm["patches"] = np.clip(level[:, None, None] + noise, 0, 255).astype(np.uint8)
    return adata


def made(**kwargs):
    adata = with_patches(made_sections(side=8))
    ol.model.SPAM.setup_anndata(adata, use_rep="patches")
    return ol.model.SPAM(adata, **{"encoder": tiny(), **SMALL, **kwargs})


@pytest.fixture
def new():
    return with_patches(made_section("new", seed=9, side=8))


def test_an_encoder_gives_what_its_cached_features_give(new):
    net = made()
    net.train(0)
    from omicllm.nn.patch_encoder import PatchEncoder

    adata = with_patches(made_sections(side=8))
    for part in (adata, new):
        part.obsm["X_vit"] = PatchEncoder(tiny())(part.obsm["patches"])
    ol.model.SPAM.setup_anndata(adata, use_rep="X_vit")
    cached = ol.model.SPAM(adata, **SMALL)
    cached.train(0)
    np.testing.assert_allclose(net.predict(new), cached.predict(new), atol=1e-4)


def test_adapters_are_trained_saved_and_run_on_other_sections(new, tmp_path):
    encoder = tiny()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    net = made(encoder=encoder, lora=LORA)
    start = net._live(new.obsm["patches"])
    np.testing.assert_allclose(start, made()._live(new.obsm["patches"]), atol=1e-5)
    net.pretrain("image-gene", max_epochs=6, batch_size=32, lr=1e-2, show_progress=False)
    history = net.history_["pretrain_loss"].to_numpy().ravel()
    assert history[-1] < history[0]
    # Adapters have changed, the encoder's own weights and the user's module have not.
    adapters = net._live.arrays()
    assert all(np.abs(v).max() > 0 for v in adapters.values())
    assert len(adapters) == 2 * 4 * 2  # two matrices for four linear layers of two blocks
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    own = {k.replace(".base_layer", ""): v for k, v in net._live.module.state_dict().items()}
    for name, value in before.items():
        torch.testing.assert_close(own[name].cpu(), value, rtol=0, atol=0)
    adapted = net._live(new.obsm["patches"])
    assert np.abs(adapted - start).max() > 1e-3
    net.train(2, show_progress=False)
    guess = net.predict(new)
    # The file holds the adapters; with the plain encoder they make the same predictions.
    net.save(tmp_path / "m")
    from safetensors.numpy import load_file

    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert sum("lora_" in k for k in stored) == len(adapters)
    assert not any("patch_embed" in k for k in stored)
    again = ol.model.SPAM.load(tmp_path / "m", encoder=tiny())
    pd.testing.assert_frame_equal(again.predict(new), guess)
    ol.tl.predict_expression(new, model=again)
    np.testing.assert_allclose(new.layers["spam"], guess[list(new.var_names)], atol=1e-5)
    with pytest.raises(ValueError, match="pass encoder="):
        ol.model.SPAM.load(tmp_path / "m").predict(new)
    with pytest.raises(ValueError, match="other weights"):
        ol.model.SPAM.load(tmp_path / "m", encoder=tiny(1))
    other = made(lora=LORA)
    other.load_pretrained(net)
    np.testing.assert_allclose(other._live(new.obsm["patches"]), adapted, atol=1e-5)
    with pytest.raises(ValueError, match="another architecture"):
        made(lora={"r": 3}).load_pretrained(net)


def test_adapters_are_read_by_torchs_own_transformer_layers(new):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 16, 8, stride=8)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x):
            return self.layer(self.patch(x).flatten(2).transpose(1, 2)).mean(1)

    net = made(encoder=Net(), lora=LORA)
    start = net._live(new.obsm["patches"])
    net.pretrain("image-gene", max_epochs=2, batch_size=32, lr=1e-2, show_progress=False)
    adapters = net._live.arrays()
    assert len(adapters) == 4  # of the two linear layers
    assert all(np.abs(v).max() > 0 for v in adapters.values())
    assert np.abs(net._live(new.obsm["patches"]) - start).max() > 1e-3


def test_predictions_of_patches_do_not_read_counts(new):
    net = made(lora=True)
    net.pretrain("joint", max_epochs=1, show_progress=False)
    net.train(0)
    guess = net.predict(new)
    import anndata as ad

    bare = ad.AnnData(obs=new.obs, obsm=dict(new.obsm))
    pd.testing.assert_frame_equal(net.predict(bare), guess, check_exact=True)


def test_bad_input(new):
    adata = with_patches(made_sections(side=8))
    grey = adata.copy()
    grey.obsm["patches"] = grey.obsm["patches"][..., :1]
    with pytest.raises(ValueError, match="square colour patches"):
        ol.model.SPAM.setup_anndata(grey, use_rep="patches")
    with pytest.raises(ValueError, match="pass encoder="):
        made(encoder=None)
    with pytest.raises(ValueError, match="lora= adapts an encoder"):
        made(encoder=None, lora=True)
    with pytest.raises(TypeError, match="must be a torch module"):
        made(encoder="uni")
    with pytest.raises(TypeError, match="lora must be"):
        made(lora=16)
    with pytest.raises(ValueError, match="has none"):
        made(encoder=nn.Flatten(), lora=True)
    plain = made_sections(side=8)
    ol.model.SPAM.setup_anndata(plain)
    with pytest.raises(ValueError, match="runs an encoder on patches"):
        ol.model.SPAM(plain, encoder=tiny(), **SMALL)
