"""`model.OmicLM`: tiny backbone, saving, other genes, MuData."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from helpers import same_object
from scipy import sparse

from omicllm.model import OmicLM
from omicllm.model._omic_lm import settled
from omicllm.model._omic_lm_pretrained import TRAINING
from omicllm.model._omic_lm_text import OmicText, scaled
from omicllm.model._ult_sources import sources


def cohort(n=48, n_genes=60, n_planted=6, seed=0, shift=2.0):
    """Three classes, each with planted genes that are higher; every fourth row has no label."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    X = rng.normal(5, 1, (n, n_genes))
    for c in range(3):
        X[np.ix_(kind == c, np.arange(c * n_planted, (c + 1) * n_planted))] += shift
    adata = ad.AnnData(X.astype(np.float32))
    adata.obs_names = [f"p{i}" for i in range(n)]
    adata.var_names = [f"Gene{i}" for i in range(n_genes)]
    truth = np.array(["A", "B", "C"], dtype=object)[kind]
    adata.obs["truth"] = truth
    adata.obs["kind"] = np.where(np.arange(n) % 4 == 3, None, truth)
    adata.var["planted"] = np.arange(n_genes) < 3 * n_planted
    return adata


def trained(adata, setup=None, train=None, **kwargs):
    OmicLM.setup_anndata(adata, "kind", **(setup or {}))
    model = OmicLM(adata, **{"n_top": 20, "n_members": 2, **kwargs})
    model.train(**(train or {"max_epochs": 6}))
    return model


@pytest.fixture(scope="module")
def model():
    return trained(cohort())


def test_rows_without_a_label_are_predicted(model):
    adata = cohort()
    P = model.predict(adata, soft=True)
    assert list(P.columns) == ["A", "B", "C"] and list(P.index) == list(adata.obs_names)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
    hidden = adata.obs["kind"].isna().to_numpy()
    guess = model.predict(adata)
    assert (guess[hidden] == adata.obs["truth"].to_numpy()[hidden]).mean() > 0.9
    assert model.get_latent_representation().shape == (48, 64)


def test_unlabelled_rows_change_nothing():
    first, second = cohort(), cohort()
    hidden = second.obs["kind"].isna().to_numpy()
    second.X[hidden] *= 3
    one, two = trained(first), trained(second)
    assert list(one.genes) == list(two.genes)
    shown = cohort()[~hidden].copy()
    np.testing.assert_array_equal(one.predict(shown, soft=True), two.predict(shown, soft=True))


def test_the_text_has_one_character_per_gene(model):
    texts = model.encode()
    assert {len(t) for t in texts} == {20}
    text = model.text_
    z, present = text.standardised(sources(cohort()))
    assert present.all()
    decoded = text.values[text.ranks(z)]
    inside = np.abs(z) < 4
    assert np.abs(decoded - z)[inside].max() < 0.1
    assert len(text.table.characters) == 513 == len(set(text.table.characters))
    assert set("".join(texts)) <= set(text.table.characters)


def test_planted_genes_are_chosen_for_every_class(model):
    planted = {f"Gene{i}" for i in range(18)}
    assert len(planted & set(model.genes)) >= 16
    # Scales are those of the labelled rows.
    adata = cohort()
    labelled = adata[~adata.obs["kind"].isna().to_numpy()]
    own = np.asarray(labelled[:, model.genes].X, dtype=np.float64)
    segment = model.text_.segments[0]
    np.testing.assert_allclose(segment.mean, own.mean(axis=0))
    np.testing.assert_allclose(segment.sd, own.std(axis=0))


def test_ranks_do_not_depend_on_the_scale_of_a_sample():
    X = np.random.default_rng(0).poisson(3, (4, 50)).astype(float)
    same = scaled(np.log1p(7 * X), "rank")
    np.testing.assert_allclose(scaled(X, "rank"), same)
    np.testing.assert_allclose(scaled(sparse.csr_matrix(X), "rank"), same)
    tied = X[0] == X[0, 0]
    assert np.ptp(same[0][tied]) == 0


@pytest.mark.parametrize("how", ["csr", "csc", "float64", "backed"])
def test_same_texts_from_every_storage(how, tmp_path):
    wanted = trained(cohort()).encode()
    adata = cohort()
    if how == "backed":
        adata.write_h5ad(tmp_path / "a.h5ad")
        adata = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    else:
        change = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "float64": np.float64}
        adata.X = change[how](adata.X)
    model = OmicLM.over(adata, adata.obs["kind"], {"labels_key": "kind"}, n_top=20, n_members=2)
    model.train(max_epochs=1)
    assert model.encode() == wanted


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "m")
    adata = cohort()
    wanted = model.predict(adata, soft=True)
    loaded = OmicLM.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(adata, soft=True), wanted)
    with pytest.raises(ValueError, match=r"pass adata to OmicLM\.load"):
        loaded.predict()
    with pytest.raises(FileExistsError):
        model.save(tmp_path / "m")
    order = np.random.default_rng(0).permutation(60)
    permuted = adata[:, order].copy()
    attached = OmicLM.load(tmp_path / "m", permuted)
    np.testing.assert_array_equal(attached.predict(soft=True), wanted)
    assert attached.encode() == model.encode()
    lacking = cohort()[:, :50].copy()
    before = lacking.copy()
    with pytest.raises(ValueError, match="10 of them are not in"):
        OmicLM.load(tmp_path / "m", lacking)
    same_object(lacking, before)


def test_same_seed_same_model():
    one, two = trained(cohort()), trained(cohort())
    np.testing.assert_array_equal(one.predict(soft=True), two.predict(soft=True))
    other = trained(cohort(), train={"max_epochs": 6, "rng": 1})
    assert not np.array_equal(one.predict(soft=True), other.predict(soft=True))


def test_training_goes_on_and_lowers_the_loss(model):
    again = trained(cohort(), train={"max_epochs": 12, "lm_loss_weight": 0.1})
    loss = np.asarray(again.history_["train_loss"], dtype=float).ravel()
    assert len(loss) == 12 and loss[-1] < loss[0]
    assert len(again.history_["train_text_loss"]) == 12
    again.train(max_epochs=2)
    assert len(again.history_["train_loss"]) == 14


def test_multimodal_text(tmp_path):
    import mudata as md

    adata = cohort(n_genes=60)
    mdata = md.MuData({"rna": adata[:, :30].copy(), "protein": adata[5:, 30:].copy()})
    mdata.obs["kind"] = adata.obs["kind"].reindex(mdata.obs_names)
    OmicLM.setup_mudata(mdata, "kind")
    model = OmicLM(mdata, n_top=20, n_members=1)
    model.train(max_epochs=3)
    texts = model.encode()
    assert texts[0].startswith("<rna>") and texts[0].endswith("<protein>")
    assert len(texts[10]) == 20 + len("<rna><protein>")
    assert model.text_.n_positions == 22
    model.save(tmp_path / "m")
    loaded = OmicLM.load(tmp_path / "m", mdata)
    np.testing.assert_array_equal(loaded.predict(soft=True), model.predict(soft=True))
    with pytest.raises(ValueError, match="cannot read a MuData"):
        trained(cohort()).predict(mdata)


def test_genes_of_all_modalities_compete():
    adata = cohort(n_genes=60)
    import mudata as md

    data = {
        "a": adata[:, :30].copy(), "b": adata[:, 30:].copy(), "c": adata[:, 40:50].copy(),
    }  # fmt: skip
    for name, part in data.items():
        part.var_names = [f"{name}{i}" for i in range(part.n_vars)]
    mdata = md.MuData(data)
    setup = {"labels_key": "kind", "modalities": ["a", "b", "c"]}
    model = OmicLM.over(mdata, adata.obs["kind"], setup, n_members=1)
    model.train(max_epochs=1)
    assert len(model.genes) == 30  # as many as the largest modality has
    small = OmicLM.over(mdata, adata.obs["kind"], setup, n_top=15, n_members=1)
    small.train(max_epochs=1)
    sizes = [len(s.genes) for s in small.text_.segments]
    # The 18 planted genes are all in the first one; each of the others has one gene.
    assert sizes == [13, 1, 1]
    few = OmicLM.over(mdata, adata.obs["kind"], setup, n_top=2)
    with pytest.raises(ValueError, match="at least the number of modalities"):
        few.train()


def test_bad_input():
    adata = cohort()
    with pytest.raises(KeyError, match=r"'nothing' is not in adata\.obs"):
        OmicLM.setup_anndata(adata, "nothing")
    adata.obs["one"] = np.where(np.arange(48) < 5, "A", None)
    OmicLM.setup_anndata(adata, "one")
    with pytest.raises(ValueError, match="Two classes are needed.*'A'"):
        OmicLM(adata).train()
    with pytest.raises(ValueError, match="60 genes does not fit.*of 40 tokens: 37 genes fit"):
        trained(cohort(), n_top=60, context=40)
    holes = cohort()
    holes.X[7, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values .*'p7'"):
        trained(holes)
    flat = cohort()
    flat.X[:] = 1
    with pytest.raises(ValueError, match="Every gene is constant"):
        trained(flat)
    fresh = cohort()
    OmicLM.setup_anndata(fresh, "kind")
    with pytest.raises(RuntimeError, match="not trained yet"):
        OmicLM(fresh).predict()
    for wrong, message in (
        ({"tokenizer": "pretrained"}, "is for pretrained backbones"),
        ({"scale": "x"}, "scale must be one of"),
        ({"preset": "x"}, "preset must be one of"),
        ({"d_model": 20}, "multiple of twice n_heads"),
    ):
        with pytest.raises(ValueError, match=message):
            trained(cohort(), **wrong)


def test_a_class_of_one_sample_is_learned(caplog):
    adata = cohort()
    adata.obs["kind"] = np.where(
        (adata.obs["truth"] == "C") & (adata.obs_names != "p2"), None, adata.obs["kind"]
    )
    model = trained(adata)
    assert "only one row has the class 'C'" in caplog.text
    assert model.predict(adata)[2] == "C"


def test_synthetic_rows_do_not_choose_genes():
    adata = cohort()
    drawn = cohort(seed=5)[~cohort().obs["kind"].isna().to_numpy()].copy()
    drawn.X[:, 40] += np.where(drawn.obs["truth"] == "A", 50, 0)
    drawn.obs_names = [f"s{i}" for i in range(drawn.n_obs)]
    both = ad.concat([adata, drawn])
    both.obs["synthetic"] = np.arange(both.n_obs) >= 48
    assert list(trained(both).genes) == list(trained(adata).genes)


def test_values_characters_and_logits_give_the_prediction(model):
    z, present = model.standardized()
    logits = model.logits(model.codec.ranks(z), present)
    assert logits.shape == (2, 48, 3) and z.shape == present.shape == (48, 20)
    share = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(model.predict(soft=True), share.mean(axis=0), rtol=1e-5)
    with pytest.raises(RuntimeError, match="not trained"):
        OmicLM.over(cohort(), cohort().obs["kind"], {"labels_key": "kind"}).codec  # noqa: B018


def test_a_model_reads_another_layer_of_its_own_data():
    adata = cohort()
    adata.layers["other"] = adata.X[::-1].copy()
    first = trained(adata)
    before = first.predict(soft=True)
    other = cohort()
    other.X = other.X[::-1].copy()
    view = first.reading(layer="other")
    np.testing.assert_array_equal(view.predict(adata, soft=True), first.predict(other, soft=True))
    np.testing.assert_array_equal(view.predict(soft=True), first.predict(other, soft=True))
    np.testing.assert_array_equal(first.predict(soft=True), before)
    assert first.registry_["setup_args"]["layer"] is None


def test_settings_of_the_published_experiment():
    p = settled("ieee_icdh", {})
    assert (p["max_value"], p["mu"], p["bits"], p["patch_size"]) == (1.0, 256.0, 8, 10)
    assert p["backbone"] == "hf:HuggingFaceTB/SmolLM-1.7B" and p["tokenizer"] == "pretrained"
    args = TRAINING["ieee_icdh"]
    assert args["num_train_epochs"] == 20 and args["learning_rate"] == 1e-4
    assert (args["adam_beta1"], args["adam_beta2"], args["weight_decay"]) == (0.9, 0.95, 0.1)
    assert settled("ieee_icdh", {"n_top": 7})["n_top"] == 7


def test_restored_text_is_the_same(model):
    text = model.text_
    again = OmicText.restored(text.arrays(), text.attributes())
    z, present = again.standardised(sources(cohort()))
    assert again.strings(again.ranks(z), present) == model.encode()
