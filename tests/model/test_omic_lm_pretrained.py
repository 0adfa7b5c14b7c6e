"""`model.OmicLM` with a pretrained backbone: a tiny Llama and a byte-level tokenizer on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from made_backbone import make_backbone
from model.test_omic_lm import cohort

from omicllm.model import OmicLM
from omicllm.model._omic_lm_pretrained import EOS, LABEL, arguments


@pytest.fixture(autouse=True)
def _not_the_tests_of_datasets(monkeypatch):
    """The folder tests/datasets looks like the package `datasets` when tests are on the path."""
    import transformers.trainer

    monkeypatch.setattr(transformers.trainer, "is_datasets_available", lambda: False)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny Llama."""
    return make_backbone(tmp_path_factory.mktemp("backbone"))


def model_of(adata, backbone, **kwargs):
    OmicLM.setup_anndata(adata, "kind")
    return OmicLM(adata, backbone=backbone, **{"n_top": 8, "patch_size": 4, **kwargs})


QUICK = {"max_epochs": 2, "batch_size": 12, "augment": None}


@pytest.mark.parametrize("tokenizer", ["pretrained", "aligned"])
def test_train_predict_save_load(backbone, tokenizer, tmp_path):
    adata = cohort()
    model = model_of(adata, backbone, tokenizer=tokenizer)
    model.train(**{**QUICK, "max_epochs": 8}, lr=3e-3)
    loss = np.asarray(model.history_["train_loss"], dtype=float).ravel()
    assert len(loss) == 8 and loss[-1] < loss[0]
    P = model.predict(soft=True)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    assert model.get_latent_representation().shape == (48, 16)
    model.save(tmp_path / "m")
    assert (tmp_path / "m" / "backbone" / "model.safetensors").exists()
    loaded = OmicLM.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.predict(adata, soft=True), P, atol=1e-6)
    assert loaded.encode(adata) == model.encode()


def test_the_published_layout(backbone):
    model = model_of(cohort(), backbone)
    model.train(**{**QUICK, "max_epochs": 1})
    lm, text = model.backbone, model.text_
    assert all(len(t) == 9 and t[4] == " " for t in model.encode())
    z, present = model._standardised()
    prompts = lm.prompts(text, text.ranks(z), present)
    told = lm.tokenizer.decode(prompts[0], clean_up_tokenization_spaces=False)
    assert told == model.encode()[0] + LABEL
    assert lm.tokenizer.convert_ids_to_tokens(lm.classes.tolist()) == ["<C0>", "<C1>", "<C2>"]
    assert lm.tokenizer.convert_ids_to_tokens(lm.eos) == EOS
    # Class tokens are compared in one pass: the logits are those of a plain forward call.
    with torch.no_grad():
        plain = lm.model(torch.tensor([prompts[0]])).logits[0, -1, lm.classes]
    ours = lm.logits(text, text.ranks(z)[:20], present[:20])
    np.testing.assert_allclose(ours[0], plain.numpy(), atol=1e-5)


def test_padding_has_no_loss(backbone):
    model = model_of(cohort(), backbone)
    model.train(**{**QUICK, "max_epochs": 1})
    batch = model.backbone._collate([{"input_ids": [1, 2, 3]}, {"input_ids": [4]}])
    assert batch["labels"].tolist() == [[1, 2, 3], [4, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_adapters(backbone, tmp_path):
    adata = cohort()
    model = model_of(adata, backbone, lora={"r": 2, "lora_alpha": 4})
    model.train(**QUICK, lr=1e-2)
    trainable = {n for n, p in model.module.named_parameters() if p.requires_grad}
    assert any("lora_A" in n for n in trainable)
    assert not any(n.endswith("mlp.up_proj.base_layer.weight") for n in trainable)
    P = model.predict(soft=True)
    model.save(tmp_path / "m")
    assert (tmp_path / "m" / "backbone" / "adapter_config.json").exists()
    loaded = OmicLM.load(tmp_path / "m", cohort())
    np.testing.assert_allclose(loaded.predict(soft=True), P, atol=1e-5)
    # Killed after two of the three parts of another model: its head, with this backbone.
    other = model_of(cohort(), backbone, lora={"r": 2}, patch_size=2)
    other.train(**{**QUICK, "max_epochs": 1})
    other.save(tmp_path / "n")
    for name in ("model.json", "model.safetensors"):
        (tmp_path / "n" / name).replace(tmp_path / "m" / name)
    with pytest.raises(ValueError, match="backbone belongs to another model"):
        OmicLM.load(tmp_path / "m")


def test_adapters_of_an_aligned_model_resume(backbone, tmp_path):
    sizes = {"lora": {"r": 2, "lora_dropout": 0.0}, "tokenizer": "aligned"}
    model = model_of(cohort(), backbone, **sizes)
    model.train(**QUICK, checkpoint_dir=tmp_path / "c")
    before = model.predict(soft=True)
    again = model_of(cohort(), backbone, **sizes)
    again.train(**QUICK, checkpoint_dir=tmp_path / "c", resume=tmp_path / "c" / "checkpoint-6")
    np.testing.assert_allclose(again.predict(soft=True), before, atol=1e-5)
    further = model_of(cohort(), backbone, **sizes)
    further.train(**{**QUICK, "max_epochs": 3}, checkpoint_dir=tmp_path / "c", resume=True)
    assert (tmp_path / "c" / "checkpoint-9").is_dir()
    assert not np.array_equal(further.predict(soft=True), before)


def test_checkpoints_and_resume(backbone, tmp_path):
    model = model_of(cohort(), backbone)
    model.train(**QUICK, checkpoint_dir=tmp_path / "c")
    kept = sorted(p.name for p in (tmp_path / "c").glob("checkpoint-*"))
    assert kept == ["checkpoint-3", "checkpoint-6"]
    again = model_of(cohort(), backbone)
    again.train(**{**QUICK, "max_epochs": 3}, checkpoint_dir=tmp_path / "c", resume=True)
    state = json.loads((tmp_path / "c" / "checkpoint-9" / "trainer_state.json").read_text())
    assert state["global_step"] == 9 and state["epoch"] == 3
    from_name = model_of(cohort(), backbone)
    from_name.train(
        **{**QUICK, "max_epochs": 3}, checkpoint_dir=tmp_path / "d",
        resume=tmp_path / "c" / "checkpoint-6",
    )  # fmt: skip
    np.testing.assert_allclose(from_name.predict(soft=True), again.predict(soft=True), atol=1e-5)


def test_preset_and_yaml(backbone, tmp_path):
    """All settings of the published run but its size; a YAML file cuts the epochs."""
    (tmp_path / "args.yaml").write_text("num_train_epochs: 1\nlogging_steps: 1\nuse_cpu: true\n")
    model = model_of(cohort(), backbone, preset="ieee_icdh", n_top=8)
    model.train(augment=None, training_args=tmp_path / "args.yaml")
    assert model.params_["mu"] == 256 and model.params_["codepoints"] == "reference"
    assert model.text_.table.parameters.max_value == 1.0
    assert len(model.history_["train_loss"]) >= 1
    assert set(model.predict()) <= {"A", "B", "C"}


def test_several_gradient_steps_with_checkpointing_and_mixing(backbone):
    model = model_of(cohort(), backbone)
    model.train(max_epochs=1, batch_size=12, training_args={"gradient_checkpointing": True})
    assert np.isfinite(np.asarray(model.history_["train_loss"], dtype=float)).all()


def test_bad_input(backbone, tmp_path):
    with pytest.raises(ValueError, match=r"neither 'tiny' nor a folder.*hf:gpt2"):
        model_of(cohort(), "gpt2").train()
    with pytest.raises(ValueError, match="context of 128: about .* genes fit. Pass n_top="):
        model_of(cohort(n_genes=100), backbone, n_top=100).train(**QUICK)
    with pytest.raises(ValueError, match="does not fit the model's context of 128"):
        model_of(cohort(n_genes=150), backbone, n_top=150, tokenizer="aligned").train(**QUICK)
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="must hold training arguments by name"):
        arguments(tmp_path / "list.yaml")
