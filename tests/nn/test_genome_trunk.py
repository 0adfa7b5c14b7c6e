"""Other genome models behind the one protocol."""

import numpy as np
import pytest
import torch
from torch import nn

import omicllm as ol
from omicllm.nn.genome_trunk import load_trunk


class Counted(nn.Module):
    """Mean of one-hot rows over bins of four bases."""

    def forward(self, x):
        return x.unflatten(-1, (-1, 4)).mean(dim=-1)


def test_protocol():
    trunk = ol.nn.Enformer(dim=48, depth=1, heads=4, dim_divisible_by=12, output_heads={})
    assert isinstance(trunk, ol.nn.GenomeTrunk)
    assert load_trunk(trunk) is trunk
    with pytest.raises(TypeError, match="missing: name, dim.*ModuleTrunk"):
        load_trunk(nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError, match="allow_download=True"):
        load_trunk("no/such-enformer")
    with pytest.raises(FileNotFoundError, match="allow_download=True"):
        load_trunk("no/such-model")


def test_any_module():
    trunk = ol.nn.ModuleTrunk(Counted(), dim=4, bin_size=4, gives="channels", name="shares")
    assert isinstance(trunk, ol.nn.GenomeTrunk)
    out = trunk.embed(np.array([[0, 0, 1, 2, 3, 3, 3, 3]]))
    np.testing.assert_allclose(out, [[[0.5, 0.25, 0.25, 0], [0, 0, 0, 1]]])
    words = ol.nn.ModuleTrunk(nn.Embedding(5, 3), dim=3, bin_size=1, takes="tokens")
    assert words.embed(np.array([[0, 4, 2]])).shape == (1, 3, 3)
    one = ol.nn.ModuleTrunk(nn.Sequential(nn.Flatten(), nn.Linear(32, 6)), dim=6, bin_size=8)
    assert one.embed(np.zeros((2, 8), dtype=np.int8)).shape == (2, 1, 6)
    with pytest.raises(ValueError, match="multiple of 4, not 6"):
        trunk.embed(np.zeros((1, 6), dtype=np.int8))
    wrong = ol.nn.ModuleTrunk(Counted(), dim=5, bin_size=4, gives="channels")
    with pytest.raises(ValueError, match=r"gives \(1, 2, 4\); \(n, bins, 5\) was announced"):
        wrong.embed(np.zeros((1, 8), dtype=np.int8))
    with pytest.raises(ValueError, match="takes="):
        ol.nn.ModuleTrunk(Counted(), dim=4, bin_size=4, takes="letters")


@pytest.fixture
def folder(tmp_path):
    """A small BERT on words of three bases, as transformers saves it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from omicllm.genome.kmers import KmerTokenizer

    words = KmerTokenizer(3).vocabulary
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=16)  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(tmp_path)
    BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(tmp_path)
    return tmp_path


def test_transformers_model(folder):
    trunk = ol.nn.TransformersTrunk.from_pretrained(folder, piece=8, words=3)
    assert isinstance(trunk, ol.nn.GenomeTrunk) and (trunk.name, trunk.dim) == ("bert", 16)
    row = np.random.default_rng(0).integers(0, 4, (2, 20))
    with torch.no_grad():
        out = trunk.embed(row)
        assert out.shape == (2, 3, 16)
        text = "".join("ACGT"[i] for i in row[1, 8:16])
        ids = trunk.tokenizer(" ".join(text[i : i + 3] for i in range(6)), return_tensors="pt")
        states = trunk.model(**ids).last_hidden_state[0, 1:-1]
    torch.testing.assert_close(out[1, 1], states.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert isinstance(load_trunk(folder), ol.nn.TransformersTrunk)
    with pytest.raises(TypeError, match="tokens, not one-hot"):
        trunk.embed(torch.zeros(1, 8, 4))
    with pytest.raises(FileNotFoundError, match="no config.json"):
        load_trunk(folder.parent)
