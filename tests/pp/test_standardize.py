"""`ol.pp.standardize`."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from helpers import same_object
from sklearn.preprocessing import StandardScaler

import omicllm as ol


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.normal(5, 2, size=(40, 6)).astype(np.float32))
    adata.X[:, 2] = 3.3
    adata.obs["split"] = ["train"] * 25 + ["val"] * 5 + ["test"] * 10
    return adata


def test_is_the_scaler_of_the_training_rows(values):
    ol.pp.standardize(values)
    scaler = StandardScaler().fit(values.X[:25].astype(np.float64))
    np.testing.assert_allclose(
        values.layers["standardized"], scaler.transform(values.X.astype(np.float64)), atol=1e-5
    )
    np.testing.assert_allclose(values.var["standardized_mean"], scaler.mean_)
    np.testing.assert_allclose(values.var["standardized_scale"], scaler.scale_)
    assert values.uns["standardized"]["n_fit"] == 25
    assert (np.abs(values.layers["standardized"][:, 2]) < 1e-5).all()


def test_test_rows_do_not_enter(values):
    other = values.copy()
    other.X[30:] *= 100
    ol.pp.standardize(values), ol.pp.standardize(other)
    np.testing.assert_array_equal(values.var["standardized_mean"], other.var["standardized_mean"])


def test_new_samples_use_the_means_of_the_reference(values):
    ol.pp.standardize(values)
    new = values[:3, ::-1].copy()
    del new.layers["standardized"], new.uns["standardized"], new.obs["split"]
    new.var = new.var[[]]
    ol.pp.standardize(new, reference=values)
    np.testing.assert_allclose(
        new.layers["standardized"], values.layers["standardized"][:3, ::-1], rtol=1e-6
    )
    bare = values[:, :2].copy()
    with pytest.raises(KeyError, match="4 of 6 genes not in reference.var_names"):
        ol.pp.standardize(values, reference=bare)
    del bare.var["standardized_mean"]
    with pytest.raises(KeyError, match="Make it with ol.pp.standardize"):
        ol.pp.standardize(values, reference=bare)


def test_bad_input(values):
    bad = values.copy()
    bad.X[4, 1], bad.X[33, 0] = np.nan, np.inf
    before = bad.copy()
    with pytest.raises(
        ValueError, match="NaN or infinite values in 2 of 40 rows used \\('4', '33'"
    ):
        ol.pp.standardize(bad)
    assert set(bad.layers) == set(before.layers)
    with pytest.raises(KeyError, match="'fold' is not in adata.obs.*ol.pp.split"):
        ol.pp.standardize(values, split_key="fold")
    with pytest.raises(ValueError, match="0 row\\(s\\) are 'training'"):
        ol.pp.standardize(values, fit_on="training")
    with pytest.raises(KeyError, match="'log' is not in adata.layers"):
        ol.pp.standardize(values, layer="log")
    untouched = values.copy()
    same_object(values, untouched)
    ol.pp.standardize(values, fit_on=None)
    assert values.uns["standardized"]["n_fit"] == 40


def test_with_a_reference_nothing_is_fitted(tiny):
    ol.pp.standardize(tiny, fit_on=None)
    for idle in ({"fit_on": "val"}, {"split_key": "fold"}):
        with pytest.raises(ValueError, match="no effect with reference="):
            ol.pp.standardize(tiny, reference=tiny.copy(), **idle)
    with pytest.raises(TypeError, match="must be an AnnData, not int"):
        ol.pp.standardize(tiny, reference=3)
    twice = tiny.copy()
    twice.var_names = [*twice.var_names[:-1], twice.var_names[0]]
    with pytest.raises(ValueError, match="more than once in reference.var_names"):
        ol.pp.standardize(tiny[:, :5].copy(), reference=twice)
