"""`ol.pp.correct_expression`."""

import anndata as ad
import numpy as np
import pytest
from helpers import same_object

import omicllm as ol


def make(seed=0, n=60, m=80, strength=1.0):
    """TPM with two hidden factors, and what lies below them."""
    rng = np.random.default_rng(seed)
    own = 0.3 * rng.normal(size=(n, m))
    factors = rng.normal(size=(n, 2)) @ rng.normal(size=(2, m)) * strength
    tpm = np.exp(own + factors + 3)
    tpm[:, :3] *= rng.random((n, 3)) < 0.3
    adata = ad.AnnData(tpm.astype(np.float64))
    adata.obs["split"] = np.where(np.arange(n) < 45, "train", "test")
    return adata, own


def test_published_recipe():
    adata, _ = make()
    ol.pp.correct_expression(adata, n_pcs=4)
    # by sklearn, as described: standardise, PCA, subtract the reconstruction, undo
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    X = np.asarray(adata.X)
    X = np.log(X / X.sum(axis=1, keepdims=True) * 1e6 + 0.01)
    kept = (np.asarray(adata.X) == 0).mean(axis=0) < 0.5
    np.testing.assert_array_equal(adata.var["corrected_expressed"], kept)
    scaler = StandardScaler().fit(X[:, kept])
    Z = scaler.transform(X[:, kept])
    pca = PCA(4, svd_solver="full").fit(Z)
    wanted = scaler.inverse_transform(Z - pca.inverse_transform(pca.transform(Z)))
    np.testing.assert_allclose(adata.layers["corrected"][:, kept], wanted, atol=1e-4)
    z = adata.layers["corrected_z"]
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-4)


def test_factors_go_and_the_rest_stays():
    adata, own = make(n=200, strength=0.5)
    ol.pp.correct_expression(adata, n_pcs=3)  # the two, and the scaling to a million
    ol.pp.correct_expression(adata, n_pcs=0, key_added="plain")
    r = {
        name: np.mean([np.corrcoef(adata.layers[name][:, g], own[:, g])[0, 1]
                       for g in range(3, 80)])
        for name in ("corrected", "plain")
    }  # fmt: skip
    assert r["corrected"] > 0.85 > 0.6 > r["plain"]
    assert "plain_pcs" not in adata.obsm and adata.obsm["corrected_pcs"].shape == (200, 3)


def test_test_people_are_not_seen():
    adata, _ = make()
    other = adata.copy()
    test = (adata.obs["split"] == "test").to_numpy()
    other.X[test] = other.X[test][::-1] * 3
    for one in (adata, other):
        ol.pp.correct_expression(one, n_pcs=2, fit_on="train")
    for name in ("corrected", "corrected_z"):
        np.testing.assert_allclose(adata.layers[name][~test], other.layers[name][~test])
    ol.pp.correct_expression(adata, n_pcs=2, key_added="leaky")
    assert not np.allclose(adata.layers["leaky"][~test], adata.layers["corrected"][~test])


def test_bad_input():
    adata, _ = make()
    adata.layers["log"] = np.log(adata.X + 1e-3)
    adata.layers["none"] = np.asarray(adata.X) * (np.arange(60) > 1)[:, None]
    untouched = adata.copy()
    for kwargs, error, message in (
        ({"layer": "log"}, ValueError, "Negative or missing values in .*RPKM or TPM"),
        ({"layer": "none"}, ValueError, "2 people have no expression .'0', '1'"),
        ({"n_pcs": 60}, ValueError, "n_pcs=60 components cannot be found from 60 people"),
        ({"fit_on": "train", "split_key": "part"}, KeyError, "'part' is not in adata.obs"),
        ({"pseudocount": 0}, ValueError, "pseudocount must be a number above 0"),
        ({"pseudocount": np.nan}, ValueError, "pseudocount must be a number above 0"),
        ({"max_zeros": 2}, ValueError, "max_zeros"),
        ({"fit_on": "test"}, ValueError, "fit_on must be one of"),
    ):
        with pytest.raises(error, match=message):
            ol.pp.correct_expression(adata, **kwargs)
    same_object(adata, untouched)
