"""`ol.model.PersonalExpression`: every strategy learns; saving; what may not be asked."""

import numpy as np
import pytest
import torch
from made_people import FAST, Bins, cohort, counted, tiny_trunk
from torch import nn

import omicllm as ol
from omicllm.model._personal_data import PersonalSequences
from omicllm.model._personal_expression import STRATEGIES
from omicllm.model._personal_joint import JOINT
from omicllm.train._personal_batches import PersonalSampler, shifted

TRAINED = [s for s in STRATEGIES if s != "baseline" and s not in JOINT]


@pytest.fixture
def data(tmp_path):
    """Expression, haplotypes and the genome of a small cohort."""
    mdata, genome = cohort(tmp_path, n=60)
    rna = mdata["rna"]
    return rna, ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)


def made(data, strategy="pair_regression", **more):
    rna, personal = data
    ol.model.PersonalExpression.setup_anndata(rna)
    more = {"trunk": tiny_trunk(), "n_centre_bins": 4, **more}
    return ol.model.PersonalExpression(rna, personal, strategy=strategy, **more)


@pytest.mark.parametrize("strategy", TRAINED)
def test_validation_loss_falls(data, strategy):
    model = made(data, strategy)
    model.train(15, **FAST)
    loss = model.history_["train_val_loss"].to_numpy().ravel().astype(float)
    assert loss[1:].min() < loss[0]
    predicted = model.predict()
    assert list(predicted.columns) == ["P", "Q", "R"] and predicted.shape == (60, 3)
    assert predicted.to_numpy().dtype == np.float32 and np.isfinite(predicted.to_numpy()).all()
    assert list(predicted.index) == list(data[0].obs_names)


def test_pairs_learn_who_has_more(data):
    model = made(data)
    model.train(20, **FAST)
    rna = data[0]
    train = (rna.obs["split"] == "train").to_numpy()
    predicted = model.predict().to_numpy()
    r = [np.corrcoef(predicted[train, g], rna.X[train, g])[0, 1] for g in range(3)]
    assert np.mean(r) > 0.4


def test_a_person_is_the_mean_of_two_strands_and_haplotypes(data):
    model = made(data, "baseline", track=1)
    rna, personal = data
    predicted = model.predict(batch_size=5)["Q"].to_numpy()
    tokens, index = personal["Q"]
    trunk = model.module.trunk
    with torch.no_grad():
        from omicllm.nn.genome_input import reverse_complement

        x = torch.from_numpy(tokens)
        one, other = (
            trunk.tracks(y, 1)[:, 2:6].sum(dim=(1, 2)) for y in (x, reverse_complement(x))
        )
    by_hand = ((one + other) / 2).numpy()[index].mean(axis=1)
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-4)
    with pytest.raises(ValueError, match="nothing to train"):
        model.train(1)


def test_save_and_load(data, tmp_path):
    model = made(data, "pair_counts")
    model.train(1, **FAST)
    wanted = model.predict()
    model.save(tmp_path / "model")
    alone = ol.model.PersonalExpression.load(tmp_path / "model")
    np.testing.assert_allclose(alone.predict(data[1]), wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="loaded without data: pass haplotypes="):
        alone.predict()
    whole = ol.model.PersonalExpression.load(tmp_path / "model", data[0].copy(), haplotypes=data[1])
    np.testing.assert_allclose(whole.predict(), wanted, rtol=1e-5)
    whole.train(1, **FAST)
    fewer = data[0][:, :2].copy()
    with pytest.raises(ValueError, match="trained on 3 genes"):
        ol.model.PersonalExpression.load(tmp_path / "model", fewer)


def test_any_trunk(data, tmp_path):
    torch.manual_seed(0)
    trunk = ol.nn.ModuleTrunk(Bins(), dim=6, bin_size=8, gives="channels")
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    model = made(data, "pair_classification", trunk=trunk)
    model.train(2, **FAST)
    after = model.module.trunk.state_dict()
    for name in before:
        assert torch.equal(trunk.state_dict()[name], before[name]), "a copy was trained"
        still = "running" in name or "num_batches" in name
        assert torch.equal(after[name], before[name]) == still, "statistics frozen, weights not"
    moving = made(data, trunk=trunk, batch_norm="train")
    moving.train(1, **FAST)
    mean = moving.module.trunk.module.norm.running_mean
    assert not torch.equal(mean, before["module.norm.running_mean"])
    assert not moving.module.training
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="trained on the trunk 'trunk': pass it with trunk="):
        ol.model.PersonalExpression.load(tmp_path / "model")
    loaded = ol.model.PersonalExpression.load(tmp_path / "model", trunk=trunk)
    np.testing.assert_allclose(loaded.predict(data[1]), model.predict(), rtol=1e-5)
    with pytest.raises(ValueError, match="reads a track, but trunk has none"):
        made(data, "baseline", trunk=trunk)
    with pytest.raises(ValueError, match="freeze must be None or one of 'trunk', not 'cnn'"):
        made(data, trunk=trunk, freeze="cnn")


@pytest.mark.parametrize("freeze", ["trunk", "cnn", "transformer"])
def test_frozen_parts_stay(data, freeze):
    model = made(data, freeze=freeze)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    model.train(1, **FAST)
    after = model.module.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert "head.value.weight" in changed
    cnn, transformer = (
        any(k.startswith(f"trunk.{p}") for k in changed) for p in ("conv_tower", "transformer")
    )
    assert (cnn, transformer) == {
        "trunk": (False, False), "cnn": (False, True), "transformer": (True, False)
    }[freeze]  # fmt: skip


def test_dropout_only_on_request(data):
    losses = []
    for dropout in (False, True):
        model = made(data, trunk=tiny_trunk(dropout_rate=0.9), dropout=dropout)
        modes = []
        drop = next(m for m in model.module.trunk.modules() if isinstance(m, nn.Dropout))
        drop.register_forward_hook(lambda m, *_, seen=modes: seen.append(m.training))
        model.train(1, **FAST)
        assert any(modes) == dropout
        losses.append(model.history_["train_loss"].to_numpy().item())
    assert losses[0] != losses[1]


def test_same_seed_same_weights(data):
    first, second, other = made(data), made(data), made(data)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    first.train(1, **FAST)
    assert torch.equal(torch.get_rng_state(), state)
    second.train(1, **FAST)
    other.train(1, **FAST, rng=1)
    np.testing.assert_array_equal(first.predict(), second.predict())
    assert (first.predict().to_numpy() != other.predict().to_numpy()).any()


def test_gradients_follow_small_changes(data):
    model = made(data)
    model.train(1, **FAST)
    tokens = data[1]["P"].tokens[:1]
    gradient = model.input_gradients(tokens, both_strands=False)
    assert gradient.shape == (1, 64, 4)
    from omicllm.nn.genome_input import one_hot

    x = one_hot(tokens)
    with torch.no_grad():
        y = x.clone()
        y[0, 30, 2] += 1e-2
        change = float(model.module(y) - model.module(x)) / 1e-2
    assert gradient[0, 30, 2] == pytest.approx(change, rel=0.05, abs=1e-5)


def test_split_by_gene_and_people_held_out(data):
    rna, personal = data
    model = made(data)
    model.train(2, **FAST)
    wanted = model.predict().to_numpy()
    other = rna.copy()
    test = (other.obs["split"] == "test").to_numpy()
    other.X[test] += 100
    again = made((other, personal))
    again.train(2, **FAST)
    np.testing.assert_array_equal(again.predict(), wanted)
    other = rna.copy()
    codes = other.obs["split"].map({"train": 0, "val": 1, "test": 2}).to_numpy()
    other.layers["split"] = np.repeat(codes[:, None], 3, axis=1).astype(np.int8)
    other.layers["split"][:, 1] = 2
    by_gene = made((other, personal))
    by_gene.train(1, **FAST)
    assert by_gene.predict().shape == (60, 3), "genes that were not trained are predicted too"


def test_without_validation_and_with_few_people(data, caplog):
    rna, personal = data
    other = rna.copy()
    other.obs["split"] = np.where(rna.obs["split"] == "test", "test", "train")
    model = made((other, personal))
    with caplog.at_level("WARNING", logger="omicllm"):
        model.train(2, **FAST)
    assert "nobody validates" in caplog.text
    assert "train_val_loss" not in model.history_ and len(model.history_["train_loss"]) == 2
    other.X[5:, :] = np.nan
    few = made((other, personal), "pair_classification")
    few.train(1, **FAST, train_fraction=0.9)
    other.X[:] = np.nan
    with pytest.raises(ValueError, match="No gene has two training people"):
        made((other, personal)).train(1)


def test_sampler_shares_haplotypes(data):
    rna, personal = data
    sequences = PersonalSequences(personal, rna.obs_names, list("PQR"))
    part = np.ones((60, 3), dtype=bool)
    part[:50, 2] = False
    z = np.random.default_rng(0).normal(size=(60, 3))
    sampler = PersonalSampler(sequences, z, part, pairs=True, min_gap=25)
    pairs = sampler.draw(0, 300, np.random.default_rng(0))
    rank = 100 * (np.argsort(np.argsort(z[:, 0])) + 1) / 60
    assert len(pairs) == 300 and (np.abs(rank[pairs[:, 0]] - rank[pairs[:, 1]]) > 25).all()
    assert sampler.draw(2, 40, np.random.default_rng(0)).min() >= 50
    tokens, index, y = sampler.batch([(0, pairs[:20]), (1, pairs[:9])], None, 3)
    assert len(tokens) <= len(personal["P"].tokens) + len(personal["Q"].tokens)
    assert index.shape == (29, 2, 2) and y.shape == (29, 2)
    all_tokens, which = personal["Q"]
    np.testing.assert_array_equal(tokens[index[23, 1, 0]], all_tokens[which[pairs[3, 1], 0]])
    assert y[23, 1] == pytest.approx(z[pairs[3, 1], 1])
    single = PersonalSampler(sequences, z, part, pairs=False)
    assert sorted(single.draw(2, 99, np.random.default_rng(0))[:, 0]) == list(range(50, 60))


def test_shifts():
    x = torch.arange(4)[None]
    assert shifted(x, 1).tolist() == [[4, 0, 1, 2]]
    assert shifted(x, -3).tolist() == [[3, 4, 4, 4]]
    assert shifted(x, 0) is x


def test_bad_input(data):
    rna, personal = data
    with pytest.raises(ValueError, match="strategy must be one of"):
        made(data, "pairs")
    with pytest.raises(TypeError, match="ol.nn.ModuleTrunk"):
        made(data, trunk=nn.Linear(2, 2))
    long = counted()
    long.length_multiple = 48
    with pytest.raises(ValueError, match="have 64 bases, but shares takes multiples of 48"):
        made(data, trunk=long)
    with pytest.raises(ValueError, match="track must lie below 2"):
        made(data, "baseline", track=7)
    with pytest.raises(ValueError, match="needs expression, haplotypes and a trunk"):
        ol.model.PersonalExpression(None)
    with pytest.raises(RuntimeError, match="not trained"):
        made(data).predict()
    loose = ol.model.PersonalExpression
    fewer = rna[:, :2].copy()
    fewer.var_names = ["X", "Y"]
    loose.setup_anndata(fewer)
    with pytest.raises(KeyError, match="must bear the names of genes"):
        loose(fewer, personal, trunk=tiny_trunk())
    with pytest.raises(KeyError, match="'part' is not in obs and layers"):
        loose.setup_anndata(rna.copy(), split_key="part")
    with pytest.raises(ValueError, match="between 0 and 1"):
        made(data).train(1, train_fraction=2)
