"""Every load line of docs/weights.md, on random weights in the published layout."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHECKOUT
from made_histology import make_section
from model.test_omic_lm import cohort
from model.test_omic_lm_pretrained import _not_the_tests_of_datasets, backbone  # noqa: F401
from safetensors.torch import load_file, save_file

import omicllm as ol
from omicllm.nn import foundation
from omicllm.nn.vision_transformer import VisionTransformer

PAGE = CHECKOUT / "docs" / "weights.md"
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if re.search(r"\| `ol\..*` \|$", line)
]
LINES = {row[3].strip("`"): row for row in ROWS}
ENCODERS = {re.search('encoder="(.*?)"', x)[1]: x for x in LINES if "image_features" in x}


def folder_of(line: str) -> Path:
    """The folder a line names, made in the working directory."""
    name = re.search(r'(?:weights=|backbone=|from_pretrained\()"(.*?)"', line)[1]
    Path(name).mkdir()
    return Path(name)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_page_lists_every_encoder_with_its_terms():
    assert set(ENCODERS) == set(foundation.FOUNDATION_ENCODERS)
    for name, line in ENCODERS.items():
        known = foundation.FOUNDATION_ENCODERS[name]
        assert LINES[line][1:3] == [known.source, known.licence]


def small(name: str):
    """The encoder's own shape, a few units wide."""
    known = foundation.FOUNDATION_ENCODERS[name]
    size = {"dim": 16, "depth": 1, "heads": 2, "hidden": 32, "patch": 8, "image": 32}
    if known.config.pool == "attention":
        size |= {"pool_dim": 16, "pool_heads": 2}
    return replace(known, config=replace(known.config, **size))


def published(layout: str, config) -> dict[str, torch.Tensor]:
    """Random weights under the names of the published file."""
    torch.manual_seed(0)
    own = VisionTransformer(config).state_dict()
    if layout == "timm":
        return own
    if layout == "conch":
        state = {
            f"visual.{'' if k.startswith(('attn_pool', 'ln_')) else 'trunk.'}{k}": v
            for k, v in own.items()
        }
        return state | {"text.x": torch.zeros(2)}
    import transformers

    sizes = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    if layout == "vit":
        theirs = transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=False)
    else:
        theirs = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes))
    theirs.save_pretrained("theirs")
    state = load_file("theirs/model.safetensors")
    if layout == "clip":  # the published file holds the whole of CLIP
        state = {f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in state.items()}
        state |= {"logit_scale": torch.zeros(1), "text_model.x": torch.zeros(2)}
    return state


@pytest.mark.parametrize("name", ENCODERS)
def test_histology_encoders(name, monkeypatch):
    known = small(name)
    monkeypatch.setitem(foundation.FOUNDATION_ENCODERS, name, known)
    folder = folder_of(ENCODERS[name])
    state = published(known.layout, known.config)
    if name in ("uni", "conch"):  # published as a pickle of tensors
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    adata = make_section(n_side=4)
    exec(ENCODERS[name], {"ol": ol, "adata": adata})
    values = adata.obsm[f"X_{name}"]
    assert values.shape[0] == 16 and np.isfinite(values).all() and values.std() > 0
    assert adata.uns[name]["licence"] == known.licence


def word_model(folder: Path, k: int) -> None:
    """A BERT on words, with the files of a DNABERT folder."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    words = ol.genome.KmerTokenizer(k).vocabulary
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)


def six_mer_model(folder: Path) -> None:
    """An ESM on six-mers and single letters, as Nucleotide Transformer v1 is published."""
    from itertools import product

    from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

    special = ["<unk>", "<pad>", "<mask>", "<cls>"]
    words = ["".join(w) for w in product("ATCG", repeat=6)]
    (folder / "vocab.txt").write_text("\n".join([*special, *words, *"ATCGN"]))
    tokenizer = EsmTokenizer(str(folder / "vocab.txt"), eos_token=None)
    tokenizer.save_pretrained(folder)
    config = EsmConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, pad_token_id=1, mask_token_id=2, max_position_embeddings=1002,
        position_embedding_type="absolute", token_dropout=True,
    )  # fmt: skip
    EsmForMaskedLM(config).save_pretrained(folder)


def piece_model(folder: Path) -> None:
    """A BERT on pieces found by byte-pair encoding, as GROVER is published."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGT", "AC", "GT", "ACGT"]
    )}  # fmt: skip
    plain = Tokenizer(models.BPE(vocabulary, [("A", "C"), ("G", "T"), ("AC", "GT")],
                                 unk_token="[UNK]"))  # fmt: skip
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)


def own_trunk(kind, sizes: dict):
    """Writer of a trunk's folder as enformer-pytorch and borzoi-pytorch have it."""

    def write(folder: Path) -> None:
        torch.save(kind(**sizes).state_dict(), folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(sizes))

    return write


ENFORMER = {"dim": 24, "depth": 1, "heads": 4, "dim_divisible_by": 12, "num_downsamples": 3,
            "attn_dim_key": 8, "output_heads": {"human": 5, "mouse": 2}}  # fmt: skip
GENOME = {
    "Enformer": lambda folder: own_trunk(ol.nn.Enformer, ENFORMER)(folder),
    "Borzoi": lambda folder: own_trunk(ol.nn.Borzoi, borzoi_sizes())(folder),
    "DNA_bert_6": lambda folder: word_model(folder, 6),
    "nucleotide": six_mer_model,
    "GROVER": piece_model,
}


def borzoi_sizes() -> dict:
    from nn.test_borzoi import TINY

    return {**TINY, "output_heads": {"human": 5}}


@pytest.mark.parametrize("line", [x for x in LINES if "from_pretrained" in x and "SIGEL" not in x])
def test_genome_models(line):
    (write,) = (w for key, w in GENOME.items() if key in line)
    torch.manual_seed(0)
    write(folder_of(line))
    model = eval(line, {"ol": ol})
    if "GeneMaskLM" in line:
        vectors = model.get_latent_representation(["ACGTACGTACGT", "TTTTACGTTTGA"])
        assert vectors.shape == (2, 16)
        return
    row = np.random.default_rng(0).integers(0, 4, (2, 1024))
    with torch.no_grad():
        found = model.embed(row)
    assert found.shape[0] == 2 and found.shape[2] == model.dim and torch.isfinite(found).all()
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("line", [x for x in LINES if "OmicLM(" in x])
def test_language_models(line, backbone):  # noqa: F811
    import shutil

    shutil.copytree(backbone, folder_of(line), dirs_exist_ok=True)
    adata = cohort()
    ol.model.OmicLM.setup_anndata(adata, "kind")
    small = line.replace(")", ", n_top=8, patch_size=4)")
    model = eval(small, {"ol": ol, "adata": adata})
    model.train(max_epochs=1, batch_size=12, augment=None)
    assert model.predict(soft=True).shape == (adata.n_obs, 3)


def test_bundled_weights(mob):
    (line,) = (x for x in LINES if "SIGEL" in x)
    model = eval(line, {"ol": ol})
    assert model.embed(mob).shape == (1000, 128)


def test_no_line_is_left_out():
    tested = len(ENCODERS) + sum("from_pretrained" in x or "OmicLM(" in x for x in LINES)
    assert tested == len(LINES) == len(ROWS)
