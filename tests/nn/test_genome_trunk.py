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


def cropping(kernels, slice_off=0):
    """Convolutions without padding, whose last bases are cut off as SpliceAI's are."""

    class Crops(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [4] * (len(kernels) + 1)
            self.layers = nn.ModuleList(
                nn.Conv1d(a, b, k) for a, b, k in zip(sizes, sizes[1:], kernels, strict=False)
            )
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.norm(x)[..., slice_off : x.shape[-1] - slice_off]

    return Crops()


@pytest.mark.parametrize("takes", ["channels", "one_hot", "tokens"])
@pytest.mark.parametrize(
    "kernels, cut, step, least",
    [
        ([9, 9], 0, 1, 17),
        ([41, 11, 3], 0, 1, 53),
        ([3], 20, 1, 43),
        ([9, 9], 0, 8, 24),
    ],
)
def test_networks_that_crop(kernels, cut, step, least, takes):
    """The least length is the sum of what convolutions and the cut take off, plus one base."""
    net = cropping(kernels, cut)
    if takes != "channels":

        class Turned(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                x = nn.functional.one_hot(x.clamp(0, 3), 4).float() if takes == "tokens" else x
                return self.net(x.transpose(1, 2))

        module = Turned()
    else:
        module = net
    trunk = ol.nn.ModuleTrunk(
        module,
        dim=4,
        bin_size=1,
        length_multiple=step,
        takes=takes,
        gives="channels",
        name="cropping",
    )
    short = 16 if step == 1 else 8
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=f"cropping makes no bin of sequences of {short} bases.*at least {least}\\.",
    ):
        trunk.embed(torch.zeros(2, short, dtype=torch.int8))
    assert trunk.training, "as it was"
    if not cut:  # else the call itself reaches the batch norm
        assert all(torch.equal(v, before[k]) for k, v in trunk.state_dict().items())
    assert trunk.eval().embed(torch.zeros(2, least, dtype=torch.int8)).shape[0] == 2
    with pytest.raises(ValueError, match="makes no bin"):
        trunk.embed(torch.zeros(2, least - step, dtype=torch.int8))


def test_other_errors_of_a_module_are_its_own():
    trunk = ol.nn.ModuleTrunk(nn.Conv1d(5, 4, 3), dim=4, bin_size=1, gives="channels")
    with pytest.raises(RuntimeError, match="expected input"):
        trunk.embed(torch.zeros(1, 32, dtype=torch.int8))


def test_shortest_sequence_is_said_before_anything_runs():
    import anndata as ad
    import pandas as pd

    trunk = ol.nn.ModuleTrunk(
        cropping([41, 11, 3]), dim=4, bin_size=1, gives="channels", min_len=53, name="cropping"
    )
    adata = ad.AnnData(obs=pd.DataFrame({"sequence": ["ACGT" * 10]}, index=["s"]))
    with pytest.raises(ValueError, match="have 40 bases, but cropping takes at least 53"):
        ol.tl.embed_sequences(adata, model=trunk)
    ol.tl.embed_sequences(adata, model=trunk, length=60)
    assert np.isfinite(adata.obsm["X_cropping"]).all()
    trunk.min_len = None
    with pytest.raises(ValueError, match="cropping makes no bin of sequences of 40 bases"):
        ol.tl.embed_sequences(adata, model=trunk, length=40, key_added="again")
