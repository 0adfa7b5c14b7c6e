"""`model.SIGELImputer`: training, results, storage, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_tiny
from helpers import same_object
from scipy import sparse

import omicllm as ol
from omicllm.model import SIGELImputer
from omicllm.stats.agreement import gene_pearson


def pair(n_shared=60, seed=5):
    """Tissue with the first genes of 80, a reference with all, and the whole tissue."""
    full, reference = make_tiny(80, depth=20), make_tiny(80, depth=20)
    rng = np.random.default_rng(seed)
    counts = rng.poisson(full.X.toarray())
    full.X = sparse.csr_matrix(np.log1p(full.X.toarray()))
    reference.X = sparse.csr_matrix(np.log1p(counts).astype(np.float32))
    return full[:, :n_shared].copy(), reference[rng.permutation(120)].copy(), full


def untrained(adata, reference, **more):
    SIGELImputer.setup_anndata(adata)
    return SIGELImputer(adata, reference, **more)


def trained(adata, reference, max_epochs=3, train=None, **more):
    model = untrained(adata, reference, **more)
    model.train(max_epochs, **(train or {}))
    return model


def test_draws_hidden_genes():
    adata, reference, full = pair()
    before = adata.copy()
    model = trained(adata, reference, 30)
    out = model.get_imputed()
    assert list(out.columns) == [f"Gene{i}" for i in range(60, 80)]
    assert list(out.index) == list(adata.obs_names)
    assert gene_pearson(full[:, 60:].X.toarray(), out.to_numpy()).mean() > 0.5
    assert (out.to_numpy() >= 0).all() and out.to_numpy().dtype == np.float32
    assert {"train_loss", "train_error", "train_critic"} == set(model.history_)
    errors = np.asarray(model.history_["train_error"]).ravel()
    assert len(errors) == 30 and errors[-1] < errors[0]
    model.train(2)
    assert len(model.history_["train_loss"]) == 32
    for key in [k for k in adata.uns if k.startswith("_scvi")]:
        del adata.uns[key]
    same_object(adata, before)


def test_adversary_changes_training():
    adata, reference, _ = pair()
    critics, values = [], []
    for weight in (0.0, 1.0):
        model = untrained(adata, reference)
        start = model.module["critic"].layers[0].parametrizations.weight.original.clone()
        model.train(3, adversarial_weight=weight)
        now = model.module["critic"].layers[0].parametrizations.weight.original
        critics.append(not torch.equal(start, now.cpu()))
        values.append(model.get_imputed().to_numpy())
    assert critics == [False, True]
    assert np.abs(values[0] - values[1]).max() > 1e-4


def test_same_seed_same_result():
    adata, reference, _ = pair()
    torch.manual_seed(9)
    state = torch.get_rng_state()
    one, two = (trained(adata, reference).get_imputed().to_numpy() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(one, two)
    other = trained(adata, reference, train={"rng": 4}).get_imputed().to_numpy()
    assert not np.array_equal(one, other)


def test_scores_tell_what_was_held_out():
    adata, reference, _ = pair()
    model = trained(adata, reference, train={"holdout": 0.25})
    scores = model.get_scores()
    assert list(scores.index) == list(adata.var_names)
    assert scores["pearson"].isna().tolist() == [i in (3, 4) for i in range(60)]
    assert scores["heldout"].sum() == round(0.25 * 58)
    drawn = model.get_imputed("Gene7")["Gene7"].to_numpy()
    wanted = np.corrcoef(adata[:, "Gene7"].X.toarray().ravel(), drawn)[0, 1]
    assert scores.loc["Gene7", "pearson"] == pytest.approx(wanted, abs=1e-4)


def test_embedding_of_the_reference():
    adata, reference, _ = pair()
    ol.tl.sigel(reference, input="values")
    model = trained(adata, reference, reference_rep="X_sigel", n_latent=128)
    assert model.get_imputed().shape == (120, 20)
    own = trained(adata, reference)
    assert not np.allclose(model.get_imputed(), own.get_imputed())
    with pytest.raises(KeyError, match="'X_other' is not in reference.varm"):
        untrained(adata, reference, reference_rep="X_other")


def test_save_and_load(tmp_path):
    adata, reference, _ = pair()
    model = trained(adata, reference, n_hidden=32)
    model.save(tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.safetensors", "model.json"}
    order = np.random.default_rng(0).permutation(60)
    for data in (None, pair()[0], pair()[0][:, order].copy()):
        loaded = SIGELImputer.load(tmp_path / "m", data)
        assert loaded.is_trained_ and not loaded.module.training
        assert loaded.get_imputed().equals(model.get_imputed())
        np.testing.assert_allclose(
            *(np.asarray(m.history_["train_loss"], dtype=float).ravel() for m in (loaded, model))
        )
        if data is None:
            with pytest.raises(ValueError, match="pass adata to SIGELImputer.load"):
                loaded.get_scores()
        else:
            names = list(data.var_names)
            wanted = model.get_scores().loc[names, "pearson"]
            np.testing.assert_allclose(loaded.get_scores()["pearson"], wanted)
            keys = model.get_gene_embedding()[adata.var_names.get_indexer(names)]
            np.testing.assert_array_equal(loaded.get_gene_embedding(), keys)
    loaded.train(1)  # without the reference, embeddings are as saved
    assert np.isfinite(loaded.get_imputed().to_numpy()).all()
    with pytest.raises(ValueError, match="other observations than the tissue"):
        SIGELImputer.load(tmp_path / "m", pair()[0][::-1].copy())
    with pytest.raises(ValueError, match="10 of them are not in adata.var_names"):
        SIGELImputer.load(tmp_path / "m", pair()[0][:, :50].copy())


def test_an_interrupt_leaves_the_model_usable(monkeypatch):
    from omicllm.train._sigel_imputer import AdversarialPlan

    adata, reference, _ = pair()
    model = untrained(adata, reference)

    def stop(self, batch, number):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialPlan, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            model.train(2)
    assert not model.is_trained_ and not model.module.training
    for call in (model.get_imputed, model.get_gene_embedding, model.get_scores):
        with pytest.raises(RuntimeError, match="not trained yet"):
            call()
    model.train(1)
    assert model.get_gene_embedding().shape == (60, 64)


def test_errors():
    adata, reference, _ = pair()
    with pytest.raises(ValueError, match=r"SIGELImputer\(adata, reference\)"):
        SIGELImputer()
    with pytest.raises(ValueError, match="share 0 genes"):
        untrained(adata, reference[:, 60:].copy())
    with pytest.raises(KeyError, match="nope"):
        untrained(adata, reference, genes="nope")
    with pytest.raises(KeyError, match="'log' is not in adata.layers"):
        SIGELImputer.setup_anndata(adata, layer="log")
    model = trained(adata, reference, 1)
    with pytest.raises(KeyError, match="Gene99.*|1 of 1 genes not in the genes of the model"):
        model.get_imputed("Gene99")
    with pytest.raises(ValueError, match="holdout must lie between"):
        model.train(1, holdout=2)
    with pytest.raises(ValueError, match="max_epochs must be a whole number"):
        model.train(0)
