"""`ol.pp.augment`: training rows only, counts checked, a new object that is complete."""

from __future__ import annotations

import logging
import random

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import round_trip, same_object
from scipy import sparse

import omicllm as ol

METHODS = [
    "gamma_poisson", "poisson", "unmod_poisson", "unmod_gamma_poisson", "replacement", "smote",
    "local_crossover", "global_crossover", "vae",
]  # fmt: skip
SIGNATURES = {"a": ["g0", "g1", "g2"], "b": ["g2", "g3"], "c": ["g8"]}
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def cohort():
    """Sixty samples in three classes, ten without a label, a third of them for testing."""
    rng = np.random.default_rng(0)
    kind = np.array(["a"] * 24 + ["b"] * 15 + ["c"] * 11 + [None] * 10, dtype=object)
    mean = rng.lognormal(2, 1, size=(4, 12))[pd.factorize(kind)[0]]
    adata = ad.AnnData(rng.poisson(mean).astype(np.float32))
    adata.X[:, 11] = 0
    adata.X[kind == "a", 10] = 0
    adata.obs_names = [f"P{i:02d}" for i in range(60)]
    adata.var_names = [f"g{i}" for i in range(12)]
    adata.obs["kind"] = pd.Categorical(kind)
    adata.obs["split"] = np.where(np.arange(60) % 3 == 0, "test", "train")
    adata.obs["age"] = np.arange(60)
    adata.obs["smoker"] = np.arange(60) % 2 == 0
    adata.obs["site"] = [f"s{i % 2}" for i in range(60)]
    adata.var["chrom"] = "1"
    adata.varm["loading"] = rng.normal(size=(12, 2))
    adata.layers["log"] = np.log1p(adata.X)
    adata.obsm["X_pca"] = rng.normal(size=(60, 2))
    adata.uns["note"] = {"a": 1}
    return adata


def draw(adata, method, **kwargs):
    if method.endswith("crossover"):
        kwargs = {"signatures": SIGNATURES, **kwargs}
    return ol.pp.augment(adata, labels_key="kind", method=method, **kwargs)


@every_method
def test_new_object(cohort, method, tmp_path):
    before = cohort.copy()
    out = draw(cohort, method, n_new=20)
    same_object(cohort, before)
    assert isinstance(out, ad.AnnData) and out.shape == (120, 12)
    np.testing.assert_array_equal(out.X[:60], cohort.X)
    assert list(out.obs_names[:60]) == list(cohort.obs_names) and out.obs_names.is_unique
    assert out.obs_names[60] == f"a-{method}-S0"
    new = out[60:]
    assert np.isfinite(new.X).all() and (new.X >= 0).all()
    assert (
        (new.X[:, 11] == 0).all()
        and (new.X[new.obs["kind"] == "a", 10] == 0).all()
        or (method == "global_crossover")
    )
    assert list(out.obs["synthetic"]) == [False] * 60 + [True] * 60
    assert out.obs["synthetic"].dtype == bool
    assert set(new.obs["sampler"]) == {method} and out.obs["sampler"][:60].isna().all()
    assert new.obs["kind"].value_counts().to_dict() == {"a": 20, "b": 20, "c": 20}
    assert list(out.obs["kind"].cat.categories) == ["a", "b", "c"]
    assert set(new.obs["split"]) == {"train"}
    assert new.obs[["age", "smoker", "site"]].isna().all(axis=None)
    assert list(out.obs["age"][:60]) == list(range(60))
    assert out.var["chrom"].eq("1").all() and "loading" in out.varm and out.uns["note"] == {"a": 1}
    assert not out.layers and not out.obsm
    entry = out.uns["augment"]
    assert entry["params"]["method"] == method and entry["params"]["rng"] == 0
    assert list(entry["classes"]) == ["a", "b", "c"] and list(entry["n_new"]) == [20, 20, 20]
    train = cohort.obs["split"] == "train"
    assert list(entry["n_real"]) == [int((train & (cohort.obs["kind"] == k)).sum()) for k in "abc"]
    round_trip(out, tmp_path)


@every_method
def test_only_training_rows_are_sampled_from(cohort, method):
    other = cohort.copy()
    hidden = (other.obs["split"] == "test") | other.obs["kind"].isna()
    other.X[hidden.to_numpy()] = 7777
    one, two = draw(cohort, method, n_new=15), draw(other, method, n_new=15)
    np.testing.assert_array_equal(one.X[60:], two.X[60:])


@every_method
def test_same_rows_from_every_storage(cohort, method, tmp_path):
    wanted = draw(cohort, method, n_new=15)
    cohort.write_h5ad(tmp_path / "a.h5ad")
    sparse_one = cohort.copy()
    sparse_one.X = sparse.csr_matrix(sparse_one.X)
    sparse_one.write_h5ad(tmp_path / "s.h5ad")
    forms = {
        "csr": sparse_one,
        "csc": ad.AnnData(sparse_one.X.tocsc(), obs=cohort.obs, var=cohort.var),
        "float64": ad.AnnData(cohort.X.astype(np.float64), obs=cohort.obs, var=cohort.var),
        "int": ad.AnnData(cohort.X.astype(np.int32), obs=cohort.obs, var=cohort.var),
        "view": ad.concat([cohort, cohort[:5]], index_unique="-", merge="same")[:60],
        "backed": ad.read_h5ad(tmp_path / "s.h5ad", backed="r"),
        "lazy": ad.experimental.read_lazy(tmp_path / "a.h5ad"),
    }
    for name, form in forms.items():
        out = draw(form, method, n_new=15)
        X = out.X.toarray() if sparse.issparse(out.X) else out.X
        assert sparse.issparse(out.X) == (name in ("csr", "csc", "backed")), name
        np.testing.assert_allclose(X, wanted.X, rtol=1e-5, atol=1e-5, err_msg=name)
        assert list(out.obs["kind"].astype(str)) == list(wanted.obs["kind"].astype(str)), name


@every_method
def test_seeds_threads_and_the_state_of_others(cohort, method):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: TID251
    state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    one = draw(cohort, method, n_new=9, rng=4)
    now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert now == state
    np.testing.assert_array_equal(one.X, draw(cohort, method, n_new=9, rng=4, n_jobs=3).X)
    np.testing.assert_array_equal(
        one.X, draw(cohort, method, n_new=9, rng=np.random.default_rng(4)).X
    )
    assert (one.X != draw(cohort, method, n_new=9, rng=5).X).any()


def test_how_many_rows(cohort):
    out = draw(cohort, "poisson")  # up to the largest class: 16, 10 and 7 training rows
    assert list(out.uns["augment"]["n_new"]) == [0, 6, 9]
    assert draw(cohort, "poisson", n_new=np.int64(2)).n_obs == 66
    out = draw(cohort, "poisson", class_size=12)
    assert list(out.uns["augment"]["n_new"]) == [0, 2, 5]
    out = draw(cohort, "poisson", n_new={"c": 4}, only_synthetic=True)
    assert out.n_obs == 4 and set(out.obs["kind"]) == {"c"} and out.obs["synthetic"].all()
    assert draw(cohort, "poisson", n_new=0).n_obs == 60


def test_a_layer(cohort):
    cohort.layers["counts"] = cohort.X.copy()
    cohort.X = cohort.layers["log"].copy()
    out = draw(cohort, "gamma_poisson", layer="counts", n_new=5)
    np.testing.assert_array_equal(out.X[:60], cohort.layers["counts"])
    assert out.uns["augment"]["params"]["layer"] == "counts"


def test_rows_of_several_samplers(cohort):
    out = draw(draw(cohort, "poisson", n_new=5), "replacement", n_new=400)
    assert out.obs["sampler"].value_counts().to_dict() == {"replacement": 1200, "poisson": 15}
    real = {tuple(r) for r in cohort.X}
    assert all(tuple(r) in real for r in out[out.obs["sampler"] == "replacement"].X)
    twice = draw(draw(cohort, "poisson", n_new=5), "poisson", n_new=5, rng=1)
    assert twice.obs_names.is_unique


def test_labels_that_are_numbers(cohort):
    cohort.obs["kind"] = cohort.obs["kind"].cat.codes.astype(int)
    cohort = cohort[cohort.obs["kind"] >= 0].copy()
    out = draw(cohort, "poisson", n_new=3)
    assert out.obs["kind"].dtype.kind == "i" and set(out.obs["kind"][50:]) == {0, 1, 2}


def test_unlabelled_as_public_cohorts_write_it(cohort):
    cohort.obs["kind"] = (
        cohort.obs["kind"].astype(object).where(cohort.obs["kind"].notna(), "NOLBL")
    )
    assert list(draw(cohort, "poisson", n_new=3).uns["augment"]["classes"]) == ["a", "b", "c"]


def test_mudata(cohort):
    import mudata as md

    mdata = md.MuData({"rna": cohort, "other": cohort[:, :3].copy()})
    with pytest.raises(ValueError, match="needs mod="):
        draw(mdata, "poisson")
    out = draw(mdata, "poisson", n_new=4, mod="rna")
    np.testing.assert_array_equal(out.X, draw(cohort, "poisson", n_new=4).X)


def test_vae_learns_the_classes(cohort):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 30)) * 2
    codes = np.repeat([0, 1, 2], 25)
    adata = ad.AnnData((means[codes] + rng.normal(size=(75, 30))).astype(np.float32))
    adata.obs["kind"] = codes.astype(str)
    out = draw(adata, "vae", n_new=200, allow_unsplit=True, only_synthetic=True)
    for c in range(3):
        own = out.X[np.asarray(out.obs["kind"] == str(c))]
        assert np.corrcoef(own.mean(axis=0), means[c])[0, 1] > 0.95
    matched = draw(
        adata, "vae", n_new=200, allow_unsplit=True, only_synthetic=True, dispersion="matched"
    )
    spread = [np.median(o.X[:200].var(axis=0)) for o in (out, matched)]
    assert spread[0] < 0.6 and 0.6 < spread[1] < 1.6  # real rows: 1
    with pytest.raises(ValueError, match="n_latent must be a whole number"):
        draw(adata, "vae", n_new=2, allow_unsplit=True, vae={"n_latent": 0})


# -- bad input ------------------------------------------------------------------------------


def test_refuses_an_object_without_a_split(cohort):
    del cohort.obs["split"]
    with pytest.raises(ValueError, match="no 'split'.*ol.pp.split.*allow_unsplit=True"):
        draw(cohort, "poisson")
    out = draw(cohort, "poisson", n_new=3, allow_unsplit=True)
    assert list(out.uns["augment"]["n_real"]) == [24, 15, 11] and "split" not in out.obs
    cohort.obs["split"] = "TRAIN"
    with pytest.raises(ValueError, match="No real row is marked 'train'.*'TRAIN'"):
        draw(cohort, "poisson")


@pytest.mark.parametrize("method", METHODS[:4])
def test_count_samplers_refuse_other_values(cohort, method):
    cohort.layers["counts"] = cohort.X.copy()
    with pytest.raises(
        ValueError, match="layers\\['log'\\] holds values that are not whole.*'counts'"
    ):
        draw(cohort, method, layer="log")
    cohort.X[1] = -1
    with pytest.raises(ValueError, match="adata.X holds negative values in 1 of 33 rows.*'P01'"):
        draw(cohort, method)


@every_method
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(cohort, method, value):
    cohort.X[4, 2] = value
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 33 rows used \\('P04'\\)"):
        draw(cohort, method)
    cohort.X = sparse.csr_matrix(cohort.X)
    with pytest.raises(ValueError, match="NaN or infinite values in 1 of 33 rows used \\('P04'\\)"):
        draw(cohort, method)


@every_method
def test_a_class_with_one_sample(cohort, method, caplog):
    kind = cohort.obs["kind"].astype(object)
    kind[kind == "c"] = None
    kind.iloc[40] = "c"
    cohort.obs["kind"] = kind
    if method in ("smote", "vae"):
        with pytest.raises(ValueError, match="Class 'c' has one training row.*at least two"):
            draw(cohort, method)
        assert draw(cohort, method, n_new={"a": 3}).n_obs == 63
        return
    with caplog.at_level(logging.WARNING, "omicllm"):
        out = draw(cohort, method, n_new=30)
    assert "class 'c' has one training row" in caplog.text
    assert np.isfinite(out.X).all() and (out.obs["kind"][60:] == "c").sum() == 30


@every_method
def test_one_class_only(cohort, method):
    cohort = cohort[cohort.obs["kind"] == "a"].copy()
    assert draw(cohort, method, n_new=5).n_obs == cohort.n_obs + 5


def test_a_class_without_training_rows(cohort, caplog):
    cohort.obs.loc[cohort.obs["kind"] == "c", "split"] = "test"
    with caplog.at_level(logging.WARNING, "omicllm"):
        out = draw(cohort, "poisson", n_new=4)
    assert "no training row of 'c'" in caplog.text and list(out.uns["augment"]["n_new"]) == [
        4,
        4,
        0,
    ]
    with pytest.raises(ValueError, match="Class 'c' has no training row"):
        draw(cohort, "poisson", n_new={"c": 4})


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"method": "gan"}, ValueError, "method must be one of"),
        ({"labels_key": "type"}, KeyError, "'type' is not in adata.obs.*labels_key="),
        ({"n_new": 3, "class_size": 9}, ValueError, "not both"),
        ({"n_new": -1}, ValueError, "n_new must be a whole number of at least 0"),
        ({"n_new": {"z": 1}}, KeyError, "'z' is not in the classes"),
        ({"class_size": 0}, ValueError, "class_size must be"),
        ({"r": 0}, ValueError, "r must be"),
        ({"dispersion": "none"}, ValueError, "dispersion must be one of"),
        ({"layer": "raw"}, KeyError, "'raw' is not in adata.layers"),
        ({"signatures": SIGNATURES}, ValueError, "signatures= are for the crossovers"),
        ({"method": "local_crossover"}, ValueError, "needs signatures="),
        (
            {"method": "global_crossover", "signatures": {"a": ["g0"]}},
            ValueError, "a signature for every class; 'b', 'c' has none",
        ),
        (
            {"method": "local_crossover", "signatures": {"a": ["g0", "nope"]}},
            KeyError, "1 of 2 genes of signature 'a' not in adata.var_names: 'nope'",
        ),
        ({"rng": "x"}, TypeError, "rng must be"),
    ],
)  # fmt: skip
def test_bad_arguments(cohort, kwargs, error, message):
    before = cohort.copy()
    with pytest.raises(error, match=message):
        ol.pp.augment(cohort, **{"labels_key": "kind", **kwargs})
    same_object(cohort, before)


def test_no_labels(cohort):
    cohort.obs["kind"] = None
    with pytest.raises(ValueError, match="No row has a label"):
        draw(cohort, "poisson")
