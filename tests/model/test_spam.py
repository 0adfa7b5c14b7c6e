"""`omicllm.model.SPAM`: predictions, what they may read, and what is carried over."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from made_tissue import made_section, made_sections
from scipy import sparse

import omicllm as ol
from omicllm.stats.agreement import gene_pearson
from omicllm.stats.depth import log_normalised
from omicllm.stats.ridge import GroupedRidge

SMALL = {"n_hidden": 32, "n_tokens": 4, "knn": 6, "n_programs": 6}


def made(adata=None, **kwargs):
    adata = made_sections() if adata is None else adata
    ol.model.SPAM.setup_anndata(adata)
    return ol.model.SPAM(adata, **{**SMALL, **kwargs})


@pytest.fixture(scope="module")
def model():
    out = made(made_sections("abcd"))
    out.train(5, show_progress=False)
    return out


@pytest.fixture(scope="module")
def new():
    return made_section("new", seed=9)


def measured(adata):
    X = adata.X.toarray()
    return log_normalised(X, X.sum(1))


def test_a_new_section_is_predicted_as_well_as_a_linear_truth_allows(model, new):
    truth, guess = measured(new), model.predict(new)
    assert list(guess.columns) == list(new.var_names)
    assert list(guess.index) == list(new.obs_names)
    train = made_sections("abcd")
    sections = train.obs["section"].to_numpy()
    ridge = GroupedRidge().fit(train.obsm["X_classical"], measured(train), sections)
    plain = ridge.predict(new.obsm["X_classical"], np.zeros(new.n_obs))
    r, r_ridge = (gene_pearson(truth, g).mean() for g in (guess.to_numpy(), plain))
    assert r > r_ridge - 0.02  # the ridge is the right model of these features
    assert r > 0.4


def test_predictions_do_not_read_counts(model, new):
    guess = model.predict(new)
    shuffled = new.copy()
    shuffled.X = shuffled.X[np.random.default_rng(0).permutation(new.n_obs)]
    pd.testing.assert_frame_equal(model.predict(shuffled), guess, check_exact=True)
    import anndata as ad

    bare = ad.AnnData(obs=new.obs, obsm=dict(new.obsm))
    assert bare.n_vars == 0
    pd.testing.assert_frame_equal(model.predict(bare), guess, check_exact=True)


def test_rows_may_come_in_any_order(model, new):
    order = np.random.default_rng(0).permutation(new.n_obs)
    again = model.predict(new[order].copy())
    np.testing.assert_allclose(again, model.predict(new).iloc[order], atol=1e-4)
    assert list(again.index) == list(new.obs_names[order])


def test_without_a_link_nothing_is_predicted(new, caplog):
    lone = made(made_sections(link=False))
    with caplog.at_level("WARNING", logger="omicllm"):
        lone.train(2, show_progress=False)
    assert "no better than shuffled" in caplog.text
    other = made_section("new", seed=9, link=False)
    r = gene_pearson(measured(other), lone.predict(other).to_numpy())
    assert np.abs(r).mean() < 0.05
    assert lone.blend_ == 0


def test_measured_spots_help_and_change_the_prediction(model):
    other = made_section("new", seed=9, link=False)  # an image that says nothing
    other.obs["seen"] = np.arange(other.n_obs) % 5 == 0
    hidden = ~other.obs["seen"].to_numpy()
    truth = measured(other)
    none = model.predict(other).to_numpy()
    some = model.predict(other, context="seen").to_numpy()
    gain = gene_pearson(truth[hidden], some[hidden]) - gene_pearson(truth[hidden], none[hidden])
    assert gain.mean() > 0.1
    np.testing.assert_array_equal(
        some, model.predict(other, context=other.obs["seen"].to_numpy()).to_numpy()
    )
    # Counts of hidden spots are not read: predictions are the same without them.
    blank = other.copy()
    X = blank.X.toarray()
    X[hidden] = 0
    blank.X = X
    np.testing.assert_array_equal(some, model.predict(blank, context="seen").to_numpy())


def test_a_measured_panel_helps_the_other_genes(model):
    other = made_section("new", seed=9, link=False)
    panel = list(other.var_names[::3])
    guess = model.predict(other, panel=panel)
    assert not set(panel) & set(guess.columns)
    rest = other.var_names.get_indexer(guess.columns)
    truth = measured(other)[:, rest]
    none = model.predict(other, genes=list(guess.columns)).to_numpy()
    gain = gene_pearson(truth, guess.to_numpy()).mean() - gene_pearson(truth, none).mean()
    assert gain > 0.1
    alone = model.predict(other[:, panel].copy(), panel=panel)
    assert gene_pearson(truth, alone.to_numpy()).mean() > gene_pearson(truth, none).mean()


def test_gene_branch_of_the_network_is_alive(model, new):
    tissue = model._tissue(new)
    blocks = tissue.blocks(6)
    known = np.ones(new.n_obs, dtype=bool)
    genes = np.random.default_rng(0).normal(size=(new.n_obs, 30)).astype(np.float32)
    none = model._fused(tissue, blocks, None)["fused"]
    shown = model._fused(tissue, blocks, (genes, known))["fused"]
    assert np.abs(none - shown).max() > 1e-3


@pytest.mark.parametrize("mode", ["joint", "image-gene", "image-space"])
def test_pretraining_is_carried_into_training(mode):
    start = made()
    start.train(1, show_progress=False)
    net = made()
    net.pretrain(mode, max_epochs=20, batch_size=64, show_progress=False)
    history = net.history_["pretrain_loss"].to_numpy().ravel()
    chance = np.log(64) * (2 if mode == "joint" else 1)
    assert history[-1] < history[0] and history[-1] < chance
    # Every tensor of the encoders that the mode trains is carried over, by name.
    parts = {"joint": ("adapter", "genes", "spatial"), "image-gene": ("adapter", "genes"),
             "image-space": ("adapter", "spatial")}[mode]  # fmt: skip
    state = net.module.state_dict()
    assert net.pretrained_ == sorted(k for k in state if k.startswith(parts))
    kept = {k: state[k].clone() for k in net.pretrained_}
    net.train(1, lr=1e-12, show_progress=False)
    for name, value in kept.items():
        torch.testing.assert_close(net.module.state_dict()[name], value, atol=1e-6, rtol=0)
    assert net.start_loss_ < start.start_loss_


def test_pretrained_weights_load_strictly(tmp_path):
    net = made()
    net.pretrain("image-gene", max_epochs=2, show_progress=False)
    net.save(tmp_path / "pre")
    other = made()
    other.load_pretrained(tmp_path / "pre")
    for name in net.pretrained_:
        torch.testing.assert_close(other.module.state_dict()[name], net.module.state_dict()[name])
    with pytest.raises(ValueError, match="another architecture"):
        made(n_hidden=16).load_pretrained(net)
    with pytest.raises(ValueError, match="pretrained on 30 genes"):
        made(genes=["Gene1", "Gene2"]).load_pretrained(net)
    with pytest.raises(ValueError, match="not pretrained"):
        made().load_pretrained(other.__class__.load(_plain(tmp_path)))


def _plain(folder):
    net = made()
    net.train(0)
    net.save(folder / "plain")
    return folder / "plain"


def test_save_and_load(model, new, tmp_path):
    model.save(tmp_path / "m")
    again = ol.model.SPAM.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict(new), model.predict(new))
    for one, two in zip(again.get_intervals(new), model.get_intervals(new), strict=True):
        pd.testing.assert_frame_equal(one, two)
    new.obs["seen"] = np.arange(new.n_obs) % 4 == 0
    pd.testing.assert_frame_equal(
        again.predict(new, context="seen"), model.predict(new, context="seen")
    )
    pd.testing.assert_series_equal(again.get_reliability(), model.get_reliability())
    with_data = ol.model.SPAM.load(tmp_path / "m", made_sections("abcd"))
    np.testing.assert_allclose(with_data.predict(), model.predict(), atol=1e-6)
    with pytest.raises(ValueError, match="loaded without data"):
        again.predict()


def test_folders_without_the_depth_range_are_of_an_older_schema(model, tmp_path):
    from omicllm.model import _saved

    model.save(tmp_path / "m")
    description, arrays = _saved.read(tmp_path / "m")
    assert description["schema_version"] == 2
    numbers = arrays["array.regression.numbers"]
    assert len(numbers) == 4
    older = {**arrays, "array.regression.numbers": numbers[:2]}
    _saved.write(tmp_path / "m", older, {**description, "schema_version": 1})
    message = r"was written with schema 1 .* reads schema 2\. Train it again"
    with pytest.raises(ValueError, match=message):
        ol.model.SPAM.load(tmp_path / "m")


def test_genes_go_by_name_and_others_are_refused(model, new, tmp_path):
    model.save(tmp_path / "m")
    other = made_sections("abcd")[:, ::-1].copy()
    again = ol.model.SPAM.load(tmp_path / "m", other)
    pd.testing.assert_frame_equal(again.predict(new), model.predict(new))
    new.obs["seen"] = np.arange(new.n_obs) % 4 == 0
    pd.testing.assert_frame_equal(
        model.predict(new[:, ::-1].copy(), context="seen"), model.predict(new, context="seen")
    )
    with pytest.raises(ValueError, match="trained on 30 genes"):
        ol.model.SPAM.load(tmp_path / "m", other[:, :9].copy())


def test_an_interrupt_leaves_the_model_usable(monkeypatch, new):
    from omicllm.train._spam import CountPlan

    net = made()
    net.train(1, show_progress=False)
    before = net.predict(new)
    step = CountPlan.training_step

    def stopped(self, batch, i):
        raise KeyboardInterrupt

    monkeypatch.setattr(CountPlan, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        net.train(2, show_progress=False)
    assert not net.module.training
    monkeypatch.setattr(CountPlan, "training_step", step)
    net.train(1, show_progress=False)
    assert net.predict(new).shape == before.shape


def test_same_seed_same_model(new):
    one, two = made(), made()
    for m in (one, two):
        m.train(2, show_progress=False)
    pd.testing.assert_frame_equal(one.predict(new), two.predict(new), check_exact=True)


def test_intervals_hold_on_new_sections(model, new):
    share = []
    for seed in range(9, 15):
        other = made_section("new", seed=seed)
        low, high = model.get_intervals(other)
        share.append(((measured(other) >= low) & (measured(other) <= high)).to_numpy().mean())
    assert 0.85 < np.mean(share) < 0.95
    assert (low <= model.predict(other)).to_numpy().all()


def covered(net, adata, **kwargs):
    low, high = net.get_intervals(adata, **kwargs)
    y = measured(adata)
    return ((y >= low.to_numpy()) & (y <= high.to_numpy())).mean()


def test_intervals_of_known_depth_hold_in_every_section(model):
    plain, given = [], []
    for depth in (100.0, 400.0, 800.0, 1600.0, 5000.0):
        other = made_section("new", seed=9, depth=depth)  # only the depth differs
        other.obs["n_counts"] = np.asarray(other.X.sum(1)).ravel()
        plain.append(covered(model, other))
        given.append(covered(model, other, library_size="n_counts"))
    assert 0.8 < np.mean(given) < 0.96
    assert np.ptp(given) < 0.5 * np.ptp(plain)
    assert plain[0] < 0.8  # what the depth of training says nothing about
    low, high = model.get_intervals(other, library_size=other.obs["n_counts"].to_numpy())
    deep, shallow = (np.subtract(*model.get_intervals(other, library_size=n)[::-1])
                     for n in (1e4, 100.0))  # fmt: skip
    assert (high >= low).to_numpy().all()
    assert deep.to_numpy().mean() < shallow.to_numpy().mean()
    for wrong, message in ((np.ones(3), "one per observation"), (0.0, "must be positive")):
        with pytest.raises(ValueError, match=message):
            model.get_intervals(other, library_size=wrong)
    with pytest.raises(KeyError, match="depth"):
        model.get_intervals(other, library_size="depth")


def shifted(name, patient, seed, shift):
    """A section in which the rates of some genes are those of its patient."""
    adata = made_section(name, seed=seed)
    rng = np.random.default_rng(seed)
    rate = adata.X.toarray() + 0.2
    rate = rate * np.exp(shift)
    rate *= adata.X.toarray().sum(1, keepdims=True) / rate.sum(1, keepdims=True)
    adata.X = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    adata.obs["patient"] = patient
    return adata


def test_a_known_patient_has_its_own_level(tmp_path):
    import anndata as ad

    rng = np.random.default_rng(0)
    shift = {p: rng.normal(0, 0.8, 30) for p in "PQR"}
    parts = [shifted(f"{p}{i}", p, 10 * i + j, shift[p])
             for i in (1, 2) for j, p in enumerate("PQ")]  # fmt: skip
    net = made(ad.concat(parts))
    net.train(0)
    assert net.patients_ == ["P", "Q"]
    share = {p: [] for p in "PQR"}
    for seed in range(40, 44):
        for p in "PQR":
            adata = shifted("x", p, seed, shift[p])
            share[p].append([covered(net, adata),
                             covered(net, adata, library_size=measured_depth(adata))])  # fmt: skip
    for p in "PQR":
        assert (np.abs(np.mean(share[p], axis=0) - 0.9) < 0.07).all()
    known = shifted("x", "P", 40, shift["P"])
    stranger = known.copy()
    stranger.obs["patient"] = "S"
    error = [((measured(a) - net.predict(a).to_numpy()) ** 2).mean() for a in (known, stranger)]
    assert error[0] < 0.9 * error[1]
    width = [np.subtract(*net.get_intervals(a)[::-1]).to_numpy().mean() for a in (known, stranger)]
    assert width[0] < width[1]
    # Within the section nothing changes but rounding at zero: correlations are the same.
    r = [gene_pearson(measured(a), net.predict(a).to_numpy()).mean() for a in (known, stranger)]
    assert abs(r[0] - r[1]) < 0.02
    net.save(tmp_path / "m")
    again = ol.model.SPAM.load(tmp_path / "m")
    for kwargs in ({}, {"library_size": 500.0}):
        for one, two in zip(again.get_intervals(known, **kwargs),
                            net.get_intervals(known, **kwargs), strict=True):  # fmt: skip
            pd.testing.assert_frame_equal(one, two)


def measured_depth(adata):
    return np.asarray(adata.X.sum(axis=1), dtype=float).ravel()


def test_reliability_ranks_genes(model, new):
    r = gene_pearson(measured(new), model.predict(new).to_numpy())
    assert np.corrcoef(r, model.get_reliability())[0, 1] > 0.3


def test_representations(model, new):
    for modality, width in (("fused", 32), ("programs", 6), ("image", 32), ("spatial", 32),
                            ("gene", 32)):  # fmt: skip
        Z = model.get_latent_representation(new, modality=modality)
        assert Z.shape == (new.n_obs, width)
        assert Z.dtype == np.float32
        assert np.isfinite(Z).all()
    with pytest.raises(ValueError, match="modality must be one of"):
        model.get_latent_representation(new, modality="text")


def test_rates_and_counts(model, new):
    rate = model.predict(new, output="rate").to_numpy()
    assert (rate > 0).all()
    assert (rate.sum(1) <= 1 + 1e-5).all()
    counts = model.predict(new, output="counts", library_size=500.0).to_numpy()
    assert (counts <= 500 * rate + 1e-4).all()
    truth = new.X.toarray()
    assert gene_pearson(truth / truth.sum(1, keepdims=True), rate).mean() > 0.3


VARIANTS = [{"tokens": "single"}] + [{"likelihood": x} for x in ("nb", "poisson", "gaussian")]


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_variants_train(kwargs, new):
    net = made(**kwargs)
    net.train(2, show_progress=False)
    assert np.isfinite(net.predict(new).to_numpy()).all()


def test_single_section_no_coordinates_and_few_genes(new):
    one = made_section("s1", seed=1)
    del one.obsm["spatial"]
    net = made(one, n_top_genes=12)
    net.train(2, show_progress=False)
    assert len(net.genes_) == 12
    assert net.predict(new).shape == (new.n_obs, 12)
    with pytest.raises(ValueError, match="needs coordinates"):
        net.predict(one, context=np.ones(one.n_obs, dtype=bool))


def test_xenium_coordinates_are_found(model, new):
    other = new.copy()
    other.obs["x_centroid"], other.obs["y_centroid"] = new.obsm["spatial"].T
    del other.obsm["spatial"]
    pd.testing.assert_frame_equal(model.predict(other), model.predict(new))


def test_mudata(model, new):
    import anndata as ad
    import mudata as md

    adata = made_sections("abcd")
    image = ad.AnnData(adata.obsm["X_classical"], obs=pd.DataFrame(index=adata.obs_names))
    rna = adata.copy()
    del rna.obsm["X_classical"]
    mdata = md.MuData({"rna": rna, "image": image[::-1].copy()})
    ol.model.SPAM.setup_mudata(mdata)
    net = ol.model.SPAM(mdata, **SMALL)
    net.train(5, show_progress=False)
    new.obsm["X_image"] = new.obsm["X_classical"]
    np.testing.assert_allclose(net.predict(new), model.predict(new), atol=1e-4)
    with pytest.raises(KeyError, match="'image' is not in mdata.mod"):
        ol.model.SPAM.setup_mudata(md.MuData({"rna": rna}))


def test_bad_input(model, new):
    adata = made_sections()
    with pytest.raises(KeyError, match="ol.pp.image_features"):
        ol.model.SPAM.setup_anndata(adata, use_rep="X_uni")
    fractional = adata.copy()
    fractional.X = fractional.X * 0.5
    with pytest.raises(ValueError, match="not whole numbers"):
        made(fractional)
    broken = adata.copy()
    broken.obsm["X_classical"][3, 2] = np.nan
    with pytest.raises(ValueError, match="finite numbers"):
        made(broken)
    with pytest.raises(ValueError, match="At least 16"):
        made(adata[:9].copy())
    with pytest.raises(RuntimeError, match="not trained yet"):
        made().predict(new)
    narrow = new.copy()
    narrow.obsm["X_classical"] = narrow.obsm["X_classical"][:, :4]
    with pytest.raises(ValueError, match="has 4 features, but the model was trained on 10"):
        model.predict(narrow)
    with pytest.raises(ValueError, match="not both"):
        model.predict(new, context=np.ones(new.n_obs, bool), panel=["Gene1"])
    with pytest.raises(ValueError, match="one per observation"):
        model.predict(new, context=np.arange(3))
    with pytest.raises(KeyError, match="1 of 1 genes not in the genes of the model"):
        model.predict(new, genes=["ACTB"])
    with pytest.raises(ValueError, match="multiple of n_heads"):
        made(n_hidden=30)
    with pytest.raises(ValueError, match="SPAM.setup_anndata"):
        ol.model.SPAM()


@pytest.mark.slow
@pytest.mark.parametrize("train,test", [("st_mob1", "st_mob2"), ("st_mob2", "st_mob1")])
def test_olfactory_bulb_is_predicted_better_than_by_ridge(data_dir, train, test):
    import anndata as ad

    one, other = (ad.read_h5ad(data_dir / "tissue" / f"{name}.h5ad") for name in (train, test))
    for section in (one, other):
        ol.pp.image_features(section)
    ol.model.SPAM.setup_anndata(one)
    net = ol.model.SPAM(one)
    net.train(show_progress=False)
    truth = measured(other[:, net.genes_])
    guess = net.predict(other).to_numpy()
    groups = net.regression_.groups_
    ridge = GroupedRidge().fit(
        one.obsm["X_classical"], measured(one[:, net.genes_]), np.zeros(one.n_obs), groups
    )
    plain = ridge.predict(other.obsm["X_classical"], np.zeros(other.n_obs))
    assert gene_pearson(truth, guess).mean() > gene_pearson(truth, plain).mean() + 0.02
    assert ((truth - guess) ** 2).mean() < ((truth - plain) ** 2).mean()
    low, high = net.get_intervals(other)
    inside = ((truth >= low) & (truth <= high)).to_numpy().mean()
    assert 0.87 < inside < 0.93
