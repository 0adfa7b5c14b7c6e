"""The masked language model of DNA, in tiny sizes."""

from __future__ import annotations

import copy
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import round_trip

import omicllm as ol
from omicllm.model._genemask import FINE_TUNING, PRETRAINING, settings_of
from omicllm.train import _genemask as rows

TINY = {"k": 3, "d_model": 32, "n_layers": 1, "n_heads": 2, "d_ff": 32}


def made(n=80, length=40, seed=0):
    """Two classes of other composition."""
    rng = np.random.default_rng(seed)
    p = ([0.4, 0.1, 0.1, 0.4], [0.1, 0.4, 0.4, 0.1])
    drawn = ["".join(rng.choice(list("ACGT"), length, p=p[i % 2])) for i in range(n)]
    obs = pd.DataFrame(
        {"sequence": drawn, "label": np.where(np.arange(n) % 2, "gc", "at")},
        index=[f"s{i}" for i in range(n)],
    )
    return ad.AnnData(obs=obs)


@pytest.fixture(scope="module")
def trained():
    adata = made()
    ol.model.GeneMaskLM.setup_anndata(adata, labels_key="label")
    model = ol.model.GeneMaskLM(adata, **TINY)
    model.pretrain(max_steps=4, batch_size=8, max_tokens=20)
    model.train(max_epochs=6, batch_size=8, lr=3e-3, mask=np.arange(80) < 60)
    return model, adata


def test_classifies(trained):
    model, adata = trained
    proba = model.predict_proba()
    assert proba.shape == (80, 2) and proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert model.classes_.tolist() == ["at", "gc"]
    assert (model.predict() == adata.obs["label"])[60:].mean() > 0.9
    np.testing.assert_array_equal(model.predict(adata), model.predict(list(adata.obs["sequence"])))
    assert set(model.history_) == {"pretrain_loss", "train_loss"}
    assert len(model.history_["pretrain_loss"]) == 4 and len(model.history_["train_loss"]) == 6


def test_vectors_are_means_over_kmers(trained):
    model, adata = trained
    sequence = adata.obs["sequence"].iloc[0]
    Z = model.get_latent_representation([sequence])
    assert Z.shape == (1, 32)
    ids = torch.from_numpy(model.tokenizer.encode(sequence, special_tokens=True).astype(np.int64))[
        None
    ]
    with torch.inference_mode():
        hidden = model.module.hidden(ids)[0, 1:-1].mean(dim=0)
    np.testing.assert_allclose(Z[0], hidden.numpy(), atol=1e-5)


def test_pads_and_batches_do_not_show(trained):
    model, _ = trained
    mixed = ["ACGTACGTAC", "ACG" * 30, "TTTACGTT" * 5]
    together = model.get_latent_representation(mixed)
    alone = np.concatenate([model.get_latent_representation([s]) for s in mixed])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(model.get_latent_representation(mixed, batch_size=1), alone,
                               atol=1e-5)  # fmt: skip


def test_save_and_load(trained, tmp_path):
    model, adata = trained
    model.save(tmp_path / "m")
    loaded = ol.model.GeneMaskLM.load(tmp_path / "m")
    sequences = list(adata.obs["sequence"])
    np.testing.assert_array_equal(loaded.predict_proba(sequences), model.predict_proba())
    assert loaded.classes_.tolist() == ["at", "gc"] and loaded.is_trained_
    assert loaded.tokenizer.k == 3
    with pytest.raises(ValueError, match="no sequences"):
        loaded.predict()
    attached = ol.model.GeneMaskLM.load(tmp_path / "m", made())
    np.testing.assert_array_equal(attached.predict_proba(), model.predict_proba())
    assert set(loaded.history_) == set(model.history_)


def test_the_object_survives_a_file(trained, tmp_path):
    round_trip(trained[1], tmp_path)


def test_pretraining_lowers_the_masked_loss(tmp_path):
    rng = np.random.default_rng(0)
    word = "".join(rng.choice(list("ACGT"), 23))
    (tmp_path / "a.fa").write_text(">a\n" + word * 400 + "\n")
    model = ol.model.GeneMaskLM(**TINY)
    held_out = [word * 3, word[7:] + word * 2]
    before = model.get_masked_loss(held_out)
    model.pretrain(fasta=tmp_path / "a.fa", max_steps=60, batch_size=8, max_tokens=40, lr=3e-3)
    assert model.get_masked_loss(held_out) < before - 0.5
    assert len(model.history_["pretrain_loss"]) == 20
    again = ol.model.GeneMaskLM(**TINY)
    again.pretrain(fasta=tmp_path / "a.fa", max_steps=60, batch_size=8, max_tokens=40, lr=3e-3)
    assert again.get_masked_loss(held_out) == model.get_masked_loss(held_out), "same seed"


@pytest.mark.parametrize(
    "kwargs",
    [{"masking": "dnabert"}, {"masking": "random"}, {"rank_by": "position"}, {"curriculum": True}],
)
def test_every_masking(kwargs):
    sequences = list(made().obs["sequence"])
    model = ol.model.GeneMaskLM(**TINY)
    model.pretrain(sequences=sequences, max_steps=2, batch_size=4, max_tokens=20, **kwargs)
    assert np.isfinite(np.asarray(model.history_["pretrain_loss"], dtype=float)).all()


def test_ranks_of_the_corpus():
    sequences = list(made(length=200).obs["sequence"])
    ranks = rows.corpus_ranks(None, sequences, 3)
    adata = ad.AnnData(obs=pd.DataFrame({"sequence": sequences}, index=map(str, range(80))))
    counts = ol.pp.kmer_counts(adata, k=3, all_lengths=True)
    ol.pp.kmer_pmi(counts, min_count=11)
    expected = counts.var["pmi_rank"][-64:].to_numpy()
    seen = np.isfinite(expected)
    np.testing.assert_array_equal(ranks[5:][seen], expected[seen])


def test_batches_of_a_fasta_are_shared_out(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "a.fa").write_text(">a\n" + "".join(rng.choice(list("ACGT"), 30_000)) + "\n")
    make = rows.masked_batches(
        tmp_path / "a.fa", None, ol.genome.KmerTokenizer(3), batch_size=4, max_tokens=30,
        n_steps=5, curriculum=False, seed=0, masking={"masking": "dnabert"},
    )  # fmt: skip
    seen = []
    for rank in range(2):
        ids, labels = next(make(rank, 2))
        assert ids.shape == labels.shape and ids.shape[1] <= 32 and ids.dtype == np.int64
        whole = np.where(labels >= 0, labels, ids)
        seen.append({tuple(row) for row in whole.tolist()})
    assert not seen[0] & seen[1]


def test_long_sequences_are_refused_split_or_truncated():
    long = "ACGTTGCA" * 100
    for how, n in (("split", 2), ("truncate", 1)):
        model = ol.model.GeneMaskLM(**TINY, too_long=how)
        ids, owner = model._tokens([long, "ACGT"])
        assert len(ids) == n + 1 and owner.tolist() == [0] * n + [1]
        assert model.get_latent_representation([long, "ACGT"]).shape == (2, 32)
    with pytest.raises(ValueError, match="too_long='split'"):
        ol.model.GeneMaskLM(**TINY).get_latent_representation([long])


def test_takes_part_in_few_shot():
    adata = made()
    adata.obs["split"] = np.where(np.arange(80) < 60, "train", "test")
    model = ol.model.GeneMaskLM(**TINY)
    before = copy.deepcopy(model.module.state_dict())
    ol.tl.few_shot(adata, shots=10, n_draws=1, models={"lm": model})
    table = ol.get.table(adata, "few_shot").set_index("model")
    assert table.loc["lm", "accuracy"] > 0.6
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]), "the model that was passed stays as it was"


def test_dnabert_folder(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=69, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24,
    )  # fmt: skip
    lm = BertForMaskedLM(config).eval()
    lm.save_pretrained(tmp_path / "d")
    told = json.loads((tmp_path / "d" / "config.json").read_text())
    told["auto_map"] = {"AutoModel": "evil.Code"}
    (tmp_path / "d" / "config.json").write_text(json.dumps(told))
    (tmp_path / "d" / "vocab.txt").write_text("\n".join(ol.genome.KmerTokenizer(3).vocabulary))
    model = ol.model.GeneMaskLM.from_pretrained(tmp_path / "d")
    ids = torch.tensor([[2, 7, 9, 30, 3]])
    with torch.inference_mode():
        expected = lm.bert(input_ids=ids, attention_mask=ids != 0).last_hidden_state
        np.testing.assert_allclose(model.module.hidden(ids), expected, atol=1e-5)
    one = ad.AnnData(obs=pd.DataFrame({"sequence": ["ACGTTAGA", "TTTACCAG"]}, index=["a", "b"]))
    ol.tl.embed_sequences(one, model=tmp_path / "d", both_strands=False)
    np.testing.assert_allclose(
        one.obsm["X_genemask"], model.get_latent_representation(one), atol=1e-5
    )
    with pytest.raises(ValueError, match="of 3-mers, not of 6-mers"):
        ol.model.GeneMaskLM.from_pretrained(tmp_path / "d", k=6)
    words = list(reversed(ol.genome.KmerTokenizer(3).vocabulary))
    (tmp_path / "d" / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ValueError, match="in another order"):
        ol.model.GeneMaskLM.from_pretrained(tmp_path / "d")
    (tmp_path / "d" / "vocab.txt").unlink()
    (tmp_path / "d" / "config.json").write_text(json.dumps(told | {"vocab_size": 261}))
    with pytest.raises(ValueError, match=r"that of 4-mers, but .* 69 tokens, those of 3-mers"):
        ol.model.GeneMaskLM.from_pretrained(tmp_path / "d")
    (tmp_path / "d" / "model.safetensors").unlink()
    torch.save(lm.state_dict(), tmp_path / "d" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"other shapes than config\.json says"):
        ol.model.GeneMaskLM.from_pretrained(tmp_path / "d")
    (tmp_path / "d" / "config.json").write_text(json.dumps(told | {"vocab_size": 30522}))
    with pytest.raises(ValueError, match="30522 tokens"):
        ol.model.GeneMaskLM.from_pretrained(tmp_path / "d")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        ol.model.GeneMaskLM.from_pretrained(tmp_path / "none")


def test_embeds_sequences_and_genes(trained, tmp_path):
    model, adata = trained
    ol.tl.embed_sequences(adata, model=model, both_strands=False)
    np.testing.assert_allclose(
        adata.obsm["X_genemask"], model.get_latent_representation(), atol=1e-5
    )
    model.save(tmp_path / "m")
    uneven = made(4)
    uneven.obs["sequence"] = ["ACGTNCGTAC", "ACG" * 300, "TTTACGTT" * 5, "GGG"]
    ol.tl.embed_sequences(uneven, model=tmp_path / "m", both_strands=False, key_added="g")
    short = [uneven.obs["sequence"].iloc[i] for i in (0, 2, 3)]
    np.testing.assert_allclose(
        uneven.obsm["X_g"][[0, 2, 3]], model.get_latent_representation(short), atol=1e-5
    )
    assert np.isfinite(uneven.obsm["X_g"]).all()
    genes = ad.AnnData(var=pd.DataFrame({"sequence": short}, index=["a", "b", "c"]))
    ol.tl.embed_genes(genes, model=model)
    assert genes.varm["X_genemask"].shape == (3, 32)
    trunk = model.module.trunk
    assert isinstance(trunk, ol.nn.GenomeTrunk) and trunk.bin_size == 512
    with pytest.raises(ValueError, match="'genemask' names no weights"):
        ol.tl.embed_genes(genes, model="genemask")
    with pytest.raises(ValueError, match="shorter than a word of 3"):
        trunk.embed(np.array([[0, 1]]))
    with pytest.raises(TypeError, match="not one-hot"):
        trunk.embed(np.zeros((1, 4, 4), dtype=np.float32))


def test_named_settings():
    settings = {"genemask_pretrain": (10, 25, 10_000), "dnabert_pretrain": (10, 25, 200_000)}
    for name, expected in settings.items():
        use = settings_of(PRETRAINING, name, {})
        assert (use["batch_size"], use["accumulate"], use["max_steps"]) == expected
        assert use["max_tokens"] == 510 and use["lr"] in (8e-4, 4e-4)
    assert settings_of(FINE_TUNING, "many_shot", {"lr": 1e-3, "warmup": None})["lr"] == 1e-3
    sequences = list(made(200).obs["sequence"])
    model = ol.model.GeneMaskLM(**TINY)
    model.pretrain(
        sequences=sequences, settings="genemask_pretrain", max_steps=2, batch_size=4, accumulate=3,
        max_tokens=20,
    )  # fmt: skip
    assert len(model.history_["pretrain_loss"]) == 2
    model.fit(sequences[:8], [0, 1] * 4, settings="many_shot")
    assert len(model.history_["train_loss"]) == 5
    for call, kwargs, message in (
        (model.pretrain, {"settings": "few_shot"}, "settings must be one of"),
        (model.pretrain, {"accumulate": 0}, "accumulate must be a whole number"),
        (model.pretrain, {"lr": 0}, "lr must be positive"),
        (model.train, {"settings": "small"}, "There are no labels"),
    ):
        with pytest.raises(ValueError, match=message):
            call(**kwargs)
    with pytest.raises(ValueError, match="settings must be one of"):
        model.fit(["ACGT", "GGGG"], [0, 1], settings="small")


def test_interrupt(monkeypatch):
    from omicllm.train._genemask import KmerBertPlan

    def stop(self, batch, number):
        raise KeyboardInterrupt

    model = ol.model.GeneMaskLM(**TINY)
    with monkeypatch.context() as patch:
        patch.setattr(KmerBertPlan, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            model.fit(["ACGTA", "TTTTT"], [0, 1], max_epochs=1)
    assert not model.module.training


def test_refuses():
    adata = made()
    with pytest.raises(KeyError, match="labels_key="):
        ol.model.GeneMaskLM.setup_anndata(adata, labels_key="kind")
    for kwargs, message in (
        ({"k": 7}, "k must be one of"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"d_model": 30, "n_heads": 4}, "multiple of n_heads"),
        ({"too_long": "no"}, "too_long must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            ol.model.GeneMaskLM(**kwargs)
    model = ol.model.GeneMaskLM(**TINY)
    with pytest.raises(RuntimeError, match="no classifier yet"):
        model.predict(["ACGT"])
    with pytest.raises(ValueError, match="There are no labels"):
        model.train()
    with pytest.raises(ValueError, match="Two classes"):
        model.fit(["ACGT"], [1])
    with pytest.raises(ValueError, match="labels of shape"):
        model.fit(["ACGT"], [1, 2])
    with pytest.raises(ValueError, match="Sequence 1 is None"):
        model.get_latent_representation(["ACGT", None])
    with pytest.raises(ValueError, match="fewer than k=3"):
        model.get_latent_representation(["AC"])
    for kwargs, message in (
        ({}, "no sequences"),
        ({"fasta": "a.fa", "sequences": ["ACGT"]}, "not both"),
        ({"sequences": ["ACGT"], "max_tokens": 600}, "at most 510"),
        ({"sequences": ["ACGT"]}, "occurs 11 times in the corpus"),
        ({"sequences": ["ACGT"], "masking": "no"}, "masking must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            model.pretrain(**kwargs)


def test_lower_case_unknown_letters_and_sequences_of_unknown_bases():
    model = ol.model.GeneMaskLM(**TINY)
    model.is_trained_ = True
    Z = model.get_latent_representation(["acgtta", "ACGTTA", "ACRTTA", "ACNTTA", "NNNN"])
    np.testing.assert_array_equal(Z[0], Z[1])
    np.testing.assert_allclose(Z[2], Z[3], err_msg="letters outside ACGT are unknown")
    assert np.isfinite(Z).all()
    with pytest.raises(ValueError, match="'R' at position 2"):
        ol.genome.KmerTokenizer(3).encode("ACRTTA")


def test_a_model_whose_overwriting_was_cut_short_loads(tmp_path):
    ol.model.GeneMaskLM(**TINY).save(tmp_path / "m")
    ol.model.GeneMaskLM(**{**TINY, "k": 4}).save(tmp_path / "n")
    # Killed after the first of the two files: the weights say themselves what they are.
    (tmp_path / "n" / "model.safetensors").replace(tmp_path / "m" / "model.safetensors")
    assert ol.model.GeneMaskLM.load(tmp_path / "m").k == 4


def test_another_k_is_refused_when_loading(tmp_path):
    ol.model.GeneMaskLM(**TINY).save(tmp_path / "m")
    assert ol.model.GeneMaskLM.load(tmp_path / "m").k == 3
    other = json.loads((tmp_path / "m" / "model.json").read_text())
    other["init_params"]["k"] = 4
    (tmp_path / "m" / "model.json").write_text(json.dumps(other))
    with pytest.raises(
        ValueError, match=r"of 4-mers \(261 tokens\), but its weights are for 69 .*of 3-mers"
    ):
        ol.model.GeneMaskLM.load(tmp_path / "m")


@pytest.mark.parametrize("sequence", ["N" * 60, "AC", "ACNTG", "ACNNGN" * 9])
@pytest.mark.parametrize("masking", ["dnabert", "random"])
def test_a_corpus_without_a_word_ends(sequence, masking):
    from omicllm.genome.kmers import KmerTokenizer
    from omicllm.train._genemask import masked_batches

    batches = masked_batches(
        None, [sequence] * 10, KmerTokenizer(3), batch_size=4, max_tokens=16, n_steps=2,
        curriculum=False, seed=0, masking={"masking": masking, "ranks": None},
    )  # fmt: skip
    with pytest.raises(ValueError, match="No piece of the corpus has 3 known bases"):
        next(batches(0, 1))
    batches = masked_batches(
        None, ["ACGTACGT"] * 10, KmerTokenizer(3), batch_size=4, max_tokens=16, n_steps=2,
        curriculum=False, seed=0, masking={"masking": masking, "ranks": None, "centre_share": 0.0},
    )  # fmt: skip
    with pytest.raises(ValueError, match="no token to predict"):
        next(batches(0, 1))
