"""`ol.pp.image_features` with networks: simclr from training rows, published names with weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import same_object
from made_histology import make_section
from safetensors.torch import save_file

import omicllm as ol
from omicllm.nn import VisionTransformer
from omicllm.nn.foundation import FOUNDATION_ENCODERS
from omicllm.nn.vision_transformer import ViTConfig

FAST = {"encoder": "simclr", "out_px": 16, "max_epochs": 2}


@pytest.fixture
def section():
    return make_section(n_side=8)


def test_simclr_and_its_weights(section, tmp_path):
    state = torch.get_rng_state()
    ol.pp.image_features(section, save=tmp_path / "net.safetensors", **FAST)
    assert torch.equal(torch.get_rng_state(), state)
    values = section.obsm["X_simclr"]
    assert values.shape == (64, 256) and np.isfinite(values).all() and values.std() > 0
    again = section.copy()
    read = {"encoder": "simclr", "out_px": 16, "weights": tmp_path / "net.safetensors"}
    ol.pp.image_features(again, **read)
    with pytest.raises(ValueError, match="max_epochs= has no effect"):
        ol.pp.image_features(again, max_epochs=2, **read)
    np.testing.assert_allclose(again.obsm["X_simclr"], values, atol=1e-5)
    other = section.copy()
    ol.pp.image_features(other, rng=1, **FAST)
    assert not np.allclose(other.obsm["X_simclr"], values)
    order = np.random.default_rng(0).permutation(64)
    turned = section[order].copy()
    ol.pp.image_features(turned, **FAST)
    np.testing.assert_allclose(turned.obsm["X_simclr"], values[order], atol=1e-4)


def test_simclr_learns_to_tell_patches_apart(section):
    from omicllm.train._simclr import train_simclr

    image = section.uns["spatial"]["S1"]["images"]["hires"]
    rng = np.random.default_rng(0)
    at = rng.integers(20, 250, (48, 2))
    patches = np.stack([image[y : y + 32, x : x + 32] for y, x in at])
    _, history = train_simclr(patches, seed=0, max_epochs=12, batch_size=24)
    assert history[-1] < history[0] - 0.2
    assert history[-1] < np.log(24)


def test_simclr_learns_from_training_rows_only(section):
    section.obs["split"] = np.where(np.arange(64) < 40, "train", "test")
    ol.pp.image_features(section, standardize=False, **FAST)
    other = section.copy()
    image = other.uns["spatial"]["S1"]["images"]["hires"]
    changed = image.copy()
    changed[230:] = 30  # under the last test rows alone
    other.uns["spatial"]["S1"]["images"]["hires"] = changed
    ol.pp.image_features(other, standardize=False, **FAST)
    same = section.obsm["spatial"][:, 1] / 2 < 210
    np.testing.assert_allclose(
        other.obsm["X_simclr"][same], section.obsm["X_simclr"][same], atol=1e-5
    )
    assert not np.allclose(other.obsm["X_simclr"][-1], section.obsm["X_simclr"][-1])
    section.obs["split"] = "test"
    with pytest.raises(ValueError, match="0 of 64 observations may be learned from"):
        ol.pp.image_features(section, **FAST)


@pytest.fixture
def small_uni(monkeypatch):
    config = ViTConfig(dim=16, depth=1, heads=2, hidden=32, patch=8, image=32)
    known = replace(FOUNDATION_ENCODERS["uni"], config=config)
    monkeypatch.setitem(FOUNDATION_ENCODERS, "uni", known)
    return VisionTransformer(config)


def test_a_published_encoder_from_a_local_file(section, small_uni, tmp_path):
    save_file(small_uni.state_dict(), tmp_path / "model.safetensors")
    torch.save({"state_dict": small_uni.state_dict()}, tmp_path / "uni.pth")
    ol.pp.image_features(section, encoder="uni", weights=tmp_path)
    values, entry = section.obsm["X_uni"], section.uns["uni"]
    assert values.shape == (64, 16) and entry["licence"] == "CC-BY-NC-ND-4.0"
    assert entry["out_px"] == 32 and entry["standardized"] == ""
    ol.pp.image_features(section, encoder="uni", weights=tmp_path / "uni.pth", key_added="b")
    np.testing.assert_array_equal(section.obsm["X_b"], values)
    ol.pp.image_features(section, encoder=small_uni, out_px=32, key_added="c")
    np.testing.assert_allclose(section.obsm["X_c"], values, atol=1e-5)


def test_weights_that_are_not_there_or_of_another_network(section, small_uni, tmp_path):
    before = section.copy()
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        ol.pp.image_features(section, encoder="uni", weights=tmp_path / "none.bin")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    for encoder in ("uni", "simclr"):
        with pytest.raises(ValueError, match="other.safetensors does not hold"):
            ol.pp.image_features(section, encoder=encoder, weights=tmp_path / "other.safetensors")
    same_object(section, before)


@pytest.fixture
def hub(monkeypatch):
    """A hub that notes what it is asked for and has what `files` says."""
    from transformers.utils import hub

    calls, files = [], {}

    def cached_file(repository, name, *, local_files_only):
        calls.append((repository, name, local_files_only))
        if (name, local_files_only) not in files:
            raise OSError("You are trying to access a gated repo.")
        return str(files[name, local_files_only])

    monkeypatch.setattr(hub, "cached_file", cached_file)
    return calls, files


def test_without_weights_only_the_cache_is_searched(section, small_uni, tmp_path, hub):
    calls, files = hub
    message = "weights=, a local file.*MahmoodLab/UNI under CC-BY-NC-ND.*allow_download=True"
    with pytest.raises(FileNotFoundError, match=message):
        ol.pp.image_features(section, encoder="uni")
    assert all(local for _, _, local in calls), "nothing was asked of the network"
    with pytest.raises(FileNotFoundError, match="Fetching it failed: .*gated"):
        ol.pp.image_features(section, encoder="uni", allow_download=True)
    path = tmp_path / "pytorch_model.bin"
    torch.save(small_uni.state_dict(), path)
    files["pytorch_model.bin", True] = path
    calls.clear()
    ol.pp.image_features(section, encoder="uni", allow_download=True)
    assert all(local for _, _, local in calls), "a cached file needs no login"
    assert section.obsm["X_uni"].shape == (64, 16)
