"""`ol.model.PersonalExpression`: what is left out or held still, and what Lightning is told."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from made_people import FAST, Bins, cohort, tiny_trunk
from torch import nn

import omicllm as ol
from omicllm.genome.rare_alleles import CommonAlleles
from omicllm.model import _base
from omicllm.model._personal_data import PersonalTables
from omicllm.nn.joint_heads import random_start


@pytest.fixture
def cohort60(tmp_path):
    """MuData of a small cohort and its genome."""
    return cohort(tmp_path, n=60)


@pytest.fixture
def data(cohort60):
    """Expression and haplotypes."""
    mdata, genome = cohort60
    rna = mdata["rna"]
    return rna, ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)


def made(data, strategy="pair_regression", **more):
    rna, personal = data
    ol.model.PersonalExpression.setup_anndata(rna)
    more = {"trunk": tiny_trunk(), "n_centre_bins": 4, **more}
    return ol.model.PersonalExpression(rna, personal, strategy=strategy, **more)


def state(model):
    return {k: v.clone() for k, v in model.module.state_dict().items()}


def changed(before, after):
    return {k for k in before if not torch.equal(before[k], after[k])}


def test_random_start(data):
    trunk = tiny_trunk(seed=3)
    first = made(data, trunk=trunk, random_start=True, seed=1)
    kept = made(data, trunk=trunk)
    again = made(data, trunk=trunk, random_start=True, seed=1)
    other = made(data, trunk=trunk, random_start=True, seed=2)
    own = trunk.state_dict()
    name = "trunk.conv_tower.0.0.2.weight"
    assert torch.equal(state(kept)[name], own[name[6:]])
    assert not torch.equal(state(first)[name], own[name[6:]])
    assert not changed(state(first), state(again)) and name in changed(state(first), state(other))
    assert first.module.trunk.hparams == trunk.hparams
    foreign = ol.nn.ModuleTrunk(Bins(), dim=6, bin_size=8, gives="channels")
    foreign.module.norm.running_mean += 1
    fresh = random_start(foreign)
    assert (fresh.module.norm.running_mean == 0).all() and fresh is not foreign
    assert not torch.equal(fresh.module.conv.weight, foreign.module.conv.weight)
    foreign.module.own = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="cannot restart 'module' of the trunk: it has weights"):
        random_start(foreign)


@pytest.mark.parametrize(
    "freeze,still",
    [
        ("cnn", ("stem", "conv_tower")),
        (["cnn", "transformer"], ("stem", "conv_tower", "transformer", "final_pointwise")),
        ("trunk", ("",)),
    ],
)
@pytest.mark.parametrize("strategy", ["pair_regression", "pair_classification"])
def test_frozen_parts_and_their_statistics_stay(data, freeze, still, strategy):
    model = made(data, strategy, freeze=freeze, batch_norm="train")
    before = state(model)
    model.train(1, **{**FAST, "pairs_per_gene": 20})
    moved = changed(before, state(model))
    heads = {k for k in before if k.startswith(("head.", "trunk._heads.human"))}
    assert moved & heads
    assert not [k for k in moved - heads if k.startswith(tuple(f"trunk.{p}" for p in still))]
    if freeze == "cnn":
        assert any(k.startswith("trunk.transformer") for k in moved)


def test_unknown_part(data):
    with pytest.raises(ValueError, match="'trunk', 'cnn', 'transformer', not 'head'"):
        made(data, freeze=["cnn", "head"])


@pytest.mark.parametrize("strategy", ["pair_regression", "pair_classification"])
def test_heads_first(data, strategy):
    model = made(data, strategy, batch_norm="train")
    before, stages = state(model), {}
    fit = model._fit

    def watched(plan, feed, *, stage, **options):
        fit(plan, feed, stage=stage, **options)
        stages[stage] = state(model)

    model._fit = watched
    model.train(1, heads_first=2, **{**FAST, "pairs_per_gene": 20})
    assert list(stages) == ["heads", "train"]
    first = changed(before, stages["heads"])
    second = changed(stages["heads"], stages["train"])
    heads = ("head.", "trunk._heads.human")
    assert first and all(k.startswith(heads) for k in first), "the trunk and its batch norm stay"
    assert any(k.startswith("trunk.conv_tower") for k in second)
    assert any("running_mean" in k for k in second)
    assert len(model.history_["heads_loss"]) == 2 and len(model.history_["train_loss"]) == 1
    with pytest.raises(ValueError, match="heads_first must be a whole number of at least 0"):
        model.train(1, heads_first=-1)


def test_share_of_the_people(data):
    rna = data[0]
    codes = rna.obs["split"].map({"train": 0, "val": 1, "test": 2}).to_numpy()
    rna.layers["split"] = np.repeat(codes[:, None], 3, axis=1).astype(np.int8)
    rna.layers["split"][:10, 1] = 2
    del rna.obs["split"]
    genes = np.arange(3)
    whole = PersonalTables(rna, None, "split", genes)
    half = PersonalTables(rna, None, "split", genes, train_fraction=0.5, seed=3)
    n = whole.train.sum(axis=0)
    assert n[1] < n[0] and (half.train.sum(axis=0) == np.rint(n / 2)).all()
    assert (half.train <= whole.train).all() and (half.val == whole.val).all()
    again = PersonalTables(rna, None, "split", genes, train_fraction=0.5, seed=3)
    other = PersonalTables(rna, None, "split", genes, train_fraction=0.5, seed=4)
    np.testing.assert_array_equal(half.train, again.train)
    assert (half.train != other.train).any()
    for g in genes:
        z = half.z[half.train[:, g], g]
        assert z.mean() == pytest.approx(0, abs=1e-6) and z.std() == pytest.approx(1, abs=1e-6)
    # Nobody outside the share is shown, whatever they express.
    mdata = rna.copy()
    outside = ~PersonalTables(rna, None, "split", genes, train_fraction=0.5, seed=0).train.any(1)
    outside &= (rna.layers["split"] == 0).any(axis=1)
    mdata.X[outside & ~(rna.layers["split"] == 1).any(axis=1)] += 50
    found = []
    for one in (rna, mdata):
        model = made((one, data[1]))
        model.train(1, train_fraction=0.5, **{**FAST, "pairs_per_gene": 20})
        found.append(model.predict().to_numpy())
    np.testing.assert_array_equal(*found)


def test_rare_variants_are_left_out(cohort60):
    mdata, genome = cohort60
    rna, geno = mdata["rna"], mdata["geno"]
    personal = ol.pp.haplotypes(geno, genome=genome, windows=rna, length=64)
    train = (rna.obs["split"] == "train").to_numpy()
    hap = np.stack([geno.layers[f"hap{k}"].toarray() for k in (1, 2)])
    af = hap[:, train].mean(axis=(0, 1))
    cut = float(np.quantile(np.minimum(af, 1 - af), 0.6))
    masked = geno.copy()
    rare_alt, rare_ref = af < cut, 1 - af < cut
    assert rare_alt.any()
    for k in (1, 2):
        layer = hap[k - 1].copy()
        layer[:, rare_alt], layer[:, rare_ref] = 0, 1
        masked.layers[f"hap{k}"] = type(geno.layers["hap1"])(layer)
    wanted = ol.pp.haplotypes(masked, genome=genome, windows=rna, length=64)
    model = made((rna, personal), min_af=cut)
    whole = made((rna, personal))
    fewer = []
    for g, name in enumerate("PQR"):
        tokens, index = model.sequences(g)
        np.testing.assert_array_equal(tokens[index], wanted[name].tokens[wanted[name].index])
        all_tokens, all_index = whole.sequences(g)
        np.testing.assert_array_equal(
            all_tokens[all_index], personal[name].tokens[personal[name].index]
        )
        fewer.append(len(tokens) < len(all_tokens))
    assert any(fewer)
    model.train(1, **{**FAST, "pairs_per_gene": 20})
    np.testing.assert_allclose(model.predict(), model.predict(wanted), rtol=1e-5)
    none = made((rna, personal), min_af=0.5)
    tokens, _ = none.sequences(0)
    assert len(tokens) <= len(whole.sequences(0)[0])
    with pytest.raises(ValueError, match="min_af must lie between 0 and 0.5"):
        made((rna, personal), min_af=0.7)


def test_rare_alleles_of_training_people_at_that_gene(cohort60):
    mdata, genome = cohort60
    rna = mdata["rna"]
    personal = ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)
    rna.layers["split"] = np.zeros(rna.shape, dtype=np.int8)
    rna.layers["split"][:50, 1] = 2
    rna.layers["split"][:, 2] = 2
    model = made((rna, personal), min_af=0.3)
    source = personal._alleles["c"]
    for g, people in ((0, np.arange(60)), (1, np.arange(50, 60)), (2, np.arange(60))):
        window = personal.windows[g]
        columns = source.within(window.start, window.end)
        seen = CommonAlleles(source, people, 0.3).numbers(columns)
        share = source.numbers(columns).reshape(60, 2, -1)[people].mean(axis=(0, 1))
        carried = source.numbers(columns)
        expected = np.where(share < 0.3, 0, np.where(1 - share < 0.3, 1, carried))
        np.testing.assert_array_equal(seen, expected)
        used = model.sequences._common(g)._alleles["c"]
        np.testing.assert_array_equal(used.numbers(columns), expected)


def test_rare_alleles_without_phase_and_of_several():
    from scipy import sparse

    from omicllm.genome.haplotypes import Alleles

    first = sparse.csc_matrix(np.array([[0, 1], [0, 0], [1, 0], [0, 0]], np.int8))
    second = sparse.csc_matrix(np.array([[1, 2], [0, 1], [1, 1], [0, 1]], np.int8))
    phase = sparse.csc_matrix(np.array([[1, 1], [0, 0], [0, 0], [0, 1]], np.int8))
    source = Alleles(np.array([5, 9]), ["A", "C"], ["G", "T,G"], first, second, phase)
    everybody = np.arange(4)
    columns = slice(0, 2)
    same = CommonAlleles(source, everybody, 0.0).numbers(columns)
    np.testing.assert_array_equal(same, source.numbers(columns))
    # Second site: allele 0 three of eight, 1 four, 2 one.
    common = CommonAlleles(source, everybody, 0.2).numbers(columns).reshape(4, 2, 2)
    assert common[0, :, 1].tolist() == [1, 1], "2 is rare, and 1 the most frequent"
    assert common[3, :, 1].tolist() == source.numbers(columns).reshape(4, 2, 2)[3, :, 1].tolist()
    most = CommonAlleles(source, everybody, 0.45).numbers(columns).reshape(4, 2, 2)
    assert (most[:, :, 0] == 0).all() and (most[:, :, 1] == 1).all()


def test_genes_in_another_order_after_loading(data, tmp_path):
    model = made(data)
    model.train(1, **FAST)
    model.save(tmp_path / "model")
    other = data[0][:, ["R", "P", "Q"]].copy()
    loaded = ol.model.PersonalExpression.load(tmp_path / "model", other, haplotypes=data[1])
    tables = loaded._tables()
    np.testing.assert_allclose(tables.y, data[0].X, rtol=1e-6)
    assert loaded.sequences.genes == list("PQR")


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16"])
def test_precision(data, precision):
    model, seen = made(data), []
    conv = model.module.trunk.conv_tower[0][0][2]
    conv.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    model.module.head.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    model.train(2, **FAST, precision=precision, accelerator="cpu")
    assert set(seen) == {torch.bfloat16, torch.float32}, "trunk in half, heads whole"
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    loss = model.history_["train_loss"].to_numpy(float)
    assert np.isfinite(loss).all()
    full = made(data)
    full.train(2, **FAST, accelerator="cpu")
    np.testing.assert_allclose(loss, full.history_["train_loss"].to_numpy(float), rtol=0.05)


def test_what_lightning_is_told(data, monkeypatch):
    told = {}

    class Stop(Exception):
        pass

    def fake(self, *args, **kwargs):
        told.update(kwargs)
        raise Stop

    monkeypatch.setattr(_base.QuietRunner, "_trainer_cls", fake, raising=False)
    model = made(data)
    with pytest.raises(Stop):
        model.train(
            3, accelerator="cpu", devices=2, num_nodes=2, strategy="ddp", precision="bf16-mixed",
            accumulate_grad_batches=4, limit_train_batches=5,
        )  # fmt: skip
    wanted = {
        "accelerator": "cpu", "devices": 2, "num_nodes": 2, "strategy": "ddp", "max_epochs": 3,
        "precision": "bf16-mixed", "accumulate_grad_batches": 4, "limit_train_batches": 5,
        "gradient_clip_val": 0.2,
    }  # fmt: skip
    assert {k: told[k] for k in wanted} == wanted
    assert model.strategy == "pair_regression"


def test_best_weights_are_back_before_processes_end(data):
    """A spawned process hands back its weights when training ends, not its callbacks."""
    model, seen = made(data), {}

    class Last(pl.Callback):
        def on_train_end(self, trainer, plan):
            seen.update({k: v.clone() for k, v in plan.network.state_dict().items()})

    fit = model._fit
    model._fit = lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, Last()], **k)
    model.train(3, **FAST)
    assert not changed(seen, state(model))
