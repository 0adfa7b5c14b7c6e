"""`model.SIGEL`: encoders, stages, sections, other data."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from conftest import make_tiny
from helpers import same_object
from scipy import sparse

import omicllm as ol
from omicllm.model import SIGEL
from omicllm.model import _sigel as parts


def trained(adata, *args, setup=None, train=None, **kwargs):
    SIGEL.setup_anndata(adata, **(setup or {}))
    model = SIGEL(adata, *args, **kwargs)
    model.train(**(train or {}))
    return model


def test_setup_writes_only_what_scvi_writes(tiny):
    before = tiny.copy()
    trained(tiny)
    for key in [k for k in tiny.uns if k.startswith("_scvi")]:
        del tiny.uns[key]
    same_object(tiny, before)


def test_verb_and_model_agree(tiny):
    model = trained(make_tiny())
    ol.tl.sigel(tiny)
    assert np.array_equal(model.get_gene_embedding(), tiny.varm["X_sigel"])
    q = model.get_cluster_probabilities()
    assert list(q.index) == list(tiny.var_names)
    seen = ~tiny.var["sigel_empty"].to_numpy()
    np.testing.assert_allclose(q[seen].sum(axis=1), 1.0)
    assert q[~seen].isna().all(axis=None)
    labels = q[seen].to_numpy().argmax(axis=1).astype(str)
    assert labels.tolist() == tiny.var["sigel_cluster"][seen].tolist()


def test_both_stages_of_the_default_encoder(tiny):
    model = trained(tiny, train={"pretrain_epochs": 3, "refine_epochs": 2, "batch_size": 10})
    lengths = {k: len(v) for k, v in model.history_.items()}
    assert lengths["pretrain_loss"] == 3 and lengths["refine_loss"] in (1, 2)
    assert {"refine_pseudo_contrast", "refine_pretrain_loss", "mixture_objective"} <= set(lengths)
    seen = ~np.isin(np.arange(40), [3, 4])
    assert (
        ol.metrics.neighbor_recall(model.get_gene_embedding(), tiny.var["program"], k=5, rows=seen)
        > 0.9
    )


def test_training_changes_the_weights_and_lowers_the_loss(tiny):
    SIGEL.setup_anndata(tiny)
    model = SIGEL(tiny)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    model.train(pretrain_epochs=30, batch_size=20)
    after = model.module.state_dict()
    changed = {k for k in before if not (before[k] == after[k]).all()}
    assert changed == {"map.weight"}
    loss = np.asarray(model.history_["pretrain_loss"], dtype=float).ravel()
    assert loss[-5:].mean() < loss[:5].mean()


def test_contrast_is_logged_when_asked_for(tiny):
    model = trained(tiny, contrast_weight=0.5, train={"pretrain_epochs": 2, "refine_epochs": 1})
    assert len(model.history_["pretrain_contrast"]) == 2


def test_paper_preset(tiny):
    model = trained(tiny, "paper", train={"pretrain_epochs": 2, "refine_epochs": 2})
    assert model.get_gene_embedding().shape == (40, 32)
    assert not model.get_gene_embedding()[3:5].any()
    assert model.params_["encoder"] == "transformer" and model.params_["mask_ratio"] == 0.3
    assert model.n_clusters_ <= 38, "500 components are the preset's wish, not the user's"
    with pytest.raises(ValueError, match="n_clusters=500 is more than the 38"):
        SIGEL(tiny, "paper", n_clusters=500)


@pytest.mark.parametrize("preset", [None, "paper"])
def test_reconstruction(tiny, preset):
    model = trained(tiny, preset, train={"pretrain_epochs": 2, "refine_epochs": 0})
    images = model.get_reconstruction()
    assert images.shape == (40, 12, 11) and images.dtype == np.float32
    assert np.isfinite(images).all()
    some = model.get_reconstruction(["Gene7", "Gene1"])
    np.testing.assert_allclose(some, images[[7, 1]], rtol=1e-4, atol=1e-5)
    with pytest.raises(KeyError, match="not in"):
        model.get_reconstruction(["Nope"])
    with pytest.raises(KeyError, match="'b' is not in the sections"):
        model.get_reconstruction(section="b")
    if preset is None:
        assert (images >= 0).all()
        outside = np.ones((12, 11), dtype=bool)
        ol.pp.spatial_grid(tiny)
        outside[tuple(tiny.obsm["spatial_grid"].T)] = False
        assert not images[:, outside].any() and not images[3].any()
        truth = ol.get.gene_images(tiny)
        smoother = [np.corrcoef(images[g].ravel(), truth[g].ravel())[0, 1] for g in (0, 1, 2)]
        assert min(smoother) > 0.6


def test_sections(tiny):
    two = ad.concat({"a": tiny, "b": make_tiny(seed=1)[:100]}, label="slide", index_unique="-")
    model = trained(two, setup={"batch_key": "slide"})
    both = model.get_section_embeddings()
    assert both.shape == (2, *model.get_gene_embedding().shape)
    np.testing.assert_array_equal(model.get_gene_embedding(section="b"), both[1])
    assert not np.array_equal(both[0], both[1])
    assert model.get_reconstruction(["Gene0"], section="b").shape == (1, 10, 11)
    assert model.get_reconstruction(["Gene0"]).shape == (1, 12, 11)
    with pytest.raises(KeyError, match=r"'c' is not in the sections \(there: 'a', 'b'\)"):
        model.get_gene_embedding(section="c")


def test_bad_arguments(tiny):
    with pytest.raises(ValueError, match="SIGEL.setup_anndata"):
        SIGEL()
    with pytest.raises(ValueError, match="input must be one of"):
        SIGEL.setup_anndata(tiny, input="logs")
    with pytest.raises(KeyError, match="'raw' is not in adata.layers"):
        SIGEL.setup_anndata(tiny, layer="raw")
    with pytest.raises(KeyError, match="'slide' is not in adata.obs"):
        SIGEL.setup_anndata(tiny, batch_key="slide")
    SIGEL.setup_anndata(tiny)
    for kwargs, message in (
        ({"preset": "large"}, "preset must be one of"),
        ({"encoder": "cnn"}, "encoder must be one of"),
        ({"n_latent": 0}, "n_latent must be a whole number"),
        ({"pull": -1.0}, "pull must lie between"),
    ):
        with pytest.raises(ValueError, match=message):
            SIGEL(tiny, **kwargs)
    model = SIGEL(tiny)
    with pytest.raises(RuntimeError, match=r"call model.train\(\)"):
        model.get_gene_embedding()
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        model.train(batch_size=-3)
    assert repr(model) == "SIGEL(40 genes, not trained)"


def test_agreement_of_halves(tiny):
    model = trained(tiny)
    scores = model.get_agreement(rng=1)
    assert set(scores) == {"sigel", "pca", "n_neighbors", "n_genes"}
    assert 0 < scores["sigel"] <= 1 and 0 < scores["pca"] <= 1
    assert scores["n_neighbors"] == 9 and scores["n_genes"] == 38
    assert model.get_agreement(rng=1) == scores


# -- other data -----------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [None, "paper"])
def test_new_genes_on_the_same_section(tiny, preset):
    model = trained(tiny[:, :30].copy(), preset, train={"pretrain_epochs": 2, "refine_epochs": 0})
    Z = model.embed(tiny)
    assert Z.shape == (40, model.get_gene_embedding().shape[1])
    assert not Z[3:5].any()
    if preset == "paper":  # scaled by the depth of the object at hand, so not quite the same
        known = np.setdiff1d(np.arange(30), [3, 4])
        pairs = zip(Z[known], model.get_gene_embedding()[known], strict=True)
        assert min(np.corrcoef(a, b)[0, 1] for a, b in pairs) > 0.99
    else:
        np.testing.assert_allclose(Z[:30], model.get_gene_embedding(), atol=1e-5)
    if preset is None:
        rows = np.arange(40) >= 30
        recall = ol.metrics.neighbor_recall(Z, tiny.var["program"], k=4, rows=rows)
        assert recall > 0.9, "new genes lie by those of their program"


def test_embed_checks_values(tiny):
    model = trained(tiny)
    bad = tiny.copy()
    bad.X = bad.X * 0.5
    with pytest.raises(ValueError, match="not whole numbers.*layer="):
        model.embed(bad)


@pytest.fixture(scope="module")
def bulbs():
    """Section 1 with a model, section 2, and the genes both have."""
    one, two = ol.datasets.mouse_olfactory_bulb(1), ol.datasets.mouse_olfactory_bulb(2)
    return trained(one), two, np.intersect1d(one.var_names, two.var_names)


def ranks(reference: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Place of each row of `query` among all rows by nearness to its own row of `reference`."""
    cosine = query @ reference.T
    return (cosine > np.diag(cosine)[:, None]).sum(axis=1)


@pytest.mark.parametrize("how", ["embed", "load_query_data", "trained further"])
def test_another_section(bulbs, how):
    model, two, shared = bulbs
    if how == "embed":
        Z = model.embed(two)
    else:
        query = SIGEL.load_query_data(two.copy(), model)
        query.train(pretrain_epochs=2 if how == "trained further" else 0)
        Z = query.get_gene_embedding()
    here, there = two.var_names.get_indexer(shared), model.adata.var_names.get_indexer(shared)
    reference = model.get_gene_embedding()[there]
    seen = (np.abs(Z[here]).sum(axis=1) > 0) & (np.abs(reference).sum(axis=1) > 0)
    found = np.median(ranks(reference[seen], Z[here][seen]))
    assert seen.sum() > 500
    assert found < 0.15 * seen.sum(), f"median rank {found} of {seen.sum()}; chance is the half"


def test_another_section_needs_genes_in_common(bulbs):
    model, two, shared = bulbs
    few = two[:, np.concatenate([shared[:15]])].copy()
    before = few.copy()
    with pytest.raises(ValueError, match="at least 20 are needed"):
        model.embed(few)
    same_object(few, before)


def test_load_refuses_another_grid(bulbs, tmp_path):
    model, two, shared = bulbs
    model.save(tmp_path / "model")
    other = two[:, two.var_names.isin(model.var_names_)].copy()
    if other.n_vars < len(model.var_names_):
        absent = np.setdiff1d(model.var_names_.astype(str), other.var_names)
        empty = ad.AnnData(
            sparse.csr_matrix((other.n_obs, len(absent)), dtype=np.float32), obs=other.obs
        )
        empty.var_names = absent
        joined = ad.concat([other, empty], axis=1, merge="same")
        joined.obsm["spatial"] = other.obsm["spatial"]
        other = joined
    with pytest.raises(ValueError, match="another grid.*model.embed"):
        SIGEL.load(tmp_path / "model", other)


@pytest.mark.parametrize(
    "asked,expressed,capped,found",
    [
        (None, 10000, False, 400),
        (None, 10**6, False, 500),
        (None, 38, False, 4),
        (None, 3, False, 1),
        (7, 30, False, 7),
        (500, 30, True, 4),
    ],
)
def test_number_of_clusters(asked, expressed, capped, found):
    assert parts.number_of_clusters(asked, expressed, capped=capped) == found
