"""`ol.model.PersonalExpression` trained together with tracks of a genome or a reporter assay."""

import numpy as np
import pytest
import torch
from made_people import FAST, Bins, cohort, mpra_of, tiny_trunk, tracks_of
from scipy.stats import norm

import omicllm as ol
from omicllm.model._personal_joint import JOINT
from omicllm.train._personal import PersonalPlan
from omicllm.train._personal_joint import RowBatches, Together, TrackRows

HEADS = {"human": 2, "mouse": 3}


@pytest.fixture
def data(tmp_path):
    """Expression, haplotypes, and what the strategies read beside them."""
    mdata, genome = cohort(tmp_path, n=60)
    rna = mdata["rna"]
    personal = ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)
    tracks = {"human": tracks_of(genome), "mouse": tracks_of(genome, n_tracks=3, seed=1)}
    return rna, personal, {"tracks": tracks, "mpra": mpra_of(genome, tmp_path)}


def made(data, strategy, **more):
    rna, personal, others = data
    ol.model.PersonalExpression.setup_anndata(rna)
    wanted = JOINT[strategy][1]
    more = {
        "trunk": tiny_trunk(output_heads=HEADS),
        "n_centre_bins": 4,
        wanted: others[wanted],
        **more,
    }
    return ol.model.PersonalExpression(rna, personal, strategy=strategy, **more)


def batch_of(model, **sizes):
    """One training batch as `train` makes it, and the plan that would see it."""
    seen = {}

    def watched(plan, data, **_):
        seen["plan"], seen["data"] = plan, data

    model._fit = watched
    model.train(1, **{**FAST, **sizes})
    del model._fit
    return next(iter(seen["data"].train_dataloader())), seen["plan"], seen["data"]


@pytest.mark.parametrize("strategy", JOINT)
def test_loss_is_its_closed_form(data, strategy):
    weights = {"pair": 2.0, **({"mpra": 0.5} if "mpra" in strategy else {"mouse": 0.5})}
    model = made(data, strategy)
    batch, plan, _ = batch_of(model, joint_batch_size=3, joint_weights=weights)
    model.module.train()
    assert isinstance(plan, PersonalPlan)
    with torch.no_grad():
        losses = plan.losses(batch)
        tokens, index, y = batch["pair"]
        p = model.module(tokens)[index].mean(dim=-1).double().numpy()
        y = y.double().numpy()
        if "classification" in strategy:
            a = 2 * np.sqrt(p + 3 / 8)
            ahead = np.where(y[:, 0] >= y[:, 1], 1, -1)
            wanted = {"pair": -norm.logcdf(ahead * (a[:, 0] - a[:, 1]) / np.sqrt(2)).mean()}
        else:
            wanted = {"pair": np.mean(((p[:, 0] - p[:, 1]) - (y[:, 0] - y[:, 1])) ** 2)}
        trunk = model.module.trunk
        for species in set(batch) - {"pair", "mpra"}:
            x, observed = batch[species]
            assert x.shape == (3, 64) and observed.shape == (3, 4, HEADS[species])
            rate = trunk.tracks(x, head=species)[:, 2:6].double()
            nll = (rate - observed * torch.log(rate + 1e-8)).numpy()
            wanted[species] = nll.mean()
            if species == "human" and "classification" in strategy:
                wanted["track"] = nll[..., 0].mean()
        if "mpra" in batch:
            ref, alt, observed = batch["mpra"]
            assert ref.shape == (3, 24) and observed.isnan().any()
            head = model.module.joint.effects
            one, other = (head(trunk.embed(x).flatten(1)).double() for x in (ref, alt))
            error = ((other - one) - observed).numpy() ** 2
            wanted["mpra"] = np.nanmean(error)
    assert set(losses) == set(wanted) and set(plan.weights) <= set(wanted)
    for name in wanted:
        assert float(losses[name]) == pytest.approx(wanted[name], abs=1e-6), name
    plan.log = lambda *_, **__: None
    with torch.no_grad():
        total = float(plan.training_step(batch, 0))
    by_hand = sum(weights.get(n, 1.0) * v for n, v in wanted.items())
    assert total == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("strategy", JOINT)
def test_validation_losses_fall(data, strategy):
    model = made(data, strategy, batch_norm="train")
    model.train(8, **FAST, joint_batch_size=16)
    history = {k: v.to_numpy(float).ravel() for k, v in model.history_.items()}
    names = ["val_loss"] + (["val_mpra"] if "mpra" in strategy else ["val_human", "val_mouse"])
    for name in names:
        loss = history[f"train_{name}"]
        assert len(loss) == 8 and loss[1:].min() < loss[0], name
    parts = [v for k, v in history.items() if k.removeprefix("train_") in
             ("pair", "human", "mouse", "track", "mpra")]  # fmt: skip
    np.testing.assert_allclose(sum(parts), history["train_loss"], rtol=1e-4)
    predicted = model.predict().to_numpy()
    assert predicted.shape == (60, 3) and np.isfinite(predicted).all()


def test_effects_of_alleles_are_learned(data):
    mpra = data[2]["mpra"]
    mpra.obs["split"] = "train"
    model = made(data, "pair_regression_mpra", batch_norm="train")
    model.train(12, **FAST)
    batch = model.others_.rows("train", shift=0, batch_size={"mpra": 9, "tracks": 1})["mpra"]
    ref, alt, observed = batch[0](batch[1], None)
    with torch.no_grad():
        predicted = model.module.effects(ref, alt).numpy()
    known = np.isfinite(observed.numpy())
    assert np.corrcoef(predicted[known], observed.numpy()[known])[0, 1] > 0.5


@pytest.mark.parametrize("strategy", JOINT)
def test_save_load_and_train_on(data, tmp_path, strategy):
    rna, personal, others = data
    model = made(data, strategy, trunk=tiny_trunk(output_heads={"human": 2}))
    model.train(1, **FAST)
    wanted = model.predict()
    model.save(tmp_path / "model")
    load = ol.model.PersonalExpression.load
    alone = load(tmp_path / "model")
    np.testing.assert_allclose(alone.predict(personal), wanted, rtol=1e-5)
    after = {k: v.clone() for k, v in alone.module.state_dict().items()}
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, after[name]), name
    name = JOINT[strategy][1]
    without = load(tmp_path / "model", rna.copy(), haplotypes=personal)
    with pytest.raises(ValueError, match=f"loaded without {name}: pass {name}= to load"):
        without.train(1, **FAST)
    whole = load(tmp_path / "model", rna.copy(), haplotypes=personal, **{name: others[name]})
    whole.train(1, **FAST)
    assert len(whole.history_["train_loss"]) == 2
    fewer = others["mpra"][:, :1] if name == "mpra" else {"human": others["tracks"]["human"]}
    with pytest.raises(ValueError, match="trained together with other"):
        load(tmp_path / "model", rna.copy(), haplotypes=personal, **{name: fewer})


def test_which_head_predicts_tracks(data):
    human = data[2]["tracks"]["human"]
    strategy = "pair_classification_tracks"
    some = made(data, strategy, trunk=tiny_trunk(output_heads={"human": 9}), tracks=_named(human))
    assert some.joint_["tracks"]["human"]["own"] == [4, 0]
    assert some.joint_["tracks"]["human"]["track"] == 1, "track 0 predicts expression"
    assert not some.module.joint.new
    with pytest.raises(ValueError, match="head 'human' has 9 tracks and the data 2: name those"):
        made(data, strategy, trunk=tiny_trunk(output_heads={"human": 9}),
             tracks=_named(human, ["a", "b"]))  # fmt: skip
    new = made(data, strategy, trunk=tiny_trunk(output_heads={}), tracks=human)
    assert new.joint_["tracks"]["human"]["own"] is None and "human" in new.module.joint.new
    batch, plan, _ = batch_of(new)
    assert set(plan.losses(batch)) == {"pair", "human"}, "a new track is in no data"
    foreign = ol.nn.ModuleTrunk(Bins(), dim=6, bin_size=8, gives="channels")
    model = made(data, "pair_regression_tracks", trunk=foreign, tracks=human)
    model.train(1, **FAST)
    # Heads that no loss reads get no gradient, and several devices do not wait for one.
    idle = made(data, "pair_regression_tracks", tracks=human)
    wants = {n for n, p in idle.module.named_parameters() if p.requires_grad}
    assert any("_heads.human" in n for n in wants) and not any("_heads.mouse" in n for n in wants)
    batch, plan, _ = batch_of(idle)
    sum(plan.losses(batch).values()).backward()
    for name, weight in idle.module.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name


def _named(adata, names=("4", "0")):
    adata = adata.copy()
    adata.var_names = list(names)
    return adata


def test_bins_of_several_of_the_trunk(data):
    human = data[2]["tracks"]["human"].copy()
    human.obs["bin_size"] = 16
    human.obsm["tracks"] = human.obsm["tracks"][:, :3]
    model = made(data, "pair_regression_tracks", tracks=human)
    assert model.joint_["tracks"]["human"]["pool"] == 2
    x = torch.zeros(1, 64, dtype=torch.int8)
    with torch.no_grad():
        rate = model.module.trunk.tracks(x)[:, 1:7]
        np.testing.assert_allclose(
            model.module.tracks(x, "human"), rate.unflatten(1, (3, 2)).mean(2), rtol=1e-5
        )


def test_epochs_and_order(data):
    tracks = {"human": data[2]["tracks"]["human"]}
    n = {}
    for strategy, more in (("pair_regression_tracks", {"tracks": tracks}),
                           ("pair_regression_mpra", {})):  # fmt: skip
        _, _, feed = batch_of(made(data, strategy, **more), joint_batch_size=1, pairs_per_gene=8)
        n[strategy] = len(feed.train_dataloader())
        assert len(list(feed.train_dataloader())) == n[strategy]
    # Three genes with two batches of four pairs, four genes' pieces together: two steps of pairs.
    assert n == {"pair_regression_tracks": 16, "pair_regression_mpra": 2}


def test_sources_begin_anew():
    short = RowBatches(lambda r, _: (r,), np.arange(3), batch_size=2, seed=[0], fixed=False)
    long = RowBatches(lambda r, _: (r,), np.arange(9), batch_size=2, seed=[1], fixed=False)
    seen = list(Together({"short": short, "long": long}, ["short", "long"]))
    assert len(seen) == 5
    assert sorted(np.concatenate([s["long"][0] for s in seen])) == list(range(9))
    firsts = [s["short"][0].tolist() for s in seen]
    assert sorted(sum(firsts[:2], [])) == sorted(sum(firsts[2:4], [])) == [0, 1, 2]
    assert len(list(Together({"short": short, "long": long}, ["short"]))) == 2
    fixed = RowBatches(lambda r, g: (r, g), np.arange(5), batch_size=5, seed=[0], fixed=True)
    assert [list(b[0]) for b in fixed] == [list(range(5))] and next(iter(fixed))[1] is None


def test_processes_share_every_batch(data, monkeypatch):
    from omicllm.train import _ranks

    batches = []
    for rank in (0, 1):
        monkeypatch.setattr(_ranks, "rank_and_size", lambda rank=rank: (rank, 2))
        model = made(data, "pair_regression_tracks")
        _, _, feed = batch_of(model, joint_batch_size=4, pairs_per_gene=8)
        batches.append(list(feed.train_dataloader()))
    monkeypatch.undo()
    _, _, feed = batch_of(made(data, "pair_regression_tracks"), joint_batch_size=4,
                          pairs_per_gene=8)  # fmt: skip
    for one, other, both in zip(*batches, list(feed.train_dataloader()), strict=True):
        assert len(one["pair"][2]) == len(other["pair"][2])
        joined = np.concatenate([one["pair"][2], other["pair"][2]])
        assert sorted(joined.tolist()) == sorted(both["pair"][2].tolist())
        assert len(one["human"][1]) == 2 and len(both["human"][1]) == 4


def test_tracks_turn_with_their_sequence():
    rows = TrackRows(np.array(["AACCGGTTAC"], object), np.arange(5.0).reshape(1, 5, 1), shift=0)
    x, y = rows(np.array([0]), None)
    turned = False
    for seed in range(8):
        a, b = rows(np.array([0]), np.random.default_rng(seed))
        if not torch.equal(a, x):
            turned = True
            assert a.tolist() == [[2, 3, 0, 0, 1, 1, 2, 2, 3, 3]]
            assert b.flatten().tolist() == y.flatten().tolist()[::-1]
    assert turned


def test_bad_input(data):
    rna, personal, others = data
    regression, assay = "pair_regression_tracks", "pair_regression_mpra"
    human = others["tracks"]["human"]
    with pytest.raises(ValueError, match="needs tracks=, from ol.io.read_basenji"):
        made(data, regression, tracks=None)
    with pytest.raises(ValueError, match="needs mpra=, from ol.io.read_mpra"):
        made(data, assay, mpra=None)
    with pytest.raises(ValueError, match="does not read mpra=; those that do are"):
        made(data, regression, mpra=others["mpra"])
    bare = others["mpra"].copy()
    del bare.obs["alt_sequence"]
    with pytest.raises(KeyError, match=r"'alt_sequence' is not in obs of mpra .*genome="):
        made(data, assay, mpra=bare)
    empty = others["mpra"].copy()
    empty.X[:] = np.nan
    with pytest.raises(ValueError, match="no measured effect"):
        made(data, assay, mpra=empty)
    wrong = human.copy()
    wrong.obsm["tracks"][3, 0, 0] = -1
    with pytest.raises(ValueError, match="holds negative or infinite values or NaN"):
        made(data, regression, tracks=wrong)
    wrong = human.copy()
    wrong.obs["sequence"] = wrong.obs["sequence"].str[:60]
    with pytest.raises(ValueError, match="have 60 bases, but enformer takes multiples of 8"):
        made(data, regression, tracks=wrong)
    wrong.obs.loc["s0", "sequence"] = "ACGT"
    with pytest.raises(ValueError, match="sequences of 2 lengths"):
        made(data, regression, tracks=wrong)
    wrong = human.copy()
    wrong.obs["sequence"] = wrong.obs["sequence"].str[:24]
    with pytest.raises(ValueError, match="4 bins of 8 bases, more than enformer makes of 24"):
        made(data, regression, tracks=wrong)
    wrong.obs["bin_size"] = 12
    with pytest.raises(ValueError, match="no multiple of 8 of the trunk"):
        made(data, regression, tracks=wrong)
    wrong = human.copy()
    del wrong.obsm["tracks"]
    with pytest.raises(KeyError, match="'tracks' is not in obsm"):
        made(data, regression, tracks=wrong)
    with pytest.raises(ValueError, match="cannot be called 'pair'"):
        made(data, regression, tracks={"pair": human})
    model = made(data, regression, tracks=human)
    with pytest.raises(ValueError, match="joint_weights must be one of 'pair', 'human'"):
        model.train(1, joint_weights={"mouse": 1})
    with pytest.raises(ValueError, match="must not be negative"):
        model.train(1, joint_weights={"human": -1.0})
    wrong = human.copy()
    wrong.obs["split"] = "test"
    with pytest.raises(ValueError, match="No row of 'human'"):
        made(data, regression, tracks=wrong).train(1)
    with pytest.raises(TypeError, match="needs|trunk|model"):
        made(data, regression, trunk=object())
