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
    z, present = model.standardized()
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


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_adapters_train_the_head_they_score_with(kind, tied, tmp_path):
    from safetensors import safe_open

    folder = make_backbone(tmp_path / "base", kind=kind, tied=tied)
    adata = cohort()
    model = model_of(adata, folder, lora={"r": 2})
    model.train(max_epochs=1, batch_size=48, augment=None, lr=1e-9)
    start = _rows(model)
    model = model_of(adata, folder, lora={"r": 2})
    model.train(**QUICK, lr=1e-2, checkpoint_dir=tmp_path / "c")
    head, embedding = _ends(model.module)
    assert (head is embedding) == tied
    assert head.requires_grad and embedding.requires_grad
    for new, old in zip(_rows(model), start, strict=True):
        assert (np.abs(new - old).max(axis=1) > 1e-3).all(), "a new token was not trained"
    # The logits come from that head: the embedding is not looked at elsewhere.
    scored = model.backbone.classes
    lm = model.backbone
    text = model.text_
    z, present = model.standardized()
    ids = torch.tensor(lm.prompts(text, text.ranks(z), present)[:1])
    with torch.no_grad():
        out = lm.model(ids, output_hidden_states=True)
    by_hand = out.hidden_states[-1][0, -1] @ head[scored].T
    np.testing.assert_allclose(out.logits[0, -1, scored].numpy(), by_hand.detach(), atol=1e-5)
    # Each tensor once, in checkpoints of the training too; less than the whole model.
    model.save(tmp_path / "m")
    whole = (tmp_path / "base" / "model.safetensors").stat().st_size
    last = sorted((tmp_path / "c").glob("checkpoint-*"))[-1]
    for saved in (tmp_path / "m" / "backbone", last):
        file = saved / "adapter_model.safetensors"
        assert file.stat().st_size < whole
        with safe_open(file, framework="np") as tensors:
            shapes = [tensors.get_tensor(k).shape for k in tensors.keys()]  # noqa: SIM118
        assert shapes.count(tuple(embedding.shape)) == (1 if tied else 2)
    loaded = OmicLM.load(tmp_path / "m", cohort())
    np.testing.assert_allclose(loaded.predict(soft=True), model.predict(soft=True), atol=1e-6)
    again, same = _ends(loaded.module)
    assert (again is same) == tied and torch.equal(again, head) and torch.equal(same, embedding)


def _ends(module):
    """Weights of the head and of the embedding that are used."""
    out = []
    for layer in (module.get_output_embeddings(), module.get_input_embeddings()):
        copies = getattr(layer, "modules_to_save", None)
        out.append((layer if copies is None else copies["default"]).weight)
    return out


def _rows(model):
    """Rows of class tokens in the head, and of the label in the embedding."""
    head, embedding = _ends(model.module)
    lm = model.backbone
    return [w.detach().numpy()[i].copy() for w, i in ((head, lm.classes), (embedding, [lm.label]))]


@pytest.fixture
def offline(monkeypatch):
    """Any connection fails the test."""
    import socket

    def refuse(*_, **__):
        msg = "a connection was opened"
        raise AssertionError(msg)

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.parametrize("lora", [False, {"r": 2}])
def test_loading_opens_no_connection(backbone, lora, tmp_path, offline):
    model = model_of(cohort(), backbone, lora=lora)
    model.train(**{**QUICK, "max_epochs": 1})
    model.save(tmp_path / "m")
    expected = model.predict(soft=True)
    np.testing.assert_allclose(
        OmicLM.load(tmp_path / "m", cohort()).predict(soft=True), expected, atol=1e-6
    )
    if not lora:
        return
    # A folder from somebody else: its adapters belong to a model of the hub.
    from omicllm.model import _saved

    told, arrays = _saved.read(tmp_path / "m")
    told["init_params"]["backbone"] = "hf:nobody/nothing-of-that-name"
    mark = told["mark"]
    _saved.write(tmp_path / "m", arrays, told)
    more = tmp_path / "m" / "backbone" / "omicllm.json"
    more.write_text(more.read_text().replace(mark, _saved.description_of(tmp_path / "m")["mark"]))
    with pytest.raises(FileNotFoundError, match=r"not at hand.*backbone=<folder>.*allow_download"):
        OmicLM.load(tmp_path / "m")
    loaded = OmicLM.load(tmp_path / "m", cohort(), backbone=backbone)
    np.testing.assert_allclose(loaded.predict(soft=True), expected, atol=1e-6)


def test_a_preset_without_its_model_says_what_helps(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="Offline, pass backbone=<folder>"):
        model_of(cohort(), "hf:nobody/nothing-of-that-name").train(**QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no model of transformers"):
        model_of(cohort(), str(tmp_path / "empty")).train(**QUICK)


@pytest.mark.parametrize("broken", ["adapter_model.safetensors", "omicllm.json", "tokenizer.json",
                                    "adapter_config.json"])  # fmt: skip
def test_a_damaged_backbone_is_named(backbone, broken, tmp_path):
    model = model_of(cohort(), backbone, lora={"r": 2})
    model.train(max_epochs=1, batch_size=48, augment=None)
    model.save(tmp_path / "m")
    file = tmp_path / "m" / "backbone" / broken
    whole = file.read_bytes()
    changed = whole[:-1] + bytes([whole[-1] ^ 1])  # one value or letter
    for content in (b"", whole[:20], b"[]", changed):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"backbone\S* is damaged.*Train the model again"):
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
