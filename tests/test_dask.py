"""Block-wise verbs on lazy objects, on a real cluster of two worker processes."""

from __future__ import annotations

import logging

import anndata as ad
import distributed
import numpy as np
import pandas as pd
import pytest
from anndata.experimental import read_lazy
from mudata import MuData
from scipy import sparse

import omicllm as ol
from omicllm._core import blocks, inputs

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """A section in memory, and the folder of its stores."""
    adata = ol.datasets.mouse_olfactory_bulb()[:, :240].copy()
    adata.obs["label"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 3, "a", "b"))
    adata.obs["split"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 5, "train", "test"))
    folder = tmp_path_factory.mktemp("lazy")
    adata.write_h5ad(folder / "rows.h5ad")
    adata.write_zarr(folder / "rows.zarr")
    columns = adata.copy()
    columns.X = sparse.csc_matrix(columns.X)
    columns.write_zarr(folder / "columns.zarr")
    return adata, folder


def lazy(folder, name, *, rows=100):
    """A lazy object whose X has several chunks of rows."""
    out = read_lazy(folder / name)
    if len(out.X.chunks[1]) == 1:
        out.X = out.X.rechunk((rows, -1))
    return out


STORES = ("rows.h5ad", "rows.zarr", "columns.zarr")


@pytest.mark.parametrize("store", STORES)
def test_moran(client, tissue, store):
    adata, folder = tissue
    expected = ol.tl.spatially_variable_genes(adata, method="moran", copy=True)
    got = lazy(folder, store)
    ol.tl.spatially_variable_genes(got, method="moran")
    for column in ("moran_svg_score", "moran_svg_pval"):
        np.testing.assert_allclose(
            np.asarray(got.var[column]), np.asarray(expected.var[column]), rtol=1e-9
        )


def test_moran_refuses_bad_values_of_a_worker(client, tissue):
    adata, folder = tissue
    bad = adata.copy()
    bad.X = bad.X.copy()
    bad.X.data[0] = np.nan
    bad.write_zarr(folder / "bad.zarr")
    with pytest.raises(ValueError, match="NaN or infinite values, first in"):
        ol.tl.spatially_variable_genes(lazy(folder, "bad.zarr"), method="moran")


@pytest.mark.parametrize("store", STORES)
def test_gene_images_and_embedding(client, tissue, store):
    adata, folder = tissue
    adata = ol.pp.spatial_grid(adata, copy=True)
    got = lazy(folder, store)
    ol.pp.spatial_grid(got)
    chosen = list(adata.var_names[[3, 50, 7]])
    np.testing.assert_array_equal(
        ol.get.gene_images(got, chosen), ol.get.gene_images(adata, chosen)
    )
    expected = ol.tl.sigel(adata, copy=True)
    out = ol.tl.sigel(got, copy=True)
    np.testing.assert_array_equal(out.varm["X_sigel"], expected.varm["X_sigel"])


@pytest.mark.parametrize("tie_break", ["value", "reference"])
def test_text(client, tissue, tie_break):
    adata, folder = tissue
    expected = ol.tl.ult(adata, tie_break=tie_break, copy=True)
    got = ol.tl.ult(lazy(folder, "rows.zarr"), tie_break=tie_break, copy=True)
    assert list(got.obs["ult"]) == list(expected.obs["ult"])
    np.testing.assert_array_equal(got.uns["ult"]["counts"], expected.uns["ult"]["counts"])


def test_text_of_two_modalities(client, tissue):
    adata, folder = tissue
    there = [adata, adata[::-2, :40].copy()]
    expected = ol.tl.ult(MuData({"a": there[0], "b": there[1]}), copy=True)
    there[1].write_zarr(folder / "second.zarr")
    model = ol.model.ULT
    both = MuData({"a": there[0], "b": there[1]})
    both.mod["a"].X = lazy(folder, "rows.zarr").X
    both.mod["b"].X = lazy(folder, "second.zarr", rows=30).X
    model.setup_mudata(both)
    trained = model(both)
    trained.train()
    assert trained.encode() == list(expected.obs["ult"])


@pytest.mark.parametrize("method", ["gamma_poisson", "smote"])
def test_augmentation(client, tissue, method):
    adata, folder = tissue
    options = {"labels_key": "label", "method": method, "n_new": 300}
    expected = ol.pp.augment(adata, **options)
    got = ol.pp.augment(lazy(folder, "rows.zarr"), **options)
    assert list(got.obs_names) == list(expected.obs_names)
    np.testing.assert_array_equal(got.X.toarray(), expected.X.toarray())


def test_kmer_counts(client, tmp_path):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"sequence": ["".join(rng.choice(list("ACGT"), 60)) for _ in range(50)]})
    adata = ad.AnnData(obs=obs.set_axis([f"s{i}" for i in range(50)]))
    adata.write_zarr(tmp_path / "dna.zarr")
    expected = ol.pp.kmer_counts(adata, k=4, all_lengths=True)
    got = ol.pp.kmer_counts(read_lazy(tmp_path / "dna.zarr"), k=4, all_lengths=True)
    np.testing.assert_array_equal(got.X.toarray(), expected.X.toarray())
    expected.write_zarr(tmp_path / "counts.zarr")
    ol.pp.kmer_pmi(expected, min_count=2)
    counted = lazy(tmp_path, "counts.zarr", rows=20)
    ol.pp.kmer_pmi(counted, min_count=2)
    np.testing.assert_array_equal(np.asarray(counted.var["pmi"]), np.asarray(expected.var["pmi"]))


def test_linear_models_of_expression(client, tmp_path):
    import dask.array as da
    from made_people import cohort

    expected, lazy_one = cohort(tmp_path)[0], cohort(tmp_path)[0]
    options = {"model": ["top1", "enet", "blup"]}
    ol.tl.twas(expected, **options)
    geno = lazy_one.mod["geno"]
    geno.X = da.from_array(geno.X.toarray(), chunks=(10, -1))
    ol.tl.twas(lazy_one, **options)
    for m in options["model"]:
        np.testing.assert_allclose(
            lazy_one["rna"].layers[f"twas_{m}"], expected["rna"].layers[f"twas_{m}"], atol=1e-5
        )


def test_work_is_done_by_the_workers_and_its_errors_come_back(client):
    import os

    import dask.array as da

    X = da.from_array(np.arange(40.0).reshape(20, 2), chunks=(5, 2))
    pids = {pid for _, pid in inputs.map_rows(X, _pid, rows=5)}
    assert os.getpid() not in pids
    assert pids <= set(client.run(os.getpid).values())
    with pytest.raises(ZeroDivisionError):
        list(inputs.map_rows(X, _fail, rows=5))
    assert [s for s, _ in inputs.map_rows(X, _pid, rows=8)] == [0, 5, 10, 15]
    assert [s for s, _ in inputs.map_rows(X, _pid, rows=10)] == [0, 10]
    # What is in memory is worked on here.
    assert [p for _, p in inputs.map_rows(np.ones((4, 2)), _pid)] == [os.getpid()]


def _pid(block, start):
    import os

    return os.getpid()


def _fail(block, start):
    return 1 / start if start < 5 else 0


def test_without_a_client_work_stays_here():
    import dask.array as da

    X = da.from_array(np.arange(12.0).reshape(6, 2), chunks=(2, 2))
    if blocks.active_client() is None:
        out = list(blocks.run(lambda x, k: x.sum() * k, ((X[i : i + 2],) for i in (0, 2, 4)), 2.0))
        assert out == [12.0, 44.0, 76.0]
